"""Which detection finds which object, for many images and classes at once; NumPy only.

A *cell* is one class in one image: only what is of the same cell can be matched. All functions take detections and
objects as flat arrays ordered by cell, the detections of a cell best first.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

_LARGEST_THRESHOLD = 1 - 1e-10
"""Of an overlap, so that a threshold of 1 is not missed by rounding (the reference implementation's number)."""


class Pairs(NamedTuple):
    """Detections and objects of the same cell that overlap, ordered by detection, then by object.

    Attributes:
        detection: ``(P,)`` index of the detection.
        object: ``(P,)`` index of the object.
        overlap: ``(P,)`` fraction in [0, 1].
    """

    detection: Integers
    object: Integers
    overlap: Floats


def best_first(cells: Integers, scores: Floats) -> tuple[Integers, Integers]:
    """Return the order ``(B,)`` by cell and falling score, and the rank ``(B,)`` within the cell in that order.

    Of equal scores the earlier stays first.

    Example:
        >>> order, rank = best_first(np.array([0, 1, 0]), np.array([0.2, 0.5, 0.9]))
        >>> order.tolist(), rank.tolist()
        ([2, 0, 1], [0, 1, 0])
    """
    order = np.lexsort((-scores, cells))
    return order, _position_in_run(cells[order])


def overlapping_pairs(
    boxes: Floats, cells: Integers, object_boxes: Floats, object_cells: Integers, crowd: Flags, least: float
) -> Pairs:
    """Return the pairs whose overlap is at least ``least`` (above 0).

    The overlap is intersection over union, and for an object marked in ``crowd`` intersection over the area of the
    detection: a group of objects holds many detections.

    Args:
        boxes: ``(B, 4)`` xyxy pixels of the detections.
        cells: ``(B,)``, of any order.
        object_boxes: ``(M, 4)`` xyxy pixels.
        object_cells: ``(M,)``, ascending.
        crowd: ``(M,)``.
        least: fraction.

    Example:
        >>> box = np.array([[0.0, 0.0, 4.0, 4.0]])
        >>> half = np.array([[0.0, 0.0, 4.0, 2.0]])
        >>> overlapping_pairs(half, np.array([7]), box, np.array([7]), np.array([False]), 0.5).overlap.tolist()
        [0.5]
    """
    start = np.searchsorted(object_cells, cells, side="left")
    count = np.searchsorted(object_cells, cells, side="right") - start
    detection = np.repeat(np.arange(len(cells)), count)
    within = np.arange(len(detection)) - np.repeat(np.cumsum(count) - count, count)
    partner = np.repeat(start, count) + within
    overlap = paired_overlap(boxes[detection], object_boxes[partner], crowd[partner])
    keep = overlap >= least
    return Pairs(detection[keep], partner[keep], overlap[keep])


def paired_overlap(boxes: Floats, others: Floats, crowd: Flags) -> Floats:
    """Return the overlap ``(P,)`` of each box with its partner, as in `overlapping_pairs`; 0 where they do not meet.

    Args:
        boxes: ``(P, 4)`` xyxy pixels.
        others: ``(P, 4)``.
        crowd: ``(P,)`` of the partners.

    Example:
        >>> box = np.array([[0.0, 0.0, 4.0, 4.0]])
        >>> paired_overlap(box / 2, box, np.array([True])).tolist()
        [1.0]
    """
    sides = np.minimum(boxes[:, 2:], others[:, 2:]) - np.maximum(boxes[:, :2], others[:, :2])  # (P, 2)
    common = np.where((sides > 0).all(axis=1), sides[:, 0] * sides[:, 1], 0.0)
    area = box_areas(boxes)
    union = np.where(crowd, area, area + box_areas(others) - common)
    return np.divide(common, union, out=np.zeros_like(common), where=common > 0)


def box_areas(boxes: Floats) -> Floats:
    """Return the areas ``(B,)`` in square pixels of boxes ``(B, 4)`` xyxy.

    Example:
        >>> box_areas(np.array([[0.0, 0.0, 2.0, 3.0]])).tolist()
        [6.0]
    """
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))


def match_best(pairs: Pairs, num_detections: int) -> tuple[Integers, Flags]:
    """Match by Pascal VOC's rule: each detection claims the object that it overlaps most, taken already or not.

    Args:
        pairs: those with enough overlap.
        num_detections: B.

    Returns:
        The index ``(B,)`` of the claimed object, -1 for none, of equal overlaps the earlier object; and whether the
        detection is the first that claims its object ``(B,)``.

    Example:
        >>> pairs = Pairs(np.array([0, 1]), np.array([0, 0]), np.array([0.6, 0.9]))
        >>> [array.tolist() for array in match_best(pairs, 3)]
        [[0, 0, -1], [True, False, False]]
    """
    order = np.lexsort((-pairs.overlap, pairs.detection))
    detections, best = np.unique(pairs.detection[order], return_index=True)
    claimed = np.full(num_detections, -1)
    claimed[detections] = pairs.object[order][best]
    first = np.zeros(num_detections, dtype=np.bool_)
    first[detections[np.unique(claimed[detections], return_index=True)[1]]] = True
    return claimed, first


def match_greedily(
    pairs: Pairs, cells: Integers, thresholds: Floats, ignored: Flags, crowd: Flags
) -> NDArray[np.int32]:
    """Match by COCO's rule: best detection first, each to the free object that it overlaps most.

    A detection takes an ignored object only where no counted one is free. A crowd is free for any number of
    detections. Of equal overlaps the later object is taken. The work is done for all cells, readings and thresholds
    at once, in as many steps as the fullest cell has detections that overlap an object.

    Args:
        pairs: with an overlap of at least the least threshold.
        cells: ``(B,)`` of the detections, ascending, best first within each.
        thresholds: ``(T,)`` least overlaps.
        ignored: ``(M, R)`` of each object in each of R readings (COCO: one a range of sizes).
        crowd: ``(M,)``.

    Returns:
        The index of the object, or -1, ``(B, R, T)``.

    Example:
        >>> pairs = Pairs(np.array([0, 0, 1]), np.array([0, 1, 1]), np.array([0.6, 0.9, 0.8]))
        >>> no = np.zeros((2, 1), dtype=bool)
        >>> match_greedily(pairs, np.array([0, 0]), np.array([0.5, 0.85]), no, no[:, 0]).tolist()
        [[[1, 1]], [[-1, -1]]]
    """
    shape = (ignored.shape[1], len(thresholds))
    matched = np.full((len(cells), *shape), -1, dtype=np.int32)
    taken = np.zeros((len(ignored), *shape), dtype=np.bool_)  # (M, R, T)
    detections, objects, overlaps = _candidates(pairs)
    enough = overlaps[:, :, None] >= np.minimum(thresholds, _LARGEST_THRESHOLD)  # (D, K, T)
    step = _position_in_run(cells[detections])
    for rows in np.split(np.argsort(step, kind="stable"), np.cumsum(np.bincount(step))[:-1]) if len(step) else []:
        chosen = _choose(objects[rows], enough[rows], taken, ignored)
        matched[detections[rows]] = chosen
        row, reading, threshold = np.nonzero(chosen >= 0)
        taken[chosen[row, reading, threshold], reading, threshold] = True
        taken[crowd] = False
    return matched


def _choose(objects: Integers, enough: Flags, taken: Flags, ignored: Flags) -> Integers:
    """Return the object ``(n, R, T)`` that each of n detections takes, -1 for none.

    Args:
        objects: ``(n, K)`` candidates of each, most overlap first.
        enough: ``(n, K, T)``, false where there is no candidate.
        taken: ``(M, R, T)``.
        ignored: ``(M, R)``.
    """
    free = enough[:, :, None, :] & ~taken[objects]  # (n, K, R, T)
    counted = free & ~ignored[objects][..., None]
    free = np.where(counted.any(axis=1, keepdims=True), counted, free)
    chosen = np.take_along_axis(objects[:, :, None, None], free.argmax(axis=1, keepdims=True), axis=1)[:, 0]
    return np.where(free.any(axis=1), chosen, -1)


def _candidates(pairs: Pairs) -> tuple[Integers, Integers, Floats]:
    """Return the detections ``(D,)`` of the pairs, their objects ``(D, K)``, most overlap first, and the overlaps.

    Of equal overlaps the later object is first. Rows are filled up with object 0 at an overlap of -1.
    """
    order = np.lexsort((-pairs.object, -pairs.overlap, pairs.detection))
    detections, row = np.unique(pairs.detection, return_inverse=True)
    column = _position_in_run(pairs.detection)
    width = int(column.max(initial=-1)) + 1
    objects = np.zeros((len(detections), width), dtype=np.int64)
    overlaps = np.full((len(detections), width), -1.0)
    objects[row, column] = pairs.object[order]
    overlaps[row, column] = pairs.overlap[order]
    return detections, objects, overlaps


def _position_in_run(values: Integers) -> Integers:
    """Return how many equal values stand directly before each, ``(B,)``; ``values`` are ordered.

    Example:
        >>> _position_in_run(np.array([3, 3, 4])).tolist()
        [0, 1, 0]
    """
    return np.arange(len(values)) - np.searchsorted(values, values, side="left")
