"""What tasks in one network gain against a network for each: relative gains, and how sure one can be of them."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A quantity measured once a seed, as a fraction.

    One undefined value makes everything undefined: leaving its seed out would choose the seeds by their results.

    Attributes:
        values: one a seed.

    Example:
        >>> print(Estimate((0.01, 0.02, 0.03)))
        +2.0 % (3 seeds: standard deviation 1.0 %, 95 % t-interval -0.5 % to +4.5 %)
        >>> print(Estimate((0.01,)))
        +1.0 % (1 seed: no interval, and how much seeds differ is not known)
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the seeds, NaN if it is undefined in one."""
        return sum(self.values) / len(self.values)

    @property
    def deviation(self) -> float:
        """Sample standard deviation over the seeds, NaN with fewer than two."""
        if len(self.values) < 2 or math.isnan(self.mean):
            return math.nan
        return statistics.stdev(self.values)

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % confidence interval of the mean by Student's t (1908); None with fewer than two seeds."""
        if math.isnan(self.deviation):
            return None
        half = t_quantile(CONFIDENCE, len(self.values) - 1) * self.deviation / math.sqrt(len(self.values))
        return self.mean - half, self.mean + half

    def __str__(self) -> str:
        """Return the mean in percent, and behind it what is known of its spread."""
        number = f"{len(self.values)} seed{'s' if len(self.values) > 1 else ''}"
        if math.isnan(self.mean):
            return f"not defined ({number}: a metric alone is 0, or one could not be scored)"
        if self.interval is None:
            return f"{percent(self.mean)} ({number}: no interval, and how much seeds differ is not known)"
        low, high = self.interval
        spread = f"standard deviation {100 * self.deviation:.1f} %"
        return f"{percent(self.mean)} ({number}: {spread}, 95 % t-interval {percent(low)} to {percent(high)})"


def relative_gain(joint: float, single: float, *, higher_is_better: bool) -> float:
    """Return how much better a task is in the joint network than alone, as a fraction of what it is alone.

    ``(joint - single) / |single|``, negated where lower is better (Maninis et al. 2019, arXiv 1904.08918).

    Returns:
        NaN where it is not defined: one of the two is not finite, or ``single`` is 0.

    Example:
        >>> relative_gain(0.625, 0.5, higher_is_better=True), relative_gain(3.0, 4.0, higher_is_better=False)
        (0.25, 0.25)
    """
    if single == 0 or not (math.isfinite(joint) and math.isfinite(single)):
        return math.nan
    gain = (joint - single) / abs(single)
    return gain if higher_is_better else -gain


def delta_m(gains: Sequence[float]) -> float:
    """Return Δm, the mean of the tasks' relative gains (Vandenhende et al. 2021, arXiv 2004.13379); NaN if one is.

    Example:
        >>> delta_m([0.25, -0.75])
        -0.25
    """
    return sum(gains) / len(gains)


def percent(fraction: float) -> str:
    """Return a fraction as signed percent, ``-`` for NaN.

    Example:
        >>> percent(0.0123)
        '+1.2 %'
    """
    return "-" if math.isnan(fraction) else f"{100 * fraction + 0.0:+.1f} %"


def t_quantile(confidence: float, freedom: int) -> float:
    """Return t of which Student's distribution has a share ``confidence`` in ``[-t, t]``.

    The distribution by its finite series (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4), inverted by bisection.

    Args:
        confidence: in (0, 1).
        freedom: degrees of freedom, at least 1.

    Example:
        >>> round(t_quantile(0.95, 1), 3), round(t_quantile(0.95, 4), 3)
        (12.706, 2.776)
    """
    low, high = 0.0, math.pi / 2  # of the angle whose tangent is t / sqrt(freedom)
    for _ in range(60):
        middle = (low + high) / 2
        if _central_share(middle, freedom) < confidence:
            low = middle
        else:
            high = middle
    return math.sqrt(freedom) * math.tan(low)


def _central_share(angle: float, freedom: int) -> float:
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0 if freedom == 1 else term
    for k in range(2 + odd, freedom - 1, 2):
        term *= (k - 1) / k * math.cos(angle) ** 2
        total += term
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
