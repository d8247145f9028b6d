"""Configurations that no other one beats in everything: quality against cost."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtvision.errors import ConfigError, did_you_mean
from mtvision.study.analysis.bootstrap import Array
from mtvision.study.analysis.table import RunTable

# one of each group, the first that is there, and whether more of it is better
_AXES = ((("seg/miou",), True), (("det/map50_95", "det/map50"), True), (("multiply_adds", "seconds"), False))


def default_axes(runs: pd.DataFrame) -> dict[str, bool]:
    """Return the columns of mIoU, mAP and cost that have numbers, and whether more of each is better.

    Example:
        >>> default_axes(pd.DataFrame({"seg/miou": [0.4], "det/map50": [0.2], "seconds": [60.0]}))
        {'seg/miou': True, 'det/map50': True, 'seconds': False}
    """
    found = {}
    for names, more_is_better in _AXES:
        known = [name for name in names if name in runs and runs[name].notna().any()]
        found.update(dict.fromkeys(known[:1], more_is_better))
    return found


def pareto_front(table: RunTable, axes: Mapping[str, bool]) -> pd.DataFrame:
    """Return the configurations, by their means over seeds, of which no other is as good in all axes and better in one.

    Args:
        table: of runs.
        axes: columns, and whether more of each is better; configurations without a value in one are left out.

    Returns:
        A row a configuration: ``run`` (its first), ``n`` (runs), the factors' levels and the axes; the best of the
        first axis first. Empty without axes.

    Raises:
        ConfigError: if an axis is no column of numbers.
    """
    runs = table.finished
    problems = [
        f"pareto_axes: no column '{name}' with numbers among the results.{did_you_mean(name, _numeric(runs))}"
        for name in axes
        if name not in _numeric(runs)
    ]
    if problems:
        raise ConfigError(problems)
    names = list(table.factors)
    kept = dict.fromkeys(axes, "mean")
    means = runs.groupby(names, sort=False, dropna=False).agg({"run": "first", "config": "size", **kept}).reset_index()
    means = means.rename(columns={"config": "n"})[["run", "n", *names, *axes]].dropna(subset=list(axes))
    if not axes or means.empty:
        return means.iloc[:0]
    front = means[_unbeaten(means[list(axes)].to_numpy(dtype=float) * [1 if more else -1 for more in axes.values()])]
    first, more_is_better = next(iter(axes.items()))
    return front.sort_values(first, ascending=not more_is_better, kind="stable").reset_index(drop=True)


def _numeric(runs: pd.DataFrame) -> list[str]:
    return [name for name in runs.select_dtypes("number") if runs[name].notna().any()]


def _unbeaten(values: Array) -> NDArray[np.bool_]:
    """Return which rows no other row reaches in all columns and beats in one; more is better, ``(n,)``."""
    reaches = np.all(values[:, None] >= values[None], axis=2)  # (n, n): row reaches column
    beats = reaches & np.any(values[:, None] > values[None], axis=2)
    unbeaten: NDArray[np.bool_] = ~beats.any(axis=0)
    return unbeaten
