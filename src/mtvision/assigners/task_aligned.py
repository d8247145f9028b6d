"""Task-aligned assignment."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from mtvision.assigners.base import Assignment, BestObject, PaddedTargets, box_centres, object_blocks
from mtvision.ops.boxes import pairwise_iou
from mtvision.registries import ASSIGNERS

_RANKING_FLOOR = 1e-9
"""Alignment of a score of 0.01 at an IoU of 0.07: below it, the distance to the object's centre ranks the points."""
_CONTEST_FLOOR = 1e-6
"""What closeness adds to the IoU when objects contest a point: it decides between equal ones only."""
_CELL_MARGIN = 1e-3


@ASSIGNERS.register("task_aligned")
@dataclass(frozen=True, kw_only=True)
class TaskAlignedAssigner:
    """The points that classify and localise an object best learn it (Feng et al. 2021, TOOD, arXiv 2108.07755).

    Alignment ``t = s^alpha * u^beta`` of a point with an object (equation 2): ``s`` its score of the object's class,
    ``u`` the IoU of its box. The ``topk`` best points within the object are its positives; a point that several objects
    claim goes to the one with the largest IoU. Class targets are ``t``, normalised so that an object's best point has
    its best IoU.

    Two additions make a cold start work, when every score is near 0.01 and IoUs are near 0: points with hardly any
    alignment are ranked by their distance to the object's centre, and an object's best target is at least
    ``min_score``, or else it would teach that there is nothing and its box would have no weight.

    An object smaller than a cell of the finest level is enlarged to one (moved into the grid of points at the border),
    so that each has a candidate. A point that lies within a difficult object is ignored unless it learns another.

    Args:
        topk: positives an object, at most.
        alpha: exponent of the score.
        beta: exponent of the IoU.
        min_score: least target of an object's best point.

    Example:
        >>> from mtvision.assigners.base import pad_targets
        >>> points = torch.tensor([[4.0, 4.0, 8.0], [12.0, 4.0, 8.0]])
        >>> target = {"boxes": torch.tensor([[0.0, 0.0, 8.0, 8.0]]), "labels": torch.tensor([0])}
        >>> targets = pad_targets([{**target, "difficult": torch.tensor([False])}], torch.device("cpu"))
        >>> predicted = torch.tensor([[[0.0, 0.0, 8.0, 6.0], [8.0, 0.0, 16.0, 8.0]]])
        >>> TaskAlignedAssigner()(torch.zeros(1, 2, 3), predicted, points, targets).scores
        tensor([[0.7500, 0.0000]])
    """

    topk: Annotated[int, Field(ge=1)] = 13
    alpha: Annotated[float, Field(ge=0)] = 1.0
    beta: Annotated[float, Field(ge=0)] = 6.0
    min_score: Annotated[float, Field(gt=0, le=1)] = 0.1

    soft: ClassVar[bool] = True

    @torch.no_grad()
    def __call__(self, class_logits: Tensor, boxes: Tensor, points: Tensor, targets: PaddedTargets) -> Assignment:
        """Assign the points of a batch; see `Assigner`."""
        points, boxes = points.float(), boxes.float()
        best = BestObject.none(len(boxes), points)
        ranking = torch.zeros_like(best.quality)  # (N, A), with the best object
        covered = torch.zeros_like(best.object_index, dtype=torch.bool)
        candidates = []
        for first, block in object_blocks(targets, len(points)):
            inside = _inside(block.boxes, points)  # (N, M, A)
            covered = covered | (inside & block.difficult[..., None]).any(dim=1)
            pairs = self._pairs(class_logits, boxes, points, block)
            claimed, best_points = _top_points(pairs, inside & block.learnable[..., None], self.topk)
            candidates.append(best_points)
            best = best.update(torch.where(claimed, pairs.iou + _CONTEST_FLOOR * pairs.closeness, -1.0), first)
            rows = (best.object_index - first)[:, None]  # negative where an object of an earlier block is the best
            ranking = torch.where(rows >= 0, pairs.ranking.gather(1, rows.clamp(min=0)), ranking[:, None]).squeeze(1)
        foreground = best.quality >= 0
        factor = self._factors(_join(candidates), best.object_index, foreground)  # (N, M)
        scores = torch.where(foreground, ranking * factor.gather(1, best.object_index), 0.0)
        return Assignment(foreground, torch.where(foreground, best.object_index, 0), scores, covered & ~foreground)

    def _pairs(self, class_logits: Tensor, boxes: Tensor, points: Tensor, targets: PaddedTargets) -> "_Pairs":
        iou = pairwise_iou(targets.boxes, boxes)
        labels = targets.labels[..., None].expand(-1, -1, len(points))  # (N, M, A)
        scores = class_logits.transpose(1, 2).gather(1, labels).float().sigmoid()  # (N, C, A) -> (N, M, A)
        closeness = 1 / (1 + _distances(box_centres(targets.boxes), points[:, :2]))
        alignment = scores**self.alpha * iou**self.beta
        return _Pairs(iou, closeness, alignment + _RANKING_FLOOR * closeness)

    def _factors(self, candidates: "_Candidates", object_index: Tensor, foreground: Tensor) -> Tensor:
        """Return ``(N, M)``: what turns the ranking of an object's own points into their scores."""
        points = candidates.points.flatten(1)  # (N, M * k)
        owners = torch.where(foreground, object_index, -1).gather(1, points).view_as(candidates.points)
        objects = torch.arange(owners.shape[1], device=owners.device)
        owned = owners == objects[:, None]  # (N, M, k)
        best_ranking = torch.where(owned, candidates.ranking, 0.0).amax(dim=2)  # (N, M)
        best_iou = torch.where(owned, candidates.iou, 0.0).amax(dim=2).clamp(min=self.min_score)
        return best_iou / best_ranking.clamp(min=torch.finfo(best_ranking.dtype).tiny)


class _Pairs(NamedTuple):
    """What is known of each object with each point, all ``(N, M, A)``."""

    iou: Tensor
    closeness: Tensor
    ranking: Tensor


class _Candidates(NamedTuple):
    """The best points of each object, all ``(N, M, k)``; where it has fewer than k, the rest are any."""

    points: Tensor
    iou: Tensor
    ranking: Tensor


def _distances(centres: Tensor, points: Tensor) -> Tensor:
    x, y = points.unbind(dim=1)
    return torch.hypot(centres[..., :1] - x, centres[..., 1:] - y)  # (N, M, 1) - (A,)


def _inside(boxes: Tensor, points: Tensor) -> Tensor:
    """Tell which points ``(A, 3)`` lie in which boxes ``(N, M, 4)``, each enlarged to a cell of the finest level."""
    finest = points[:, 2].min()
    on_finest = (points[:, 2] == finest)[:, None]
    leftmost = torch.where(on_finest, points[:, :2], torch.inf).amin(dim=0)  # (2,) x, y
    rightmost = torch.where(on_finest, points[:, :2], -torch.inf).amax(dim=0)
    centres = box_centres(boxes).clamp(leftmost, rightmost)
    half = finest * (0.5 + _CELL_MARGIN)
    low = torch.minimum(boxes[..., :2], centres - half)[..., None]  # (N, M, 2, 1)
    high = torch.maximum(boxes[..., 2:], centres + half)[..., None]
    x, y = points[:, 0], points[:, 1]
    horizontally = (x >= low[..., 0, :]) & (x <= high[..., 0, :])  # (N, M, A)
    return horizontally & (y >= low[..., 1, :]) & (y <= high[..., 1, :])


def _top_points(pairs: _Pairs, allowed: Tensor, topk: int) -> tuple[Tensor, _Candidates]:
    """Return which points ``(N, M, A)`` bool are among the ``topk`` allowed ones of which object, and those points."""
    ranking = torch.where(allowed, pairs.ranking, -1.0)
    points = ranking.topk(min(topk, ranking.shape[2]), dim=2).indices
    claimed = torch.zeros_like(allowed).scatter_(2, points, True) & allowed
    return claimed, _Candidates(points, pairs.iou.gather(2, points), pairs.ranking.gather(2, points))


def _join(blocks: list[_Candidates]) -> _Candidates:
    return _Candidates(*(torch.cat(tensors, dim=1) for tensors in zip(*blocks, strict=True)))
