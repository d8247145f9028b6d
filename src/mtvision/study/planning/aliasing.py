"""Which factors no analysis of a set of runs can separate: those that always change together, or nearly so."""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mtvision.errors import DataError, did_you_mean
from mtvision.study.planning.orthogonal import Ints, cramers_v, crossed, design_matrix, fixes

NEAR = 0.7
"""From this Cramér's V on two factors are called nearly aliased."""


@dataclass(frozen=True)
class Aliasing:
    """What a set of runs can tell apart and what it cannot.

    Attributes:
        cramers_v: factor by factor, 0 to 1 (Cramér 1946, without correction for bias); 1 on the diagonal, NaN in the
            row and column of a factor with one level only in the runs.
        rank: of the design matrix of the main effects: the intercept, and a column of 0 and 1 for each level that
            occurs but its factor's first; equal to ``columns`` exactly where all main effects can be estimated.
        columns: of that matrix.
        sets: groups of ``(factor, level)`` of different factors that occur in exactly the same runs.
        factor_sets: groups of factors whose levels change at the same runs: each fixes the others.
        nested: ``(a, b)``: the level of ``a`` fixes that of ``b``, but not the other way round.
        near: pairs with a Cramér's V of at least `NEAR` and below 1.
        inestimable: ``(factor, level)`` whose difference to the factor's first level the main-effects model cannot
            estimate, by the rank test; also where either of the two has no run.
        balance: a row a factor and level: ``factor, level, n``, the number of distinct configs.
        empty_cells: a row a pair of levels of two factors that no run has together: ``factor_a, level_a, factor_b,
            level_b``.
    """

    cramers_v: pd.DataFrame
    rank: int
    columns: int
    sets: tuple[tuple[tuple[str, str], ...], ...]
    factor_sets: tuple[tuple[str, ...], ...]
    nested: tuple[tuple[str, str], ...]
    near: tuple[tuple[str, str, float], ...]
    inestimable: tuple[tuple[str, str], ...]
    balance: pd.DataFrame
    empty_cells: pd.DataFrame

    def sentences(self) -> list[str]:
        """Return what cannot be told from these runs, a plain sentence each; empty where all can.

        Example:
            >>> configs = pd.DataFrame({"lr": ["1", "1", "2"], "loss": ["a", "a", "b"], "head": ["a", "b", "a"]})
            >>> levels = {"lr": ("1", "2"), "loss": ("a", "b"), "head": ("a", "b")}
            >>> check_aliasing(configs, levels).sentences()[0]
            'lr and loss always change together (lr=1 with loss=a, lr=2 with loss=b): no analysis can separate them'
        """
        return [*self._about_levels(), *self._about_factors(), *self._about_the_model()]

    def _about_levels(self) -> Iterator[str]:
        runs = {(factor, level): n for factor, level, n in self.balance.itertuples(index=False)}
        for (factor, level), n in runs.items():
            if n == 0:
                yield f"{factor}={level} has no run"
        for factor in self.cramers_v.columns[self.cramers_v.isna().any()]:
            if (only := [level for (name, level), n in runs.items() if name == factor and n]) and len(only) == 1:
                yield f"{factor} is {only[0]} in all runs: nothing can be said about it"
        for factors in self.factor_sets:
            groups = [group for group in self.sets if {factor for factor, _ in group} >= set(factors)]
            pairs = ", ".join(
                " with ".join(f"{factor}={level}" for factor, level in group if factor in factors) for group in groups
            )
            yield f"{_listed(factors)} always change together ({pairs}): no analysis can separate them"
        for group in self.sets:
            if not any({factor for factor, _ in group} <= set(factors) for factors in self.factor_sets):
                levels = _listed([f"{factor}={level}" for factor, level in group])
                yield f"{levels} always occur together ({_runs(runs[group[0]])}): no analysis can separate them"

    def _about_factors(self) -> Iterator[str]:
        for finer, coarser in self.nested:
            yield (
                f"the level of {finer} fixes that of {coarser}: a difference between levels of {coarser} may be one "
                f"between levels of {finer}"
            )
        for first, second, strength in self.near:
            yield f"{first} and {second} nearly always change together (Cramér's V = {strength:.2f})"

    def _about_the_model(self) -> Iterator[str]:
        if self.rank < self.columns:
            yield (
                f"the design matrix of the main effects has rank {self.rank} and {self.columns} columns: "
                "not all of them can be estimated side by side"
            )
        said = {member for group in self.sets for member in group}
        said |= {(factor, level) for factor, level, n in self.balance.itertuples(index=False) if n == 0}
        for factor in self.cramers_v.columns:
            levels = [level for name, level in self.inestimable if name == factor and (name, level) not in said]
            if levels:
                base = self.balance["level"][self.balance["factor"] == factor].iloc[0]
                yield (f"{factor}: {base} against {_listed(levels)} cannot be told from differences of other factors")


def check_aliasing(configs: pd.DataFrame, factors: Mapping[str, Sequence[str]]) -> Aliasing:
    """Find out which factors, and which of their levels, always change together.

    Args:
        configs: a row a run, with the label of its level in a column a factor; other columns do not matter, and runs
            that differ in no factor count once.
        factors: labels of the levels by factor, the base level first.

    Raises:
        DataError: if there is no run or no factor, if a factor has no column, or if a run has a level that the factor
            does not.

    Example:
        >>> configs = pd.DataFrame({"activation": ["relu", "relu", "gelu"], "loss": ["ce", "ce", "focal"]})
        >>> check_aliasing(configs, {"activation": ("relu", "gelu"), "loss": ("ce", "focal")}).factor_sets
        (('activation', 'loss'),)
    """
    codes = _codes(configs, factors)
    names = tuple(factors)
    tables = {
        (a, b): crossed(codes[:, a], codes[:, b], (len(factors[names[a]]), len(factors[names[b]])))
        for a, b in itertools.combinations(range(len(names)), 2)
    }
    strengths = {(names[a], names[b]): cramers_v(table) for (a, b), table in tables.items()}
    rank, columns, inestimable = _estimability(codes, factors)
    counts = [np.bincount(column, minlength=len(factors[name])) for name, column in zip(names, codes.T, strict=True)]
    return Aliasing(
        cramers_v=_square(names, strengths, counts),
        rank=rank,
        columns=columns,
        sets=_same_runs(codes, factors),
        factor_sets=_same_partition(codes, names),
        nested=tuple(_nested(tables, names, strengths)),
        near=tuple((a, b, strength) for (a, b), strength in strengths.items() if NEAR <= strength < 1),
        inestimable=inestimable,
        balance=pd.DataFrame(
            [
                (f, level, int(n))
                for f, each in zip(names, counts, strict=True)
                for level, n in zip(factors[f], each, strict=True)
            ],
            columns=["factor", "level", "n"],
        ),
        empty_cells=_empty_cells(tables, factors),
    )


def _codes(configs: pd.DataFrame, factors: Mapping[str, Sequence[str]]) -> Ints:
    """Return the numbers of the levels, ``(distinct configs, factors)``."""
    if not factors or not len(configs):
        raise DataError(f"the alias check needs at least one {'run' if factors else 'factor'}")
    columns = []
    for name, labels in factors.items():
        if name not in configs.columns:
            raise DataError(f"no column '{name}' in the table of runs.{did_you_mean(name, map(str, configs.columns))}")
        number = {label: index for index, label in enumerate(labels)}
        for label in configs[name].unique():
            if label not in number:
                raise DataError(
                    f"column '{name}': {label!r} is none of the factor's levels ({', '.join(labels)})."
                    f"{did_you_mean(str(label), labels)}"
                )
        columns.append(configs[name].map(number).to_numpy(dtype=np.int64))
    distinct: Ints = np.unique(np.stack(columns, axis=1), axis=0)
    return distinct


def _square(names: Sequence[str], strengths: Mapping[tuple[str, str], float], counts: Sequence[Ints]) -> pd.DataFrame:
    square = pd.DataFrame(np.eye(len(names)), index=list(names), columns=list(names))
    for (a, b), strength in strengths.items():
        square.loc[a, b] = square.loc[b, a] = strength
    for name, each in zip(names, counts, strict=True):
        if (each > 0).sum() < 2:
            square.loc[name, name] = np.nan
    return square


def _estimability(codes: Ints, factors: Mapping[str, Sequence[str]]) -> tuple[int, int, tuple[tuple[str, str], ...]]:
    """Return the design matrix's rank and width, and the levels whose contrast to the first is not estimable.

    A contrast is estimable exactly where it lies in the space of the matrix's rows: it adds nothing to their rank.
    """
    matrix = design_matrix(codes)
    rows = np.linalg.qr(matrix, mode="r")  # the same space in fewer rows
    rank, width = int(np.linalg.matrix_rank(rows)), matrix.shape[1]
    inestimable, at = [], 1
    for (name, labels), column in zip(factors.items(), codes.T, strict=True):
        occurring = np.unique(column).tolist()
        for level in range(1, len(labels)):
            if level not in occurring or 0 not in occurring:
                inestimable.append((name, labels[level]))
                continue
            contrast = np.zeros((1, width))
            contrast[0, at + occurring.index(level) - 1] = 1
            if np.linalg.matrix_rank(np.vstack([rows, contrast])) > rank:
                inestimable.append((name, labels[level]))
        at += len(occurring) - 1
    return rank, width, tuple(inestimable)


def _same_runs(codes: Ints, factors: Mapping[str, Sequence[str]]) -> tuple[tuple[tuple[str, str], ...], ...]:
    """Return the groups of levels with the same runs; a level that all runs have, or none, is compared with nothing."""
    groups: dict[bytes, list[tuple[str, str]]] = defaultdict(list)
    for (name, labels), column in zip(factors.items(), codes.T, strict=True):
        for level, label in enumerate(labels):
            here = column == level
            if here.any() and not here.all():
                groups[here.tobytes()].append((name, label))
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def _same_partition(codes: Ints, names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return the groups of factors that split the runs into the same parts, whatever the parts are called."""
    groups: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for name, column in zip(names, codes.T, strict=True):
        _, first, part = np.unique(column, return_index=True, return_inverse=True)
        if len(first) > 1:
            groups[tuple(first[part].tolist())].append(name)  # a part is called by its first run
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def _nested(
    tables: Mapping[tuple[int, int], Ints], names: Sequence[str], strengths: Mapping[tuple[str, str], float]
) -> Iterator[tuple[str, str]]:
    for (a, b), table in tables.items():
        if strengths[names[a], names[b]] == 1 and fixes(table) != fixes(table.T):
            yield (names[a], names[b]) if fixes(table) else (names[b], names[a])


def _empty_cells(tables: Mapping[tuple[int, int], Ints], factors: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    names = tuple(factors)
    cells = [
        (names[a], factors[names[a]][level_a], names[b], factors[names[b]][level_b])
        for (a, b), table in tables.items()
        for level_a, level_b in np.argwhere(table == 0).tolist()
    ]
    return pd.DataFrame(cells, columns=["factor_a", "level_a", "factor_b", "level_b"])


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]


def _runs(n: int) -> str:
    return f"{n} configuration" if n == 1 else f"{n} configurations"
