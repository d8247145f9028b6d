"""Losses of predicted boxes against their objects, one value a pair, in float32 at least.

Values and gradients are finite for all finite boxes, be they without area, inverted, far apart or huge: the IoU family
is computed in the frame of each pair (`pair_frame`), coordinate losses within a range. An inverted box counts as one
without area; two boxes without area have an IoU of 0.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from mtvision.ops.boxes import PairFrame, box_area, frame_iou, pair_frame, paired_iou
from mtvision.ops.precision import at_least_float32
from mtvision.registries import BOX_LOSSES, Loss

_EPSILON = 1e-7
_SMALLEST_SQUARE = 1e-9
"""Of what a term is divided by, in the frame of a pair, where the longer side is 1: below any that means something."""

_SMALLEST_IOU = 1e-6
"""In the logarithm only: what overlaps less has this loss."""

_SMALLEST_SIDE = 1e-2
"""In the aspect term only: the ratio of thinner boxes says nothing, and its gradient grows as 1 / side."""


@dataclass(frozen=True)
class CoordinateLoss:
    """A box loss of four numbers that need not be edges: a task hands it the coordinates that its head regresses.

    Attributes:
        function: ``(predicted (M, 4), target (M, 4)) -> (M,)``.
        on_coordinates: tells such a loss from one of boxes, which has no such attribute.

    Example:
        >>> CoordinateLoss(smooth_l1_box_loss)(torch.zeros(1, 4), torch.ones(1, 4))
        tensor([2.])
    """

    function: Callable[[Tensor, Tensor], Tensor]
    on_coordinates: ClassVar[bool] = True

    def __call__(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Return the loss ``(M,)``."""
        return self.function(predicted, target)


@BOX_LOSSES.register("l1")
def l1() -> Loss:
    """L1 distance, summed over the four coordinates that a head regresses (as in Carion et al. 2020, arXiv 2005.12872).

    torchvision's RetinaNet takes it in the place of smooth L1.
    """
    return CoordinateLoss(partial(smooth_l1_box_loss, beta=0.0))


@BOX_LOSSES.register("smooth_l1")
def smooth_l1(*, beta: Annotated[float, Field(ge=0)] = 1.0) -> Loss:
    """Smooth L1, the sum over the four coordinates that the head regresses (Girshick 2015, arXiv 1504.08083).

    Args:
        beta: difference at which the quadratic part ends, in the coordinates' unit (strides for edges); 0 is L1.
    """
    return CoordinateLoss(partial(smooth_l1_box_loss, beta=beta))


@BOX_LOSSES.register("iou")
def iou(*, log: bool = False) -> Loss:
    """IoU loss, the share that is not overlap; boxes apart get no gradient (Yu et al. 2016, arXiv 1608.01471).

    Args:
        log: true for ``-ln IoU``, as in that paper; false for ``1 - IoU``, the usual form today.
    """
    return partial(iou_loss, log=log)


@BOX_LOSSES.register("giou")
def giou() -> Loss:
    """Generalized IoU: overlap and the empty part of the enclosing box (Rezatofighi et al. 2019, arXiv 1902.09630)."""
    return generalized_iou_loss


@BOX_LOSSES.register("diou")
def diou() -> Loss:
    """Distance IoU: overlap and distance of the centres (Zheng et al. 2020, arXiv 1911.08287)."""
    return distance_iou_loss


@BOX_LOSSES.register("ciou")
def ciou() -> Loss:
    """Complete IoU: overlap, distance of the centres and aspect ratio (Zheng et al. 2020, arXiv 1911.08287)."""
    return complete_iou_loss


@BOX_LOSSES.register("eiou")
def eiou() -> Loss:
    """Efficient IoU: overlap, distance of the centres, width and height (Zhang et al. 2021, arXiv 2101.08158)."""
    return efficient_iou_loss


def smooth_l1_box_loss(predicted: Tensor, target: Tensor, beta: float = 1.0) -> Tensor:
    """Return the smooth L1 loss ``(M,)``, summed over four coordinates (Girshick 2015, arXiv 1504.08083).

    The sum, not the mean, as in equation 2 and in torchvision and detectron2. Coordinates count up to a sixteenth of
    the largest float, 2e37, and are cut there, so that no difference of finite ones and no sum of four overflows (for a
    ``beta`` of 1e18 or less, whose square is finite too). One that is infinite already stays so.

    Args:
        predicted: ``(M, 4)`` encoded coordinates, or xyxy in units of the stride.
        target: likewise.
        beta: where the quadratic part ends, in the same unit; 0 is plain L1.

    Example:
        >>> smooth_l1_box_loss(torch.zeros(1, 4), torch.tensor([[1.0, 2.0, 0.0, 0.0]]))
        tensor([2.])
    """
    predicted, target = _within_range(at_least_float32(predicted)), _within_range(at_least_float32(target))
    return F.smooth_l1_loss(predicted, target, beta=beta, reduction="none").sum(dim=-1)


def iou_loss(predicted: Tensor, target: Tensor, log: bool = False) -> Tensor:
    """Return ``1 - IoU``, or ``-ln IoU``, ``(M,)`` of boxes ``(M, 4)`` xyxy (Yu et al. 2016, arXiv 1608.01471).

    The logarithm is cut at an IoU of a millionth, which gives 13.8.

    Example:
        >>> iou_loss(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[0.0, 0.0, 2.0, 1.0]]))
        tensor([0.5000])
    """
    overlap = paired_iou(predicted, target)
    return -overlap.clamp(min=_SMALLEST_IOU).log() if log else 1 - overlap


def generalized_iou_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Return ``1 - GIoU``, ``(M,)`` in [0, 2], of boxes ``(M, 4)`` xyxy (Rezatofighi et al. 2019, arXiv 1902.09630).

    ``1 - IoU + (C - U) / C`` with the areas U of the union and C of the smallest box around both.

    Example:
        >>> generalized_iou_loss(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([[3.0, 0.0, 4.0, 1.0]]))
        tensor([1.5000])
    """
    frame = pair_frame(predicted, target)
    overlap = frame_iou(frame)
    # U = (a + b) / (1 + IoU), from IoU = I / U and U = a + b - I
    union = (box_area(frame.boxes) + box_area(frame.others)) / (1 + overlap)
    enclosing = frame.enclosing[:, 0] * frame.enclosing[:, 1]
    return 1 - overlap + (enclosing - union) / enclosing.clamp(min=_SMALLEST_SQUARE)


def distance_iou_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Return ``1 - DIoU``, ``(M,)`` in [0, 2], of boxes ``(M, 4)`` xyxy (Zheng et al. 2020, arXiv 1911.08287).

    ``1 - IoU + rho^2 / c^2`` (equation 7): distance of the centres by the diagonal of the smallest box around both.

    Example:
        >>> distance_iou_loss(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([[3.0, 0.0, 4.0, 1.0]]))
        tensor([1.5294])
    """
    frame = pair_frame(predicted, target)
    return 1 - frame_iou(frame) + _centre_distance(frame)


def complete_iou_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the complete IoU loss ``(M,)`` of boxes ``(M, 4)`` xyxy (Zheng et al. 2020, arXiv 1911.08287).

    ``1 - IoU + rho^2 / c^2 + alpha v`` (equations 6 to 11), no gradient through ``alpha``. Equal to
    ``torchvision.ops.complete_box_iou_loss``, but finite with a finite gradient where that is NaN: for boxes without
    area. In the ratio of its sides, a side below 0.01 of the boxes' unit counts as that.

    Example:
        >>> box = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
        >>> complete_iou_loss(box, box).abs() < 1e-6
        tensor([True])
    """
    frame = pair_frame(predicted, target)
    overlap = frame_iou(frame)
    v = (4 / math.pi**2) * (_aspect_angle(target) - _aspect_angle(predicted)) ** 2  # equation 9
    with torch.no_grad():
        alpha = v / (1 - overlap + v + _EPSILON)  # equation 11
    return 1 - overlap + _centre_distance(frame) + alpha * v


def efficient_iou_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the efficient IoU loss ``(M,)`` of boxes ``(M, 4)`` xyxy (Zhang et al. 2021, arXiv 2101.08158).

    ``1 - IoU + rho^2 / c^2 + (w - w')^2 / w_c^2 + (h - h')^2 / h_c^2``, where ``w_c``, ``h_c`` and ``c`` are width,
    height and diagonal of the smallest box around both. The focal weight of the paper (Focal-EIoU) is not part of it.

    Example:
        >>> efficient_iou_loss(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[0.0, 0.0, 2.0, 1.0]]))
        tensor([0.7812])
    """
    frame = pair_frame(predicted, target)
    # An inverted box has negative sides here, so that the gradient turns it round.
    sides, other_sides = frame.boxes[:, 2:] - frame.boxes[:, :2], frame.others[:, 2:] - frame.others[:, :2]
    side_term = (sides - other_sides).square() / frame.enclosing.square().clamp(min=_SMALLEST_SQUARE)
    return 1 - frame_iou(frame) + _centre_distance(frame) + side_term.sum(dim=1)


def _within_range(coordinates: Tensor) -> Tensor:
    limit = torch.finfo(coordinates.dtype).max / 16
    return torch.where(coordinates.isinf(), coordinates, coordinates.clamp(-limit, limit))


def _centre_distance(frame: PairFrame) -> Tensor:
    """Return the squared distance of the centres by that of the enclosing box's corners, ``(M,)`` in [0, 1]."""
    corners = frame.boxes - frame.others
    centres = (corners[:, :2] + corners[:, 2:]) / 2
    diagonal = frame.enclosing.square().sum(dim=1)
    return centres.square().sum(dim=1) / diagonal.clamp(min=_SMALLEST_SQUARE)


def _aspect_angle(boxes: Tensor) -> Tensor:
    halves = at_least_float32(boxes) / 2  # whose difference cannot overflow
    sides = (halves[:, 2:] - halves[:, :2]).clamp(min=_SMALLEST_SIDE / 2)
    return torch.atan2(sides[:, 0], sides[:, 1])
