"""The fully convolutional network's head."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from mtvision.layers.blocks import ConvNormAct
from mtvision.layers.features import select_strides
from mtvision.layers.resize import resize_to
from mtvision.registries import SEGMENTATION_HEADS
from mtvision.types import FeatureInfo

_STRIDES = {"32s": [32], "16s": [32, 16], "8s": [32, 16, 8]}


@SEGMENTATION_HEADS.register("fcn")
class FCNHead(nn.Module):
    """FCN's skip architecture: class scores of stride 32, 16 and 8, summed (Long et al. 2015, arXiv 1411.4038).

    A 3 x 3 convolution before the scores of stride 32 stands for the paper's two layers of 4,096 channels, and bilinear
    resizing for its transposed convolutions, which it starts as bilinear.

    Args:
        feature_info: of the backbone or neck.
        num_classes: C.
        dropout_rate: probability of zeroing a whole channel before the scores of stride 32.
        variant: the stride of the logits; with "32s" there are no skips.
        channels: K of the 3 x 3 convolution.

    Raises:
        ConfigError: if a stride of the variant is missing.

    Example:
        >>> import torch
        >>> head = FCNHead([FeatureInfo(8, 8), FeatureInfo(16, 16), FeatureInfo(32, 32)], 21)
        >>> head([torch.zeros(2, 8, 8, 8), torch.zeros(2, 16, 4, 4), torch.zeros(2, 32, 2, 2)]).shape
        torch.Size([2, 21, 8, 8])
    """

    def __init__(
        self,
        feature_info: Sequence[FeatureInfo],
        num_classes: int,
        *,
        dropout_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        variant: Literal["32s", "16s", "8s"] = "8s",
        channels: Annotated[int, Field(ge=1)] = 256,
    ) -> None:
        super().__init__()
        self.indices = select_strides(feature_info, _STRIDES[variant], f"segmentation head 'fcn' ({variant})")
        coarsest, *skips = [feature_info[index].channels for index in self.indices]
        self.context = ConvNormAct(coarsest, channels)
        self.dropout = nn.Dropout2d(dropout_rate)
        self.scores = nn.ModuleList(nn.Conv2d(width, num_classes, 1) for width in (channels, *skips))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map features, finest first, to logits ``(N, C, h, w)`` at the variant's stride."""
        coarsest, *skips = [features[index] for index in self.indices]
        score, *skip_scores = self.scores
        logits: Tensor = score(self.dropout(self.context(coarsest)))
        for skip, skip_score in zip(skips, skip_scores, strict=True):
            logits = resize_to(logits, skip.shape[-2:]) + skip_score(skip)
        return logits
