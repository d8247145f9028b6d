"""Precision and recall of detections over the score threshold, as TensorBoard draws them."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtvision.ops.average_precision import threshold_table
from mtvision.tasks.detection_scoring import State

NUM_THRESHOLDS = 101
"""From 0 to 1 in equal steps; TensorBoard takes 127 at most."""


class ScoreCurve(NamedTuple):
    """What is right among the detections of at least each threshold, ``(T,)`` each, thresholds rising.

    Attributes:
        true: number of true detections.
        false: number of false detections.
        missed: number of objects that are not found.
        precision: share of the detections that are true, in [0, 1]; 1 where there are none, as scikit-learn has it.
        recall: share of the objects that are found, in [0, 1].
    """

    true: NDArray[np.int64]
    false: NDArray[np.int64]
    missed: NDArray[np.int64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]


def score_curve(
    scores: NDArray[np.float64],
    true: NDArray[np.bool_],
    false: NDArray[np.bool_],
    num_objects: int,
    num_thresholds: int = NUM_THRESHOLDS,
) -> ScoreCurve:
    """Return the curve of one class, or of all together.

    Args:
        scores: ``(n,)`` in any order.
        true: ``(n,)``.
        false: ``(n,)``; what is neither is ignored.
        num_objects: that count, at least 1.
        num_thresholds: T, from 0 to 1 in equal steps; a detection of exactly that score counts.

    Example:
        >>> yes = np.array([True, False])
        >>> score_curve(np.array([0.9, 0.4]), yes, ~yes, 2, num_thresholds=3).precision.tolist()
        [0.5, 1.0, 1.0]
    """
    order = np.argsort(-scores, kind="stable")
    table = threshold_table(scores[order], true[order], false[order], np.zeros(len(scores)))
    kept = np.searchsorted(-table.scores, -np.linspace(0, 1, num_thresholds), side="right")
    found, wrong = (np.append(0, counts)[kept] for counts in (table.true, table.false))
    total = found + wrong
    precision = np.where(total > 0, found / np.maximum(total, 1), 1.0)
    return ScoreCurve(found, wrong, num_objects - found, precision, found / num_objects)


def curves_by_class(state: State) -> Iterator[tuple[int | None, ScoreCurve]]:
    """Yield the curve of all classes together by the name None, then that of each class that has objects.

    Args:
        state: of the protocol ``lrp``, whose detections are matched as in COCO's at an IoU of 0.5.
    """
    scores, true, false, objects = state["scores"], state["true"], state["false"], state["objects"][0]
    if objects.sum():
        yield None, score_curve(scores, true, false, int(objects.sum()))
    for label in np.flatnonzero(objects):
        own = state["labels"] == label
        yield int(label), score_curve(scores[own], true[own], false[own], int(objects[label]))
