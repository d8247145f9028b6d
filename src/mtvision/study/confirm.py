"""The best configurations once more: with fresh seeds, and on images that no choice was made on."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from mtvision.errors import ConfigError
from mtvision.study.analysis.findings import Findings
from mtvision.study.analysis.table import RunTable
from mtvision.study.planning.runs import runs_of
from mtvision.study.running.claims import CONFIRMATION, DESIGN, EARLIER
from mtvision.study.running.queue import Queue
from mtvision.training.gain import Estimate

RECOMMENDED = "recommended"
_ENOUGH = 3  # seeds for an interval; with two it is wider than any metric


def candidates(findings: Findings, top: int) -> dict[str, Mapping[str, str]]:
    """Return the levels of the best configurations by their names, and those of the recommended one.

    Args:
        findings: of the study.
        top: how many of the best.
    """
    factors = list(findings.table.factors)
    means = config_means(findings.table)
    best = [{name: str(row[name]) for name in factors} for _, row in means.head(top).iterrows()]
    named = {f"rank {rank}": levels for rank, levels in enumerate(best, start=1)}
    recommended = dict(findings.recommended)
    same = next((name for name, levels in named.items() if levels == recommended), None)
    if same is None:
        return {**named, RECOMMENDED: recommended}
    return {f"{name}, {RECOMMENDED}" if name == same else name: levels for name, levels in named.items()}


def config_means(table: RunTable) -> pd.DataFrame:
    """Return the mean objective of each combination of levels over its seeds, best first."""
    grouped = table.finished.groupby(list(table.factors), sort=False)[table.objective]
    means = grouped.agg(["mean", "count"]).reset_index()
    return means.sort_values("mean", ascending=not table.higher_is_better, kind="stable").reset_index(drop=True)


def fresh_seeds(queue: Queue, number: int) -> range:
    """Return so many seeds: those after the largest that the study has or had."""
    used = [trial.user_attrs["seed"] for name in (DESIGN, EARLIER) for trial in queue.of_purpose(name).values()]
    first = max([*queue.definition.seeds, *used]) + 1
    return range(first, first + number)


def check_split(queue: Queue, split: str) -> None:
    """Refuse a split on which something was chosen, or another one than that of an earlier confirmation.

    Raises:
        ConfigError: in these cases.
    """
    if split in ("train", "val"):
        raise ConfigError([f"split: '{split}' was trained or chosen on; give one that was not, such as 'test'"])
    before = {trial.user_attrs["split"] for trial in queue.of_purpose(CONFIRMATION).values()}
    if before - {split}:
        raise ConfigError(
            [f"split: the study was confirmed on '{before.pop()}'; score '{split}' by mtv.evaluate on the runs' models"]
        )


def confirmation_table(
    queue: Queue, table: RunTable, chosen: Mapping[str, Mapping[str, str]], seeds: Sequence[int]
) -> pd.DataFrame:
    """Return what the chosen configurations reached in the study and with fresh seeds.

    Returns:
        A row a configuration: ``configuration``, its levels, ``n`` (fresh seeds that finished), ``selected`` (mean in
        the study, by which it was chosen; NaN if it was not run), ``fresh`` (mean on the same split with fresh seeds),
        ``held_out`` (mean on the split kept for this) with its 95 % t-interval ``low, high`` over the seeds.
    """
    objective = queue.definition.objective
    means = config_means(table)
    done = {
        name: trial.user_attrs | {"value": trial.value}
        for name, trial in queue.of_purpose(CONFIRMATION).items()
        if trial.state.name == "COMPLETE"
    }
    rows = []
    for name, levels in chosen.items():
        names = [run.name for run in runs_of(queue.definition, [levels], seeds)]
        own = [done[name] for name in names if name in done]
        fresh = Estimate(tuple(one["value"] for one in own))
        held_out = Estimate(tuple(float(one["result"]["held_out"].get(objective, math.nan)) for one in own))
        low, high = (held_out.interval if len(own) >= _ENOUGH else None) or (math.nan, math.nan)
        same = means[(means[list(levels)] == pd.Series(levels)).all(axis=1)]
        rows.append(
            {
                "configuration": name,
                **levels,
                "n": len(own),
                "selected": float(same["mean"].iloc[0]) if len(same) else math.nan,
                "fresh": fresh.mean if own else math.nan,
                "held_out": held_out.mean if own else math.nan,
                "low": low,
                "high": high,
            }
        )
    return pd.DataFrame(rows)
