"""SegFormer's decoder as a head."""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from mtvision.heads.segmentation.strides import pyramid_strides
from mtvision.layers.blocks import ConvNormAct
from mtvision.layers.features import select_strides
from mtvision.layers.resize import resize_to
from mtvision.registries import SEGMENTATION_HEADS
from mtvision.types import FeatureInfo

_WHO = "segmentation head 'segformer'"

Positive = Annotated[int, Field(ge=1)]


@SEGMENTATION_HEADS.register("segformer")
class SegFormerHead(nn.Module):
    """SegFormer's decoder of linear layers only: no pixel sees its neighbours (Xie et al. 2021, arXiv 2105.15203).

    A linear layer a level (as a 1 x 1 convolution), all resized to the finest and joined, coarsest first as in the
    paper's implementation, by a 1 x 1 convolution with batch norm and ReLU.

    Args:
        feature_info: of the backbone or neck.
        num_classes: C.
        dropout_rate: probability of zeroing a whole channel before the class scores.
        strides: those of the features to use, two at least; the smallest is that of the logits. None: those of 4, 8,
            16 and 32 that there are.
        channels: K of each linear layer and of the joined map: the paper's for its smaller models B0 and B1; it has
            768 for the larger ones: on ResNet-18, 20 GFLOP for an image of 256 x 256 instead of 2.4.

    Raises:
        ConfigError: if a stride is missing or if there are fewer than two.

    Example:
        >>> head = SegFormerHead([FeatureInfo(8, 4), FeatureInfo(16, 8)], 21)
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
        channels: Positive = 256,
    ) -> None:
        super().__init__()
        chosen = pyramid_strides(feature_info, strides, _WHO)[::-1]
        self.indices = select_strides(feature_info, chosen, _WHO)
        self.linears = nn.ModuleList(nn.Conv2d(feature_info[index].channels, channels, 1) for index in self.indices)
        self.fuse = ConvNormAct(len(self.indices) * channels, channels, 1)
        self.dropout = nn.Dropout2d(dropout_rate)
        self.score = nn.Conv2d(channels, num_classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map features, finest first, to logits ``(N, C, h, w)`` at the finest stride used."""
        levels = [linear(features[index]) for linear, index in zip(self.linears, self.indices, strict=True)]
        *coarser, finest = levels
        resized = [resize_to(level, finest.shape[-2:]) for level in coarser]
        logits: Tensor = self.score(self.dropout(self.fuse(torch.cat([*resized, finest], dim=1))))
        return logits
