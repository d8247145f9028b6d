"""Which class a detector takes for which: a confusion matrix of boxes; NumPy only."""

import numpy as np
from numpy.typing import NDArray

from mtvision.analysis.detections import (
    Detections,
    Objects,
    check_boxes,
    check_score_threshold,
    match_objects,
    overlaps,
)
from mtvision.ops.detection_matching import Pairs

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]


def box_confusion(
    detections: Detections, objects: Objects, num_classes: int, *, score_threshold: float, least_overlap: float = 0.5
) -> Integers:
    """Count which class each object is taken for, ``(C + 1, C + 1)``.

    A row is the class of the object, the last row background: detections there belong to no object. A column is the
    class of the detection, the last column missed: objects there have no detection. Of the detections that score at
    least ``score_threshold``,

    1. those that find an object of their class are paired with it, as in `match_objects`: the diagonal has what is true
       for COCO's rule, and divided by the sum of its row it is the recall at that threshold;
    2. what is left over is paired across classes, if the IoU is at least ``least_overlap``, one to one, the largest IoU
       first (of equal ones the earlier detection, then the earlier object). So an object is confused only if no
       detection of its class finds it. Many tools pair by IoU alone, whatever the class: there a wrong detection with
       a slightly larger IoU makes a right one false.

    Difficult objects are in no row. A detection is left out if `match_objects` ignores it, or if both steps leave it
    over and it overlaps a difficult object of another class by at least ``least_overlap``: what is there is no
    background. So the rows sum up to the numbers of counted objects, the columns to those of the detections kept.

    Args:
        detections: of all scores.
        objects: only of images that were annotated.
        num_classes: C.
        score_threshold: a detection of exactly that score counts.
        least_overlap: fraction.

    Raises:
        ValueError: if ``score_threshold`` is NaN, or ``least_overlap`` is not above 0 and at most 1; if a label is
            outside 0 to C - 1, a box is not finite, or a score is NaN.

    Example:
        >>> box, one = np.array([[0.0, 0.0, 4.0, 4.0]]), np.array([0])
        >>> found = Detections(one, box, np.array([1]), np.array([0.7]))
        >>> box_confusion(found, Objects(one, box, one, np.array([False])), 2, score_threshold=0.5).tolist()
        [[0, 1, 0], [0, 0, 0], [0, 0, 0]]
    """
    check_boxes(detections, objects, num_classes)
    check_score_threshold(score_threshold)
    found = detections.take(detections.scores >= score_threshold)
    partner, left_out = _partners(found, objects, least_overlap)
    background = np.append(objects.labels, num_classes)  # what row -1 says
    missed = ~objects.difficult
    missed[partner[partner >= 0]] = False
    rows = np.concatenate([background[partner[~left_out]], objects.labels[missed]])
    columns = np.concatenate([found.labels[~left_out], np.full(np.count_nonzero(missed), num_classes)])
    side = num_classes + 1
    return np.bincount(rows * side + columns, minlength=side * side).reshape(side, side)


def normalised(matrix: Integers) -> NDArray[np.float64]:
    """Return each row of a confusion matrix as shares of its sum, fractions in [0, 1]; NaN for a row without counts.

    The diagonal is then the recall of each class. The shares of the last row are those of the false detections.

    Example:
        >>> normalised(np.array([[3, 0, 1], [0, 0, 0], [1, 1, 0]])).tolist()
        [[0.75, 0.0, 0.25], [nan, nan, nan], [0.5, 0.5, 0.0]]
    """
    sums = matrix.sum(axis=1, keepdims=True)
    shares = np.full(matrix.shape, np.nan)
    np.divide(matrix, sums, out=shares, where=sums > 0)
    return shares


def _partners(found: Detections, objects: Objects, least: float) -> tuple[Integers, Flags]:
    """Return the index of each detection's object ``(B,)``, -1 for none, and whether it is to be left out ``(B,)``."""
    matches = match_objects(found, objects, least)
    partner, left_out = np.where(matches.true, matches.object, -1), ~(matches.true | matches.false)
    free = ~objects.difficult
    free[partner[matches.true]] = False
    over, lost = np.flatnonzero(matches.false), np.flatnonzero(free)
    pairs = _pair_off(overlaps(found.take(over), objects.take(lost), least, same_class=False))
    partner[over[pairs.detection]] = lost[pairs.object]
    difficult = objects.take(objects.difficult)
    left_out[overlaps(found, difficult, least, same_class=False).detection] = True
    return partner, left_out & (partner < 0)


def _pair_off(pairs: Pairs) -> Pairs:
    """Return the pairs that are chosen, largest overlap first, so that no detection and no object is in two.

    A pair is sure to be chosen if none before it, in the order of choice, has its detection or its object. So all such
    pairs are taken at once, over all images, and all that share a detection or object with them are dropped, until none
    is left: what one pass over the ordered pairs would choose.
    """
    left = np.lexsort((pairs.object, pairs.detection, -pairs.overlap))
    chosen = [left[:0]]
    while len(left):
        detection, partner = pairs.detection[left], pairs.object[left]
        sure = left[_first_of_each(detection) & _first_of_each(partner)]
        chosen.append(sure)
        left = left[~(np.isin(detection, pairs.detection[sure]) | np.isin(partner, pairs.object[sure]))]
    rows = np.concatenate(chosen)
    return Pairs(pairs.detection[rows], pairs.object[rows], pairs.overlap[rows])


def _first_of_each(values: Integers) -> Flags:
    first = np.zeros(len(values), dtype=np.bool_)
    first[np.unique(values, return_index=True)[1]] = True
    return first
