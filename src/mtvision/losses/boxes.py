"""Losses of predicted boxes against their objects, one value a pair, in float32."""

import math
from collections.abc import Callable
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from mtvision.ops.boxes import box_area
from mtvision.registries import BOX_LOSSES

_EPSILON = 1e-7
_SMALLEST_SIDE = 1e-2
"""In the aspect term only: the ratio of thinner boxes says nothing, and its gradient grows as 1 / side."""


@BOX_LOSSES.register("smooth_l1")
def smooth_l1(*, beta: Annotated[float, Field(ge=0)] = 1.0) -> Callable[[Tensor, Tensor], Tensor]:
    """Smooth L1 of the four edges: quadratic below ``beta`` strides, linear above (Girshick 2015, arXiv 1504.08083)."""

    def loss(predicted: Tensor, target: Tensor) -> Tensor:
        return smooth_l1_box_loss(predicted, target, beta)

    return loss


@BOX_LOSSES.register("ciou")
def ciou() -> Callable[[Tensor, Tensor], Tensor]:
    """Complete IoU: overlap, distance of the centres and aspect ratio (Zheng et al. 2020, arXiv 1911.08287)."""
    return complete_iou_loss


def smooth_l1_box_loss(predicted: Tensor, target: Tensor, beta: float = 1.0) -> Tensor:
    """Return the smooth L1 loss ``(M,)``, the mean over the four edges of boxes ``(M, 4)``.

    Args:
        predicted: xyxy in units of the stride.
        target: likewise.
        beta: where the quadratic part ends, in the boxes' unit; 0 is plain L1.
    """
    return F.smooth_l1_loss(predicted.float(), target.float(), beta=beta, reduction="none").mean(dim=-1)


def complete_iou_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the complete IoU loss ``(M,)`` of boxes ``(M, 4)`` xyxy (Zheng et al. 2020, arXiv 1911.08287).

    ``1 - IoU + rho^2 / c^2 + alpha v`` (equations 6 to 11), no gradient through ``alpha``. Equal to
    ``torchvision.ops.complete_box_iou_loss``, but finite with a finite gradient where that is NaN: for boxes without
    area. An inverted box counts as one without area.

    Example:
        >>> box = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
        >>> complete_iou_loss(box, box).abs() < 1e-6
        tensor([True])
    """
    predicted, target = predicted.float(), target.float()
    iou = _paired_iou(predicted, target)
    centre_distance = _squared_length(predicted[:, :2] + predicted[:, 2:] - target[:, :2] - target[:, 2:]) / 4
    corner_low = torch.minimum(predicted[:, :2], target[:, :2])
    corner_high = torch.maximum(predicted[:, 2:], target[:, 2:])
    distance_term = centre_distance / (_squared_length(corner_high - corner_low) + _EPSILON)
    v = (4 / math.pi**2) * (_aspect_angle(target) - _aspect_angle(predicted)) ** 2  # equation 9
    with torch.no_grad():
        alpha = v / (1 - iou + v + _EPSILON)  # equation 11
    return 1 - iou + distance_term + alpha * v


def _paired_iou(boxes: Tensor, others: Tensor) -> Tensor:
    corner_low = torch.maximum(boxes[:, :2], others[:, :2])
    corner_high = torch.minimum(boxes[:, 2:], others[:, 2:])
    intersection = box_area(torch.cat([corner_low, corner_high], dim=1))  # none where the corners are inverted
    union = box_area(boxes) + box_area(others) - intersection
    return intersection / (union + _EPSILON)


def _aspect_angle(boxes: Tensor) -> Tensor:
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=_SMALLEST_SIDE)
    return torch.atan(sides[:, 0] / sides[:, 1])


def _squared_length(vectors: Tensor) -> Tensor:
    return vectors.square().sum(dim=1)
