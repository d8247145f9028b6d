"""RetinaNet's head."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from mtvision.heads.detection.base import DetectionMaps, DetectionRecipe
from mtvision.heads.detection.towers import TowerHead, TowerOptions, flatten_level, group_norm, shared_levels
from mtvision.ops.boxes import decode_deltas, encode_deltas
from mtvision.registries import DETECTION_HEADS
from mtvision.registry import Component
from mtvision.types import FeatureInfo

_WHO = "detection head 'retinanet'"
_OCTAVES = (0, 1 / 3, 2 / 3)
_RATIOS = (0.5, 1.0, 2.0)
"""Height over width."""


@DETECTION_HEADS.register("retinanet")
class RetinaNetHead(TowerHead):
    """RetinaNet: at each of nine anchors a cell the classes and the box's deltas (Lin et al. 2017, arXiv 1708.02002).

    Anchors have three sizes, ``anchor_scale * stride`` times 1, 2^(1/3) and 2^(2/3), and heights of 0.5, 1 and 2 times
    the width, in whole pixels. The regression is the change of centre in anchor sides and the logarithm of the change
    of the sides; a coordinate loss (L1) compares just that. With the same weights it has torchvision's outputs, losses
    and detections. torchvision takes strides as ``image size // feature size``; here they are the nominal ones, which
    differ where the image is no multiple of the coarsest. torchvision's losses are ``det_loss: l1`` and
    ``det_class_loss: {name: focal, alpha: 0.25}``.

    Args:
        feature_info: of the neck.
        num_classes: C, without background.
        channels: of the towers; None: those of the features.
        num_convs: convolutions in each of the two towers.
        norm: "none" as in the paper; "group": after each convolution, as in torchvision's second version (Zhang et al.
            2020, arXiv 1912.02424).
        anchor_scale: side of the smallest square anchor, in strides.
        point_offset: from a cell's top left corner to its anchors' centre, in strides: 0 as in torchvision, 0.5 is the
            cell's centre.
        dropout_rate: share of channels dropped before the class predictor in training.
        prior_probability: of a class at an anchor before training.

    Raises:
        ConfigError: if the features have not all the same channels, or if ``channels`` differs from theirs and
            ``num_convs`` is 0.

    Example:
        >>> maps = RetinaNetHead([FeatureInfo(32, 8)], 3)([torch.zeros(2, 32, 4, 6)])
        >>> maps.class_logits.shape, maps.box_regression.shape, maps.points.shape
        (torch.Size([2, 216, 3]), torch.Size([2, 216, 4]), torch.Size([216, 5]))
    """

    recipe: ClassVar[DetectionRecipe] = DetectionRecipe(
        neck=Component("fpn", {"channels": 256, "extra_levels": 2}),
        assigner=Component("max_iou"),
        box_weight=1.0,
        normalize_by="image",
        score_threshold=0.05,
        nms_threshold=0.5,
    )
    anchor_sides: Tensor

    def __init__(
        self,
        feature_info: Sequence[FeatureInfo],
        num_classes: int,
        *,
        channels: Annotated[int, Field(ge=1)] | None = None,
        num_convs: Annotated[int, Field(ge=0)] = 4,
        norm: Literal["none", "group"] = "none",
        anchor_scale: Annotated[float, Field(ge=1)] = 4.0,
        point_offset: Annotated[float, Field(ge=0, le=1)] = 0.0,
        dropout_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        prior_probability: Annotated[float, Field(gt=0, lt=1)] = 0.01,
    ) -> None:
        levels = shared_levels(feature_info, _WHO)
        sides = torch.stack([_anchor_sides(anchor_scale * stride) for stride in levels.strides])  # (levels, 9, 2)
        grouped = norm == "group"
        super().__init__(
            levels,
            num_classes,
            _WHO,
            towers=TowerOptions(channels, num_convs, norm=group_norm if grouped else None, bias=not grouped),
            num_anchors=sides.shape[1],
            dropout_rate=dropout_rate,
            prior_probability=prior_probability,
        )
        self.point_offset = point_offset
        self.register_buffer("anchor_sides", sides, persistent=False)  # whole numbers: stay so in half precision

    def predict_level(self, level: int, feature: Tensor) -> DetectionMaps:
        """Return logits, deltas and anchors of one level."""
        deltas = flatten_level(self.box_predictor(self.box_tower(feature)), 4)
        points = self.grid(level, feature, self.point_offset)[:, None]  # (H * W, 1, 3)
        sides = self.anchor_sides[level].float()[None]  # (1, B, 2)
        anchors = torch.cat([points.expand(-1, sides.shape[1], -1), sides.expand(points.shape[0], -1, -1)], dim=2)
        return DetectionMaps(self.class_logits(feature), deltas, anchors.flatten(0, 1))  # (H * W * B, 5)

    def decode(self, box_regression: Tensor, points: Tensor) -> Tensor:
        """Return boxes ``(..., A, 4)`` float32 xyxy in input pixels from deltas; see `decode_deltas`."""
        return decode_deltas(box_regression, _anchors(points))

    def coordinates(self, box_regression: Tensor, points: Tensor) -> Tensor:  # noqa: ARG002 - the contract's
        """Return the deltas themselves, ``(..., A, 4)`` float32."""
        return box_regression.float()

    def target_coordinates(self, boxes: Tensor, points: Tensor) -> Tensor:
        """Return the deltas ``(..., A, 4)`` of true boxes in pixels, one an anchor; see `encode_deltas`."""
        return encode_deltas(boxes, _anchors(points))


def _anchors(points: Tensor) -> Tensor:
    return torch.cat([points[:, :2], points[:, 3:]], dim=1)  # (A, 4) centre x, centre y, width, height


def _anchor_sides(size: float) -> Tensor:
    """Return width and height ``(9, 2)`` int64 in pixels, ratio by ratio, rounded as torchvision rounds them."""
    sizes = torch.tensor([int(size * 2**octave) for octave in _OCTAVES], dtype=torch.float32)
    root = torch.tensor(_RATIOS).sqrt()[:, None]  # (3, 1)
    halves = torch.stack([(1 / root * sizes).flatten(), (root * sizes).flatten()], dim=1) / 2
    return 2 * halves.round().clamp(min=1).to(torch.int64)
