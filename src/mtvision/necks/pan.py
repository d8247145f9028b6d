"""Path aggregation network."""

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor, nn

from mtvision.necks.fpn import FPN
from mtvision.necks.levels import Channels, Strides, level_ratios, resize_like
from mtvision.registries import NECKS
from mtvision.types import FeatureInfo


@NECKS.register("pan")
class PAN(FPN):
    """Path aggregation: an FPN, and a second path from fine to coarse (Liu et al. 2018, arXiv 1803.01534).

    The finest level is the FPN's. Each coarser one is ``N[i+1] = conv(conv(N[i]) + P[i+1])``: P are the FPN's levels,
    the inner 3 x 3 convolution has the stride from level to level, and a ReLU follows both, as the paper says. Extra
    levels are made from the coarsest N. With one level it is an FPN.

    Args:
        feature_info: of the backbone.
        channels: K of every level.
        strides: of the levels; None: those of 8, 16 and 32 that the backbone has.
        extra_levels: 1 adds a level of twice the coarsest stride by a convolution, for large objects in large images;
            2 adds another by a ReLU and a convolution.

    Raises:
        ConfigError: as `FPN`.

    Example:
        >>> import torch
        >>> neck = PAN([FeatureInfo(64, 8), FeatureInfo(128, 16)], channels=32)
        >>> [level.shape[-2:] for level in neck([torch.zeros(1, 64, 9, 13), torch.zeros(1, 128, 5, 7)])]
        [torch.Size([9, 13]), torch.Size([5, 7])]
    """

    who: ClassVar[str] = "neck 'pan'"

    def __init__(
        self,
        feature_info: Sequence[FeatureInfo],
        *,
        channels: Channels = 128,
        strides: Strides | None = None,
        extra_levels: Annotated[int, Field(ge=0, le=2)] = 0,
    ) -> None:
        super().__init__(feature_info, channels=channels, strides=strides, extra_levels=extra_levels)
        ratios = level_ratios([info.stride for info in self.feature_info[: len(self.indices)]])
        self.downsamplings = nn.ModuleList(_conv_relu(channels, ratio) for ratio in ratios)
        self.fusions = nn.ModuleList(_conv_relu(channels) for _ in ratios)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return the levels ``(N, channels, H, W)``, finest first."""
        levels = self._top_down(features)
        for i, (downsample, fuse) in enumerate(zip(self.downsamplings, self.fusions, strict=True), start=1):
            levels[i] = fuse(resize_like(downsample(levels[i - 1]), levels[i]) + levels[i])
        return self._extend(levels)


def _conv_relu(channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, channels, 3, stride, padding=1), nn.ReLU(inplace=True))
