"""Runs that were made elsewhere, as a table of factors and results."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mtvision.errors import ConfigError, DataError, did_you_mean
from mtvision.study.analysis.analyze import analyze
from mtvision.study.analysis.findings import Findings
from mtvision.study.analysis.table import FAILED, FINISHED, PRUNED, RunTable
from mtvision.study.planning.aliasing import Aliasing, check_aliasing
from mtvision.study.planning.factors import level_label
from mtvision.study.report.content import ReportContent
from mtvision.study.report.writing import ReportFiles, write_report

_OWN_COLUMNS = ("run", "config", "state")
_STATES = (FINISHED, FAILED, PRUNED)


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
        return write_report(Path(folder).expanduser(), ReportContent(title, findings, design=design, notes=notes))


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

    A column called ``seed`` that is no factor holds the seeds, also where ``seed`` is None. Without seeds, rows of
    equal levels count as repetitions with seeds of their own, but for those whose results are equal to the last digit
    too: these are one run, written twice. A column called ``state`` says which runs are ``finished``, ``failed`` or
    ``pruned`` (in capitals too); without it all are finished. A run whose objective is empty or ``nan`` has no result.

    Args:
        source: a CSV file with a heading, or a frame; a row a run.
        factors: columns that hold the levels of the factors.
        objective: column that is to be large, or small.
        seed: column of the seeds, None: ``seed`` where there is one.
        base: by factor the level that the others are compared with; else the most frequent one.
        higher_is_better: of the objective.

    Raises:
        DataError: if the file cannot be read as a table.
        ConfigError: with one sentence for each problem: a column, factor or level that is not there, columns of one
            name, a column with two meanings or with a name that the table needs itself (``run``, ``config``, ``state``,
            ``seed``), a factor of a single level, an empty level or seed, an objective that is no finite number
            somewhere or nowhere a number, a state of another name.

    Example:
        >>> runs = pd.DataFrame({"activation": ["relu", "relu", "gelu"], "miou": [0.5, 0.6, 0.7]})
        >>> read_runs(runs, ["activation"], objective="miou").factors
        {'activation': ('relu', 'gelu')}
    """
    runs = _frame(source)
    names = [factors] if isinstance(factors, str) else list(factors)
    if seed is None and "seed" in runs and "seed" not in (*names, objective):
        seed = "seed"
    problems = _factor_problems(factors, objective, seed) + _column_problems(runs, names, objective, seed)
    levels = _checked_levels(runs, names, objective, seed, base or {}, problems)
    runs = runs.assign(**{name: _labels(runs[name]) for name in names}, **{objective: _numbers(runs[objective])})
    return RunTable(_with_own_columns(runs, names, seed), levels, objective, higher_is_better)


def _frame(source: str | Path | pd.DataFrame) -> pd.DataFrame:
    if isinstance(source, pd.DataFrame):
        return source.reset_index(drop=True).rename(columns=str)
    try:
        runs = pd.read_csv(source, keep_default_na=False, na_values=[""]).reset_index(drop=True)
        heading = pd.read_csv(source, header=None, nrows=1, dtype=str, keep_default_na=False).iloc[0]
    except (OSError, ValueError) as error:  # pandas's parser errors are ValueErrors
        raise DataError(f"{source}: cannot be read as a table with a heading ({error})") from None
    if len(heading) == len(runs.columns):  # pandas numbers columns of one name: that would hide them
        runs.columns = [given or found for given, found in zip(heading, runs.columns, strict=True)]
    return runs


def _with_own_columns(runs: pd.DataFrame, factors: Sequence[str], seed: str | None) -> pd.DataFrame:
    seeds = list(runs[seed]) if seed is not None else _repetitions(runs, factors)
    states = list(_state_texts(runs)) if "state" in runs else FINISHED
    runs = runs.drop(columns=[name for name in _OWN_COLUMNS if name in runs])
    runs["seed"] = seeds
    runs["config"] = ["|".join(map(str, row)) for row in runs[[*factors, "seed"]].itertuples(index=False)]
    runs["run"] = [f"row {number}" for number in range(1, len(runs) + 1)]
    runs["state"] = states
    return runs


def _factor_problems(factors: Sequence[str], objective: str, seed: str | None) -> list[str]:
    """Return what is wrong with the names alone, whatever the table holds."""
    problems = []
    if isinstance(factors, str):
        problems.append(f"factors: expected a list of columns, got the text '{factors}'; write ['{factors}']")
        factors = [factors]
    if not factors:
        problems.append("factors: name at least one column that holds the levels of a factor")
    for name in dict.fromkeys(factors):
        if list(factors).count(name) > 1:
            problems.append(f"factors: '{name}' is named twice")
        if name == objective:
            problems.append(f"factors: '{name}' is the objective, it cannot be a factor")
        if name == seed:
            problems.append(f"factors: '{name}' is the column of the seeds, it cannot be a factor")
    if seed == objective:
        problems.append(f"seed: '{seed}' is the objective, it cannot hold the seeds")
    own = [("factors", name) for name in factors if name != seed] + [("objective", objective)]
    return problems + [
        f"{key}: the tables have a column '{name}' of their own; choose another column name"
        for key, name in own
        if name in (*_OWN_COLUMNS, "seed")
    ]


def _column_problems(runs: pd.DataFrame, factors: Sequence[str], objective: str, seed: str | None) -> list[str]:
    columns = list(runs.columns)
    named = {"factors": factors, "objective": [objective], "seed": [seed] if seed is not None else []}
    problems = [
        f"columns: {columns.count(name)} columns are called '{name}'; give each a name of its own"
        for name in dict.fromkeys(columns)
        if columns.count(name) > 1
    ]
    return problems + [
        f"{key}: no column '{name}'.{did_you_mean(name, columns) or ' There are: ' + ', '.join(columns)}"
        for key, names in named.items()
        for name in names
        if name not in columns
    ]


def _cell_problems(runs: pd.DataFrame, factors: Sequence[str], objective: str, seed: str | None) -> list[str]:
    """Return a sentence for the first wrong cell of each column that is there."""
    needed = [("factors", name, "level") for name in factors] + ([("seed", seed, "seed")] if seed is not None else [])
    problems = [
        f"{key}: row {row} of column '{name}' is empty; every run needs a {what}"
        for key, name, what in needed
        if name in runs and (row := _first(_is_empty(runs[name])))
    ]
    if objective in runs:
        problems += _objective_problems(runs[objective], objective)
    if "state" in runs and "state" not in (*factors, objective, seed):
        texts = _state_texts(runs)
        if row := _first(~texts.isin(_STATES)):
            shown = f"'{runs['state'][row - 1]}'" if texts[row - 1] else "nothing"
            nearest = did_you_mean(texts[row - 1], _STATES)
            problems.append(f"state: row {row} holds {shown}, expected finished, failed or pruned.{nearest}")
    return problems


def _objective_problems(column: pd.Series, name: str) -> list[str]:
    numbers = _numbers(column)
    empty = _is_empty(column) | column.astype(str).str.strip().str.lower().eq("nan")
    if row := _first(numbers.isna() & ~empty):
        return [f"objective: row {row} of column '{name}' holds '{column[row - 1]}', not a number"]
    if row := _first(np.isinf(numbers)):
        return [f"objective: row {row} of column '{name}' holds {numbers[row - 1]}, which is not finite"]
    return [] if numbers.notna().any() else [f"objective: column '{name}' holds no number"]


def _checked_levels(
    runs: pd.DataFrame,
    factors: Sequence[str],
    objective: str,
    seed: str | None,
    base: Mapping[str, object],
    problems: list[str],
) -> dict[str, tuple[str, ...]]:
    """Return the levels of each factor, the base first; raise these problems and those of the cells, all at once."""
    runs = runs.loc[:, ~runs.columns.duplicated(keep=False)]  # columns of one name are among the problems
    problems = problems + _cell_problems(runs, factors, objective, seed)
    problems += [
        f"base: no factor '{name}'.{did_you_mean(name, factors) or ' Factors: ' + ', '.join(factors)}"
        for name in base
        if name not in factors
    ]
    there = [name for name in dict.fromkeys(factors) if name in runs]
    levels = {name: _levels(runs[name], name, base.get(name), problems) for name in there}
    if problems:
        raise ConfigError(problems)
    return levels


def _levels(column: pd.Series, name: str, base: object, problems: list[str]) -> tuple[str, ...]:
    labels = pd.Series(_labels(column[~_is_empty(column)]), dtype=object)
    counts = labels.value_counts()
    found = list(dict.fromkeys(labels))
    if len(found) < 2:
        what = f"the single level '{found[0]}'" if found else "no level"
        problems.append(f"factors: '{name}' has {what}; a factor needs at least two")
    first = level_label(base) if base is not None or not found else str(counts.index[0])
    if base is not None and first not in found:
        problems.append(f"base: '{name}' has no level '{first}'.{did_you_mean(first, found)}")
    return (first, *(label for label in found if label != first))


def _labels(column: pd.Series) -> list[str]:
    return [level_label(_python(value)) for value in column]


def _is_empty(column: pd.Series) -> pd.Series:
    return column.isna() | column.astype(str).str.strip().eq("")


def _numbers(column: pd.Series) -> pd.Series:
    return pd.to_numeric(column.where(~_is_empty(column)), errors="coerce").astype(float)


def _state_texts(runs: pd.DataFrame) -> pd.Series:
    return runs["state"].where(runs["state"].notna(), "").astype(str).str.strip().str.lower()


def _first(wrong: pd.Series) -> int:
    """Return the number of the first row that is wrong, counted from 1 as in the names of the runs; 0 if none is."""
    return int(np.argmax(wrong)) + 1 if wrong.any() else 0


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
