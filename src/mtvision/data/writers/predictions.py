"""What a writer of results takes from predictions: plain numbers, held against what a file can say."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mtvision.data.writers.writing import to_array
from mtvision.errors import DataError
from mtvision.types import VOID, Prediction

Detections: TypeAlias = list[tuple[list[float], float, int]]
"""Box in xyxy pixels, score and label of each."""


def paired(predictions: Iterable[Prediction], image_ids: Iterable[Any], what: str) -> Iterator[tuple[Prediction, Any]]:
    """Yield each prediction with the id of its image.

    Raises:
        DataError: if one of the two ends before the other.
    """
    ids = iter(image_ids)
    count = 0
    for prediction in predictions:
        image_id = next(ids, None)
        if image_id is None:
            raise DataError(f"{what}: there are more predictions than the {count} image ids")
        count += 1
        yield prediction, image_id
    if next(ids, None) is not None:
        raise DataError(f"{what}: there are more image ids than the {count} predictions")


def detections(found: Mapping[str, Any], what: str) -> Detections:
    """Return the detections of an image as plain numbers.

    Raises:
        DataError: if they are no boxes ``(M, 4)`` with scores and labels ``(M,)``, one is not finite, a label is no
            whole number from 0 on, or a box ends before it begins.
    """
    missing = next((key for key in ("boxes", "scores", "labels") if key not in found), None)
    if missing is not None:
        raise DataError(f"{what}: the detections have no '{missing}'")
    boxes, scores, labels = (to_array(found[key]) for key in ("boxes", "scores", "labels"))
    if boxes.shape != (len(scores), 4) or scores.shape != labels.shape or scores.ndim != 1:
        shapes = f"boxes {boxes.shape}, scores {scores.shape}, labels {labels.shape}"
        raise DataError(f"{what}: expected boxes (M, 4), scores (M,) and labels (M,), got {shapes}")
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise DataError(f"{what}: a box or a score is not a finite number")
    if labels.dtype.kind not in "iu" or (labels < 0).any():
        got = labels[labels < 0][0] if labels.dtype.kind in "iuf" and (labels < 0).any() else labels.dtype
        raise DataError(f"{what}: expected labels that are whole numbers from 0 on, got {got}")
    turned = np.flatnonzero((boxes[:, 2:] < boxes[:, :2]).any(axis=1))
    if turned.size:
        raise DataError(f"{what}: the box {boxes[turned[0]].tolist()} (xyxy) ends before it begins")
    return list(zip(boxes.tolist(), scores.tolist(), labels.tolist(), strict=True))


def mask_ids(mask: Any, what: str, num_classes: int) -> NDArray[np.uint8]:
    """Return a mask ``(H, W)`` as uint8.

    Raises:
        DataError: if it is no mask, or has an id that is neither void nor below ``num_classes``.
    """
    ids = to_array(mask)
    if ids.ndim != 2 or ids.dtype.kind not in "iu":
        raise DataError(f"{what}: expected a mask (H, W) of integers, got {ids.dtype} {ids.shape}")
    wrong = ids[((ids < 0) | (ids >= num_classes)) & (ids != VOID)]
    if wrong.size:
        raise DataError(f"{what}: the mask has the id {wrong[0]}; there are {num_classes} classes")
    return ids.astype(np.uint8)
