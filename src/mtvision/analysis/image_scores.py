"""How well single images are predicted: mIoU of a mask, F1 of the boxes."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mtvision.ops.boxes import pairwise_iou
from mtvision.tasks.segmentation_metrics import count_pairs
from mtvision.types import VOID

IOU_THRESHOLD = 0.5
_NOTHING_FOUND = 0.5  # score threshold where nothing is detected in any image: all are equally good


class Matches(NamedTuple):
    """The detections of one image, best first.

    Attributes:
        scores: ``(D,)``, without those that lie on difficult objects only.
        hits: bool ``(D,)``; whether each is the detection of an object.
        objects: how many there are to be found.
    """

    scores: NDArray[np.float64]
    hits: NDArray[np.bool_]
    objects: int


def mask_miou(prediction: Any, truth: NDArray[np.uint8]) -> float:
    """Return the mean IoU over the classes in truth or prediction of one image, void left out; NaN if all is void.

    Args:
        prediction: integer tensor ``(H, W)``.
        truth: ``(H, W)``, 255 = void.

    Example:
        >>> mask_miou(torch.tensor([[0, 1]]), np.array([[0, 0]], dtype=np.uint8))
        0.25
    """
    seen = prediction.cpu()
    known = truth[truth != VOID]
    num_classes = 1 + max(int(seen.max()), int(known.max()) if known.size else 0)
    counts = count_pairs(seen, torch.from_numpy(truth), num_classes).double()
    union = counts.sum(dim=0) + counts.sum(dim=1) - counts.diagonal()
    return float((counts.diagonal() / union).nanmean())


def match_boxes(
    found: Mapping[str, Any], boxes: NDArray[np.float32], labels: NDArray[np.int64], difficult: NDArray[np.bool_]
) -> Matches:
    """Match detections with objects of their class at IoU 0.5, the best first, each object once.

    A detection takes the free object with the largest IoU (Lin et al. 2014, arXiv 1405.0312); one that only lies on a
    difficult object is neither right nor wrong.

    Args:
        found: tensors ``boxes, scores, labels``.
        boxes: ``(M, 4)`` of the objects, in the same pixels.
        labels: ``(M,)``.
        difficult: ``(M,)``.
    """
    order = found["scores"].cpu().argsort(descending=True, stable=True)
    overlaps = pairwise_iou(found["boxes"].cpu()[order].float(), torch.from_numpy(boxes).float()).numpy()  # (D, M)
    overlaps = np.where(found["labels"].cpu()[order].numpy()[:, None] == labels[None], overlaps, 0.0)
    taken = difficult.copy()
    hits, counted = [], []
    for row in overlaps:
        free = np.where(taken, 0.0, row)
        hit = bool(free.size) and float(free.max()) >= IOU_THRESHOLD
        if hit:
            taken[int(free.argmax())] = True
        hits.append(hit)
        counted.append(hit or not bool(np.any(row[difficult] >= IOU_THRESHOLD)))
    kept = np.array(counted, dtype=np.bool_)
    scores = found["scores"].cpu()[order].double().numpy()
    return Matches(scores[kept], np.array(hits, dtype=np.bool_)[kept], int((~difficult).sum()))


def f1(matches: Matches, threshold: float) -> float:
    """Return F1 of the detections that score at least ``threshold``; 1 where nothing is to be found and nothing is.

    Example:
        >>> f1(Matches(np.array([0.9, 0.2]), np.array([True, False]), 1), 0.5)
        1.0
    """
    kept = matches.scores >= threshold
    total = int(kept.sum()) + matches.objects
    return 2 * int(matches.hits[kept].sum()) / total if total else 1.0


def best_threshold(images: Sequence[Matches]) -> float:
    """Return the score threshold with the best F1 over all images together; of equally good ones the highest.

    Example:
        >>> best_threshold([Matches(np.array([0.9, 0.2]), np.array([True, False]), 1)])
        0.9
    """
    scores = np.concatenate([np.zeros(0), *(image.scores for image in images)])
    if not scores.size:
        return _NOTHING_FOUND
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.concatenate([image.hits for image in images])[order]
    last = np.append(scores[1:] != scores[:-1], True)  # of equal scores all pass, or none
    total = np.arange(1, len(scores) + 1) + sum(image.objects for image in images)
    return float(scores[last][np.argmax((2 * hits.cumsum() / total)[last])])
