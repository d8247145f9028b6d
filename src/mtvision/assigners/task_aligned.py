"""Task-aligned assignment."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mtvision.assigners.base import Assignment, PaddedTargets
from mtvision.ops.boxes import pairwise_iou

_RANKING_FLOOR = 1e-9
"""Alignment of a score of 0.01 at an IoU of 0.07: below it, the distance to the object's centre ranks the points."""
_CONTEST_FLOOR = 1e-6
"""What closeness adds to the IoU when objects contest a point: it decides between equal ones only."""
_CELL_MARGIN = 1e-3


@dataclass(frozen=True)
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
    so that each has a candidate. Every step is on ``(N, M, A)`` tensors in float32, without a loop.

    Args:
        topk: positives an object, at most.
        alpha: exponent of the score.
        beta: exponent of the IoU.
        min_score: least target of an object's best point.
    """

    topk: int = 13
    alpha: float = 1.0
    beta: float = 6.0
    min_score: float = 0.1

    @torch.no_grad()
    def __call__(self, class_logits: Tensor, boxes: Tensor, points: Tensor, targets: PaddedTargets) -> Assignment:
        """Assign the points of a batch; see `Assigner`."""
        points = points.float()
        inside = _inside(targets.boxes, points)  # (N, M, A)
        pairs = self._pairs(class_logits.float(), boxes.float(), points, targets)
        candidates = inside & (targets.valid & ~targets.difficult)[..., None]
        claimed = _top_points(pairs.ranking, candidates, self.topk)
        contest = torch.where(claimed, pairs.iou + _CONTEST_FLOOR * pairs.closeness, -1.0)
        best, object_index = contest.max(dim=1)  # (N, A)
        foreground = best >= 0
        scores = torch.where(foreground, self._soft_scores(pairs, object_index, foreground), 0.0)
        ignored = (inside & (targets.valid & targets.difficult)[..., None]).any(dim=1) & ~foreground
        return Assignment(foreground, object_index, scores, ignored)

    def _pairs(self, class_logits: Tensor, boxes: Tensor, points: Tensor, targets: PaddedTargets) -> "_Pairs":
        iou = pairwise_iou(targets.boxes, boxes)
        labels = targets.labels[..., None].expand(-1, -1, len(points))  # (N, M, A)
        scores = class_logits.transpose(1, 2).gather(1, labels).sigmoid()  # (N, C, A) -> (N, M, A)
        centres = (targets.boxes[..., :2] + targets.boxes[..., 2:]) / 2  # (N, M, 2)
        closeness = 1 / (1 + _distances(centres, points[:, :2]))
        alignment = scores**self.alpha * iou**self.beta
        return _Pairs(iou, closeness, alignment + _RANKING_FLOOR * closeness)

    def _soft_scores(self, pairs: "_Pairs", object_index: Tensor, foreground: Tensor) -> Tensor:
        objects = torch.arange(pairs.iou.shape[1], device=object_index.device)
        owned = (object_index[:, None] == objects[:, None]) & foreground[:, None]  # (N, M, A)
        best_ranking = torch.where(owned, pairs.ranking, 0.0).amax(dim=2)  # (N, M)
        best_iou = torch.where(owned, pairs.iou, 0.0).amax(dim=2).clamp(min=self.min_score)
        factor = best_iou / best_ranking.clamp(min=torch.finfo(best_ranking.dtype).tiny)
        ranking = pairs.ranking.gather(1, object_index[:, None]).squeeze(1)  # (N, A)
        return ranking * factor.gather(1, object_index)


class _Pairs(NamedTuple):
    """What is known of each object with each point, all ``(N, M, A)``."""

    iou: Tensor
    closeness: Tensor
    ranking: Tensor


def _distances(centres: Tensor, points: Tensor) -> Tensor:
    difference = centres[..., None, :] - points  # (N, M, 1, 2) - (A, 2)
    return torch.hypot(difference[..., 0], difference[..., 1])  # (N, M, A)


def _inside(boxes: Tensor, points: Tensor) -> Tensor:
    """Tell which points ``(A, 3)`` lie in which boxes ``(N, M, 4)``, each enlarged to a cell of the finest level."""
    finest = points[:, 2].min()
    cells = points[points[:, 2] == finest, :2]
    centres = ((boxes[..., :2] + boxes[..., 2:]) / 2).clamp(cells.amin(dim=0), cells.amax(dim=0))
    half = finest * (0.5 + _CELL_MARGIN)
    low = torch.minimum(boxes[..., :2], centres - half)[..., None]  # (N, M, 2, 1)
    high = torch.maximum(boxes[..., 2:], centres + half)[..., None]
    x, y = points[:, 0], points[:, 1]
    horizontally = (x >= low[..., 0, :]) & (x <= high[..., 0, :])  # (N, M, A)
    return horizontally & (y >= low[..., 1, :]) & (y <= high[..., 1, :])


def _top_points(ranking: Tensor, candidates: Tensor, topk: int) -> Tensor:
    """Tell which candidates are among the ``topk`` of their object, ``(N, M, A)`` bool."""
    best = torch.where(candidates, ranking, -1.0).topk(min(topk, ranking.shape[2]), dim=2).indices
    return torch.zeros_like(candidates).scatter_(2, best, True) & candidates
