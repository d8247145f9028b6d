"""Average precision by the rules of Pascal VOC and COCO, and the best score threshold; NumPy only."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

_COCO_RECALLS = np.linspace(0, 1, 101)


def precision_at_true(true: Flags, false: Flags) -> Floats:
    """Return the precision at each true detection or at any later one, whichever is highest: ``(K,)``, falling.

    These are all corners of the monotone precision-recall curve: between two true detections precision only falls.

    Args:
        true: ``(n,)`` of one class, best first.
        false: ``(n,)``; what is neither is ignored.

    Example:
        >>> precision_at_true(np.array([False, True, True]), np.array([True, False, False])).round(3).tolist()
        [0.667, 0.667]
    """
    num_true = np.arange(1, np.count_nonzero(true) + 1)
    precision = num_true / (num_true + np.cumsum(false)[true])
    return np.asarray(np.maximum.accumulate(precision[::-1])[::-1])


def area_under_curve(precision: Floats, num_objects: int) -> float:
    """Return VOC's average precision since 2010: the area under the monotone curve. NaN without objects.

    Everingham et al., The PASCAL Visual Object Classes Challenge: A Retrospective (2015).

    Args:
        precision: of `precision_at_true`.
        num_objects: that count.

    Example:
        >>> area_under_curve(np.array([1.0, 0.5]), 4)
        0.375
    """
    return float(precision.sum() / num_objects) if num_objects else float("nan")


def eleven_point(precision: Floats, num_objects: int) -> float:
    """Return VOC's average precision until 2009: the mean at the recalls 0, 0.1, ..., 1. NaN without objects.

    Everingham et al., The PASCAL Visual Object Classes (VOC) Challenge (2010). Recalls are compared as fractions: the
    third of ten objects reaches a recall of 0.3, which floating point can miss.

    Args:
        precision: of `precision_at_true`.
        num_objects: that count.

    Example:
        >>> round(eleven_point(np.array([1.0]), 2), 4)  # 6 of the 11 recalls are reached
        0.5455
    """
    if not num_objects:
        return float("nan")
    return float(_at_counts(precision, -(-np.arange(11) * num_objects // 10)).mean())


def hundred_one_point(precision: Floats, num_objects: int) -> float:
    """Return COCO's average precision: the mean at the recalls 0, 0.01, ..., 1. NaN without objects.

    Lin et al. 2014, arXiv 1405.0312. Recalls are compared in floating point, as in the reference implementation.

    Args:
        precision: of `precision_at_true`.
        num_objects: that count.

    Example:
        >>> round(hundred_one_point(np.array([1.0]), 2), 4)  # 51 of the 101 recalls are reached
        0.505
    """
    if not num_objects:
        return float("nan")
    counts = np.searchsorted(np.arange(num_objects + 1) / num_objects, _COCO_RECALLS)
    return float(_at_counts(precision, counts).mean())


def _at_counts(precision: Floats, counts: Integers) -> Floats:
    """Return the precision once so many objects are found, 0 where that never happens; no object is found at once."""
    reached = np.append(precision, 0.0)
    return np.asarray(reached[np.minimum(np.maximum(counts, 1) - 1, len(precision))])


class ThresholdTable(NamedTuple):
    """What remains of one class if only detections of at least a score are kept, one row a distinct score.

    Attributes:
        scores: ``(S,)``, falling.
        true: ``(S,)`` number of true detections.
        false: ``(S,)`` number of false detections.
        error: ``(S,)`` sum of ``1 - IoU`` of the true detections.
    """

    scores: Floats
    true: Integers
    false: Integers
    error: Floats


def threshold_table(scores: Floats, true: Flags, false: Flags, overlap: Floats) -> ThresholdTable:
    """Return what each score threshold keeps; detections of equal score stay or go together.

    Args:
        scores: ``(n,)`` of one class, falling.
        true: ``(n,)``.
        false: ``(n,)``.
        overlap: ``(n,)`` IoU with the matched object; read where ``true``.

    Example:
        >>> yes, no = np.array([True, False]), np.array([False, True])
        >>> threshold_table(np.array([0.9, 0.4]), yes, no, np.array([0.8, 0.0])).false.tolist()
        [0, 1]
    """
    last = np.append(scores[1:] != scores[:-1], True)[: len(scores)]
    error = np.cumsum(np.where(true, 1 - overlap, 0.0))
    return ThresholdTable(scores[last], np.cumsum(true)[last], np.cumsum(false)[last], error[last])


class Optimum(NamedTuple):
    """The best threshold of one class, and what it gives.

    Attributes:
        threshold: keep scores of at least this; NaN where no threshold is better than to keep nothing.
        value: of the measure at the threshold.
        row: of the table, -1 for none.
    """

    threshold: float
    value: float
    row: int


def optimal_lrp(table: ThresholdTable, num_objects: int, least_overlap: float) -> Optimum:
    """Return the least localisation recall precision error and its threshold; NaN without objects.

    ``LRP = (sum of (1 - IoU) / (1 - least_overlap) over true + false + missed) / (true + false + missed)``, in [0, 1],
    0 for a perfect detector and 1 for one that finds nothing (Oksuz et al. 2018, arXiv 1807.01696; 2021, arXiv
    2011.10772). Of equal values the highest threshold is taken.

    Args:
        table: of `threshold_table`.
        num_objects: that count.
        least_overlap: of a true detection.

    Example:
        >>> table = ThresholdTable(np.array([0.9]), np.array([1]), np.array([0]), np.array([0.1]))
        >>> round(optimal_lrp(table, 1, 0.5).value, 6)
        0.2
    """
    if not num_objects:
        return Optimum(float("nan"), float("nan"), -1)
    missed = num_objects - table.true
    values = (table.error / (1 - least_overlap) + table.false + missed) / (table.true + table.false + missed)
    if not (values < 1).any():
        return Optimum(float("nan"), 1.0, -1)
    row = int(values.argmin())
    return Optimum(float(table.scores[row]), float(values[row]), row)


def optimal_f1(table: ThresholdTable, num_objects: int) -> Optimum:
    """Return the highest F1, ``2 true / (2 true + false + missed)``, and its threshold; NaN without objects.

    Of equal values the highest threshold is taken.

    Args:
        table: of `threshold_table`.
        num_objects: that count.

    Example:
        >>> table = ThresholdTable(np.array([0.9, 0.4]), np.array([1, 1]), np.array([0, 1]), np.zeros(2))
        >>> optimal_f1(table, 1)
        Optimum(threshold=0.9, value=1.0, row=0)
    """
    if not num_objects:
        return Optimum(float("nan"), float("nan"), -1)
    values = 2 * table.true / (table.true + table.false + num_objects)
    if not (values > 0).any():
        return Optimum(float("nan"), 0.0, -1)
    row = int(values.argmax())
    return Optimum(float(table.scores[row]), float(values[row]), row)
