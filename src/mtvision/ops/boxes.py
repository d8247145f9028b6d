"""Boxes ``xyxy`` with continuous edges: areas, overlaps, and distances from points to edges."""

import torch
from torch import Tensor

_SMALLEST_UNION = 1e-9
"""Below any area that occurs; makes 0 / 0 of two boxes without area 0, where torchvision gives NaN."""


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
