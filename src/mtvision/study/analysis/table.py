"""The runs of a study as one table: what every analysis starts from, wherever the runs were made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

FINISHED, FAILED, PRUNED = "finished", "failed", "pruned"


@dataclass(frozen=True)
class RunTable:
    """One row a run.

    Attributes:
        runs: columns ``run`` (name), ``config`` (a digest, equal exactly where config and seed are), ``seed``,
            ``state`` (`FINISHED`, `FAILED`, `PRUNED`), one column a factor with the labels of its levels, the
            objective, and whatever else was measured: ``seg/miou``, ``det/map50``, ``val/loss``, ``best_epoch``,
            ``seconds``, ...; NaN where a run has no such number.
        factors: labels of the levels by factor, the base level first.
        objective: the column that is to be large (or small).
        higher_is_better: of the objective.
        curves: by run, what it measured epoch by epoch: ``train/loss``, ``val/loss``, ``val/<objective>``, ...
    """

    runs: pd.DataFrame
    factors: Mapping[str, tuple[str, ...]]
    objective: str = "score"
    higher_is_better: bool = True
    curves: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)

    @property
    def finished(self) -> pd.DataFrame:
        """The runs that have a result, each config and seed once."""
        done = self.runs[(self.runs["state"] == FINISHED) & self.runs[self.objective].notna()]
        return done.drop_duplicates("config").reset_index(drop=True)
