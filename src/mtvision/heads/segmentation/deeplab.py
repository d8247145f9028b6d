"""DeepLab's heads: atrous spatial pyramid pooling, without and with a decoder."""

from collections.abc import Sequence
from typing import Annotated, TypeAlias

import torch
from pydantic import Field
from torch import Tensor, nn

from mtvision.heads.segmentation.strides import coarsest_stride
from mtvision.layers.blocks import ConvNormAct
from mtvision.layers.context import ASPP, SeparableConvNormAct
from mtvision.layers.features import select_strides
from mtvision.layers.resize import resize_to
from mtvision.registries import SEGMENTATION_HEADS
from mtvision.types import FeatureInfo

_REACH = 96
"""Pixels of the image that the smallest dilation spans in the paper: 6 at stride 16, 12 at stride 8."""
_LOW_LEVEL_STRIDE = 4

Positive = Annotated[int, Field(ge=1)]
Dilations: TypeAlias = Annotated[list[Positive], Field(min_length=1)]


@SEGMENTATION_HEADS.register("deeplabv3")
class DeepLabV3Head(nn.Module):
    """DeepLabv3: atrous spatial pyramid pooling on one feature (Chen et al. 2017, arXiv 1706.05587).

    After the pooling comes a 3 x 3 convolution, as in torchvision's. Logits have the stride of the feature: the paper
    dilates the backbone to 16 or 8 (its option ``output_stride``). In training the pooled image's batch norm needs two
    images at least, see `ASPP`. On ResNet-18 the head has 4.7 M parameters and takes 0.6 GFLOP for an image of
    256 x 256 at stride 32, 9.4 at stride 8, where the backbone itself takes 4.7 and 24.

    Args:
        feature_info: of the backbone or neck.
        num_classes: C.
        dropout_rate: probability of zeroing a whole channel before the class scores.
        stride: of the feature. None: the coarsest.
        dilations: of the 3 x 3 convolutions, in cells of the map. None: 96, 192 and 288 pixels, that is 12, 24, 36 at
            stride 8 and 6, 12, 18 at 16 as in the paper, and 3, 6, 9 at 32, which it does not use.
        channels: K of each branch and of the 3 x 3 convolution.

    Raises:
        ConfigError: if there is no feature of the stride.

    Example:
        >>> head = DeepLabV3Head([FeatureInfo(8, 8), FeatureInfo(16, 16)], 21)
        >>> head([torch.zeros(2, 8, 8, 8), torch.zeros(2, 16, 4, 4)]).shape
        torch.Size([2, 21, 4, 4])
    """

    def __init__(
        self,
        feature_info: Sequence[FeatureInfo],
        num_classes: int,
        *,
        dropout_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        stride: Positive | None = None,
        dilations: Dilations | None = None,
        channels: Positive = 256,
    ) -> None:
        super().__init__()
        chosen = stride or coarsest_stride(feature_info)
        (self.index,) = select_strides(feature_info, [chosen], "segmentation head 'deeplabv3'")
        self.aspp = ASPP(feature_info[self.index].channels, channels, dilations or _default_dilations(chosen))
        self.refine = ConvNormAct(channels, channels)
        self.dropout = nn.Dropout2d(dropout_rate)
        self.score = nn.Conv2d(channels, num_classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map features, finest first, to logits ``(N, C, h, w)`` at the stride of the one used."""
        logits: Tensor = self.score(self.dropout(self.refine(self.aspp(features[self.index]))))
        return logits


@SEGMENTATION_HEADS.register("deeplabv3plus")
class DeepLabV3PlusHead(nn.Module):
    """DeepLabv3+: separable pooling, joined with a feature of stride 4 (Chen et al. 2018, arXiv 1802.02611).

    Two separable 3 x 3 convolutions follow the join. The encoder ends with the pooling's 1 x 1 convolution, as in the
    paper. In training the pooled image's batch norm needs two images at least, see `ASPP`.

    Args:
        feature_info: of the backbone or neck.
        num_classes: C.
        dropout_rate: probability of zeroing a whole channel before the class scores.
        stride: of the feature that is pooled. None: the coarsest.
        dilations: of the pooling, in cells of the map. None: as in `DeepLabV3Head`.
        channels: K of each branch and of the decoder.
        low_level_channels: to which a 1 x 1 convolution reduces the feature of stride 4.

    Raises:
        ConfigError: if there is no feature of stride 4 or of ``stride``.

    Example:
        >>> head = DeepLabV3PlusHead([FeatureInfo(8, 4), FeatureInfo(16, 16)], 21)
        >>> head([torch.zeros(2, 8, 16, 16), torch.zeros(2, 16, 4, 4)]).shape
        torch.Size([2, 21, 16, 16])
    """

    def __init__(
        self,
        feature_info: Sequence[FeatureInfo],
        num_classes: int,
        *,
        dropout_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        stride: Positive | None = None,
        dilations: Dilations | None = None,
        channels: Positive = 256,
        low_level_channels: Positive = 48,
    ) -> None:
        super().__init__()
        chosen = stride or coarsest_stride(feature_info)
        self.indices = select_strides(feature_info, [_LOW_LEVEL_STRIDE, chosen], "segmentation head 'deeplabv3plus'")
        low_level, high_level = (feature_info[index].channels for index in self.indices)
        self.aspp = ASPP(high_level, channels, dilations or _default_dilations(chosen), separable=True)
        self.low_level = ConvNormAct(low_level, low_level_channels, 1)
        self.refine = nn.Sequential(
            SeparableConvNormAct(channels + low_level_channels, channels), SeparableConvNormAct(channels, channels)
        )
        self.dropout = nn.Dropout2d(dropout_rate)
        self.score = nn.Conv2d(channels, num_classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map features, finest first, to logits ``(N, C, h, w)`` at stride 4."""
        low_level, high_level = (features[index] for index in self.indices)
        context = resize_to(self.aspp(high_level), low_level.shape[-2:])
        joined = torch.cat([context, self.low_level(low_level)], dim=1)
        logits: Tensor = self.score(self.dropout(self.refine(joined)))
        return logits


def _default_dilations(stride: int) -> list[int]:
    step = max(_REACH // stride, 1)
    return [step, 2 * step, 3 * step]
