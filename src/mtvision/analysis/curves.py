"""Precision, recall and F1 at each score threshold, and the thresholds that are best; NumPy only."""

from heapq import heappop, heappush
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtvision.analysis.detections import Detections, Matches, Objects, check_boxes, match_objects
from mtvision.ops.average_precision import Optimum, optimal_f1, threshold_table

Floats = NDArray[np.float64]

_STRAIGHT = 1e-9
"""Distance from a line within which a point lies on it: well above rounding, well below what a plot shows."""


class ScoreCurve(NamedTuple):
    """How well detections do that score at least a threshold; a row for each score that occurs, highest first.

    Attributes:
        thresholds: ``(S,)``.
        precision: ``(S,)`` true / (true + false), NaN where all that is kept is ignored.
        recall: ``(S,)`` true / objects, NaN without objects.
        f1: ``(S,)`` 2 true / (true + false + objects), NaN without objects.
        best: the threshold of the largest F1 (of equal ones the highest), that F1, and its row. As in the protocol
            ``lrp``: the threshold is NaN if nothing is found, the F1 is then 0, or NaN without objects.
        num_objects: those that are not difficult.
    """

    thresholds: Floats
    precision: Floats
    recall: Floats
    f1: Floats
    best: Optimum
    num_objects: int


class ScoreCurves(NamedTuple):
    """The curves of a detector.

    Attributes:
        overall: of the detections and objects of all classes together, so its best threshold is the one to use for all.
        per_class: ``C`` curves.
    """

    overall: ScoreCurve
    per_class: tuple[ScoreCurve, ...]


def score_curves(
    detections: Detections, objects: Objects, num_classes: int, *, least_overlap: float = 0.5
) -> ScoreCurves:
    """Return precision, recall and F1 as functions of the score threshold, matched by `match_objects`.

    Args:
        detections: of all scores.
        objects: only of images that were annotated.
        num_classes: C.
        least_overlap: IoU of a true detection.

    Raises:
        ValueError: if ``least_overlap`` is not above 0 and at most 1; if a label is outside 0 to C - 1, a box is not
            finite, or a score is NaN.

    Example:
        >>> box, one = np.array([[0.0, 0.0, 4.0, 4.0]]), np.array([0, 0])
        >>> found = Detections(one, np.concatenate([box, box + 9]), one, np.array([0.7, 0.2]))
        >>> curves = score_curves(found, Objects(one[:1], box, one[:1], np.array([False])), 1)
        >>> curves.overall.thresholds.tolist(), curves.overall.precision.tolist(), curves.overall.best.threshold
        ([0.7, 0.2], [1.0, 0.5], 0.7)
    """
    check_boxes(detections, objects, num_classes)
    matches = match_objects(detections, objects, least_overlap)
    order = np.argsort(-detections.scores, kind="stable")
    by_class = order[np.argsort(detections.labels[order], kind="stable")]
    ends = np.searchsorted(detections.labels[by_class], np.arange(1, num_classes))
    counts = np.bincount(objects.labels[~objects.difficult], minlength=num_classes).tolist()
    rows = np.split(by_class, ends) if num_classes else []
    per_class = (_curve(*of_class, detections.scores, matches) for of_class in zip(rows, counts, strict=True))
    return ScoreCurves(_curve(order, sum(counts), detections.scores, matches), tuple(per_class))


def precision_recall_points(curve: ScoreCurve, most: int = 200) -> Floats:
    """Return the points of a precision-recall curve for a plot: recall and precision, by falling threshold.

    Args:
        curve: of `score_curves`.
        most: number of points, at least 2; `thinned` says which.

    Returns:
        ``(K, 2)`` fractions in [0, 1]; without objects, or without a detection that counts, there is no point.

    Raises:
        ValueError: if ``most`` is below 2.
    """
    points = np.stack([curve.recall, curve.precision], axis=1)
    points = points[np.isfinite(points).all(axis=1)]
    return points[thinned(points, most)]


def thinned(points: Floats, most: int) -> NDArray[np.int64]:
    """Return which points of a polyline to keep so that it looks the same, rising indices ``(K,)``.

    The ends are kept, then always the point that is farthest from the line drawn so far, until all that is left out
    lies on that line, or ``most`` points are kept (Ramer 1972; Douglas and Peucker 1973). So a curve with at most
    ``most`` corners keeps every one, and of another the corners that show most.

    Args:
        points: ``(n, D)``, of comparable scales in all D dimensions.
        most: at least 2.

    Raises:
        ValueError: if ``most`` is below 2, or a point is not finite.

    Example:
        >>> stairs = np.array([[0.0, 1.0], [0.2, 1.0], [0.4, 1.0], [0.4, 0.5], [0.7, 0.5], [1.0, 0.5]])
        >>> thinned(stairs, 4).tolist(), thinned(stairs, 2).tolist()
        ([0, 2, 3, 5], [0, 5])
    """
    if most < 2:
        raise ValueError(f"most: expected at least 2 points, the ends, got {most}")
    if not np.isfinite(points).all():
        raise ValueError("points: expected finite numbers, of which a line can be drawn")
    if len(points) < 3:
        return np.arange(len(points))
    kept = [0, len(points) - 1]
    segments = [_farthest(points, *kept)]
    while segments and len(kept) < most:
        nearness, first, middle, last = heappop(segments)
        if -nearness <= _STRAIGHT:
            break
        kept.append(middle)
        for segment in ((first, middle), (middle, last)):
            heappush(segments, _farthest(points, *segment))
    return np.array(sorted(kept), dtype=np.int64)


def _farthest(points: Floats, first: int, last: int) -> tuple[float, int, int, int]:
    """Return the distance, negated, of the point farthest from a segment, the segment's start, that point, its end."""
    inner, start, way = points[first + 1 : last], points[first], points[last] - points[first]
    if not len(inner):
        return 0.0, first, first, last
    length = float(way @ way)
    along = np.clip((inner - start) @ way / length, 0, 1) if length else np.zeros(len(inner))
    distances = np.linalg.norm(inner - start - along[:, None] * way, axis=1)
    farthest = int(np.argmax(distances >= distances.max() - _STRAIGHT))  # of a parallel edge its corner
    return -float(distances[farthest]), first, first + 1 + farthest, last


def _curve(rows: NDArray[np.int64], num_objects: int, scores: Floats, matches: Matches) -> ScoreCurve:
    """Return the curve of some of the detections, given best first."""
    table = threshold_table(scores[rows], matches.true[rows], matches.false[rows], matches.overlap[rows])
    precision = _ratio(table.true, table.true + table.false)
    recall = _ratio(table.true, np.full_like(table.true, num_objects))
    f1 = np.full(len(recall), np.nan)
    if num_objects:
        f1 = 2 * table.true / (table.true + table.false + num_objects)
    return ScoreCurve(table.scores, precision, recall, f1, optimal_f1(table, num_objects), num_objects)


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> Floats:
    ratio = np.full(len(part), np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio
