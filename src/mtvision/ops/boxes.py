"""Boxes ``xyxy`` with continuous edges: areas, overlaps, and how they are encoded relative to points and anchors."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mtvision.ops.precision import at_least_float32

_SMALLEST_UNION = 1e-9
"""Below any area that occurs; makes 0 / 0 of two boxes without area 0, where torchvision gives NaN."""

_SMALLEST_EXTENT = 1e-6
"""Of a frame; smaller than what float32 resolves at coordinates of a few strides. It bounds the gradient."""

_SMALLEST_RATIO = 1e-6
"""Of a box's side to its anchor's; makes the logarithm of a box without area finite."""

_LARGEST_LOG_RATIO = math.log(1000 / 16)
"""An image of 1000 pixels by an anchor of 16: where detectron, detectron2 and torchvision stop the exponential."""


class PairFrame(NamedTuple):
    """Boxes and their partners in the frame of the smallest box around each pair.

    Attributes:
        boxes: ``(..., 4)`` xyxy in [0, 1].
        others: likewise.
        enclosing: ``(..., 2)`` width and height of the smallest box around both; the longer of the two is 1.
    """

    boxes: Tensor
    others: Tensor
    enclosing: Tensor


def box_area(boxes: Tensor) -> Tensor:
    """Return the areas ``(...)`` of boxes ``(..., 4)``; an inverted box has none.

    Example:
        >>> box_area(torch.tensor([[0.0, 0.0, 2.0, 3.0], [2.0, 0.0, 1.0, 3.0]]))
        tensor([6., 0.])
    """
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)
    return sides[..., 0] * sides[..., 1]


def pairwise_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the intersection over union ``(..., M, A)`` of each of ``(..., M, 4)`` with each of ``(..., A, 4)``.

    A pair without any area has 0.

    Example:
        >>> pairwise_iou(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[0.0, 0.0, 2.0, 1.0]]))
        tensor([[0.5000]])
    """
    first, second = boxes.unsqueeze(-2), others.unsqueeze(-3)  # (..., M, 1, 4), (..., 1, A, 4)
    # One axis at a time: a tensor (..., M, A, 2) of corners would double the memory of the largest step.
    width = torch.minimum(first[..., 2], second[..., 2]) - torch.maximum(first[..., 0], second[..., 0])
    height = torch.minimum(first[..., 3], second[..., 3]) - torch.maximum(first[..., 1], second[..., 1])
    intersection = width.clamp_(min=0) * height.clamp_(min=0)  # (..., M, A)
    union = box_area(first) + box_area(second) - intersection
    return intersection / union.clamp(min=_SMALLEST_UNION)


def pair_frame(boxes: Tensor, others: Tensor) -> PairFrame:
    """Return each box and its partner, moved and scaled so that the smallest box around both has a longer side of 1.

    Nothing overflows in this frame, whatever the float32 coordinates are. Shift and scale carry no gradient: the
    gradient of what depends on neither, such as an IoU, is exact without. A pair of less extent than 2e-6 keeps a
    smaller frame. Of an inverted box the enclosing one holds the corners too.

    Args:
        boxes: ``(..., 4)`` xyxy.
        others: likewise.

    Example:
        >>> pair_frame(torch.tensor([2.0, 0.0, 6.0, 2.0]), torch.tensor([6.0, 0.0, 10.0, 8.0])).others
        tensor([0.5000, 0.0000, 1.0000, 1.0000])
    """
    first, second = at_least_float32(boxes) / 2, at_least_float32(others) / 2  # halves: no difference can overflow
    low, high = _enclosing_corners(first.detach(), second.detach())
    extent = (high - low).amax(dim=-1, keepdim=True).clamp(min=_SMALLEST_EXTENT)
    low = torch.cat([low, low], dim=-1)
    first, second = (first - low) / extent, (second - low) / extent
    low, high = _enclosing_corners(first, second)
    return PairFrame(first, second, high - low)


def paired_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the intersection over union ``(...)`` of each of ``(..., 4)`` with its partner, in float32 at least.

    A pair without any area has 0, an inverted box counts as one without area, and value and gradient are finite for
    all finite boxes.

    Example:
        >>> paired_iou(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[0.0, 0.0, 2.0, 1.0]]))
        tensor([0.5000])
    """
    return frame_iou(pair_frame(boxes, others))


def frame_iou(frame: PairFrame) -> Tensor:
    """Return the intersection over union ``(...)`` of each pair of a `pair_frame`; see `paired_iou`.

    Example:
        >>> frame_iou(pair_frame(torch.tensor([0.0, 0.0, 2.0, 2.0]), torch.tensor([0.0, 0.0, 2.0, 1.0])))
        tensor(0.5000)
    """
    boxes, others, _ = frame
    corner_low = torch.maximum(boxes[..., :2], others[..., :2])
    corner_high = torch.minimum(boxes[..., 2:], others[..., 2:])
    intersection = (corner_high - corner_low).clamp(min=0).prod(dim=-1)  # none where the corners are inverted
    union = box_area(boxes) + box_area(others) - intersection
    return intersection / union.clamp(min=_SMALLEST_UNION)


def distances_to_boxes(distances: Tensor, points: Tensor) -> Tensor:
    """Return the boxes ``(..., A, 4)`` whose edges lie at distances left, top, right, bottom from points ``(A, 2)``.

    Example:
        >>> distances_to_boxes(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([[10.0, 10.0]]))
        tensor([[ 9.,  8., 13., 14.]])
    """
    return torch.cat([points - distances[..., :2], points + distances[..., 2:]], dim=-1)


def boxes_to_distances(boxes: Tensor, points: Tensor) -> Tensor:
    """Return the distances left, top, right, bottom ``(..., A, 4)`` from points ``(A, 2)`` to the edges of their boxes.

    The inverse of `distances_to_boxes`; a distance is negative where the point lies outside its box.
    """
    return torch.cat([points - boxes[..., :2], boxes[..., 2:] - points], dim=-1)


@torch.no_grad()
def centerness(distances: Tensor) -> Tensor:
    """Return how central points are in their boxes, ``(...)`` in [0, 1] (Tian et al. 2019, arXiv 1904.01355).

    ``sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b))`` (equation 3): 1 in the middle, 0 on an edge and outside. It
    is a target and carries no gradient.

    Args:
        distances: ``(..., 4)`` left, top, right, bottom, in any unit; negative outside of the box.

    Example:
        >>> centerness(torch.tensor([[2.0, 2.0, 2.0, 2.0], [1.0, 2.0, 4.0, 2.0], [-1.0, 2.0, 4.0, 2.0]]))
        tensor([1.0000, 0.5000, 0.0000])
    """
    distances = at_least_float32(distances).clamp(min=0)
    left_top, right_bottom = distances[..., :2], distances[..., 2:]
    larger = torch.maximum(left_top, right_bottom).clamp(min=torch.finfo(distances.dtype).tiny)
    ratios = torch.minimum(left_top, right_bottom) / larger  # (..., 2) horizontal, vertical
    return (ratios[..., 0] * ratios[..., 1]).sqrt()


def encode_deltas(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Return boxes relative to their anchors, ``(..., A, 4)`` dx, dy, dw, dh (Ren et al. 2015, arXiv 1506.01497).

    The distance of the centres in sides of the anchor, and the logarithm of the ratio of the sides (equation 2); no
    weights. A side below a millionth of its anchor's counts as that, so that a box without area stays finite.

    Args:
        boxes: ``(..., A, 4)`` xyxy, one an anchor.
        anchors: ``(A, 4)`` centre x, centre y, width, height, in the boxes' unit.

    Example:
        >>> encode_deltas(torch.tensor([[0.0, 0.0, 4.0, 4.0]]), torch.tensor([[4.0, 4.0, 4.0, 4.0]]))
        tensor([[-0.5000, -0.5000,  0.0000,  0.0000]])
    """
    boxes, anchors = at_least_float32(boxes), at_least_float32(anchors)
    sides = boxes[..., 2:] - boxes[..., :2]
    centres = boxes[..., :2] + sides / 2
    ratios = (sides / anchors[..., 2:]).clamp(min=_SMALLEST_RATIO)
    return torch.cat([(centres - anchors[..., :2]) / anchors[..., 2:], ratios.log()], dim=-1)


def decode_deltas(deltas: Tensor, anchors: Tensor) -> Tensor:
    """Return the boxes ``(..., A, 4)`` xyxy of deltas relative to anchors (Ren et al. 2015, arXiv 1506.01497).

    The inverse of `encode_deltas` up to sides of 62.5 times the anchor's (1000 / 16), where dw and dh are cut.

    Args:
        deltas: ``(..., A, 4)`` dx, dy, dw, dh.
        anchors: ``(A, 4)`` centre x, centre y, width, height.

    Example:
        >>> decode_deltas(torch.tensor([[-0.5, -0.5, 0.0, 0.0]]), torch.tensor([[4.0, 4.0, 4.0, 4.0]]))
        tensor([[0., 0., 4., 4.]])
    """
    deltas, anchors = at_least_float32(deltas), at_least_float32(anchors)
    centres = anchors[..., :2] + deltas[..., :2] * anchors[..., 2:]
    half_sides = deltas[..., 2:].clamp(max=_LARGEST_LOG_RATIO).exp() * anchors[..., 2:] / 2
    return torch.cat([centres - half_sides, centres + half_sides], dim=-1)


def clip_boxes(boxes: Tensor, image_size: Tensor) -> Tensor:
    """Return boxes ``(..., 4)`` with every corner inside an image of size ``(2,)`` H, W in pixels.

    Example:
        >>> clip_boxes(torch.tensor([-1.0, 2.0, 9.0, 7.0]), torch.tensor([5, 8]))
        tensor([0., 2., 8., 5.])
    """
    limits = image_size.flip(0).repeat(2).to(boxes)  # W, H, W, H
    return torch.minimum(boxes.clamp(min=0), limits)


def scale_boxes(boxes: Tensor, from_size: Tensor, to_size: Tensor) -> Tensor:
    """Return boxes ``(..., 4)`` of an image of ``from_size`` in pixels of it at ``to_size``, both ``(2,)`` H, W.

    Example:
        >>> scale_boxes(torch.tensor([1.0, 1.0, 2.0, 2.0]), torch.tensor([4, 4]), torch.tensor([8, 12]))
        tensor([3., 2., 6., 4.])
    """
    factors = (to_size.to(boxes) / from_size.to(boxes)).flip(0).repeat(2)  # x, y, x, y
    return boxes * factors


def _enclosing_corners(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Return the low and high corners ``(..., 2)`` of the smallest box around each pair, inverted boxes included."""
    corners = torch.stack([boxes[..., :2], boxes[..., 2:], others[..., :2], others[..., 2:]])  # (4, ..., 2)
    return corners.amin(dim=0), corners.amax(dim=0)
