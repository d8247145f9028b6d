"""From a study and its findings to what a report shows."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from mtvision.analysis.analyze import analyze
from mtvision.analysis.gallery import Gallery, gallery
from mtvision.data.loading.loader import build_dataset
from mtvision.errors import ConfigError, MtvisionError
from mtvision.study.analysis.findings import Findings
from mtvision.study.analysis.table import FINISHED, RunTable
from mtvision.study.confirm import confirmation_table, fresh_seeds
from mtvision.study.planning.definition import Definition
from mtvision.study.planning.designs import SearchDesign
from mtvision.study.planning.runs import config_of
from mtvision.study.report.content import ReportContent
from mtvision.study.running.claims import CONFIRMATION, DESIGN, EARLIER
from mtvision.study.running.queue import Queue
from mtvision.study.running.worker import RUNS

logger = logging.getLogger(__name__)


def study_content(title: str, queue: Queue, folder: Path, findings: Findings) -> ReportContent:
    """Return what the report of a study shows.

    Args:
        title: of the report.
        queue: of the study.
        folder: of the study, where the best run's model is looked for.
        findings: of the analysis.
    """
    definition = queue.definition
    return ReportContent(
        title=title,
        findings=findings,
        base_config=definition.base.dump(),
        factors=definition.factors,
        design=_design_lines(queue),
        seeds=definition.seeds,
        recommended_config=_config(definition, findings.recommended),
        best_config=_config(definition, {name: findings.best[name] for name in findings.table.factors}),
        gallery=_gallery(definition, folder, findings.table),
        confirmation=noted_confirmation(queue, findings.table),
        failures=failures(queue),
        notes=_notes(queue, findings),
    )


def failures(queue: Queue) -> list[tuple[str, str]]:
    """Return name and error of each failed run."""
    return [
        (name, trial.user_attrs["error"].splitlines()[0])
        for name, trial in queue.of_purpose(None).items()
        if queue.has_failed(trial)
    ]


def noted_confirmation(queue: Queue, table: RunTable) -> pd.DataFrame | None:
    """Return the table of the last confirmation, as far as it has come; None if there was none."""
    noted = queue.noted("confirmation")
    if noted is None:
        return None
    try:
        return confirmation_table(queue, table, noted["chosen"], fresh_seeds(queue, noted["seeds"]))
    except ConfigError as error:
        logger.warning("the confirmation of an earlier definition is left out: %s", error)
        return None


def _design_lines(queue: Queue) -> list[str]:
    count, definition = queue.count("design"), queue.definition
    chosen = definition.design
    # the rows of an explicit list are in the table of runs
    named = chosen.name if any(isinstance(value, list | tuple) for value in chosen.options.values()) else str(chosen)
    lines = [
        f"design {named}: {count.total} runs of {len(definition.factors)} factors, seeds "
        + ", ".join(map(str, definition.seeds)),
        f"{count.finished} finished, {count.failed} failed, {count.pruned} pruned, {count.total - count.done} left; "
        f"objective {definition.objective}: value of each run's best epoch on the validation split",
    ]
    confirmed = queue.count(CONFIRMATION)
    return [*lines, *([f"{confirmed.done} of {confirmed.total} runs to confirm done"] if confirmed.total else [])]


def _notes(queue: Queue, findings: Findings) -> list[str]:
    definition, notes = queue.definition, []
    if isinstance(queue.design, SearchDesign):
        notes.append(
            "the search chose the runs by their results: effects describe the runs that were made, no interval allows "
            "for the choice, and levels that looked bad early have few runs"
        )
    earlier = len(queue.of_purpose(EARLIER))
    if earlier:
        what = "1 run" if earlier == 1 else f"{earlier} runs"
        notes.append(f"left out: {what} of an earlier definition of the study")
    if (findings.effects["method"] == "model").any():
        notes.append("adjusted effects take effects to add up: where they do not, part of an interaction is in them")
    count = queue.count(DESIGN)
    if count.done < count.total:
        why = "the budget of hours is used up" if queue.is_spent() else "the study is not finished"
        notes.append(
            f"{count.total - count.done} of {count.total} runs are not done ({why}): the design is not balanced"
        )
    notes += [
        f"the images differ between the levels of {factor.name}: its effect is one of the images too"
        for factor in definition.factors
        if any(key.startswith("data.dataset") for level in factor.levels for key in level.changes)
    ]
    notes.append(
        "seconds are those of a machine whose workers share it; losses of different loss functions do not compare"
    )
    if len(definition.seeds) == 1:
        notes.append("one seed: how much a result changes from seed to seed is not known")
    notes.append(
        "all of it holds for this data, image size and length of training; a longer training may turn a ranking round"
    )
    notes.append("the best epoch was chosen on the split that is shown; study.confirm() scores another one")
    return notes


def _config(definition: Definition, levels: Any) -> dict[str, Any]:
    return config_of(definition, levels, definition.base.system.seed).dump()


def _gallery(definition: Definition, folder: Path, table: RunTable) -> Gallery | None:
    """Return the gallery of the best run; None where its folder or its data is not on this machine."""
    done = table.runs[table.runs["state"] == FINISHED].sort_values(
        table.objective, ascending=not table.higher_is_better
    )
    run_dir = folder / RUNS / str(done["run"].iloc[0])
    if not run_dir.is_dir():
        logger.warning("%s: the best run is on another machine; the report has no gallery", run_dir)
        return None
    levels = {name: str(done[name].iloc[0]) for name in table.factors}
    try:
        data = build_dataset(config_of(definition, levels, int(done["seed"].iloc[0])), "val")
        return gallery(analyze(run_dir, data), data)
    except MtvisionError as error:
        logger.warning("the report has no gallery: %s", error)
        return None
