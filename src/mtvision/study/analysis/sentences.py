"""What a comparison says in one sentence; nothing more than the data carry."""

import math
from collections.abc import Sequence

from mtvision.study.analysis.changes import Comparison

_MINUS = "\N{MINUS SIGN}"


def number(value: float, digits: int) -> str:
    """Return a signed number with a true minus.

    Example:
        >>> number(0.0214, 3), number(-0.011, 3)
        ('+0.021', '−0.011')
    """
    text = f"{round(value, digits) + 0.0:+.{digits}f}"  # + 0.0: no negative zero
    return text.replace("-", _MINUS)


def digits_for(size: float) -> int:
    """Return how many decimals show two digits of a size, at least 3 and at most 12.

    Example:
        >>> digits_for(0.03), digits_for(0.00042), digits_for(float("nan"))
        (3, 5, 3)
    """
    if not math.isfinite(size) or size <= 0:
        return 3
    return min(12, max(3, 1 - math.floor(math.log10(size))))


def effect_sentence(
    comparison: Comparison,
    effect: float,
    interval: tuple[float, float],
    *,
    shown: bool,
    behind: str,
    reason: str = "",
    better: bool = False,
    nearly: bool = False,
    joint: tuple[float, float] = (math.nan, math.nan),
) -> str:
    """Return what is known of a comparison.

    Args:
        comparison: of what.
        effect: level less base; NaN if unknown.
        interval: of 95 %; NaN if there is none.
        shown: whether a difference is shown.
        behind: what the numbers rest on, e.g. ``8 pairs``.
        reason: why there is no number or no interval.
        better: whether the level is the better one.
        nearly: whether only the interval for all comparisons at once takes in 0.
        joint: that interval, by which a difference is shown.

    Example:
        >>> gelu = Comparison({"model.activation": "gelu"}, {"model.activation": "relu"})
        >>> effect_sentence(gelu, 0.021, (0.008, 0.034), shown=True, behind="8 pairs", better=True)
        'model.activation: gelu better than relu (Δ = +0.021, 95 % CI +0.008…+0.034, 8 pairs)'
        >>> effect_sentence(gelu, 0.004, (-0.011, 0.019), shown=False, behind="6 pairs")
        'model.activation: gelu against relu, no difference shown (Δ = +0.004, 95 % CI −0.011…+0.019, 6 pairs)'
    """
    level, base = comparison.level_name, comparison.base_name
    head = f"{comparison.factor_name}: {level}"
    if math.isnan(effect):
        return f"{head} against {base}, nothing can be said: {reason}"
    low, high = interval
    digits = digits_for(abs(high - low) if not math.isnan(low) else abs(effect))
    delta = f"Δ = {number(effect, digits)}"
    if math.isnan(low):
        return f"{head} against {base}, no difference shown ({delta}, no interval: {reason}, {behind})"
    numbers = f"{delta}, 95 % CI {number(low, digits)}…{number(high, digits)}, {behind}"
    if shown:
        at_once = (
            "" if math.isnan(joint[0]) else f"; for all at once {number(joint[0], digits)}…{number(joint[1], digits)}"
        )
        return f"{head} {'better' if better else 'worse'} than {base} ({numbers}{at_once})"
    also = "; with all comparisons at once the interval takes in 0" if nearly else ""
    return f"{head} against {base}, no difference shown ({numbers}{also})"


def interaction_sentence(
    of: Sequence[Comparison],
    effect: float,
    interval: tuple[float, float],
    *,
    shown: bool,
    behind: str,
    reason: str = "",
) -> str:
    """Return what is known of how two comparisons change each other.

    Args:
        of: two comparisons.
        effect: by how much the first one's effect is larger with the second one's level than with its base.
        interval: of 95 %; NaN if there is none.
        shown: whether an interaction is shown.
        behind: what the numbers rest on.
        reason: why there is no interval.

    Example:
        >>> gelu = Comparison({"activation": "gelu"}, {"activation": "relu"})
        >>> adam = Comparison({"optimizer": "adam"}, {"optimizer": "sgd"})
        >>> interaction_sentence((gelu, adam), 0.04, (0.01, 0.07), shown=True, behind="6 settings")
        'activation: gelu, optimizer: adam: the effects do not add up (Δ = +0.040, 95 % CI +0.010…+0.070, 6 settings)'
    """
    low, high = interval
    digits = digits_for(abs(high - low) if not math.isnan(low) else abs(effect))
    numbers = f"no interval: {reason}" if math.isnan(low) else f"95 % CI {number(low, digits)}…{number(high, digits)}"
    names = ", ".join(f"{each.factor_name}: {each.level_name}" for each in of)
    claim = "the effects do not add up" if shown else "no interaction shown"
    return f"{names}: {claim} (Δ = {number(effect, digits)}, {numbers}, {behind})"
