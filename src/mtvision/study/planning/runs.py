"""The runs of a study: one config each, recognised by a digest of what it computes."""

import hashlib
import itertools
import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mtvision.config import Config
from mtvision.config_errors import flat_differences
from mtvision.errors import ConfigError
from mtvision.registries import DESIGNS
from mtvision.study.planning.definition import Definition
from mtvision.study.planning.designs import FixedDesign, SearchDesign
from mtvision.study.planning.factors import Factor
from mtvision.training.run_folder import FREE_TO_CHANGE

_PROBLEMS_SHOWN = 5


@dataclass(frozen=True)
class PlannedRun:
    """One run.

    Attributes:
        name: of its folder: a digest of what the config computes, so that equal configs have equal names.
        levels: label by factor.
        seed: of the run.
        config: whole.
        same: further combinations of levels that mean this very config.
    """

    name: str
    levels: Mapping[str, str]
    seed: int
    config: Config
    same: tuple[Mapping[str, str], ...] = field(default=())


def planned_runs(definition: Definition) -> list[PlannedRun]:
    """Return the runs of a fixed design, all combinations with the first seed first; a search has none in advance.

    Raises:
        ConfigError: if the budget allows fewer runs, or a combination of levels is no config.
    """
    design = build_design(definition)
    if isinstance(design, SearchDesign):
        _check_space(definition, design.runs)
        return []
    factors = definition.factors
    rows = [
        {factor.name: factor.labels[index] for factor, index in zip(factors, row, strict=True)} for row in design.rows
    ]
    runs = runs_of(definition, rows, definition.seeds)
    limit = definition.budget.runs
    if limit is not None and len(runs) > limit:
        raise ConfigError(
            [
                f"budget.runs: the design has {len(runs)} runs ({len(runs) // len(definition.seeds)} configurations x "
                f"{len(definition.seeds)} seeds), {limit} are allowed; fewer levels or seeds, or "
                "design={'name': 'fractional', 'runs': ...}, take less"
            ]
        )
    return runs


def _check_space(definition: Definition, runs: int) -> None:
    combinations = math.prod(len(factor.levels) for factor in definition.factors)
    if runs > combinations * len(definition.seeds):
        seeds = f"{len(definition.seeds)} seed{'s' if len(definition.seeds) > 1 else ''}"
        raise ConfigError([f"design.runs: {runs} runs are more than {combinations} combinations with {seeds} make"])


def undone_runs(definition: Definition, known: Collection[str]) -> Iterator[PlannedRun]:
    """Yield the runs of all combinations and seeds whose names are not known."""
    names = [factor.name for factor in definition.factors]
    for seed in definition.seeds:
        for labels in itertools.product(*(factor.labels for factor in definition.factors)):
            levels = dict(zip(names, labels, strict=True))
            config = config_of(definition, levels, seed)
            name = digest(config, definition.factors)
            if name not in known:
                yield PlannedRun(name, levels, seed, config)


def build_design(definition: Definition) -> FixedDesign | SearchDesign:
    """Return which combinations a study runs."""
    design: FixedDesign | SearchDesign = DESIGNS.build(
        definition.design, definition.factors, definition.base.system.seed
    )
    return design


def runs_of(definition: Definition, rows: Iterable[Mapping[str, str]], seeds: Sequence[int]) -> list[PlannedRun]:
    """Return a run for each seed and combination of levels, equal configs once.

    Raises:
        ConfigError: if a combination is no config.
    """
    runs: dict[str, PlannedRun] = {}
    problems: list[str] = []
    rows = list(rows)
    for seed in seeds:
        for levels in rows:
            try:
                config = config_of(definition, levels, seed)
            except ConfigError as error:
                problems += [f"{_levels_text(levels)}: {problem}" for problem in error.problems]
                continue
            name = digest(config, definition.factors)
            known = runs.get(name)
            same = (*known.same, levels) if known is not None else ()
            runs[name] = PlannedRun(name, levels if known is None else known.levels, seed, config, same)
    if problems:
        more = [f"and {len(problems) - _PROBLEMS_SHOWN} more"] if len(problems) > _PROBLEMS_SHOWN else []
        raise ConfigError([*problems[:_PROBLEMS_SHOWN], *more])
    return list(runs.values())


def config_of(definition: Definition, levels: Mapping[str, str], seed: int) -> Config:
    """Return the config of a combination of levels.

    Raises:
        ConfigError: if the levels contradict each other, or one is unknown.
    """
    changes: dict[str, Any] = {}
    for factor in definition.factors:
        label = levels.get(factor.name, factor.labels[factor.base])  # of a run from before the factor was added
        if label not in factor.labels:
            raise ConfigError([f"{factor.name}: it has no level '{label}' any more"])
        changes |= factor.levels[factor.labels.index(label)].changes
    return definition.base.replace({**changes, "system.seed": seed})


def digest(config: Config, factors: Sequence[Factor]) -> str:
    """Return ten hex digits that tell configs apart by what they compute.

    Where a run goes and how it is shown is left out, as in `mtvision.train`, unless a factor changes it. What is as by
    default is left out too, so that a new key of a later version leaves the digests as they are.
    """
    changed = {key for factor in factors for level in factor.levels for key in level.changes}
    free = [key for key in FREE_TO_CHANGE if key not in changed]
    differing = flat_differences(Config().dump(), config.dump(), ignore=free)
    text = json.dumps({key: value for key, (_, value) in differing.items()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _levels_text(levels: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={label}" for name, label in levels.items())
