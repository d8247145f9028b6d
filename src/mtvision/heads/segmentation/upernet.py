"""The unified perceptual parsing network's head."""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from mtvision.heads.segmentation.strides import pyramid_strides
from mtvision.layers.blocks import ConvNormAct
from mtvision.layers.context import PyramidPooling
from mtvision.layers.features import select_strides
from mtvision.layers.resize import resize_to
from mtvision.registries import SEGMENTATION_HEADS
from mtvision.types import FeatureInfo

_WHO = "segmentation head 'upernet'"

Positive = Annotated[int, Field(ge=1)]


@SEGMENTATION_HEADS.register("upernet")
class UPerNetHead(nn.Module):
    """UPerNet: pyramid pooling, a feature pyramid, all levels fused (Xiao et al. 2018, arXiv 1807.10221).

    The pooled coarsest feature flows down into the finer ones; all levels, resized to the finest, are joined by a
    3 x 3 convolution. In training the batch norm of the grid of one bin needs two images at least, see
    `PyramidPooling`.

    Args:
        feature_info: of the backbone or neck.
        num_classes: C.
        dropout_rate: probability of zeroing a whole channel before the class scores.
        strides: those of the features to use, two at least; the smallest is that of the logits. None: those of 4, 8,
            16 and 32 that there are.
        bins: rows, and columns, of each grid of means.
        channels: K throughout. The paper has 512, sixteen times the work: on ResNet-18, which takes 4.7 GFLOP for an
            image of 256 x 256, the head would take 105, not 6.7.

    Raises:
        ConfigError: if a stride is missing or if there are fewer than two.

    Example:
        >>> head = UPerNetHead([FeatureInfo(8, 4), FeatureInfo(16, 8)], 21)
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
        bins: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1, 2, 3, 6),
        channels: Positive = 128,
    ) -> None:
        super().__init__()
        self.indices = select_strides(feature_info, pyramid_strides(feature_info, strides, _WHO), _WHO)
        *finer, coarsest = [feature_info[index].channels for index in self.indices]
        self.context = nn.Sequential(
            PyramidPooling(coarsest, channels, bins), ConvNormAct(coarsest + len(bins) * channels, channels)
        )
        self.laterals = nn.ModuleList(ConvNormAct(width, channels, 1) for width in finer)
        self.outputs = nn.ModuleList(ConvNormAct(channels, channels) for _ in finer)
        self.fuse = ConvNormAct(len(self.indices) * channels, channels)
        self.dropout = nn.Dropout2d(dropout_rate)
        self.score = nn.Conv2d(channels, num_classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map features, finest first, to logits ``(N, C, h, w)`` at the finest stride used."""
        *finer, coarsest = [features[index] for index in self.indices]
        merged = [lateral(feature) for lateral, feature in zip(self.laterals, finer, strict=True)]
        merged.append(self.context(coarsest))
        for level in range(len(finer) - 1, -1, -1):
            merged[level] = merged[level] + resize_to(merged[level + 1], merged[level].shape[-2:])
        levels = [output(level) for output, level in zip(self.outputs, merged[:-1], strict=True)]
        coarser = [resize_to(level, levels[0].shape[-2:]) for level in (*levels[1:], merged[-1])]
        logits: Tensor = self.score(self.dropout(self.fuse(torch.cat([levels[0], *coarser], dim=1))))
        return logits
