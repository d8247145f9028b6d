"""Balanced, nearly orthogonal arrays of mixed levels, and how orthogonal an array is."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]

_TRIES = 24  # random columns that are improved side by side; fewer where there are many rows
_ROUNDS = 2  # how often new ones are drawn while no column meets its bound
_SWEEPS = 6  # over all columns of a finished array
_STARTS = 60
_WORK = 2.5e6  # some five seconds; searches are counted, never timed, so that a seed gives one array on all machines


def cramers_v(table: Ints) -> float:
    """Return Cramér's V of a table of counts, without correction for bias (Cramér 1946).

    Args:
        table: ``(a, b)`` counts; rows and columns of zeros do not count.

    Returns:
        0 (independent) to 1 (a level of one fixes the level of the other), both exact; NaN where a side has fewer than
        two levels.

    Example:
        >>> cramers_v(np.array([[9, 9], [9, 9]])), cramers_v(np.array([[5, 0], [0, 2], [0, 4]]))
        (0.0, 1.0)
    """
    table = table[table.any(axis=1)][:, table.any(axis=0)]
    if min(table.shape) < 2:
        return math.nan
    if fixes(table) or fixes(table.T):
        return 1.0
    product = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True)
    # chi-square by differences of whole numbers, so that independence gives 0 and not a rounding error's root
    chi_square = float((((table.sum() * table - product).astype(float)) ** 2 / product).sum() / table.sum())
    return min(math.sqrt(chi_square / float(table.sum()) / (min(table.shape) - 1)), math.nextafter(1, 0))


def fixes(table: Ints) -> bool:
    """Tell whether each row of a table of counts has one column only: the row's level fixes the column's.

    Example:
        >>> fixes(np.array([[5, 0], [0, 2], [0, 4]])), fixes(np.array([[5, 0, 0], [0, 2, 4]]))
        (True, False)
    """
    return bool(((table > 0).sum(axis=1) <= 1).all())


def crossed(first: Ints, second: Ints, levels: tuple[int, int]) -> Ints:
    """Return how often each pair of levels of two columns occurs, ``(levels[0], levels[1])``.

    Example:
        >>> crossed(np.array([0, 0, 1]), np.array([1, 1, 0]), (2, 2)).tolist()
        [[0, 2], [1, 0]]
    """
    counts: Ints = np.bincount(first * levels[1] + second, minlength=levels[0] * levels[1])
    return counts.reshape(levels)


def orthogonality(rows: Sequence[Sequence[int]] | Ints, levels: Sequence[int]) -> tuple[float, float]:
    """Return the largest and the mean Cramér's V over all pairs of columns; ``(0, 0)`` is an orthogonal array.

    Columns of one level only are left out; with fewer than two others both are 0.

    Example:
        >>> orthogonality([(0, 0), (0, 1), (1, 0), (1, 1)], (2, 2))
        (0.0, 0.0)
    """
    array: Ints = np.asarray(rows, dtype=np.int64)
    pairs = itertools.combinations(range(len(levels)), 2)
    found = [cramers_v(crossed(array[:, a], array[:, b], (levels[a], levels[b]))) for a, b in pairs]
    found = [value for value in found if not math.isnan(value)]
    return (max(found), sum(found) / len(found)) if found else (0.0, 0.0)


def design_matrix(rows: Ints) -> NDArray[np.float64]:
    """Return the intercept and, for each level that occurs but its factor's lowest, a column of 0 and 1.

    Args:
        rows: ``(n, factors)`` numbers of levels.

    Returns:
        ``(n, 1 + sum of (levels that occur - 1))``: of full column rank exactly where all main effects
        can be estimated.

    Example:
        >>> design_matrix(np.array([[0, 0], [0, 2], [1, 0]])).tolist()
        [[1.0, 0.0, 0.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]]
    """
    dummies = [column[:, None] == np.unique(column)[1:] for column in rows.T]
    return np.hstack([np.ones((len(rows), 1)), *dummies]).astype(np.float64)


def nearly_orthogonal_array(levels: Sequence[int], runs: int, seed: int) -> Ints | None:
    """Return a balanced array whose columns are as orthogonal as the search makes them.

    Columns are added one after another, each as the best of many random balanced columns that were improved by
    exchanging pairs of symbols (Xu 2002, Technometrics 44(4), 356-368, with the "natural" weights: a column's number of
    levels). Beyond the paper, each column is then searched for once more with all others in place, and two equal rows
    cost more than any gain. The criterion J2 is the sum over pairs of rows of their squared weighted coincidences.

    Args:
        levels: number of levels of each column.
        runs: number of rows; at most the number of combinations.
        seed: the same one gives the same array.

    Returns:
        ``(runs, columns)`` distinct rows. Each column's levels occur equally often, or differ by one. The matrix of the
        main effects has full rank. None where the search found no such array.

    Example:
        >>> array = nearly_orthogonal_array((3, 3, 3, 3), 9, seed=0)
        >>> orthogonality(array, (3, 3, 3, 3))
        (0.0, 0.0)
    """
    total = math.prod(levels)
    if 2 * runs <= total:
        return _search(levels, runs, seed, others=None)
    # What is left of the full factorial is as balanced and as orthogonal as what is taken away from it.
    full: Ints = np.array(list(itertools.product(*map(range, levels))), dtype=np.int64)
    if runs == total:
        return full
    return _search(levels, total - runs, seed, others=full)


@dataclass
class _Search:
    """Where random columns come from, and how many searches for a column are left."""

    rng: "np.random.Generator"
    left: int

    def columns(self, runs: int, count: int) -> Ints:
        """Return ``(tries, runs)`` columns in which each of ``count`` levels is equally often, or once more."""
        tries = max(2, min(_TRIES, 5000 // runs))
        return self.rng.permuted(np.tile(np.arange(runs, dtype=np.int64) % count, (tries, 1)), axis=1)


def _search(levels: Sequence[int], runs: int, seed: int, others: Ints | None) -> Ints | None:
    """Return the best array of several starts, or the rows of ``others`` that the best array leaves."""
    order = np.argsort([-count for count in levels], kind="stable")  # more levels are harder to place: first
    ordered = [levels[k] for k in order]
    bound = sum(_least_coincidences(runs, a, b) * a * b for a, b in itertools.combinations(ordered, 2))
    best: tuple[int, Ints] | None = None
    search = _Search(np.random.default_rng(seed), int(_WORK / (runs * (runs + 150))))
    for _ in range(_STARTS):
        array = _build(ordered, runs, search)
        cost, result = _cost(array, ordered), array[:, np.argsort(order)]
        if (best is None or cost < best[0]) and _is_distinct(result):
            result = result if others is None else _without(others, result)
            best = (cost, result) if _is_clear(result, levels) else best
        if best is not None and (best[0] == bound or search.left <= 0):
            break
    return None if best is None else best[1]


def _is_distinct(array: Ints) -> bool:
    return len(np.unique(array, axis=0)) == len(array)


def _is_clear(array: Ints, levels: Sequence[int]) -> bool:
    """Tell whether the main effects of all levels can be estimated side by side."""
    return int(np.linalg.matrix_rank(design_matrix(array))) == 1 + sum(count - 1 for count in levels)


def _without(rows: Ints, removed: Ints) -> Ints:
    gone = set(map(tuple, removed.tolist()))
    return np.array([row for row in rows.tolist() if tuple(row) not in gone], dtype=np.int64)


def _build(levels: Sequence[int], runs: int, search: _Search) -> Ints:
    """Add the columns one after another, then search for each once more until none gets better."""
    array: Ints = np.zeros((runs, 0), dtype=np.int64)
    for k in range(len(levels)):
        column, _ = _best_column(array, levels[:k], levels[k], search, last=k == len(levels) - 1)
        array = np.hstack([array, column[:, None]])
    for _ in range(_SWEEPS):
        if search.left <= 0 or not _sweep(array, levels, search):
            break
    return array


def _sweep(array: Ints, levels: Sequence[int], search: _Search) -> bool:
    """Search for each column once more, in place; tell whether any got better."""
    better = False
    for k in range(len(levels)):
        rest, counts = np.delete(array, k, axis=1), [*levels[:k], *levels[k + 1 :]]
        weights = _weights(rest, counts, last=True)
        before = int((weights * (array[:, None, k] == array[:, k])).sum()) // 2
        if before == _bound(len(array), counts, levels[k]):
            continue
        column, cost = _best_column(rest, counts, levels[k], search, last=True)
        if cost < before:
            array[:, k] = column
            better = True
    return better


def _best_column(array: Ints, levels: Sequence[int], count: int, search: _Search, last: bool) -> tuple[Ints, int]:
    """Return a balanced column of ``count`` levels with few coincidences with those of ``array``, and its cost."""
    weights, bound = _weights(array, levels, last), _bound(len(array), levels, count)
    best, cost = array[:, :0].sum(axis=1), np.iinfo(np.int64).max
    search.left -= 1
    for _ in range(_ROUNDS):
        columns = search.columns(len(array), count)
        costs = _exchange(columns, weights, count)
        if costs.min() < cost:
            best, cost = columns[costs.argmin()].copy(), int(costs.min())
        if cost == bound:
            break
    return best, cost


def _exchange(columns: Ints, weights: Ints, count: int) -> Ints:
    """Exchange symbols within each column, in place, until no exchange of two lowers its cost; return the costs.

    Args:
        columns: ``(tries, n)``, improved side by side.
        weights: ``(n, n)`` what it costs that two rows coincide.
        count: number of levels.
    """
    tries, n = columns.shape
    every = np.arange(tries)[:, None]
    # (tries, levels, n): what row i costs if it has the level
    price: Ints = (columns[:, None, :] == np.arange(count)[:, None]).astype(np.int64) @ weights
    idle, a = 0, 0
    while idle < n:
        own = columns[:, a]
        gain = (
            price[every[:, 0], own, a][:, None]
            - price[every, columns, a]
            - price[every[:, 0], own]
            + price[every, columns, np.arange(n)]
            + 2 * weights[a]
        )
        gain[columns == own[:, None]] = 0
        b = gain.argmax(axis=1)
        (moved,) = np.nonzero(gain[every[:, 0], b] > 0)
        if len(moved):
            partner = b[moved]
            mine, theirs = own[moved].copy(), columns[moved, partner]
            change = weights[partner] - weights[a]
            price[moved, mine] += change
            price[moved, theirs] -= change
            columns[moved, a], columns[moved, partner] = theirs, mine
        idle = 0 if len(moved) else idle + 1
        a = (a + 1) % n
    cost: Ints = price[every, columns, np.arange(n)].sum(axis=1) // 2  # each pair of rows is in it twice
    return cost


def _weights(array: Ints, levels: Sequence[int], last: bool) -> Ints:
    """Return ``(n, n)`` weighted coincidences of the rows; equal rows cost more than all else in the last column."""
    n = len(array)
    weights: Ints = np.zeros((n, n), dtype=np.int64)
    for column, count in zip(array.T, levels, strict=True):
        weights += count * (column[:, None] == column)
    if last and levels:
        weights[weights == sum(levels)] *= n * n
    np.fill_diagonal(weights, 0)
    return weights


def _bound(runs: int, levels: Sequence[int], count: int) -> int:
    return sum(other * _least_coincidences(runs, other, count) for other in levels)


def _least_coincidences(runs: int, first: int, second: int) -> int:
    """Return how many pairs of rows agree in two columns if all pairs of levels occur as equally often as they can."""
    each, more = divmod(runs, first * second)
    return first * second * math.comb(each, 2) + more * each


def _cost(array: Ints, levels: Sequence[int]) -> int:
    """Return the weighted coincidences over all pairs of columns: J2 without what balance makes constant."""
    total = 0
    for a, b in itertools.combinations(range(len(levels)), 2):
        table = crossed(array[:, a], array[:, b], (levels[a], levels[b]))
        total += levels[a] * levels[b] * int((table * (table - 1)).sum() // 2)
    return total
