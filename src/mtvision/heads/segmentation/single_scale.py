"""A head on one feature: the baseline, and the usual auxiliary head."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from mtvision.heads.segmentation.strides import coarsest_stride
from mtvision.layers.blocks import ConvNormAct
from mtvision.layers.features import select_strides
from mtvision.registries import SEGMENTATION_HEADS
from mtvision.types import FeatureInfo

_USUAL_STRIDE = 16


@SEGMENTATION_HEADS.register("single_scale")
class SingleScaleHead(nn.Module):
    """One 3 x 3 convolution on one feature: PSPNet's auxiliary head (Zhao et al. 2017, arXiv 1612.01105).

    Args:
        feature_info: of the backbone or neck.
        num_classes: C.
        dropout_rate: probability of zeroing a whole channel before the class scores.
        stride: of the feature and of the logits. None: 16, or the coarsest if there is no 16.
        channels: K of the 3 x 3 convolution.

    Raises:
        ConfigError: if there is no feature of the stride.

    Example:
        >>> import torch
        >>> head = SingleScaleHead([FeatureInfo(8, 8), FeatureInfo(16, 16), FeatureInfo(32, 32)], 21)
        >>> head([torch.zeros(2, 8, 8, 8), torch.zeros(2, 16, 4, 4), torch.zeros(2, 32, 2, 2)]).shape
        torch.Size([2, 21, 4, 4])
    """

    def __init__(
        self,
        feature_info: Sequence[FeatureInfo],
        num_classes: int,
        *,
        dropout_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        stride: Annotated[int, Field(ge=1)] | None = None,
        channels: Annotated[int, Field(ge=1)] = 256,
    ) -> None:
        super().__init__()
        chosen = stride or _default_stride(feature_info)
        (self.index,) = select_strides(feature_info, [chosen], "segmentation head 'single_scale'")
        self.context = ConvNormAct(feature_info[self.index].channels, channels)
        self.dropout = nn.Dropout2d(dropout_rate)
        self.score = nn.Conv2d(channels, num_classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map features, finest first, to logits ``(N, C, h, w)`` at the stride of the one used."""
        logits: Tensor = self.score(self.dropout(self.context(features[self.index])))
        return logits


def _default_stride(feature_info: Sequence[FeatureInfo]) -> int:
    strides = {info.stride for info in feature_info}
    return _USUAL_STRIDE if _USUAL_STRIDE in strides else coarsest_stride(feature_info)
