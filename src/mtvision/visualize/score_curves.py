"""Precision and recall of detections, against each other and by the score from which boxes are used."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtvision.visualize.saving import COLORS, WIDTH, save_small


class CurvePoints(NamedTuple):
    """What is drawn.

    Attributes:
        recall_precision: ``(K, 2)``, by rising recall.
        thresholds: ``(S,)``.
        precision: ``(S,)``.
        recall: ``(S,)``.
        f1: ``(S,)``.
        used: the threshold from which boxes are used.
        best: the threshold with the best F1; NaN for none.
    """

    recall_precision: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    used: float
    best: float


def write_score_curves(points: CurvePoints, path: Path) -> Path:
    """Write a precision-recall curve, and beside it precision, recall and F1 by threshold.

    Args:
        points: of the curves, fractions in [0, 1].
        path: of the PNG; its folder is made if it is missing.

    Returns:
        ``path``.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 3.7), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(*points.recall_precision.T, color=COLORS[0], linewidth=1.8)
    left.set_xlabel("recall", fontsize=9)
    left.set_ylabel("precision", fontsize=9)
    left.set_title("precision and recall, all classes together, IoU 0.5", fontsize=9)
    for place, name in enumerate(("precision", "recall", "f1")):
        values = getattr(points, name)
        label = name.upper() if name == "f1" else name
        right.plot(points.thresholds, values, color=COLORS[place], linewidth=2.4 if name == "f1" else 1.4, label=label)
    _mark(right, points)
    at = _row(points)
    if at is not None:
        left.plot(points.recall[at], points.precision[at], "o", color="k", label=f"score {points.used:.2f}")
        left.legend(fontsize=8, frameon=False)
    right.set_xlabel("score from which boxes are used", fontsize=9)
    right.set_title("by score threshold", fontsize=9)
    right.legend(fontsize=8, frameon=False)
    for axes in (left, right):
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize=8)
    return save_small(figure, path)


def _mark(axes: Any, points: CurvePoints) -> None:
    axes.axvline(points.used, color="k", linewidth=1.2, linestyle="--", label=f"used here: {points.used:.2f}")
    if not np.isnan(points.best) and abs(points.best - points.used) > 1e-9:
        axes.axvline(points.best, color="0.5", linewidth=1.2, linestyle=":", label=f"best F1: {points.best:.2f}")


def _row(points: CurvePoints) -> int | None:
    """Return the row of the lowest score that is used."""
    kept = np.flatnonzero(points.thresholds >= points.used)
    return int(kept[-1]) if len(kept) else None
