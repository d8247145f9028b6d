"""Every level by itself: how many runs, their mean, the spread over seeds, the best."""

import numpy as np
import pandas as pd

from mtvision.study.analysis.table import RunTable

LEVEL_COLUMNS = ("factor", "level", "n", "mean", "spread", "best")


def summarise_levels(table: RunTable) -> pd.DataFrame:
    """Return a row a factor and level, with ``LEVEL_COLUMNS``.

    Means of levels are no effects: where other factors are not balanced, they change along.

    Args:
        table: of runs; identical ones count once.

    Returns:
        ``n`` counts distinct runs; ``spread`` is the standard deviation over the seeds of a configuration, pooled over
        configurations, NaN if none has two seeds; ``mean`` and ``best`` are NaN without a run.
    """
    runs = table.finished
    names = list(table.factors)
    rows = []
    for name, labels in table.factors.items():
        column = runs[name].astype(str)
        for label in dict.fromkeys([*labels, *column]):
            here = runs[column == label]
            values = here[table.objective].astype(float)
            best = values.max() if table.higher_is_better else values.min()
            spread = pooled_spread(here, names, table.objective)
            rows.append((name, label, len(here), values.mean(), spread, best))
    return pd.DataFrame(rows, columns=list(LEVEL_COLUMNS))


def pooled_spread(runs: pd.DataFrame, factors: list[str], column: str) -> float:
    """Return the standard deviation of a column within configurations, pooled; NaN if none has two runs."""
    groups = runs.groupby(factors, dropna=False, observed=True)[column]
    freedom = len(runs) - groups.ngroups
    if freedom <= 0:
        return float("nan")
    squares = ((runs[column] - groups.transform("mean")) ** 2).sum()
    return float(np.sqrt(squares / freedom))
