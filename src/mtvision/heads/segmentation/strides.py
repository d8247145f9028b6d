"""Which strides a head uses where the config does not say."""

from collections.abc import Collection, Sequence

from mtvision.errors import ConfigError
from mtvision.types import FeatureInfo

_PYRAMID = (4, 8, 16, 32)


def coarsest_stride(feature_info: Sequence[FeatureInfo]) -> int:
    """Return the largest stride.

    Example:
        >>> coarsest_stride([FeatureInfo(64, 8), FeatureInfo(128, 16), FeatureInfo(256, 16)])
        16
    """
    return max(info.stride for info in feature_info)


def pyramid_strides(feature_info: Sequence[FeatureInfo], strides: Collection[int] | None, who: str) -> list[int]:
    """Return the strides of a head that joins several, finest first.

    Args:
        feature_info: of the backbone or neck.
        strides: those chosen; None: those of 4, 8, 16 and 32 that there are.
        who: what needs them, for the message: ``"segmentation head 'fpn'"``.

    Raises:
        ConfigError: if there are fewer than two.

    Example:
        >>> pyramid_strides([FeatureInfo(64, 2), FeatureInfo(64, 4), FeatureInfo(128, 8)], None, "the example")
        [4, 8]
    """
    present = sorted({info.stride for info in feature_info})
    chosen = sorted(set(strides or set(present) & set(_PYRAMID)))
    if len(chosen) < 2:
        got = f"only stride {chosen[0]}" if chosen else "none of 4, 8, 16 and 32"
        listed = ", ".join(map(str, present))
        raise ConfigError([f"{who} needs features of two strides, got {got}: the features have {listed}"])
    return chosen
