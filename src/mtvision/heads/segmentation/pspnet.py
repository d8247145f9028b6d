"""The pyramid scene parsing network's head."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from mtvision.heads.segmentation.strides import coarsest_stride
from mtvision.layers.blocks import ConvNormAct
from mtvision.layers.context import PyramidPooling
from mtvision.layers.features import select_strides
from mtvision.registries import SEGMENTATION_HEADS
from mtvision.types import FeatureInfo

Positive = Annotated[int, Field(ge=1)]


@SEGMENTATION_HEADS.register("pspnet")
class PSPHead(nn.Module):
    """PSPNet: pyramid pooling on one feature (Zhao et al. 2017, arXiv 1612.01105).

    Each grid of means gets the feature's channels over the number of grids, and a 3 x 3 convolution joins all. Logits
    have the stride of the feature: the paper dilates the backbone to 8 (its option ``output_stride``). In training the
    batch norm of the grid of one bin needs two images at least, see `PyramidPooling`.

    Args:
        feature_info: of the backbone or neck.
        num_classes: C.
        dropout_rate: probability of zeroing a whole channel before the class scores.
        stride: of the feature. None: the coarsest.
        bins: rows, and columns, of each grid.
        channels: K of the 3 x 3 convolution. The paper's 512 take twice the work: on ResNet-18 they would make
            5.0 M parameters of 2.6 M.

    Raises:
        ConfigError: if there is no feature of the stride.

    Example:
        >>> import torch
        >>> head = PSPHead([FeatureInfo(8, 8), FeatureInfo(16, 16)], 21)
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
        bins: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1, 2, 3, 6),
        channels: Positive = 256,
    ) -> None:
        super().__init__()
        chosen = stride or coarsest_stride(feature_info)
        (self.index,) = select_strides(feature_info, [chosen], "segmentation head 'pspnet'")
        width = feature_info[self.index].channels
        grid_width = max(width // len(bins), 1)
        self.pooling = PyramidPooling(width, grid_width, bins)
        self.refine = ConvNormAct(width + len(bins) * grid_width, channels)
        self.dropout = nn.Dropout2d(dropout_rate)
        self.score = nn.Conv2d(channels, num_classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map features, finest first, to logits ``(N, C, h, w)`` at the stride of the one used."""
        logits: Tensor = self.score(self.dropout(self.refine(self.pooling(features[self.index]))))
        return logits
