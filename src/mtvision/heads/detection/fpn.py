"""The library's default detection head: light towers on a feature pyramid, anchor-free."""

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from mtvision.heads.detection.base import DetectionRecipe
from mtvision.heads.detection.towers import LightTowerHead, shared_levels
from mtvision.registries import DETECTION_HEADS
from mtvision.registry import Component
from mtvision.types import FeatureInfo

_WHO = "detection head 'fpn'"


@DETECTION_HEADS.register("fpn")
class FPNDetectionHead(LightTowerHead):
    """Light towers on a feature pyramid, anchor-free (after FCOS, Tian et al. 2019, arXiv 1904.01355).

    At the centre of each cell: a logit for each class, and the distances to the box's edges in strides, before a
    softplus. There is no centerness: with soft, IoU-based class targets the class score ranks the boxes (Feng et al.
    2021, arXiv 2108.07755). The towers have group norm, since batch norm would mix the levels' statistics. Dropout
    acts before the class predictor only: noise in the features of a regression shifts the boxes themselves.

    The neck that it names has 64 channels: in the same training time that found more than 128, and more than one scale
    did (``benchmarks/compare_heads.py``). With plenty of time choose a wider one: ``neck: {name: fpn, channels: 128}``.

    Args:
        feature_info: of the neck.
        num_classes: without background.
        channels: of the towers; None: those of the features.
        num_convs: convolutions in each of the two towers.
        dropout_rate: share of channels dropped before the class predictor in training.
        prior_probability: of a class at a point before training (Lin et al. 2017, RetinaNet, arXiv 1708.02002).

    Raises:
        ConfigError: if the features have not all the same channels, or if ``channels`` differs from theirs and
            ``num_convs`` is 0.

    Example:
        >>> import torch
        >>> head = FPNDetectionHead([FeatureInfo(32, 8), FeatureInfo(32, 16)], 3)
        >>> maps = head([torch.zeros(2, 32, 4, 6), torch.zeros(2, 32, 2, 3)])
        >>> maps.class_logits.shape, maps.box_regression.shape, maps.points.shape
        (torch.Size([2, 30, 3]), torch.Size([2, 30, 4]), torch.Size([30, 3]))
    """

    recipe: ClassVar[DetectionRecipe] = DetectionRecipe(neck=Component("fpn", {"channels": 64}))

    def __init__(
        self,
        feature_info: Sequence[FeatureInfo],
        num_classes: int,
        *,
        channels: Annotated[int, Field(ge=1)] | None = None,
        num_convs: Annotated[int, Field(ge=0)] = 1,
        dropout_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        prior_probability: Annotated[float, Field(gt=0, lt=1)] = 0.01,
    ) -> None:
        super().__init__(
            shared_levels(feature_info, _WHO),
            num_classes,
            _WHO,
            channels=channels,
            num_convs=num_convs,
            dropout_rate=dropout_rate,
            prior_probability=prior_probability,
        )
