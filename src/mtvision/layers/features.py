"""Selection of features by stride, and the check that they are what was published."""

from collections.abc import Iterable, Sequence

from torch import Tensor

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
                f"the features have {_listed(index_of)}"
            ]
        )
    return [index_of[stride] for stride in strides]


def check_features(features: Sequence[Tensor], feature_info: Sequence[FeatureInfo], who: str) -> None:
    """Refuse features that are not those that were published: what follows was built for other channels.

    Args:
        features: ``(N, K, H, W)`` each.
        feature_info: what was published of them.
        who: returned them, for the message: ``"the neck (FPN)"``.

    Raises:
        ConfigError: if their number or their channels differ.

    Example:
        >>> import torch
        >>> check_features([torch.zeros(1, 64, 2, 2)], [FeatureInfo(64, 8)], "the neck")
    """
    published, returned = [info.channels for info in feature_info], [feature.shape[1] for feature in features]
    if returned != published:
        raise ConfigError(
            [
                f"{who} must return features of {_listed(published)} channels, as its feature_info says, but returned "
                f"{_listed(returned) or 'none'}"
            ]
        )


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))
