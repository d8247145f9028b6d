"""Adaptive training sample selection."""

from dataclasses import dataclass
from functools import reduce
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from mtvision.assigners.base import (
    Assignment,
    BestObject,
    PaddedTargets,
    anchor_boxes,
    box_centres,
    edge_distances,
    hard_assignment,
    object_blocks,
)
from mtvision.ops.boxes import pairwise_iou
from mtvision.registries import ASSIGNERS

_LEAST_DISTANCE = 0.01
"""Pixels from a positive's centre to the nearest edge of its object, at least, as in the authors' code."""


@ASSIGNERS.register("atss")
@dataclass(frozen=True, kw_only=True)
class ATSSAssigner:
    """Anchors above a threshold of IoU that each object sets itself (Zhang et al. 2020, ATSS, arXiv 1912.02424).

    Algorithm 1: an object's candidates are, on each level, the anchors of the ``topk`` points nearest to its centre;
    its threshold is the mean plus the standard deviation of the candidates' IoU; candidates at or above it whose
    centre lies within the object are its positives. An anchor that several objects claim goes to the one of the
    largest IoU. The rest is background.

    Where the paper is silent the authors' code decides: the standard deviation is the unbiased one, a centre is within
    an object if it is more than 0.01 pixels from each edge, and ``topk`` counts points, so that there are as many
    times more candidates as there are anchors at a point. Of equally near points the first ones are candidates, and of
    equal overlaps the first object counts. An object may end without positives.

    A point that lies within a difficult object is ignored unless it learns another.

    Args:
        topk: candidate points of an object on each level, 9 in the paper.
        anchor_scale: side in strides of the square about a point without an anchor, 8 in the paper.

    Example:
        >>> from mtvision.assigners.base import pad_targets
        >>> points = torch.tensor([[4.0, 4.0, 8.0], [12.0, 4.0, 8.0], [60.0, 4.0, 8.0], [68.0, 4.0, 8.0]])
        >>> target = {"boxes": torch.tensor([[0.0, 0.0, 24.0, 24.0]]), "labels": torch.tensor([0])}
        >>> targets = pad_targets([{**target, "difficult": torch.tensor([False])}], torch.device("cpu"))
        >>> ATSSAssigner(anchor_scale=3)(torch.zeros(1, 4, 3), torch.zeros(1, 4, 4), points, targets).foreground
        tensor([[False,  True, False, False]])
    """

    topk: Annotated[int, Field(ge=1)] = 9
    anchor_scale: Annotated[float, Field(gt=0)] = 8.0

    soft: ClassVar[bool] = False

    @torch.no_grad()
    def __call__(
        self,
        class_logits: Tensor,  # noqa: ARG002 - part of the contract
        boxes: Tensor,
        points: Tensor,
        targets: PaddedTargets,
    ) -> Assignment:
        """Assign the points of a batch; see `Assigner`."""
        points = points.float()
        anchors = anchor_boxes(points, self.anchor_scale)
        level_sizes, anchors_a_point = _layout(points)
        best = BestObject.none(len(boxes), points)
        covered = torch.zeros_like(best.object_index, dtype=torch.bool)  # (N, A)
        for first, block in object_blocks(targets, len(points)):
            inside = reduce(torch.minimum, edge_distances(block.boxes, points)) > _LEAST_DISTANCE  # (N, M, A)
            covered = covered | (inside & block.difficult[..., None]).any(dim=1)
            candidates = _nearest(block.boxes, points, level_sizes, self.topk * anchors_a_point)
            iou = pairwise_iou(block.boxes, anchors)
            inside &= _above_threshold(iou, candidates) & block.learnable[..., None]
            best = best.update(torch.where(inside, iou, -torch.inf), first)
        return hard_assignment(best.quality > -torch.inf, best.object_index, covered)


def _layout(points: Tensor) -> tuple[list[int], int]:
    """Return the number of anchors on each level and at a point; the one step that waits for the device."""
    sizes = points[:, 2].unique_consecutive(return_counts=True)[1]
    anchors_a_point = (points[:, :3] == points[0, :3]).all(dim=1).sum()
    *level_sizes, repeats = torch.cat([sizes, anchors_a_point[None]]).tolist()
    return level_sizes, repeats


def _nearest(boxes: Tensor, points: Tensor, level_sizes: list[int], count: int) -> Tensor:
    """Return the indices ``(N, M, k)`` of the ``count`` points nearest to each box's centre on each level."""
    centres = box_centres(boxes)[..., None]  # (N, M, 2, 1)
    found, start = [], 0
    for size in level_sizes:
        x, y = points[start : start + size, :2].unbind(dim=1)
        distance = (x - centres[:, :, 0]) ** 2 + (y - centres[:, :, 1]) ** 2  # (N, M, a)
        found.append(_smallest(distance, min(count, size)) + start)
        start += size
    return torch.cat(found, dim=2)


def _smallest(values: Tensor, count: int) -> Tensor:
    """Return the indices of the smallest of values ``(..., A)`` >= 0, of equal ones the first.

    Points lie symmetrically about many centres, so equal distances are common, and ``topk`` alone leaves open which it
    takes. The bits of a float >= 0 are ordered as the float is: with the index below them no two keys are equal.
    """
    keys = values.view(torch.int32).long() << 32
    keys |= torch.arange(values.shape[-1], device=values.device)
    return keys.topk(count, dim=-1, largest=False).indices


def _above_threshold(iou: Tensor, candidates: Tensor) -> Tensor:
    """Tell which candidates ``(N, M, k)`` reach the mean plus the deviation of their IoU, as ``(N, M, A)`` bool."""
    of_candidates = iou.gather(2, candidates)
    correction = min(1, candidates.shape[2] - 1)  # of a single candidate the deviation is 0, not NaN
    threshold = of_candidates.mean(dim=2, keepdim=True) + of_candidates.std(dim=2, correction=correction, keepdim=True)
    chosen = torch.zeros_like(iou, dtype=torch.bool).scatter_(2, candidates, True)
    return chosen & (iou >= threshold)
