"""The semantic branch of panoptic feature pyramid networks as a head."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from mtvision.heads.segmentation.strides import pyramid_strides
from mtvision.layers.blocks import ConvNormAct
from mtvision.layers.features import select_strides
from mtvision.layers.resize import resize_to
from mtvision.necks.fpn import FPN
from mtvision.registries import SEGMENTATION_HEADS
from mtvision.types import FeatureInfo

_WHO = "segmentation head 'fpn'"

Positive = Annotated[int, Field(ge=1)]


@SEGMENTATION_HEADS.register("fpn")
class SemanticFPNHead(nn.Module):
    """Panoptic FPN's semantic branch: a pyramid, its levels summed (Kirillov et al. 2019, arXiv 1901.02446).

    A level reaches the finest one in stages, each a 3 x 3 convolution, group norm, ReLU and bilinear resizing to the
    next finer level (twice the size); the finest has one stage without resizing. Groups have 16 channels, see
    `ConvNormAct`. A head cannot know of a neck before it: features of one get a second pyramid.

    Args:
        feature_info: of the backbone or neck.
        num_classes: C.
        dropout_rate: probability of zeroing a whole channel before the class scores.
        strides: those of the features to use, two at least; the smallest is that of the logits. None: those of 4, 8,
            16 and 32 that there are.
        channels: K of the pyramid. The paper has 256: on ResNet-18, 10.6 GFLOP for an image of 256 x 256, not 4.0.
        branch_channels: K of the stages, the paper's.

    Raises:
        ConfigError: if a stride is missing or if there are fewer than two.

    Example:
        >>> import torch
        >>> head = SemanticFPNHead([FeatureInfo(8, 4), FeatureInfo(16, 8)], 21)
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
        channels: Positive = 128,
        branch_channels: Positive = 128,
    ) -> None:
        super().__init__()
        chosen = pyramid_strides(feature_info, strides, _WHO)
        select_strides(feature_info, chosen, _WHO)  # a missing stride is the head's error, not the pyramid's
        self.pyramid = FPN(feature_info, channels=channels, strides=tuple(chosen))
        self.finest = ConvNormAct(channels, branch_channels, norm="group")
        self.coarser = nn.ModuleList(_Ascent(channels, branch_channels, steps) for steps in range(1, len(chosen)))
        self.dropout = nn.Dropout2d(dropout_rate)
        self.score = nn.Conv2d(branch_channels, num_classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map features, finest first, to logits ``(N, C, h, w)`` at the finest stride used."""
        levels = self.pyramid(features)
        joined = self.finest(levels[0])
        for steps, ascent in enumerate(self.coarser, start=1):
            joined = joined + ascent(levels[steps], levels[:steps])
        logits: Tensor = self.score(self.dropout(joined))
        return logits


class _Ascent(nn.Module):
    """From a level to the finest, one stage for each finer level."""

    def __init__(self, in_channels: int, channels: int, steps: int) -> None:
        super().__init__()
        widths = [in_channels, *[channels] * (steps - 1)]
        self.stages = nn.ModuleList(ConvNormAct(width, channels, norm="group") for width in widths)

    def forward(self, level: Tensor, finer: Sequence[Tensor]) -> Tensor:
        for stage, target in zip(self.stages, reversed(finer), strict=True):
            level = resize_to(stage(level), target.shape[-2:])
        return level
