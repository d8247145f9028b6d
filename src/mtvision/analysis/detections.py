"""Detections and objects of a whole data set, as columns, and which of them belong together; NumPy only."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtvision.ops.detection_matching import Pairs, best_first, match_greedily, overlapping_pairs, paired_overlap


class Detections(NamedTuple):
    """What was detected in all images; rows of one image stand together, images in their order.

    Attributes:
        image: ``(B,)`` index of the image.
        boxes: ``(B, 4)`` xyxy pixels of the original image.
        labels: ``(B,)`` 0-based.
        scores: ``(B,)`` in [0, 1].
    """

    image: NDArray[np.int64]
    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> "Detections":
        """Return some of the rows, by a flag a row or by indices."""
        return Detections(self.image[rows], self.boxes[rows], self.labels[rows], self.scores[rows])


class Objects(NamedTuple):
    """What is there to be detected in all images; rows of one image stand together, images in their order.

    Attributes:
        image: ``(M,)`` index of the image.
        boxes: ``(M, 4)`` xyxy pixels of the original image.
        labels: ``(M,)`` 0-based.
        difficult: ``(M,)``: neither to be found nor wrong to be found.
    """

    image: NDArray[np.int64]
    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    difficult: NDArray[np.bool_]

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> "Objects":
        """Return some of the rows, by a flag a row or by indices."""
        return Objects(self.image[rows], self.boxes[rows], self.labels[rows], self.difficult[rows])


class Matches(NamedTuple):
    """What each detection finds; what is neither true nor false is ignored.

    Attributes:
        object: ``(B,)`` index of the object, a difficult one where the detection is ignored; -1 for none.
        overlap: ``(B,)`` with that object, fraction in [0, 1]; NaN for none. It is IoU, and for a difficult object the
            share of the detection that lies within.
        true: ``(B,)``.
        false: ``(B,)``.
    """

    object: NDArray[np.int64]
    overlap: NDArray[np.float64]
    true: NDArray[np.bool_]
    false: NDArray[np.bool_]


class ObjectOutcomes(NamedTuple):
    """What became of each object.

    Attributes:
        found: ``(M,)``; false for difficult ones.
        counted: ``(M,)``; whether the object is to be found at all. Recall is the mean of ``found[counted]``.
        detection: ``(M,)`` index of the detection that finds it; -1 for none.
        overlap: ``(M,)`` IoU with that detection, fraction in [0, 1]; NaN for none.
    """

    found: NDArray[np.bool_]
    counted: NDArray[np.bool_]
    detection: NDArray[np.int64]
    overlap: NDArray[np.float64]


def object_outcomes(
    detections: Detections, objects: Objects, *, score_threshold: float, least_overlap: float = 0.5
) -> ObjectOutcomes:
    """Return which objects are found by detections that score at least ``score_threshold``, matched by `match_objects`.

    Raises:
        ValueError: as `match_objects`, or if ``score_threshold`` is NaN.

    Example:
        >>> box, one = np.array([[0.0, 0.0, 4.0, 4.0]]), np.array([0])
        >>> found = Detections(one, box, one, np.array([0.7]))
        >>> truth = Objects(one, box, one, np.array([False]))
        >>> [object_outcomes(found, truth, score_threshold=least).found.tolist() for least in (0.7, 0.8)]
        [[True], [False]]
    """
    check_score_threshold(score_threshold)
    matches = match_objects(detections, objects, least_overlap)
    finders = np.flatnonzero(matches.true & (detections.scores >= score_threshold))
    detection, overlap = np.full(len(objects.labels), -1), np.full(len(objects.labels), np.nan)
    detection[matches.object[finders]] = finders
    overlap[matches.object[finders]] = matches.overlap[finders]
    return ObjectOutcomes(detection >= 0, ~objects.difficult, detection, overlap)


def match_objects(detections: Detections, objects: Objects, least_overlap: float = 0.5) -> Matches:
    """Match by COCO's rule (Lin et al. 2014, arXiv 1405.0312), as the protocols ``coco`` and ``lrp`` do.

    In one image and class the best detection goes first, each to the free object that it overlaps most. One that finds
    none but overlaps a difficult object is ignored. What a detection finds does not depend on those of lower scores, so
    matches hold at every score threshold. All detections count, where the protocols keep the 100 best of a class in an
    image. An image that nobody annotated must be left out: in one without objects every detection is false.

    Raises:
        ValueError: if ``least_overlap`` is not above 0 and at most 1, a label is negative, a box is not finite, or a
            score is NaN.

    Example:
        >>> box, one = np.array([[0.0, 0.0, 4.0, 4.0]]), np.array([0])
        >>> twice = Detections(one.repeat(2), box.repeat(2, axis=0), one.repeat(2), np.array([0.2, 0.7]))
        >>> match_objects(twice, Objects(one, box, one, np.array([False]))).true.tolist()
        [False, True]
    """
    check_boxes(detections, objects)
    check_overlap(least_overlap)
    cells, _ = _cells(detections, objects)
    order, _ = best_first(cells, detections.scores)
    pairs = overlaps(detections.take(order), objects, least_overlap)
    crowd, thresholds = objects.difficult, np.array([least_overlap])
    matched = np.full(len(cells), -1)
    matched[order] = match_greedily(pairs, cells[order], thresholds, crowd[:, None], crowd)[:, 0, 0]
    overlap, ignored = np.full(len(cells), np.nan), np.zeros(len(cells), dtype=np.bool_)
    hit = matched >= 0
    partner = matched[hit]
    overlap[hit] = paired_overlap(detections.boxes[hit], objects.boxes[partner], crowd[partner])
    ignored[hit] = crowd[partner]
    return Matches(matched, overlap, hit & ~ignored, ~hit)


def overlaps(detections: Detections, objects: Objects, least: float, *, same_class: bool = True) -> Pairs:
    """Return the pairs within an image whose overlap is at least ``least``, ordered by detection.

    Args:
        detections: in any order.
        objects: in any order.
        least: fraction above 0.
        same_class: pair only what is of one class; then the overlap with a difficult object is the share of the
            detection that lies within, as for COCO's crowds. Without, it is IoU for all objects.
    """
    cells, object_cells = _cells(detections, objects) if same_class else (detections.image, objects.image)
    order = np.argsort(object_cells, kind="stable")
    crowd = objects.difficult & same_class
    pairs = overlapping_pairs(detections.boxes, cells, objects.boxes[order], object_cells[order], crowd[order], least)
    return pairs._replace(object=order[pairs.object])


def check_boxes(detections: Detections, objects: Objects, num_classes: int | None = None) -> None:
    """Check what no number can be made of.

    Raises:
        ValueError: if a label is negative or not below ``num_classes``, a box is not finite, or a score is NaN.
    """
    limit = np.inf if num_classes is None else num_classes
    for what, rows in (("detections", detections), ("objects", objects)):
        if len(rows.labels) and not 0 <= rows.labels.min() <= rows.labels.max() < limit:
            wanted = "0 or more" if num_classes is None else f"0 to {num_classes - 1}"
            raise ValueError(f"{what}: expected labels of {wanted}, got {rows.labels.min()} to {rows.labels.max()}")
        if not np.isfinite(rows.boxes).all():
            row = int(np.flatnonzero(~np.isfinite(rows.boxes).all(axis=1))[0])
            raise ValueError(f"{what}: expected finite boxes, row {row} is {rows.boxes[row].tolist()}")
    if np.isnan(detections.scores).any():
        row = int(np.flatnonzero(np.isnan(detections.scores))[0])
        raise ValueError(f"detections: the score of row {row} is NaN, which cannot be ranked")


def check_score_threshold(score_threshold: float) -> None:
    """Check that scores can be compared with it.

    Raises:
        ValueError: if ``score_threshold`` is NaN (a class that finds nothing has no best threshold).
    """
    if np.isnan(score_threshold):
        raise ValueError("score_threshold: expected a number, got NaN")


def check_overlap(least_overlap: float) -> None:
    """Check the overlap from which on a detection finds an object.

    Raises:
        ValueError: if ``least_overlap`` is not above 0 and at most 1.
    """
    if not 0 < least_overlap <= 1:
        raise ValueError(f"least_overlap: expected a fraction above 0 and at most 1, got {least_overlap}")


def _cells(detections: Detections, objects: Objects) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return a number for each class in each image, of detections and objects."""
    width = 1 + max(int(rows.labels.max(initial=0)) for rows in (detections, objects))
    return detections.image * width + detections.labels, objects.image * width + objects.labels
