"""FCOS's head."""

from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from mtvision.heads.detection.base import DetectionMaps, DetectionRecipe
from mtvision.heads.detection.towers import TowerHead, TowerOptions, flatten_level, group_norm, shared_levels
from mtvision.ops.boxes import distances_to_boxes
from mtvision.registries import DETECTION_HEADS
from mtvision.registry import Component
from mtvision.types import FeatureInfo

_WHO = "detection head 'fcos'"


@DETECTION_HEADS.register("fcos")
class FCOSHead(TowerHead):
    """FCOS: at each point the classes, distances to the edges and centerness (Tian et al. 2019, arXiv 1904.01355).

    The distances are ``relu(regression)`` in strides, and the centerness comes from the box tower, as in the authors'
    later version (arXiv 2006.09214) and in torchvision, whose outputs, losses and detections it has with the same
    weights. torchvision takes strides as ``image size // feature size``; here they are the nominal ones, which differ
    where the image is no multiple of the coarsest. The score threshold of the recipe is the paper's 0.05, where
    torchvision's constructor has 0.2. torchvision's losses are ``det_loss: giou`` and
    ``det_class_loss: {name: focal, alpha: 0.25}``.

    Args:
        feature_info: of the neck.
        num_classes: C, without background.
        channels: of the towers; None: those of the features.
        num_convs: convolutions in each of the two towers.
        point_offset: from a cell's top left corner to its point, in strides: 0 as in torchvision, 0.5 (the centre) as
            in the paper.
        dropout_rate: share of channels dropped before the class predictor in training.
        prior_probability: of a class at a point before training (Lin et al. 2017, arXiv 1708.02002).

    Raises:
        ConfigError: if the features have not all the same channels, or if ``channels`` differs from theirs and
            ``num_convs`` is 0.

    Example:
        >>> import torch
        >>> maps = FCOSHead([FeatureInfo(32, 8)], 3)([torch.zeros(2, 32, 4, 6)])
        >>> maps.class_logits.shape, maps.box_regression.shape, maps.centerness.shape, maps.points.shape
        (torch.Size([2, 24, 3]), torch.Size([2, 24, 4]), torch.Size([2, 24]), torch.Size([24, 3]))
    """

    recipe: ClassVar[DetectionRecipe] = DetectionRecipe(
        neck=Component("fpn", {"channels": 256, "extra_levels": 2}),
        assigner=Component("center_sampling"),
        box_weight=1.0,
        normalize_by="batch",
        score_threshold=0.05,
        nms_threshold=0.6,
    )

    def __init__(
        self,
        feature_info: Sequence[FeatureInfo],
        num_classes: int,
        *,
        channels: Annotated[int, Field(ge=1)] | None = None,
        num_convs: Annotated[int, Field(ge=0)] = 4,
        point_offset: Annotated[float, Field(ge=0, le=1)] = 0.0,
        dropout_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        prior_probability: Annotated[float, Field(gt=0, lt=1)] = 0.01,
    ) -> None:
        super().__init__(
            shared_levels(feature_info, _WHO),
            num_classes,
            _WHO,
            towers=TowerOptions(channels, num_convs, norm=group_norm, bias=True),
            dropout_rate=dropout_rate,
            prior_probability=prior_probability,
        )
        self.point_offset = point_offset
        self.centerness_predictor = nn.Conv2d(self.width, 1, 3, padding=1)

    def predict_level(self, level: int, feature: Tensor) -> DetectionMaps:
        """Return logits, distances in strides, points and centerness of one level."""
        box_feature = self.box_tower(feature)
        # Not a module: the model's activation takes the place of modules, and a distance must not be negative.
        distances = F.relu(flatten_level(self.box_predictor(box_feature), 4))
        centerness = flatten_level(self.centerness_predictor(box_feature), 1).squeeze(2)  # (N, H * W)
        return DetectionMaps(
            self.class_logits(feature), distances, self.grid(level, feature, self.point_offset), centerness
        )

    def decode(self, box_regression: Tensor, points: Tensor) -> Tensor:
        """Return boxes ``(..., A, 4)`` float32 xyxy in input pixels from distances in strides."""
        return distances_to_boxes(box_regression.float() * points[:, 2:3].float(), points[:, :2].float())
