"""The detections of a whole batch in tensors of fixed size: what a graph without Python can do.

It keeps what `select_detections` keeps, image by image, in the same order.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from mtvision.errors import ConfigError
from mtvision.ops.boxes import box_area
from mtvision.suppression import Suppression, suppress_class_agnostic, suppress_class_wise, suppress_nothing
from mtvision.tasks.selection import Selection

_NOTHING = -1.0
"""The score of a place in which nothing stands: below all scores."""
_UNIT = (0.0, 0.0, 1.0, 1.0)


RULES: dict[Suppression, str] = {
    suppress_class_wise: "class_wise",
    suppress_class_agnostic: "class_agnostic",
    suppress_nothing: "none",
}
"""The suppressions that can be done in a graph."""


class BatchedSuppression(Protocol):
    """Greedy suppression in all images at once."""

    def __call__(
        self, boxes: Tensor, scores: Tensor, groups: Tensor, num_groups: int, threshold: float, limit: int
    ) -> Tensor:
        """Tell which boxes stay, ``(N, S)`` bool; what it says of a score below 0 does not count.

        Args:
            boxes: ``(N, S, 4)`` xyxy.
            scores: ``(N, S)``, best first; below 0 where there is no box.
            groups: ``(N, S)`` int64 in [0, num_groups); boxes of two groups leave each other alone.
            num_groups: such as the number of classes.
            threshold: IoU above which a box suppresses a worse one.
            limit: of boxes that stay in a group of an image; more are never asked for.
        """


def select_batch(
    boxes: Tensor, scores: Tensor, levels: Tensor, num_levels: int, selection: Selection, suppress: BatchedSuppression
) -> dict[str, Tensor]:
    """Return the detections of each image, best first, in ``max_detections`` places.

    Args:
        boxes: ``(N, A, 4)`` xyxy, clipped to the image; those without area are left out.
        scores: ``(N, A, C)`` in [0, 1].
        levels: ``(A,)`` of `level_index`.
        num_levels: that there are.
        selection: thresholds and numbers.
        suppress: does what ``selection.suppress`` does, in all images at once.

    Returns:
        ``boxes (N, D, 4)``, ``scores (N, D)``, ``labels (N, D)`` int64 and ``count (N,)`` int64: how many of the D
        places are taken. Behind them boxes and scores are 0 and labels -1.

    Raises:
        ConfigError: if ``selection.suppress`` is none of the three that can be done so.
    """
    num_classes = scores.shape[2]
    usable = (scores >= selection.score_threshold) & (box_area(boxes) > 0)[..., None]
    ranked = torch.where(usable, scores, _NOTHING)
    best, index = _best_of_levels(ranked, levels, num_levels, selection.candidates)  # (N, S)
    best, order = best.sort(dim=1, descending=True, stable=True)
    index = index.gather(1, order)
    point = (index // num_classes).clamp(max=boxes.shape[1] - 1)  # a place in which nothing stands may lie behind
    labels = index % num_classes
    found = boxes.gather(1, point[..., None].expand(-1, -1, 4))
    best = _suppressed(found, best, labels, num_classes, selection, suppress)
    return _in_places(found, best, labels, selection.max_detections)


def rule_of(suppress: Suppression) -> str:
    """Return by which rule boxes suppress each other: "class_wise", "class_agnostic" or "none".

    Raises:
        ConfigError: if it is another one.

    Example:
        >>> rule_of(suppress_class_wise)
        'class_wise'
    """
    rule = RULES.get(suppress)
    if rule is None:
        raise ConfigError(
            f"the suppression of detections ({getattr(suppress, '__qualname__', suppress)}) cannot be done in an "
            f"exported file, only {', '.join(RULES.values())}; export with postprocess='outside', or build the model "
            "with another nms"
        )
    return rule


def suppress_flat(
    boxes: Tensor, scores: Tensor, groups: Tensor, num_groups: int, threshold: float, limit: int
) -> Tensor:
    """Suppress with one call of torchvision for all images, each group moved to a place of its own, in float64.

    A `BatchedSuppression`.
    """
    del limit
    from torchvision.ops import nms  # costs seconds to import

    absent = scores < 0
    num_places = boxes.shape[0] * num_groups
    image = torch.arange(boxes.shape[0], device=boxes.device)[:, None]
    # what is absent is one box in a place of its own: it suppresses itself at once and costs nothing
    place = torch.where(absent, num_places, image * num_groups + groups)  # (N, S)
    corners = torch.where(absent[..., None], boxes.new_tensor(_UNIT), boxes).double()
    room = corners.amax() - corners.amin() + 1
    moved = (corners + (place * room)[..., None]).flatten(0, 1)
    # two more in further places: a trace takes for granted that two boxes stay at least
    further = torch.arange(1, 3, device=boxes.device)[:, None] + num_places
    moved = torch.cat([moved, moved.new_tensor(_UNIT) + further * room])  # (N * S + 2, 4)
    best = F.pad(scores.double().flatten(), (0, 2), value=_NOTHING)
    kept = nms(moved, best, threshold)
    return torch.zeros_like(best, dtype=torch.bool).index_fill(0, kept, True)[:-2].view(scores.shape)


def _best_of_levels(scores: Tensor, levels: Tensor, num_levels: int, limit: int) -> tuple[Tensor, Tensor]:
    """Return the ``limit`` best of each level, ``(N, L * limit)``, and where in ``(A, C)`` they stand; else nothing.

    Levels come one after the other, so of equal scores the first comes first. The best (point, class) pairs are at the
    points with the best classes, so these are looked for first: there are far fewer.
    """
    num_classes = scores.shape[2]
    padded = F.pad(scores, (0, 0, 0, limit), value=_NOTHING)  # (N, A + limit, C): there are enough points to take
    of_point, level_of_point = padded.amax(dim=2), F.pad(levels, (0, limit), value=-1)
    values, indices = [], []
    for level in range(num_levels):
        in_level = torch.where(level_of_point == level, of_point, _NOTHING)
        points = _places_of_best(in_level, limit)
        rows = padded.gather(1, points[..., None].expand(-1, -1, num_classes))
        rows = torch.where((level_of_point[points] == level)[..., None], rows, _NOTHING).flatten(1)
        position = _places_of_best(rows, limit)
        values.append(rows.gather(1, position))
        indices.append(points.gather(1, position // num_classes) * num_classes + position % num_classes)
    return torch.cat(values, dim=1), torch.cat(indices, dim=1)


def _places_of_best(values: Tensor, limit: int) -> Tensor:
    """Return where the ``limit`` best of each row ``(N, A)`` stand, in the order in which they stand."""
    return values.topk(limit, dim=1).indices.sort(dim=1).values


def _suppressed(
    boxes: Tensor, scores: Tensor, labels: Tensor, num_classes: int, selection: Selection, suppress: BatchedSuppression
) -> Tensor:
    """Return the scores ``(N, S)`` of what stays, nothing elsewhere."""
    rule = rule_of(selection.suppress)
    if rule == "none":
        return scores
    groups, number = (labels, num_classes) if rule == "class_wise" else (torch.zeros_like(labels), 1)
    stays = suppress(boxes, scores, groups, number, selection.nms_threshold, selection.max_detections)
    return torch.where(stays, scores, _NOTHING)


def _in_places(boxes: Tensor, scores: Tensor, labels: Tensor, places: int) -> dict[str, Tensor]:
    """Return the best in a fixed number of places; see `select_batch`."""
    lacking = max(places - scores.shape[1], 0)
    scores, order = F.pad(scores, (0, lacking), value=_NOTHING).sort(dim=1, descending=True, stable=True)
    scores, order = scores[:, :places], order[:, :places]  # (N, D)
    taken = scores >= 0
    boxes = F.pad(boxes, (0, 0, 0, lacking)).gather(1, order[..., None].expand(-1, -1, 4))
    return {
        "boxes": torch.where(taken[..., None], boxes, 0.0),
        "scores": torch.where(taken, scores, 0.0),
        "labels": torch.where(taken, F.pad(labels, (0, lacking)).gather(1, order), -1),
        "count": taken.sum(dim=1),
    }
