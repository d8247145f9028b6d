"""The paired bootstrap over images: what a difference between runs could have been with other images."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int32]

LEVEL = 0.95
"""Share of data sets in which an interval holds the true difference."""


def resample_weights(num_images: int, resamples: int, generator: np.random.Generator) -> Integers:
    """Return how often each image is drawn in each resample, ``(B, N)``; a row sums to N.

    A resample draws N images of N with replacement (Efron and Tibshirani 1993, An Introduction to the Bootstrap).
    Weighing several runs by the same rows is what makes their comparison paired.

    Args:
        num_images: N, at least 1.
        resamples: B.
        generator: that draws them.

    Example:
        >>> weights = resample_weights(5, 3, np.random.default_rng(0))
        >>> weights.shape, weights.sum(axis=1).tolist()
        ((3, 5), [5, 5, 5])
    """
    weights = np.empty((resamples, num_images), dtype=np.int32)
    for row in weights:
        row[:] = np.bincount(generator.integers(num_images, size=num_images), minlength=num_images)
    return weights


class PairedIntervals(NamedTuple):
    """What the resamples say of each of m differences; each attribute is ``(m,)``.

    Attributes:
        low: end of the interval of this difference alone.
        high: its other end.
        low_together: end of the interval that belongs to a set which holds all m true differences at once.
        high_together: its other end.
        share: of the resamples, in which the difference has the sign that it has in the data; NaN without a sign.
    """

    low: Floats
    high: Floats
    low_together: Floats
    high_together: Floats
    share: Floats

    @property
    def shown(self) -> NDArray[np.bool_]:
        """Whether 0 lies outside the interval that holds together with all others, ``(m,)``."""
        return np.asarray((self.low_together > 0) | (self.high_together < 0))


def paired_intervals(differences: Floats, resampled: Floats) -> PairedIntervals:
    """Return 95 % intervals for differences, each alone and all together.

    Alone: the 2.5 % and 97.5 % quantiles of the resampled differences (percentile interval, Efron and Tibshirani 1993,
    chapter 13). Together: the difference plus and minus a multiple of its standard deviation over the resamples, the
    same multiple for all. It is the 95 % quantile, over the resamples, of the largest such deviation among the m
    (single-step max-t, Westfall and Young 1993, Resampling-Based Multiple Testing): unlike Bonferroni's rule it makes
    use of the differences going along with each other, and needs no far quantiles.

    Args:
        differences: ``(m,)`` in the data.
        resampled: ``(B, m)``; a resample in which a difference does not exist has NaN there, and does not count.

    Returns:
        Their ends; NaN where a difference is NaN or no resample has it.

    Example:
        >>> found = paired_intervals(np.array([2.0]), np.array([[1.0], [2.0], [3.0]]))
        >>> found.low.round(2).tolist(), found.share.tolist(), found.shown.tolist()
        ([1.05], [1.0], [True])
    """
    ends = np.full((4, len(differences)), np.nan)
    exists = ~np.isnan(differences) & ~np.isnan(resampled).all(axis=0)
    with np.errstate(invalid="ignore"):
        agreeing = np.sign(resampled) == np.sign(differences)
    share = np.full(len(differences), np.nan)
    counted = exists & (differences != 0)
    share[counted] = agreeing[:, counted].sum(axis=0) / (~np.isnan(resampled[:, counted])).sum(axis=0)
    if exists.any():
        values, drawn = differences[exists], resampled[:, exists]
        ends[:2, exists] = np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
        half = _half_widths_together(values, drawn)
        ends[2:, exists] = values - half, values + half
    return PairedIntervals(ends[0], ends[1], ends[2], ends[3], share)


def _half_widths_together(differences: Floats, resampled: Floats) -> Floats:
    """Return half the width of each interval ``(m,)``."""
    deviation = np.nanstd(resampled, axis=0)
    distance = np.abs(resampled - differences)  # (B, m)
    steps = np.divide(distance, deviation, out=np.zeros_like(distance), where=deviation > 0)
    largest = np.fmax.reduce(steps, axis=1)
    return np.asarray(np.nanquantile(largest, LEVEL) * deviation)
