"""One list of detections from several: of further views of an image, or of windows that each see a part of it."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from mtvision.errors import MtvisionError
from mtvision.ops.boxes import box_area
from mtvision.ops.nms import class_wise_nms
from mtvision.types import DetectionPrediction

Fusion: TypeAlias = Literal["weighted_boxes", "nms"]

Edges: TypeAlias = tuple[int, int, int, int]
"""Of a window, xyxy in pixels."""

_COVERED = 0.8
"""Share of a cut box within a larger one from which on both are the same object."""
_NEAR = 0.02
"""Share of a window's side within which an edge counts as at its border: boxes are rarely exact."""


def require_fusion(fusion: Fusion) -> None:
    """Check that a way to fuse boxes can be used here.

    Raises:
        MtvisionError: if the library is missing; the extra that brings it is named.
    """
    if fusion == "weighted_boxes":
        try:
            import ensemble_boxes  # noqa: F401
        except ImportError:
            raise MtvisionError(
                "fusion 'weighted_boxes' needs the library ensemble-boxes: pip install 'mtvision[inference]'; "
                "fusion='nms' needs nothing"
            ) from None


def suppress(found: Sequence[DetectionPrediction], threshold: float) -> DetectionPrediction:
    """Return what stays of all detections under greedy suppression within each class, best first.

    Args:
        found: by view.
        threshold: IoU above which a detection suppresses a worse one.

    Example:
        >>> one = {"boxes": torch.tensor([[0.0, 0, 4, 4]]), "labels": torch.tensor([2]), "scores": torch.tensor([0.5])}
        >>> suppress([one, {**one, "scores": torch.tensor([0.75])}], 0.5)["scores"]
        tensor([0.7500])
    """
    boxes, scores, labels = _joined(found)
    kept = class_wise_nms(boxes, scores, labels, threshold)
    return DetectionPrediction(boxes=boxes[kept], scores=scores[kept], labels=labels[kept])


def fuse_weighted(
    found: Sequence[DetectionPrediction],
    image_size: tuple[int, int],
    threshold: float,
    *,
    complete: bool,
) -> DetectionPrediction:
    """Return the detections of several views, fused, best first (Solovyev et al. 2021, arXiv 1910.13302).

    Detections of a class that overlap become their mean, weighted by score. It is computed by the library
    ``ensemble-boxes``.

    Args:
        found: by view.
        image_size: ``(H, W)`` of the image, in whose pixels the boxes are.
        threshold: IoU above which two boxes of a class are one object; the paper has 0.55.
        complete: whether each view saw all of the image. Then a score is the mean over the views, and that of a view
            which did not find the object is 0; else it is the highest.

    Example:
        >>> one = {"boxes": torch.tensor([[0.0, 0, 4, 4]]), "labels": torch.tensor([2]), "scores": torch.tensor([0.5])}
        >>> two = {**one, "boxes": torch.tensor([[0.0, 0, 4, 5]])}
        >>> fuse_weighted([one, two], (8, 8), 0.5, complete=True)["boxes"]
        tensor([[0.0000, 0.0000, 4.0000, 4.5000]])
    """
    from ensemble_boxes import weighted_boxes_fusion

    like = found[0]
    sides = np.array([*image_size[::-1], *image_size[::-1]], dtype=np.float64)
    views = [_in_fractions(each, sides) for each in found]
    boxes, scores, labels = weighted_boxes_fusion(
        [boxes for boxes, _, _ in views],
        [scores for _, scores, _ in views],
        [labels for _, _, labels in views],
        iou_thr=threshold,
        conf_type="avg" if complete else "max",
    )
    return DetectionPrediction(
        boxes=torch.from_numpy(boxes * sides).to(like["boxes"]),
        scores=torch.from_numpy(scores).to(like["scores"]),
        labels=torch.from_numpy(labels).to(like["labels"]),
    )


def without_cut(
    found: Sequence[DetectionPrediction], windows: Sequence[Edges], image_size: tuple[int, int]
) -> list[DetectionPrediction]:
    """Leave out the boxes that a window cut off where another window shows more of the object.

    A box goes if it ends at a border of its window within the image, and another window has a larger box of its class
    that covers at least 80 % of it. So an object is never lost: the largest box of it stays.

    Args:
        found: by window, in pixels of the image.
        windows: xyxy each, in pixels of the image.
        image_size: ``(H, W)`` of the image.

    Example:
        >>> def one(*box):
        ...     return {"boxes": torch.tensor([box]), "labels": torch.tensor([0]), "scores": torch.tensor([0.5])}
        >>> windows = [(0, 0, 60, 60), (40, 0, 100, 60)]
        >>> kept = without_cut([one(45.0, 9, 60, 30), one(45.0, 9, 75, 30)], windows, (60, 100))
        >>> [len(each["boxes"]) for each in kept]
        [0, 1]
    """
    kept = []
    for index, (each, window) in enumerate(zip(found, windows, strict=True)):
        stays = ~_ends_within(each["boxes"], window, image_size)
        beside = [found[i] for i, other in enumerate(windows) if i != index and _overlap(window, other)]
        if beside and not stays.all():
            stays[~stays] = ~_shown_larger(each["boxes"][~stays], each["labels"][~stays], beside)
        kept.append(
            DetectionPrediction(boxes=each["boxes"][stays], scores=each["scores"][stays], labels=each["labels"][stays])
        )
    return kept


def _shown_larger(boxes: Tensor, labels: Tensor, found: Sequence[DetectionPrediction]) -> Tensor:
    """Tell which boxes ``(M, 4)`` lie for the most part in a larger one of their class, ``(M,)`` bool."""
    others, _, other_labels = _joined(found)
    larger = box_area(others) > box_area(boxes)[:, None]  # (M, O)
    covered = _shares_within(boxes, others) >= _COVERED
    return (larger & covered & (other_labels == labels[:, None])).any(dim=1)


def _overlap(window: Edges, other: Edges) -> bool:
    return window[0] < other[2] and other[0] < window[2] and window[1] < other[3] and other[1] < window[3]


def _ends_within(boxes: Tensor, window: Edges, image_size: tuple[int, int]) -> Tensor:
    """Tell which boxes end at a border of the window that is none of the image, ``(M,)`` bool."""
    left, top, right, bottom = window
    near = _NEAR * boxes.new_tensor([right - left, bottom - top] * 2)
    at_border = (boxes - boxes.new_tensor(window)).abs() <= near  # (M, 4)
    inner = [left > 0, top > 0, right < image_size[1], bottom < image_size[0]]
    return (at_border & torch.tensor(inner, device=boxes.device)).any(dim=1)


def _shares_within(boxes: Tensor, others: Tensor) -> Tensor:
    """Return which share of each box ``(M, 4)`` lies within each other one ``(O, 4)``, ``(M, O)``."""
    low = torch.maximum(boxes[:, None, :2], others[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return box_area(torch.cat([low, high], dim=-1)) / box_area(boxes)[:, None]


def _joined(found: Sequence[DetectionPrediction]) -> tuple[Tensor, Tensor, Tensor]:
    boxes = torch.cat([each["boxes"] for each in found])
    return boxes, torch.cat([each["scores"] for each in found]), torch.cat([each["labels"] for each in found])


def _in_fractions(found: DetectionPrediction, sides: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return boxes in [0, 1], scores and labels, without boxes that have no area, of which the library complains."""
    boxes = (found["boxes"].detach().cpu().double().numpy() / sides).clip(0, 1)
    usable = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(axis=1)
    scores, labels = found["scores"].detach().cpu().double().numpy(), found["labels"].cpu().numpy()
    return boxes[usable], scores[usable], labels[usable]
