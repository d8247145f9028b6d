"""Whether confidences hold, as reliability diagrams."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtvision.visualize.saving import COLORS, plain, save_small


class ReliabilityPanel(NamedTuple):
    """One diagram; arrays have one entry a bin.

    Attributes:
        title: what is decided.
        low: bounds of the bins.
        high: bounds of the bins.
        decisions: number of them.
        confidence: mean, NaN in an empty bin.
        accuracy: share that is correct, NaN in an empty bin.
        ece: expected calibration error.
    """

    title: str
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    decisions: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    ece: float


def write_reliability(panels: Sequence[ReliabilityPanel], path: Path) -> Path:
    """Write a diagram a panel: accuracy by confidence, and below how the decisions are spread.

    Args:
        panels: at least one.
        path: of the PNG; its folder is made if it is missing.

    Returns:
        ``path``.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * len(panels), 4.6), layout="constrained")
    grid = figure.subplots(2, len(panels), squeeze=False, height_ratios=[3.4, 1], sharex="col")
    for panel, (upper, lower) in zip(panels, grid.T, strict=True):
        _draw_accuracy(upper, panel)
        _draw_spread(lower, panel)
    return save_small(figure, path)


def _draw_accuracy(axes: Any, panel: ReliabilityPanel) -> None:
    axes.plot([0, 1], [0, 1], color="0.5", linewidth=1, linestyle="--", label="confidence holds")
    known = panel.decisions > 0
    width = (panel.high - panel.low)[known]
    axes.bar(
        panel.low[known], panel.accuracy[known], width, align="edge", color=COLORS[5], edgecolor="w", linewidth=0.5
    )
    axes.plot(panel.confidence[known], panel.accuracy[known], "o-", color=COLORS[0], markersize=4, label="found here")
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title(f"{plain(panel.title)}: ECE {panel.ece:.3f}", fontsize=10)
    axes.set_ylabel("share that is right", fontsize=9)
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    axes.grid(alpha=0.3)
    axes.tick_params(labelsize=8)


def _draw_spread(axes: Any, panel: ReliabilityPanel) -> None:
    total = max(int(panel.decisions.sum()), 1)
    axes.bar(panel.low, panel.decisions / total, panel.high - panel.low, align="edge", color="0.6", edgecolor="w")
    axes.set_xlabel("confidence", fontsize=9)
    axes.set_ylabel("share of\ndecisions", fontsize=8)
    axes.tick_params(labelsize=8)
