"""Estimates of comparisons and interactions as weights of the finished runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mtvision.study.analysis.bootstrap import Array, Noise, noise_of
from mtvision.study.analysis.cells import Cells
from mtvision.study.analysis.changes import Comparison
from mtvision.study.analysis.main_effects import MainEffects

PAIRED, MODEL, NONE = "paired", "model", "none"
_ENOUGH = 3  # degrees of freedom of the spread over seeds from which on nothing else is needed
_TINY = 1e-9


@dataclass(frozen=True)
class Contrast:
    """How a comparison is estimated.

    Attributes:
        weights: of the values, ``(n,)``; the estimate is their weighted sum.
        pairs: number of pairs of runs behind it; 0 where it is a contrast of a model.
        method: `PAIRED`, `MODEL` or `NONE`.
        reason: why there is no estimate, or no interval; empty if there are both.
    """

    weights: Array
    pairs: int
    method: str
    reason: str = ""


def effect_contrast(comparison: Comparison, cells: Cells, model: MainEffects) -> Contrast:
    """Return how to estimate a comparison: from pairs of runs where they are typical, else from all runs.

    Pairs are runs with the same seed and the same levels of all other factors. They must be at least two and take in at
    least half of the runs of the level: one accidental pair among many runs would speak for one odd combination.

    Args:
        comparison: to estimate.
        cells: with the values.
        model: of the main effects over configurations.
    """
    nothing = np.zeros(len(cells.values))
    if comparison.reason:
        return Contrast(nothing, 0, NONE, comparison.reason)
    here = int(np.sum(cells.which(comparison.level)[cells.config]))
    differences = corner_differences([comparison], cells)
    pairs = len(differences)
    if pairs >= 2 and 2 * pairs >= here:
        equal = np.ptp(differences @ cells.values) <= _TINY * np.abs(cells.values).max()
        return Contrast(differences.mean(axis=0), pairs, PAIRED, f"the same in all {pairs} pairs" if equal else "")
    if pairs and here == 1:
        return Contrast(differences[0], 1, PAIRED, "one pair only")
    alone = [levels for levels in (comparison.level, comparison.base) if cells.which(levels).sum() < 2]
    if alone:
        names = " and ".join(f"{name}={label}" for name, label in alone[0].items())
        return Contrast(nothing, 0, NONE, f"one configuration only has {names}, and no partner to compare it with")
    of_configs = model.weights(comparison) / np.bincount(cells.config)
    return Contrast(of_configs[cells.config], 0, MODEL)


def corner_differences(changes: Sequence[Comparison], cells: Cells) -> Array:
    """Return the differences that pairs of runs make, or with two changes the differences of such differences.

    Args:
        changes: one for pairs; two for an interaction; of different factors.
        cells: with the runs.

    Returns:
        A row of weights for each combination of seed and other levels that has all 2 or 4 corners, ``(pairs, n)``.
    """
    corners: list[tuple[float, Mapping[str, str]]] = [(1.0, {})]
    for change in changes:
        corners = [(sign * side, {**levels, **more}) for sign, levels in corners for side, more in _sides(change)]
    changed = {name for change in changes for name in change.level}
    others = [labels for name, labels in cells.labels.items() if name not in changed]
    keys = list(zip(*others, strict=True)) if others else [()] * len(cells.configs)
    rows: dict[tuple[object, ...], Array] = {}
    found: dict[tuple[object, ...], int] = {}
    for sign, levels in corners:
        for index in np.flatnonzero(cells.which(levels)[cells.config]):
            key = (cells.seed[index], *keys[cells.config[index]])
            rows.setdefault(key, np.zeros(len(cells.values)))[index] += sign
            found[key] = found.get(key, 0) + 1
    whole = [row for key, row in rows.items() if found[key] == len(corners)]
    return np.stack(whole) if whole else np.zeros((0, len(cells.values)))


def _sides(change: Comparison) -> tuple[tuple[float, Mapping[str, str]], tuple[float, Mapping[str, str]]]:
    return (1.0, change.level), (-1.0, change.base)


def run_noise(cells: Cells, model: MainEffects) -> Noise:
    """Return what configuration and seed leave unexplained, run by run: the noise of paired comparisons.

    Where too few configurations were run with more than one seed to tell, the main effects stand in for the
    configurations, and what they leave, interactions too, counts as noise.
    """
    seeds = cells.of_seed
    repeated = noise_of(cells.values, np.hstack([cells.of_config, seeds]))
    if repeated.freedom >= _ENOUGH:
        return repeated
    added = noise_of(cells.values, np.hstack([model.design[cells.config], seeds]))
    return repeated if repeated.freedom >= min(_ENOUGH, added.freedom) else added


def config_noise(cells: Cells, model: MainEffects) -> Noise:
    """Return what the main effects leave unexplained of the means of configurations."""
    return noise_of(cells.means, model.with_seeds)
