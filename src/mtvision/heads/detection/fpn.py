"""The library's default detection head: a feature pyramid and light towers, anchor-free."""

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from mtvision.heads.detection.base import DetectionHead, DetectionMaps
from mtvision.layers.blocks import ConvNormAct
from mtvision.necks.fpn import FPN
from mtvision.ops.points import grid_points
from mtvision.registries import DETECTION_HEADS
from mtvision.types import FeatureInfo

_INITIAL_DISTANCE = 2.0
"""Strides from a point to each edge before training: boxes of 4 strides, 32 to 128 pixels, overlap usual objects."""


@DETECTION_HEADS.register("fpn")
class FPNDetectionHead(DetectionHead):
    """Feature pyramid and shared light towers, anchor-free (after FCOS, Tian et al. 2019, arXiv 1904.01355).

    At the centre of each cell: a logit for each class, and the distances to the box's edges in strides, before a
    softplus. There is no centreness: with soft, IoU-based class targets the class score ranks the boxes (Feng et al.
    2021, arXiv 2108.07755). The towers have group norm, since batch norm would mix the levels' statistics. Dropout
    acts before the class predictor only: noise in the features of a regression shifts the boxes themselves.

    Args:
        feature_info: of the backbone or neck.
        num_classes: without background.
        channels: of the pyramid and the towers.
        num_convs: convolutions in each of the two towers.
        strides: of the levels; None: those of 8, 16 and 32 that there are.
        extra_levels: 1 adds a level of twice the coarsest stride.
        dropout_rate: share of channels dropped before the class predictor in training.
        prior_probability: of a class at a point before training (Lin et al. 2017, RetinaNet, arXiv 1708.02002).

    Raises:
        ConfigError: if a stride is missing; see `FPN`.

    Example:
        >>> head = FPNDetectionHead([FeatureInfo(16, 8), FeatureInfo(32, 16)], 3, channels=32)
        >>> maps = head([torch.zeros(2, 16, 4, 6), torch.zeros(2, 32, 2, 3)])
        >>> maps.class_logits.shape, maps.box_regression.shape, maps.points.shape
        (torch.Size([2, 30, 3]), torch.Size([2, 30, 4]), torch.Size([30, 3]))
    """

    def __init__(
        self,
        feature_info: Sequence[FeatureInfo],
        num_classes: int,
        *,
        channels: Annotated[int, Field(ge=1)] = 128,
        num_convs: Annotated[int, Field(ge=0)] = 1,
        strides: Annotated[tuple[int, ...], Field(min_length=1)] | None = None,
        extra_levels: Annotated[int, Field(ge=0, le=1)] = 0,
        dropout_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        prior_probability: Annotated[float, Field(gt=0, lt=1)] = 0.01,
    ) -> None:
        super().__init__()
        self.prior_probability = prior_probability
        self.neck = FPN(feature_info, channels=channels, strides=strides, extra_levels=extra_levels)
        self.class_tower = _tower(channels, num_convs)
        self.box_tower = _tower(channels, num_convs)
        self.dropout = nn.Dropout2d(dropout_rate)
        self.class_predictor = nn.Conv2d(channels, num_classes, 3, padding=1)
        self.box_predictor = nn.Conv2d(channels, 4, 3, padding=1)
        # Learnable for each level, as FCOS's scales are: shared towers see objects of one size in strides, about.
        initial = math.log(math.expm1(_INITIAL_DISTANCE))  # before the softplus
        self.level_shifts = nn.Parameter(torch.full((len(self.neck.feature_info),), initial))
        self.reset_prior()

    def reset_prior(self) -> None:
        """Set the class bias so that every class starts at ``prior_probability``: -log((1 - p) / p)."""
        bias = self.class_predictor.bias
        if bias is not None:
            prior = self.prior_probability
            nn.init.constant_(bias, -math.log((1 - prior) / prior))

    def forward(self, features: Sequence[Tensor]) -> DetectionMaps:
        """Return logits, regression and points of features ``(N, K, H, W)``, finest first."""
        logits, regression, points = [], [], []
        for level, feature in enumerate(self.neck(features)):
            stride = self.neck.feature_info[level].stride
            logits.append(_flatten(self.class_predictor(self.dropout(self.class_tower(feature)))))
            regression.append(_flatten(self.box_predictor(self.box_tower(feature))) + self.level_shifts[level])
            points.append(grid_points((feature.shape[-2], feature.shape[-1]), stride, feature.device))
        return DetectionMaps(torch.cat(logits, dim=1), torch.cat(regression, dim=1), torch.cat(points))


def _tower(channels: int, num_convs: int) -> nn.Sequential:
    return nn.Sequential(*(ConvNormAct(channels, channels, norm="group") for _ in range(num_convs)))


def _flatten(maps: Tensor) -> Tensor:
    return maps.flatten(2).transpose(1, 2)  # (N, K, H, W) -> (N, H * W, K)
