"""The main-effects model of a study: what can be told from its runs if effects add up."""

import numpy as np

from mtvision.study.analysis.bootstrap import Array
from mtvision.study.analysis.cells import Cells
from mtvision.study.analysis.changes import Comparison

_TINY = 1e-9
_SMALL = 1e-8


class MainEffects:
    """The main-effects model over configurations, and what can be estimated in it.

    Attributes:
        design: a column of ones, and one of 0 and 1 for each level but its factor's first, ``(configs, p)``.
        with_seeds: the same, with further columns for the seeds where they are no plain repetition.
    """

    def __init__(self, cells: Cells) -> None:
        self.design, self._places = _columns(cells)
        self._null = _null_space(self.design)
        blocks = _seed_blocks(cells, self.design, self.design.shape[1] - self._null.shape[1])
        self.with_seeds = np.hstack([self.design, blocks])
        self._solution = np.linalg.pinv(self.with_seeds, rcond=_TINY)

    def contrast(self, comparison: Comparison) -> Array:
        """Return the difference that a comparison is, by column of the design, ``(p,)``."""
        found = np.zeros(self.design.shape[1])
        for sign, levels in ((1.0, comparison.level), (-1.0, comparison.base)):
            for key in levels.items():
                if key in self._places:
                    found[self._places[key]] += sign
        return found

    def weights(self, comparison: Comparison) -> Array:
        """Return the least-squares estimate of a comparison as weights of the configurations' means, ``(configs,)``."""
        own = self.contrast(comparison)
        weights: Array = own @ self._solution[: len(own)]
        return weights

    def can_estimate(self, comparison: Comparison) -> bool:
        """Tell whether the runs determine a comparison, given that effects add up."""
        return bool(np.all(np.abs(self.contrast(comparison) @ self._null) < _SMALL))

    def confounded(self, comparison: Comparison) -> list[str]:
        """Return the factors whose effects can be traded for that of a comparison without any run showing it."""
        own = self.contrast(comparison)
        if not self._null.shape[1]:
            return []
        traded = self._null @ (self._null.T @ own)  # the part of the contrast that no run shows
        names = {name for (name, _), place in self._places.items() if abs(traded[place]) > _SMALL}
        return sorted(names - set(comparison.level))


def _columns(cells: Cells) -> tuple[Array, dict[tuple[str, str], int]]:
    """Return the design matrix of the main effects over configurations, and the column of every level but the first.

    Levels that no run has get no column; where the base level has no run, the first that has stands in for it.
    """
    columns = [np.ones(len(cells.configs))]
    places: dict[tuple[str, str], int] = {}
    for name, labels in cells.factors.items():
        present = [label for label in labels if cells.which({name: label}).any()]
        for label in present[1:]:
            places[name, label] = len(columns)
            columns.append(cells.which({name: label}).astype(float))
    return np.stack(columns, axis=1), places


def _seed_blocks(cells: Cells, design: Array, rank: int) -> Array:
    """Return the share of each seed in each configuration where that differs, else no column, ``(configs, k)``.

    With every configuration run with the same seeds, the seeds cancel. Where seeds are many (each run has its own),
    they are noise, not blocks: they are allowed for only if they take at most a quarter of the degrees of freedom.
    """
    shares = cells.of_config.T @ cells.of_seed
    shares /= shares.sum(axis=1, keepdims=True)
    shares -= shares.mean(axis=0)
    both = np.hstack([design, shares])
    cost = int(np.linalg.matrix_rank(both)) - rank
    shared = np.linalg.matrix_rank(shares, tol=_TINY) if shares.any() else 0
    # a seed that only one level was run with would take that level's effect along: then cost < rank of the shares
    if 0 < cost == shared and 4 * cost <= len(shares) - rank:
        return shares
    return np.zeros((len(shares), 0))


def _null_space(design: Array) -> Array:
    """Return orthonormal columns that span what the design does not show."""
    _, sizes, right = np.linalg.svd(design, full_matrices=True)
    rank = int(np.sum(sizes > _TINY * sizes[0]))
    null: Array = right[rank:].T
    return null
