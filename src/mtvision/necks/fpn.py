"""Feature pyramid network."""

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor, nn

from mtvision.necks.base import Neck
from mtvision.necks.levels import Channels, Strides, choose_strides, extend_strides, resize_like, select_levels
from mtvision.registries import NECKS
from mtvision.types import FeatureInfo


@NECKS.register("fpn")
class FPN(Neck):
    """Feature pyramid: coarse features flow down into fine ones (Lin et al. 2017, arXiv 1612.03144).

    Features of any size that belong together go in; out come as many of the same sizes, with ``channels`` each. Extra
    levels are made from the coarsest output, as in RetinaNet (Lin et al. 2017, arXiv 1708.02002) with torchvision's
    ``LastLevelP6P7(256, 256)``; the paper itself makes P6 from the backbone's feature.

    Args:
        feature_info: of the backbone.
        channels: K of every level.
        strides: of the levels; None: those of 8, 16 and 32 that the backbone has.
        extra_levels: 1 adds a level of twice the coarsest stride by a convolution, for large objects in large images;
            2 adds another by a ReLU and a convolution.

    Raises:
        ConfigError: if the backbone lacks a stride that was asked for, or has none of 8, 16 and 32, or if a stride is
            asked for twice.

    Example:
        >>> FPN([FeatureInfo(64, 8), FeatureInfo(128, 16)], channels=32).feature_info
        (FeatureInfo(channels=32, stride=8), FeatureInfo(channels=32, stride=16))
    """

    who: ClassVar[str] = "neck 'fpn'"

    def __init__(
        self,
        feature_info: Sequence[FeatureInfo],
        *,
        channels: Channels = 128,
        strides: Strides | None = None,
        extra_levels: Annotated[int, Field(ge=0, le=2)] = 0,
    ) -> None:
        super().__init__()
        chosen = choose_strides(feature_info, strides, self.who)
        levels = select_levels(feature_info, chosen, self.who)
        self.indices = list(levels)
        self.laterals = nn.ModuleList(nn.Conv2d(info.channels, channels, 1) for info in levels.values())
        self.outputs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in levels)
        self.extra = nn.ModuleList(_extra_level(channels, first=level == 0) for level in range(extra_levels))
        self.feature_info = tuple(FeatureInfo(channels, stride) for stride in extend_strides(chosen, extra_levels))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return the levels ``(N, channels, H, W)``, finest first."""
        return self._extend(self._top_down(features))

    def _top_down(self, features: Sequence[Tensor]) -> list[Tensor]:
        merged = [lateral(features[index]) for lateral, index in zip(self.laterals, self.indices, strict=True)]
        for level in range(len(merged) - 1, 0, -1):
            merged[level - 1] = merged[level - 1] + resize_like(merged[level], merged[level - 1])
        return [output(level) for output, level in zip(self.outputs, merged, strict=True)]

    def _extend(self, levels: list[Tensor]) -> list[Tensor]:
        levels = list(levels)
        for layer in self.extra:
            levels.append(layer(levels[-1]))
        return levels


def _extra_level(channels: int, first: bool) -> nn.Module:
    convolution = nn.Conv2d(channels, channels, 3, 2, padding=1)
    return convolution if first else nn.Sequential(nn.ReLU(), convolution)  # not in place: its input is a level
