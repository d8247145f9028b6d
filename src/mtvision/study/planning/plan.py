"""What a study will do, before it does anything."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from mtvision.errors import ConfigError, did_you_mean
from mtvision.factory import build_model
from mtvision.study.planning.aliasing import Aliasing, check_aliasing
from mtvision.study.planning.definition import Definition
from mtvision.study.planning.designs import SearchDesign
from mtvision.study.planning.factors import Factor
from mtvision.study.planning.probe import Probe, duration
from mtvision.study.planning.runs import PlannedRun, build_design, planned_runs
from mtvision.text_table import text_table
from mtvision.training.evaluation import monitor_directions

_RUNS_SHOWN, _PAIRS_SHOWN = 12, 6


@dataclass(frozen=True)
class Plan:
    """A study's plan; ``str()`` of it is for a person.

    Attributes:
        runs: the runs in their order, equal configs once; empty for a search, which chooses as it goes.
        num_runs: how many there will be; of a search at most.
        aliasing: what the design cannot tell apart, how often each level occurs; None for a search.
        probe: what a run of the base config costs; None if it was not measured.
        budget_hours: of the study, None: no limit.
        factors: of the study.
    """

    runs: tuple[PlannedRun, ...]
    num_runs: int
    aliasing: Aliasing | None
    probe: Probe | None
    budget_hours: float | None
    factors: tuple[Factor, ...]

    @property
    def seconds(self) -> float | None:
        """Of all runs one after the other, as measured on the base config; None if it was not."""
        return self.probe.seconds * self.num_runs if self.probe is not None else None

    @property
    def table(self) -> pd.DataFrame:
        """A row a run: its name, seed and levels."""
        rows = [{"run": run.name, "seed": run.seed, **run.levels} for run in self.runs]
        return pd.DataFrame(rows, columns=["run", "seed", *(factor.name for factor in self.factors)])

    @property
    def sentences(self) -> list[str]:
        """What a person should know before the first run."""
        found = list(self.aliasing.sentences()) if self.aliasing is not None else []
        found += [_same_sentence(run) for run in self.runs if run.same]
        found += self._cost_sentences()
        return found

    def __str__(self) -> str:
        """Return runs, balance, aliases and cost."""
        names = [factor.name for factor in self.factors]
        blocks = [f"{self.num_runs} runs, {len(names)} factor{'s' if len(names) > 1 else ''}"]
        if self.runs:
            shown = [("run", "seed", *map(_short, names))]
            shown += [
                (run.name, str(run.seed), *(run.levels[name] for name in names)) for run in self.runs[:_RUNS_SHOWN]
            ]
            more = len(self.runs) - _RUNS_SHOWN
            blocks.append(text_table(shown, left=2 + len(names)) + (f"\n... and {more} more" if more > 0 else ""))
        blocks.append(_balance_text(self.factors, self.aliasing))
        blocks.append("\n".join(f"* {sentence}" for sentence in self.sentences))
        return "\n\n".join(block for block in blocks if block)

    def _cost_sentences(self) -> list[str]:
        if self.probe is None or self.seconds is None:
            return []
        found = [
            f"a run of the base config takes about {duration(self.probe.seconds)} on this machine (measured in "
            f"{duration(self.probe.measured)}), all {self.num_runs} about {duration(self.seconds)} one after the other"
        ]
        if self.budget_hours is not None and self.seconds > 3600 * self.budget_hours:
            found.append(
                f"the budget of {self.budget_hours:g} h will not suffice: no run begins once it is used up, and an "
                "unfinished design is neither balanced nor clear"
            )
        return found


def make_plan(definition: Definition, probe: Probe | None = None) -> Plan:
    """Return the plan of a study.

    Args:
        definition: of the study.
        probe: measured before, None: without costs.

    Raises:
        ConfigError: if the design cannot be made, or is larger than the budget.
    """
    design = build_design(definition)
    runs = planned_runs(definition)
    number = len(runs)
    if isinstance(design, SearchDesign):
        number = min(design.runs, definition.budget.runs or design.runs)
    aliasing = check_aliasing(design_table(runs, definition.factors), labels_of(definition)) if runs else None
    return Plan(tuple(runs), number, aliasing, probe, definition.budget.hours, definition.factors)


def objective_direction(definition: Definition) -> bool:
    """Return whether more of the objective is better, as its metric says.

    Raises:
        ConfigError: if the base config's model has no such metric.
    """
    directions = monitor_directions(build_model(definition.base))
    if definition.objective not in directions:
        suggestion = did_you_mean(definition.objective, directions)
        known = f" There are: {', '.join(directions)}"
        raise ConfigError([f"objective: no metric '{definition.objective}'.{suggestion or known}"])
    return directions[definition.objective]


def design_table(runs: Sequence[PlannedRun], factors: Sequence[Factor]) -> pd.DataFrame:
    """Return the labels of all levels, a row a run."""
    return pd.DataFrame([dict(run.levels) for run in runs], columns=[factor.name for factor in factors])


def labels_of(definition: Definition) -> dict[str, tuple[str, ...]]:
    """Return the labels of the levels by factor, that of the base level first."""
    return {factor.name: factor.base_first for factor in definition.factors}


def _same_sentence(run: PlannedRun) -> str:
    return f"{len(run.same) + 1} combinations of levels mean the same config ({run.name}); it runs once"


def _balance_text(factors: Sequence[Factor], aliasing: Aliasing | None) -> str:
    if aliasing is None:
        return "\n".join(f"{factor.name}: {', '.join(factor.labels)}" for factor in factors)
    counts = {(row.factor, row.level): row.n for row in aliasing.balance.itertuples()}
    lines = [
        f"{factor.name}: " + ", ".join(f"{label} {counts.get((factor.name, label), 0)}" for label in factor.labels)
        for factor in factors
    ]
    return "configurations a level\n" + "\n".join(lines) + _empty_text(aliasing)


def _empty_text(aliasing: Aliasing) -> str:
    cells = aliasing.empty_cells
    if not len(cells):
        return ""
    pairs = cells.groupby(["factor_a", "factor_b"], sort=False).size()
    shown = [f"{_short(one)} x {_short(other)} {number}" for (one, other), number in pairs.head(_PAIRS_SHOWN).items()]
    more = ", ..." if len(pairs) > _PAIRS_SHOWN else ""
    return f"\ncombinations of two levels that never occur: {len(cells)} ({', '.join(shown)}{more})"


def _short(name: str) -> str:
    return name.rpartition(".")[2]
