"""Thresholds at which untrained detectors have equally much to suppress."""

from collections.abc import Callable

_STEPS = 24


def equal_candidates(number: Callable[[float], int], wanted: int) -> float:
    """Return the score threshold that lets about so many candidates through, by bisection.

    Args:
        number: how many candidates are above a threshold; it falls as the threshold rises.
        wanted: how many there should be.
    """
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if number(middle) > wanted else (low, middle)
    return high
