"""Runs that were made elsewhere, as a table of factors and results."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mtvision.errors import ConfigError, DataError, did_you_mean
from mtvision.study.analysis.analyze import analyze
from mtvision.study.analysis.findings import Findings
from mtvision.study.analysis.table import FINISHED, RunTable
from mtvision.study.planning.aliasing import Aliasing, check_aliasing
from mtvision.study.planning.factors import level_label
from mtvision.study.report.content import ReportContent
from mtvision.study.report.writing import ReportFiles, write_report

_OWN_COLUMNS = ("run", "config", "state")


class TableStudy:
    """A study of runs that were made elsewhere: what they say, and what they cannot tell.

    Args:
        table: of `read_runs`.

    Example:
        >>> runs = pd.DataFrame({"lr": [1, 1, 2, 2], "init": ["a", "a", "b", "b"], "miou": [0.5, 0.6, 0.7, 0.8]})
        >>> TableStudy(read_runs(runs, ["lr", "init"], objective="miou")).aliasing().factor_sets
        (('lr', 'init'),)
    """

    def __init__(self, table: RunTable) -> None:
        self.table = table

    def aliasing(self) -> Aliasing:
        """Return which factors and levels the runs cannot tell apart."""
        return check_aliasing(self.table.finished, self.table.factors)

    def analyze(self, **options: Any) -> Findings:
        """Return what the runs say; options as of `analysis.analyze`."""
        return analyze(self.table, **options)

    def report(self, folder: str | Path, *, title: str = "Study of a table") -> ReportFiles:
        """Write one HTML file, the same as Markdown, and the tables as CSV into a folder."""
        findings = self.analyze()
        number = len(self.table.runs)
        notes = ["the runs were made elsewhere; only what the table holds could be checked"]
        design = [f"{number} rows, of which {len(self.table.finished)} are distinct runs"]
        return write_report(Path(folder), ReportContent(title, findings, design=design, notes=notes))


def read_runs(
    source: str | Path | pd.DataFrame,
    factors: Sequence[str],
    *,
    objective: str,
    seed: str | None = None,
    base: Mapping[str, object] | None = None,
    higher_is_better: bool = True,
) -> RunTable:
    """Read runs that were made elsewhere.

    Without a column of seeds, rows of equal levels count as repetitions with seeds of their own, but for those whose
    results are equal to the last digit too: these are one run, written twice.

    Args:
        source: a CSV file with a heading, or a frame; a row a run.
        factors: columns that hold the levels of the factors.
        objective: column that is to be large, or small.
        seed: column of the seeds, None: there is none.
        base: by factor the level that the others are compared with; else the most frequent one.
        higher_is_better: of the objective.

    Raises:
        DataError: if the file cannot be read as a table.
        ConfigError: if a column or level is not there, the objective has no number, or a factor has a single level.

    Example:
        >>> runs = pd.DataFrame({"activation": ["relu", "relu", "gelu"], "miou": [0.5, 0.6, 0.7]})
        >>> read_runs(runs, ["activation"], objective="miou").factors
        {'activation': ('relu', 'gelu')}
    """
    runs = _frame(source)
    _check_columns(runs, factors, objective, seed)
    for name in factors:
        runs[name] = [level_label(_python(value)) for value in runs[name]]
    levels = {name: _levels(runs[name], name, (base or {}).get(name)) for name in factors}
    runs = runs.drop(columns=[name for name in _OWN_COLUMNS if name in runs and name not in factors])
    runs["seed"] = runs[seed] if seed is not None else _repetitions(runs, factors)
    runs["config"] = ["|".join(map(str, row)) for row in runs[[*factors, "seed"]].itertuples(index=False)]
    runs["run"] = [f"row {number}" for number in range(1, len(runs) + 1)]
    runs["state"] = FINISHED
    return RunTable(runs, levels, objective, higher_is_better)


def _frame(source: str | Path | pd.DataFrame) -> pd.DataFrame:
    if isinstance(source, pd.DataFrame):
        return source.reset_index(drop=True).copy()
    try:
        return pd.read_csv(source, keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:  # pandas's parser errors are ValueErrors
        raise DataError(f"{source}: cannot be read as a table with a heading ({error})") from None


def _check_columns(runs: pd.DataFrame, factors: Sequence[str], objective: str, seed: str | None) -> None:
    columns = [str(name) for name in runs.columns]
    named = {"factors": list(factors), "objective": [objective], "seed": [seed] if seed is not None else []}
    problems = [
        f"{key}: no column '{name}'.{did_you_mean(name, columns) or ' There are: ' + ', '.join(columns)}"
        for key, names in named.items()
        for name in names
        if name not in columns
    ]
    if not factors:
        problems.append("factors: name at least one column that holds the levels of a factor")
    if objective in columns and not pd.to_numeric(runs[objective], errors="coerce").notna().any():
        problems.append(f"objective: column '{objective}' holds no number")
    if problems:
        raise ConfigError(problems)


def _levels(column: pd.Series, name: str, base: object) -> tuple[str, ...]:
    counts = column.value_counts()
    if len(counts) < 2:
        raise ConfigError([f"factors: '{name}' has the single level '{counts.index[0]}'; a factor needs at least two"])
    first = str(counts.index[0]) if base is None else level_label(base)
    labels = list(dict.fromkeys(column))
    if first not in labels:
        raise ConfigError([f"base: '{name}' has no level '{first}'.{did_you_mean(first, labels)}"])
    return (first, *(label for label in labels if label != first))


def _repetitions(runs: pd.DataFrame, factors: Sequence[str]) -> list[int]:
    """Return for each row how many rows with equal levels and other results come before it."""
    seen: dict[tuple[object, ...], list[tuple[object, ...]]] = {}
    numbers = []
    results = [name for name in runs.columns if name not in (*factors, *_OWN_COLUMNS)]
    for levels, row in zip(
        runs[list(factors)].itertuples(index=False), runs[results].itertuples(index=False), strict=True
    ):
        before = seen.setdefault(tuple(levels), [])
        result = tuple(row)
        if result not in before:
            before.append(result)
        numbers.append(before.index(result))
    return numbers


def _python(value: object) -> object:
    return value.item() if hasattr(value, "item") else value
