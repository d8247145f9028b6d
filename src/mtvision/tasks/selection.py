"""Which of a detection head's boxes become the detections of an image."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mtvision.ops.boxes import box_area
from mtvision.suppression import Suppression
from mtvision.types import DetectionPrediction


@dataclass(frozen=True)
class Selection:
    """Thresholds and numbers; see `DetectionTask`."""

    score_threshold: float
    suppress: Suppression
    nms_threshold: float
    max_detections: int
    candidates: int


def level_index(points: Tensor) -> Tensor:
    """Return the level of each point ``(A, ...)``, ``(A,)`` int64 from 0: a new one begins where the stride changes.

    Example:
        >>> level_index(torch.tensor([[4.0, 4, 8], [12, 4, 8], [8, 8, 16]]))
        tensor([0, 0, 1])
    """
    changes = points[1:, 2] != points[:-1, 2]
    first = changes.new_zeros(min(1, points.shape[0]), dtype=torch.int64)  # len() would make it a constant in a trace
    return torch.cat([first, changes.cumsum(0)])


def object_scores(class_logits: Tensor, centerness: Tensor | None) -> Tensor:
    """Return the scores ``(N, A, C)`` of the classes at each point, in [0, 1].

    Where the head says a centerness, a score is the geometric mean of class and centerness (torchvision's reading of
    FCOS).

    Args:
        class_logits: ``(N, A, C)``.
        centerness: logits ``(N, A)``, None where the head has none.

    Example:
        >>> object_scores(torch.zeros(1, 1, 2), None)
        tensor([[[0.5000, 0.5000]]])
    """
    scores = class_logits.float().sigmoid()
    return scores if centerness is None else (scores * centerness.float().sigmoid()[..., None]).sqrt()


def select_detections(boxes: Tensor, scores: Tensor, levels: Tensor, selection: Selection) -> DetectionPrediction:
    """Return the detections of one image, best first.

    Args:
        boxes: ``(A, 4)`` xyxy, clipped to the image; those without area are left out.
        scores: ``(A, C)`` in [0, 1].
        levels: ``(A,)`` of `level_index`.
        selection: thresholds and numbers.
    """
    usable = (scores >= selection.score_threshold) & (box_area(boxes) > 0)[:, None]
    point, label = usable.nonzero(as_tuple=True)
    best, order = scores[point, label].sort(descending=True, stable=True)
    point, label = point[order], label[order]
    if len(point) > selection.candidates:
        kept = _best_of_each_level(levels[point], selection.candidates)
        point, label, best = point[kept], label[kept], best[kept]
    kept, best = selection.suppress(boxes[point], best, label, selection.nms_threshold, selection.max_detections)
    return DetectionPrediction(boxes=boxes[point[kept]], scores=best, labels=label[kept])


def _best_of_each_level(levels: Tensor, limit: int) -> Tensor:
    """Tell which of the entries, best first, are among the ``limit`` best of their level, ``(M,)`` bool."""
    of_level = levels == torch.arange(int(levels.max()) + 1, device=levels.device)[:, None]  # (L, M)
    return (of_level & (of_level.cumsum(dim=1) <= limit)).any(dim=0)
