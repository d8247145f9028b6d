"""No neck at all, under a name that can be chosen."""

from collections.abc import Sequence

from torch import Tensor

from mtvision.necks.base import Neck
from mtvision.necks.levels import Strides, choose_strides, select_levels
from mtvision.registries import NECKS
from mtvision.types import FeatureInfo

_WHO = "neck 'none'"


@NECKS.register("none")
class NoNeck(Neck):
    """The backbone's features, unchanged (as in SSD, Liu et al. 2016, arXiv 1512.02325).

    Args:
        feature_info: of the backbone.
        strides: of the features to pass on, finest first, the last (deepest) one where several share a stride; None:
            all of them.

    Raises:
        ConfigError: if the backbone lacks a stride that was asked for, or if one is asked for twice.

    Example:
        >>> NoNeck([FeatureInfo(64, 4), FeatureInfo(128, 8)], strides=(8,)).feature_info
        (FeatureInfo(channels=128, stride=8),)
    """

    def __init__(self, feature_info: Sequence[FeatureInfo], *, strides: Strides | None = None) -> None:
        super().__init__()
        levels = dict(enumerate(feature_info))
        if strides is not None:
            levels = select_levels(feature_info, choose_strides(feature_info, strides, _WHO), _WHO)
        self.indices = list(levels)
        self.feature_info = tuple(levels.values())

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return the selected features ``(N, K, H, W)`` themselves."""
        return [features[index] for index in self.indices]
