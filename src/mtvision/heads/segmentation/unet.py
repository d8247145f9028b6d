"""The U-Net's decoder as a head."""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from mtvision.errors import ConfigError
from mtvision.heads.segmentation.strides import pyramid_strides
from mtvision.layers.blocks import ConvNormAct
from mtvision.layers.features import select_strides
from mtvision.layers.resize import resize_to
from mtvision.registries import SEGMENTATION_HEADS
from mtvision.types import FeatureInfo

_WHO = "segmentation head 'unet'"
_FINEST_STRIDE = 4
_WIDEST, _NARROWEST = 128, 16

Positive = Annotated[int, Field(ge=1)]


@SEGMENTATION_HEADS.register("unet")
class UNetHead(nn.Module):
    """U-Net's decoder: upsample, join the skip, two 3 x 3 convolutions (Ronneberger et al. 2015, arXiv 1505.04597).

    Upsampling is bilinear, to the size of the skip, so that any image size works.

    Args:
        feature_info: of the backbone or neck.
        num_classes: C.
        dropout_rate: probability of zeroing a whole channel before the class scores.
        strides: those of the features to use, two at least; the smallest is that of the logits. None: all from 4 on,
            since finer maps cost most of the time and add little at the sizes of this library; all there are if fewer
            than two remain.
        decoder_channels: K of each decoder stage, coarsest first, one less than there are strides. None: 128 and
            halving, 16 at least.

    Raises:
        ConfigError: if a stride is missing, if there are fewer than two, or if ``decoder_channels`` has another length.

    Example:
        >>> head = UNetHead([FeatureInfo(8, 4), FeatureInfo(16, 8)], 21, decoder_channels=[12])
        >>> head([torch.zeros(2, 8, 16, 16), torch.zeros(2, 16, 8, 8)]).shape
        torch.Size([2, 21, 16, 16])
    """

    def __init__(
        self,
        feature_info: Sequence[FeatureInfo],
        num_classes: int,
        *,
        dropout_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        strides: list[Positive] | None = None,
        decoder_channels: list[Positive] | None = None,
    ) -> None:
        super().__init__()
        chosen = pyramid_strides(feature_info, strides or _default_strides(feature_info), _WHO)[::-1]
        self.indices = select_strides(feature_info, chosen, _WHO)
        widths = _stage_channels(decoder_channels, len(chosen) - 1)
        coarsest, *skips = [feature_info[index].channels for index in self.indices]
        self.stages = nn.ModuleList(
            nn.Sequential(ConvNormAct(below + skip, width), ConvNormAct(width, width))
            for below, skip, width in zip((coarsest, *widths), skips, widths, strict=False)
        )
        self.dropout = nn.Dropout2d(dropout_rate)
        self.score = nn.Conv2d(widths[-1], num_classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map features, finest first, to logits ``(N, C, h, w)`` at the finest stride used."""
        x, *skips = [features[index] for index in self.indices]
        for skip, stage in zip(skips, self.stages, strict=True):
            x = stage(torch.cat([resize_to(x, skip.shape[-2:]), skip], dim=1))
        logits: Tensor = self.score(self.dropout(x))
        return logits


def _default_strides(feature_info: Sequence[FeatureInfo]) -> list[int]:
    strides = {info.stride for info in feature_info}
    coarse = {stride for stride in strides if stride >= _FINEST_STRIDE}
    return list(coarse if len(coarse) > 1 else strides)


def _stage_channels(given: list[int] | None, num_stages: int) -> list[int]:
    if given is None:
        return [max(_WIDEST >> stage, _NARROWEST) for stage in range(num_stages)]
    if len(given) != num_stages:
        raise ConfigError([f"{_WHO}: decoder_channels must have {num_stages} entries, coarsest first, got {given}"])
    return given
