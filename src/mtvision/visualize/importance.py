"""How much each factor matters, as bars."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mtvision.visualize.saving import COLORS, WIDTH, save_small, wrapped


class ImportanceRow(NamedTuple):
    """A factor's share of the variance, a fraction, with the ends of its interval; NaN where there is none."""

    label: str
    share: float
    low: float
    high: float


def write_importance(rows: Sequence[ImportanceRow], path: Path) -> Path:
    """Write a bar a factor with its interval.

    Args:
        rows: from top to bottom.
        path: of the PNG; its folder is made if it is missing.

    Returns:
        ``path``.
    """
    from matplotlib.figure import Figure

    labels = [wrapped(row.label, 34) for row in rows]
    lines = sum(1 + label.count("\n") for label in labels)
    figure = Figure(figsize=(WIDTH, 0.9 + 0.12 * len(rows) + 0.19 * lines), layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(rows)), [row.share for row in rows], color=COLORS[5], height=0.62)
    for place, row in enumerate(rows):
        if math.isfinite(row.low) and math.isfinite(row.high):
            axes.plot([row.low, row.high], [place, place], color="0.2", linewidth=1.5, marker="|", markersize=8)
    axes.set_yticks(range(len(rows)), labels, fontsize=9)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.set_xlabel("share of the variance of the results (bar), with its interval (line)")
    return save_small(figure, path)
