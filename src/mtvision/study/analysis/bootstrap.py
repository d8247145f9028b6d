"""Intervals of linear contrasts by the studentized residual bootstrap, each alone and all at once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
LEVEL = 0.95
_AT_ONCE = 2_000  # resamples in memory at a time
_TINY = 1e-9


@dataclass(frozen=True)
class Noise:
    """What a linear model of the values leaves unexplained.

    Attributes:
        basis: orthonormal columns that span the model, ``(n, rank)``.
        residuals: ``(n,)``.
        leverage: diagonal of the hat matrix, ``(n,)``; 1 where a value is met exactly whatever it is.
        freedom: degrees of freedom of the residuals, ``n - rank``.
    """

    basis: Array
    residuals: Array
    leverage: Array
    freedom: int

    @property
    def scale(self) -> float:
        """Standard deviation of the residuals, NaN without a degree of freedom."""
        return float(np.sqrt(np.sum(self.residuals**2) / self.freedom)) if self.freedom else np.nan

    @property
    def is_usable(self) -> bool:
        """Whether there is any spread to build an interval on."""
        return self.freedom > 0 and self.scale > 0


@dataclass(frozen=True)
class Intervals:
    """Half widths of intervals around estimates, one a contrast.

    Attributes:
        alone: of the interval that holds one true value in 95 % of all studies.
        together: of those that hold all true values at once.
    """

    alone: Array
    together: Array


def noise_of(values: Array, design: Array) -> Noise:
    """Fit a linear model by least squares and return what it leaves.

    Args:
        values: ``(n,)``.
        design: ``(n, p)``, of any rank.

    Example:
        >>> noise = noise_of(np.array([1.0, 3.0, 2.0]), np.ones((3, 1)))
        >>> noise.freedom, noise.scale
        (2, 1.0)
    """
    left, sizes, _ = np.linalg.svd(design, full_matrices=False)
    basis = left[:, sizes > _TINY * sizes[0]]
    residuals = values - basis @ (basis.T @ values)
    residuals[np.abs(residuals) < _TINY * np.abs(values).max(initial=0.0)] = 0.0
    return Noise(basis, residuals, np.sum(basis**2, axis=1), len(values) - basis.shape[1])


def bootstrap_intervals(
    noise: Noise, contrasts: Array, *, resamples: int, generator: np.random.Generator, miss: float = 1 - LEVEL
) -> Intervals:
    """Return intervals for contrasts ``contrasts @ values``, by the bootstrap-t of the residuals.

    Leverage-scaled residuals ``e / sqrt(1 - h)`` are drawn with replacement, a little smoothed, the model is fitted
    again, and ``|t|`` of every contrast is noted; its 95 % quantile times the standard error is the half width. That of
    the largest ``|t|`` of all contrasts holds for all of them at once. The distribution of the differences is symmetric
    (level and base are exchangeable), hence ``|t|`` (Hall 1988). The standard error is the larger of the one from the
    scale of all residuals and the contrast's own one (heteroscedasticity-consistent, MacKinnon and White 1985): few
    pairs borrow the scale of all, and a comparison that is noisier than the rest still has wider intervals. Since the
    same rule is applied to every resample, the quantile allows for the choice.

    Sources: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapters 9 and 12; Hall 1988, Journal of the
    Royal Statistical Society B 50; Westfall and Young 1993, Resampling-Based Multiple Testing (largest ``|t|``);
    Silverman and Young 1987, Biometrika 74 (shrunk smoothed bootstrap: few residuals have too few distinct resamples).

    Args:
        noise: of the model in which the contrasts are estimated.
        contrasts: ``(m, n)``, each with an expectation that is 0 for the noise.
        resamples: number of them.
        generator: of the resamples.
        miss: share of studies in which one of the joint intervals may miss.

    Returns:
        Half widths; NaN where there is no spread.
    """
    if not len(contrasts) or not noise.is_usable:
        nothing = np.full(len(contrasts), np.nan)
        return Intervals(nothing, nothing)
    pool = _pool(noise)
    chunks = [min(_AT_ONCE, resamples - start) for start in range(0, resamples, _AT_ONCE)]
    sizes = np.concatenate([_t_values(noise, contrasts, _draw(pool, noise, size, generator)) for size in chunks])
    error = standard_errors(noise.residuals[None], noise, contrasts)[0]
    alone = np.quantile(sizes, LEVEL, axis=0)
    return Intervals(alone * error, np.quantile(sizes.max(axis=1), 1 - miss) * error)


def standard_errors(residuals: Array, noise: Noise, contrasts: Array) -> Array:
    """Return the standard error of each contrast for each row of residuals.

    Args:
        residuals: of fits, ``(b, n)``.
        noise: whose model was fitted.
        contrasts: ``(m, n)``.

    Returns:
        ``(b, m)``.
    """
    squares = contrasts.T**2
    common = np.sum(residuals**2, axis=1, keepdims=True) / noise.freedom * squares.sum(axis=0)
    own = (residuals * _inflation(noise)) ** 2 @ squares
    errors: Array = np.sqrt(np.maximum(common, own))
    return errors


def _inflation(noise: Noise) -> Array:
    """Return ``1 / sqrt(1 - h)``, and 0 for values that are met exactly."""
    free = 1 - noise.leverage
    inflation: Array = np.where(free > _TINY, 1 / np.sqrt(np.maximum(free, _TINY)), 0.0)
    return inflation


def _pool(noise: Noise) -> Array:
    """Return leverage-scaled residuals with mean 0 and the scale of the noise."""
    inflation = _inflation(noise)
    scaled: Array = (noise.residuals * inflation)[inflation > 0]
    scaled -= scaled.mean()
    size = np.sqrt(np.mean(scaled**2))
    scaled *= noise.scale / size if size > _TINY * noise.scale else 1.0
    return scaled


def _draw(pool: Array, noise: Noise, number: int, generator: np.random.Generator) -> Array:
    """Return resampled noise, ``(number, n)``, with the variance of the pool."""
    shape = (number, len(noise.residuals))
    width = (4 / (3 * noise.freedom)) ** 0.2  # Silverman 1986, equation 3.28, with the independent residuals as n
    smooth = noise.scale * width * generator.standard_normal(shape)
    drawn: Array = (generator.choice(pool, shape) + smooth) / np.sqrt(1 + width**2)
    return drawn


def _t_values(noise: Noise, contrasts: Array, drawn: Array) -> Array:
    """Return ``|t|`` of every contrast in every resample, ``(b, m)``."""
    residuals = drawn - (drawn @ noise.basis) @ noise.basis.T
    sizes: Array = np.abs(drawn @ contrasts.T) / standard_errors(residuals, noise, contrasts)
    return sizes
