"""Effects with their intervals, as a forest plot."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mtvision.visualize.saving import COLORS, WIDTH, save_small, wrapped

_LABEL_WIDTH = 46
_LINE = 0.17  # inches of a line of a label
_GREY = "0.55"


class EffectRow(NamedTuple):
    """One line of the plot.

    Attributes:
        label: what is compared with what.
        effect: the difference; NaN where there is none.
        low: end of its 95 % interval; NaN where there is none.
        high: the other end.
        low_all: end of the interval that holds for all rows at once; NaN where there is none.
        high_all: the other end.
        note: what it rests on; stands at the right.
        shown: whether a difference is shown.
    """

    label: str
    effect: float
    low: float
    high: float
    low_all: float
    high_all: float
    note: str
    shown: bool


def write_effects(rows: Sequence[EffectRow], path: Path, *, measure: str) -> Path:
    """Write a forest plot: a point and 95 % interval a row, thin the interval that holds for all rows at once.

    Args:
        rows: from top to bottom.
        path: of the PNG; its folder is made if it is missing.
        measure: what the effects are differences of, for the axis.

    Returns:
        ``path``.
    """
    from matplotlib.figure import Figure

    labels = [wrapped(row.label, _LABEL_WIDTH) for row in rows]
    heights = [1 + label.count("\n") for label in labels]
    places = _places(heights)
    total = sum(heights) * _LINE + len(rows) * 0.12
    figure = Figure(figsize=(WIDTH, 1.25 + total), layout="constrained")
    axes = figure.subplots()
    for place, row in zip(places, rows, strict=True):
        _draw(axes, place, row)
    axes.axvline(0, color="0.25", linewidth=1.2, zorder=1)
    axes.set_yticks(places, labels, fontsize=9)
    axes.set_ylim(places[-1] + heights[-1] / 2 + 0.5 if rows else 1, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.3)
    axes.margins(x=0.08)
    axes.set_xlabel(f"difference of {measure}")
    _write_notes(axes, places, [row.note for row in rows])
    _explain(figure)
    return save_small(figure, path)


def _places(heights: Sequence[int]) -> list[float]:
    """Return the middle of each row, as high as its label has lines."""
    places, top = [], 0.0
    for height in heights:
        places.append(top + height / 2)
        top += height + 0.7
    return places


def _draw(axes: Any, place: float, row: EffectRow) -> None:
    color = COLORS[0] if row.shown else _GREY
    if math.isfinite(row.low_all) and math.isfinite(row.high_all):
        axes.plot([row.low_all, row.high_all], [place, place], color=color, linewidth=1, marker="|", markersize=6)
    if math.isfinite(row.low) and math.isfinite(row.high):
        axes.plot([row.low, row.high], [place, place], color=color, linewidth=3.2, solid_capstyle="butt")
    if math.isfinite(row.effect):
        axes.plot([row.effect], [place], "o", color=color, markersize=6.5, markeredgecolor="white", zorder=3)


def _write_notes(axes: Any, places: Sequence[float], notes: Sequence[str]) -> None:
    right = axes.secondary_yaxis("right")
    right.set_yticks(places, [wrapped(note, 22, lines=2) for note in notes], fontsize=8.5)
    right.tick_params(axis="y", length=0)


def _explain(figure: Any) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=COLORS[0], marker="o", linewidth=3.2, label="difference shown"),
        Line2D([], [], color=_GREY, marker="o", linewidth=3.2, label="no difference shown"),
        Line2D([], [], color="0.3", linewidth=3.2, label="95 % interval"),
        Line2D([], [], color="0.3", linewidth=1, marker="|", label="95 % for all rows at once"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False, fontsize=8.5)
