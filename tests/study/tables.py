"""Small tables of runs, written by hand."""

from collections.abc import Mapping, Sequence

import pandas as pd

from mtvision.study.analysis.table import FINISHED, RunTable


def runs(rows: Sequence[Mapping[str, object]], factors: Mapping[str, Sequence[str]], **options: object) -> RunTable:
    """A table of rows with levels, ``score`` and, if it is not 0, ``seed``; names and digests are filled in."""
    filled = []
    for number, row in enumerate(rows):
        levels = "|".join(str(row[name]) for name in factors)
        own = {"run": f"r{number}", "config": f"{levels}|{row.get('seed', 0)}", "seed": 0, "state": FINISHED}
        filled.append({**own, **row})
    return RunTable(pd.DataFrame(filled), {name: tuple(labels) for name, labels in factors.items()}, **options)
