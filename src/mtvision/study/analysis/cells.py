"""The finished runs as arrays: which configuration, which seed, which value."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtvision.errors import DataError
from mtvision.study.analysis.bootstrap import Array
from mtvision.study.analysis.table import RunTable

Numbers = NDArray[np.intp]


@dataclass(frozen=True)
class Cells:
    """One value for every configuration and seed that has a result.

    Attributes:
        configs: a row a configuration, a column a factor, labels as text.
        factors: labels by factor, the base level first, and behind the declared ones whatever else the runs have.
        config: row of ``configs`` by value, ``(n,)``.
        seed: number of the seed by value, ``(n,)``.
        values: of the objective, ``(n,)``.
    """

    configs: pd.DataFrame
    factors: Mapping[str, tuple[str, ...]]
    config: Numbers
    seed: Numbers
    values: Array

    @cached_property
    def labels(self) -> dict[str, NDArray[np.object_]]:
        """The columns of ``configs`` as arrays."""
        return {str(name): self.configs[name].to_numpy(dtype=object) for name in self.configs}

    @property
    def of_config(self) -> Array:
        """Which values belong to which configuration, 0 or 1, ``(n, configs)``."""
        return np.eye(len(self.configs))[self.config]

    @property
    def of_seed(self) -> Array:
        """Which values belong to which seed, 0 or 1, ``(n, seeds)``."""
        return np.eye(int(self.seed.max()) + 1)[self.seed]

    @property
    def means(self) -> Array:
        """Mean over the seeds of every configuration, ``(configs,)``."""
        mean: Array = np.bincount(self.config, self.values) / np.bincount(self.config)
        return mean

    def which(self, levels: Mapping[str, str]) -> NDArray[np.bool_]:
        """Return which configurations have all these levels, ``(configs,)``."""
        found = np.ones(len(self.configs), dtype=bool)
        for name, label in levels.items():
            found &= self.labels[name] == label
        return found


def read_cells(table: RunTable) -> Cells:
    """Return the finished runs of a table; a configuration and seed that is there twice counts once, by its mean.

    Raises:
        DataError: if no run has a result.
    """
    runs = table.finished
    if runs.empty:
        raise DataError(f"no run has finished with a value of '{table.objective}': there is nothing to analyse")
    names = list(table.factors)
    frame = runs[names].astype(str).assign(_seed=runs["seed"], _value=runs[table.objective].astype(float))
    grouped = frame.groupby([*names, "_seed"], sort=False, dropna=False)["_value"].mean().reset_index()
    config = grouped.groupby(names, sort=False).ngroup().to_numpy(dtype=np.intp)
    seed = pd.factorize(grouped["_seed"], use_na_sentinel=False)[0].astype(np.intp)
    configs = grouped[names].drop_duplicates().reset_index(drop=True)
    factors = {name: tuple(dict.fromkeys([*labels, *configs[name]])) for name, labels in table.factors.items()}
    return Cells(configs, factors, config, seed, grouped["_value"].to_numpy(dtype=float))
