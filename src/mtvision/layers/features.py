"""Selection of features by stride."""

from collections.abc import Iterable, Sequence

from mtvision.errors import ConfigError
from mtvision.types import FeatureInfo


def select_strides(feature_info: Sequence[FeatureInfo], strides: Sequence[int], who: str) -> list[int]:
    """Return the index of the feature of each stride; the last (deepest) one where several share a stride.

    Args:
        feature_info: of the backbone or neck.
        strides: those wanted, in the order of the answer.
        who: what needs them, for the message: ``"segmentation head 'fcn'"``.

    Raises:
        ConfigError: if a stride is missing.

    Example:
        >>> select_strides([FeatureInfo(64, 4), FeatureInfo(128, 8)], [8], "the example")
        [1]
    """
    index_of = {info.stride: index for index, info in enumerate(feature_info)}
    missing = [stride for stride in strides if stride not in index_of]
    if missing:
        raise ConfigError(
            [
                f"{who} needs features of stride {_listed(strides)}, but there is none of stride {_listed(missing)}: "
                f"the backbone has {_listed(index_of)}"
            ]
        )
    return [index_of[stride] for stride in strides]


def _listed(strides: Iterable[int]) -> str:
    return ", ".join(str(stride) for stride in strides)
