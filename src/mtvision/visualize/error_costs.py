"""What each type of error costs a detector, as bars."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mtvision.visualize.error_colors import ERROR_COLORS
from mtvision.visualize.saving import WIDTH, plain, save_small


class ErrorCost(NamedTuple):
    """One type of error.

    Attributes:
        name: one of `ERROR_COLORS`.
        delta_ap: what would be won without it, a fraction; NaN where it does not exist.
        number: how many there are among the boxes that are used.
    """

    name: str
    delta_ap: float
    number: int


def write_error_costs(rows: Sequence[ErrorCost], path: Path, *, ap: float) -> Path:
    """Write two panels of bars: what mending each type alone would add to AP50, and how many there are.

    Args:
        rows: in their order.
        path: of the PNG; its folder is made if it is missing.
        ap: AP50 as it is.

    Returns:
        ``path``.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 0.36 * len(rows) + 1.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    names, colors = [plain(row.name) for row in rows], [ERROR_COLORS[row.name] for row in rows]
    panels = (
        (left, [row.delta_ap for row in rows], "+{:.3f}", f"AP50 that mending it alone would add to {ap:.3f}"),
        (right, [float(row.number) for row in rows], "{:.0f}", "number among the boxes used, or objects missed"),
    )
    for axes, values, form, title in panels:
        bars = axes.barh(range(len(rows)), values, color=colors, edgecolor="0.4", linewidth=0.6)
        texts = ["" if value != value else form.format(value) for value in values]
        axes.bar_label(bars, texts, fontsize=8, padding=3)
        largest = max((value for value in values if value == value), default=0.0)
        axes.set_xlim(0, 1.2 * largest or 1)
        axes.set_title(title, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
    left.set_yticks(range(len(rows)), names, fontsize=9)
    left.invert_yaxis()
    return save_small(figure, path)
