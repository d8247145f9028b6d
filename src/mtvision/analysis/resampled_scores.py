"""Scores of many resamples of a data set at once: IoU of masks, average precision of boxes.

An image that a resample draws w times has the weight w. Masks are counted and detections matched once, image by image:
neither depends on what else was drawn.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtvision.analysis.detections import Detections, Objects
from mtvision.ops.detection_matching import best_first, box_areas, match_greedily, overlapping_pairs
from mtvision.tasks.detection_protocols import COCO_MAX_DETECTIONS, COCO_SIZES, COCO_THRESHOLDS

Floats = NDArray[np.float64]
Integers = NDArray[np.integer]
Flags = NDArray[np.bool_]

_RECALLS = np.linspace(0, 1, 101)
_AT_ONCE = 2_000_000  # numbers in an array that is made for a block of resamples


def weighted_sums(counts: Integers, weights: Integers) -> Floats:
    """Return the sums over the images in each resample, ``(B, C)``; whole numbers below 2^53 are exact.

    Args:
        counts: ``(N, C)`` of each image.
        weights: ``(B, N)``.

    Example:
        >>> weighted_sums(np.array([[1, 0], [2, 5]]), np.array([[1, 1], [0, 2]])).tolist()
        [[3.0, 5.0], [4.0, 10.0]]
    """
    sums = np.empty((len(weights), counts.shape[1]))
    values = counts.astype(np.float64)
    for rows in _blocks(len(weights), weights.shape[1]):
        sums[rows] = weights[rows].astype(np.float64) @ values
    return sums


def resampled_iou(common: Integers, true: Integers, predicted: Integers, weights: Integers) -> Floats:
    """Return the IoU of each class over the images of each resample, ``(B, C)``, as the protocol ``standard`` has it.

    Args:
        common: ``(N, C)`` pixels of each class in truth and prediction, void left out of all three.
        true: ``(N, C)`` pixels in the truth.
        predicted: ``(N, C)`` pixels in the prediction.
        weights: ``(B, N)``.

    Returns:
        Fractions in [0, 1]; NaN for a class in neither truth nor predictions of the resample.

    Example:
        >>> common, true, predicted = np.array([[1], [4]]), np.array([[2], [4]]), np.array([[1], [4]])
        >>> resampled_iou(common, true, predicted, np.array([[1, 0], [0, 1]])).tolist()
        [[0.5], [1.0]]
    """
    both, either = weighted_sums(common, weights), weighted_sums(true + predicted - common, weights)
    return np.asarray(np.divide(both, either, out=np.full_like(both, np.nan), where=either > 0))


def resampled_accuracy(common: Integers, true: Integers, weights: Integers) -> Floats:
    """Return the share of the pixels, void left out, whose class is right, in each resample ``(B,)``.

    Args:
        common: ``(N, C)``, as in `resampled_iou`.
        true: ``(N, C)``.
        weights: ``(B, N)``.
    """
    right, known = (weighted_sums(counts.sum(axis=1)[:, None], weights)[:, 0] for counts in (common, true))
    return np.asarray(np.divide(right, known, out=np.full_like(right, np.nan), where=known > 0))


def mean_of_classes(values: Floats) -> Floats:
    """Return the mean of what is not NaN along the last axis, NaN where nothing is.

    Example:
        >>> mean_of_classes(np.array([[0.5, np.nan, 1.0], [np.nan, np.nan, np.nan]])).tolist()
        [0.75, nan]
    """
    number = (~np.isnan(values)).sum(axis=-1)
    total = np.nansum(values, axis=-1)
    return np.asarray(np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 0))


class ClassDetections(NamedTuple):
    """What was detected of one class in all images, best first.

    Attributes:
        image: ``(D,)`` index of the image.
        true: ``(T, D)``, whether each finds an object, at each of `COCO_THRESHOLDS`.
        ignored: ``(T, D)``, whether each is neither true nor false, as one that lies on a difficult object only.
        objects: ``(N,)`` objects of the class to be found in each image.
    """

    image: NDArray[np.int64]
    true: Flags
    ignored: Flags
    objects: NDArray[np.int64]


def judge_detections(found: Detections, there: Objects, num_images: int, num_classes: int) -> list[ClassDetections]:
    """Match the detections of a data set with its objects by COCO's rule, and return them by class.

    As in the protocol ``coco`` for objects of all sizes: the 100 best of a class in an image count, difficult objects
    are crowds, and of equal scores those of earlier images come first (Lin et al. 2014, arXiv 1405.0312).

    Args:
        found: in all annotated images.
        there: objects of the same images.
        num_images: N.
        num_classes: C.
    """
    cells = found.image * num_classes + found.labels
    order, rank = best_first(cells, found.scores)
    order = order[rank < COCO_MAX_DETECTIONS]
    found, cells = found.take(order), cells[order]
    object_cells = there.image * num_classes + there.labels
    order = np.argsort(object_cells, kind="stable")
    there, object_cells = there.take(order), object_cells[order]
    crowd, not_counted = there.difficult, there.difficult | _outside_sizes(there.boxes)
    pairs = overlapping_pairs(found.boxes, cells, there.boxes, object_cells, crowd, float(COCO_THRESHOLDS[0]))
    matched = match_greedily(pairs, cells, COCO_THRESHOLDS, not_counted[:, None], crowd)[:, 0].T  # (T, D)
    ignored = np.append(not_counted, False)[matched] | ((matched < 0) & _outside_sizes(found.boxes))
    true = (matched >= 0) & ~ignored
    counts = np.bincount(object_cells[~not_counted], minlength=num_images * num_classes).reshape(
        num_images, num_classes
    )
    ranked = np.argsort(-found.scores, kind="stable")
    of_class = [ranked[found.labels[ranked] == label] for label in range(num_classes)]
    return [
        ClassDetections(found.image[rows], true[:, rows], ignored[:, rows], counts[:, label])
        for label, rows in enumerate(of_class)
    ]


def _outside_sizes(boxes: Floats) -> Flags:
    """Return whether the area of each box is none that COCO counts, ``(B,)``: that of a box inside out."""
    least, greatest = COCO_SIZES[""]
    areas = box_areas(boxes)
    return np.asarray((areas < least) | (areas > greatest))


def resampled_average_precision(classes: list[ClassDetections], weights: Integers) -> Floats:
    """Return COCO's average precision of each resample, threshold and class, ``(B, T, C)``.

    With weights of 1 it is that of the protocol ``coco``, and with whole numbers that of the data in which each image
    stands so many times in a row. For the copies of a detection have one score, are all true or all false, and stand
    together; between the first and the last of true ones precision only rises, so the monotone curve needs the
    last of them alone. (Two detections of a class in one image with exactly the same score are the exception: in the
    protocol their order is arbitrary and their copies would alternate; here each one's copies stay together.)

    Args:
        classes: of `judge_detections`.
        weights: ``(B, N)``.

    Returns:
        Fractions in [0, 1]; NaN for a class without objects in the resample.
    """
    scores = np.full((len(weights), len(COCO_THRESHOLDS), len(classes)), np.nan)
    for label, found in enumerate(classes):
        num_objects = (weights @ found.objects).astype(np.int64)
        for rows in _blocks(len(weights), len(found.image) + len(_RECALLS)):
            scores[rows, :, label] = _average_precision(found, weights[rows], num_objects[rows])
    return scores


def _average_precision(found: ClassDetections, weights: Integers, num_objects: NDArray[np.int64]) -> Floats:
    """Return ``(b, T)`` of one class in a block of b resamples."""
    drawn = weights[:, found.image]  # (b, D)
    so_far = np.cumsum(drawn, axis=1)
    needed = _objects_for_recalls(num_objects)
    columns = []
    for true, ignored in zip(found.true, found.ignored, strict=True):
        hits, left_out = np.flatnonzero(true), np.flatnonzero(ignored)
        num_true = np.cumsum(drawn[:, hits], axis=1)  # (b, K)
        num_left_out = np.pad(np.cumsum(drawn[:, left_out], axis=1), ((0, 0), (1, 0)))
        num_counted = so_far[:, hits] - num_left_out[:, np.searchsorted(left_out, hits)]
        precision = np.divide(num_true, num_counted, out=np.zeros(num_true.shape), where=num_true > 0)
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        columns.append(_at_counts(precision, num_true, needed).mean(axis=1))
    return np.where(num_objects[:, None] > 0, np.stack(columns, axis=1), np.nan)


def _objects_for_recalls(num_objects: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many objects each of 101 recalls takes, ``(b, 101)``.

    Recalls are compared in floating point, as in the reference implementation: the least k with ``k / n >= recall``.
    """
    total = np.maximum(num_objects, 1)[:, None]
    count = np.ceil(_RECALLS * total).astype(np.int64)
    count -= (count - 1) / total >= _RECALLS
    count += count / total < _RECALLS
    return np.asarray(count)


def _at_counts(precision: Floats, num_true: Integers, needed: Integers) -> Floats:
    """Return the precision once so many objects are found, 0 where that never happens.

    Args:
        precision: ``(b, K)``.
        num_true: ``(b, K)``, never falling.
        needed: ``(b, R)``.

    Returns:
        ``(b, R)``.
    """
    num_rows, width = num_true.shape
    step = max(int(needed.max(initial=0)), int(num_true.max(initial=0))) + 1
    shift = np.arange(num_rows)[:, None] * step  # rows one after another are one rising sequence
    place = np.searchsorted((num_true + shift).ravel(), (needed + shift).ravel()).reshape(needed.shape)
    place -= np.arange(num_rows)[:, None] * width  # (b, R), in [0, K]
    return np.asarray(np.take_along_axis(np.pad(precision, ((0, 0), (0, 1))), place, axis=1))


def _blocks(num_rows: int, width: int) -> Iterator[slice]:
    """Yield slices of rows, so many that an array of ``width`` numbers a row keeps to a bounded memory."""
    step = max(_AT_ONCE // max(width, 1), 1)
    for start in range(0, num_rows, step):
        yield slice(start, start + step)
