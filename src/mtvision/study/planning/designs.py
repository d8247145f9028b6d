"""Designs: which combinations of the factors' levels a study runs."""

import itertools
import math
import random as random_numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

import numpy as np
from pydantic import Field

from mtvision.errors import ConfigError, did_you_mean
from mtvision.registries import DESIGNS
from mtvision.study.planning.factors import Factor, level_label
from mtvision.study.planning.orthogonal import nearly_orthogonal_array

Row: TypeAlias = tuple[int, ...]

MAX_FULL_FACTORIAL = 100_000

# A nearly orthogonal array is searched for with a matrix of runs by runs.
FractionalRuns = Annotated[int, Field(ge=2, le=2000)]
Runs = Annotated[int, Field(ge=1, le=MAX_FULL_FACTORIAL)]


@dataclass(frozen=True)
class FixedDesign:
    """Runs that are known before the first one is made.

    Attributes:
        rows: for each run the number of each factor's level; no row is there twice.
    """

    rows: tuple[Row, ...]


@dataclass(frozen=True)
class SearchDesign:
    """Runs that a search chooses one after another, by the results so far.

    Attributes:
        runs: how many in all.
        pruning: whether a run that does worse than the others at the same epoch is ended.
        startup: how many runs are drawn at random before the search begins.
    """

    runs: int
    pruning: bool
    startup: int


@DESIGNS.register("one_at_a_time")
def one_at_a_time(factors: tuple[Factor, ...], seed: int) -> FixedDesign:
    """Take the base and then one change of it at a time (mtvision).

    The fewest runs. What a level does together with a level of another factor is not seen.

    Example:
        >>> from mtvision.config import Config
        >>> from mtvision.study.planning.factors import read_factors
        >>> factors = read_factors(Config(), {"model.activation": ["relu", "gelu"], "training.lr": [0.002, 0.01, 0.1]})
        >>> one_at_a_time(factors, 0).rows
        ((0, 0), (1, 0), (0, 1), (0, 2))
    """
    del seed
    base = _base(factors)
    changes = [
        (*base[:at], level, *base[at + 1 :])
        for at, factor in enumerate(factors)
        for level in range(len(factor.levels))
        if level != factor.base
    ]
    return FixedDesign((base, *changes))


@DESIGNS.register("full_factorial")
def full_factorial(factors: tuple[Factor, ...], seed: int) -> FixedDesign:
    """Take all combinations of all levels, the base first (Fisher 1935, The Design of Experiments).

    Raises:
        ConfigError: if there are more than 100,000.
    """
    del seed
    total = _combinations(factors)
    if total > MAX_FULL_FACTORIAL:
        raise ConfigError(
            [
                f"design.full_factorial: {total:,} combinations of levels are more than {MAX_FULL_FACTORIAL:,}; "
                "'fractional' or 'random' takes a part of them"
            ]
        )
    ordered = [[f.base, *(level for level in range(len(f.levels)) if level != f.base)] for f in factors]
    return FixedDesign(tuple(itertools.product(*ordered)))


@DESIGNS.register("random")
def random(factors: tuple[Factor, ...], seed: int, *, runs: Runs) -> FixedDesign:
    """Draw distinct combinations, each as likely as any other (Bergstra & Bengio 2012, JMLR 13, 281-305).

    More runs with the same seed begin with the same ones.

    Args:
        factors: with their levels.
        seed: the same one draws the same rows.
        runs: how many rows.

    Raises:
        ConfigError: if there are fewer combinations than ``runs``.
    """
    _check_enough(factors, runs, "random")
    numbers = random_numbers.Random(seed)
    rows: dict[Row, None] = {}
    while len(rows) < runs:
        rows[tuple(numbers.randrange(len(factor.levels)) for factor in factors)] = None
    return FixedDesign(tuple(rows))


@DESIGNS.register("fractional")
def fractional(factors: tuple[Factor, ...], seed: int, *, runs: FractionalRuns) -> FixedDesign:
    """Take a balanced, nearly orthogonal part of all combinations (Xu 2002, Technometrics 44(4), 356-368).

    Each level of a factor is in equally many runs, or in one more; all main effects can be estimated side by side, and
    factors are as little related as the search makes them: not at all where it finds an orthogonal array. The base is
    the first row. `orthogonal.orthogonality` says how good the array is.

    Args:
        factors: with their levels.
        seed: the same one gives the same rows.
        runs: how many rows; an orthogonal array needs a multiple of each product of two factors' numbers of
            levels.

    Raises:
        ConfigError: if there are fewer combinations than ``runs``, if ``runs`` are too few for the main effects (the
            message has the least number), or if no such array was found.

    Example:
        >>> from mtvision.study.planning.factors import Level
        >>> factors = tuple(Factor(name, (Level("off", {}), Level("on", {}))) for name in "abc")
        >>> sorted(fractional(factors, 0, runs=4).rows)
        [(0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0)]
    """
    levels = [len(factor.levels) for factor in factors]
    least = 1 + sum(levels) - len(levels)
    if runs < least:
        raise ConfigError(
            [
                f"design.fractional.runs: {runs} runs are too few to tell the main effects of {len(levels)} factors "
                f"apart; at least {least} are needed (1 + each factor's number of levels less one)"
            ]
        )
    _check_enough(factors, runs, "fractional")
    array = nearly_orthogonal_array(levels, runs, seed)
    if array is None:
        raise ConfigError(
            [
                f"design.fractional.runs: no balanced design of {runs} runs was found in which the main effects are "
                f"clear of each other; try another number (at least {least}) or seed"
            ]
        )
    return FixedDesign(tuple(map(tuple, _with_base_first(array, _base(factors)).tolist())))


@DESIGNS.register("runs")
def runs(
    factors: tuple[Factor, ...], seed: int, *, rows: Annotated[list[dict[str, Any]], Field(min_length=1)]
) -> FixedDesign:
    """Take the given runs and no others (mtvision).

    Args:
        factors: with their levels.
        seed: without a meaning here.
        rows: for each run the level of each factor, as its label or its value; a factor that is left out is at its base
            level.

    Raises:
        ConfigError: with one sentence for each unknown factor, unknown level and run that is there twice.

    Example:
        >>> from mtvision.study.planning.factors import Level
        >>> factor = Factor("training.lr", (Level("0.001", {}), Level("0.01", {})))
        >>> runs((factor,), 0, rows=[{"training.lr": 0.01}, {}]).rows
        ((1,), (0,))
    """
    del seed
    problems: list[str] = []
    first: dict[Row, int] = {}
    for number, given in enumerate(rows, start=1):
        before = len(problems)
        row = _read_row(factors, given, f"design.runs.rows, row {number}", problems)
        if row in first and len(problems) == before:
            problems.append(f"design.runs.rows: rows {first[row]} and {number} are the same")
        first.setdefault(row, number)
    if problems:
        raise ConfigError(problems)
    return FixedDesign(tuple(first))


@DESIGNS.register("tpe")
def tpe(
    factors: tuple[Factor, ...],
    seed: int,
    *,
    runs: Runs,
    pruning: bool = True,
    startup: Annotated[int, Field(ge=0)] = 10,
) -> SearchDesign:
    """Let Optuna's tree-structured Parzen estimator choose each run by the results (Bergstra et al. 2011, NeurIPS).

    It finds good configurations in few runs; its rows are neither balanced nor orthogonal, and comparisons say so.

    Args:
        factors: with their levels.
        seed: of the search, which takes it from the study.
        runs: how many runs in all.
        pruning: end runs that do worse than the median of the others at the same epoch.
        startup: runs that are drawn at random before the search begins.
    """
    del factors, seed
    return SearchDesign(runs=runs, pruning=pruning, startup=startup)


def _base(factors: Sequence[Factor]) -> Row:
    return tuple(factor.base for factor in factors)


def _combinations(factors: Sequence[Factor]) -> int:
    return math.prod(len(factor.levels) for factor in factors)


def _check_enough(factors: Sequence[Factor], runs: int, design: str) -> None:
    total = _combinations(factors)
    if runs > total:
        raise ConfigError(
            [f"design.{design}.runs: {runs} runs are more than the {total} combinations of the factors' levels"]
        )


def _with_base_first(array: Any, base: Row) -> Any:
    """Rename levels so that the first row is the base: which level is called what changes no property of the array."""
    renamed = array.copy()
    for column, level in enumerate(base):
        first = array[0, column]
        renamed[:, column] = np.where(
            array[:, column] == first, level, np.where(array[:, column] == level, first, array[:, column])
        )
    return renamed


def _read_row(factors: Sequence[Factor], given: Mapping[str, Any], where: str, problems: list[str]) -> Row:
    """Return the numbers of a row's levels; note what is unknown."""
    names = [factor.name for factor in factors]
    problems += [
        f"{where}: no factor '{name}'.{did_you_mean(name, names)} Factors: {', '.join(names)}"
        for name in given
        if name not in names
    ]
    row = []
    for factor in factors:
        label = level_label(given[factor.name]) if factor.name in given else factor.labels[factor.base]
        if label not in factor.labels:
            problems.append(
                f"{where}: factor '{factor.name}' has no level '{label}'.{did_you_mean(label, factor.labels)} "
                f"Levels: {', '.join(factor.labels)}"
            )
        row.append(factor.labels.index(label) if label in factor.labels else -1)
    return tuple(row)
