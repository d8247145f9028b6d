"""Whether one factor's effect depends on another's level, as a picture."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mtvision.visualize.saving import WIDTH, look, plain, save_small

_COLUMNS = 3


class InteractionPanel(NamedTuple):
    """Results of runs by the levels of two factors.

    Attributes:
        across: the factor whose levels stand at the axis.
        lines: the factor that has a line a level.
        values: results by level of ``across``, then of ``lines``.
    """

    across: str
    lines: str
    values: Mapping[str, Mapping[str, Sequence[float]]]


def write_interactions(panels: Sequence[InteractionPanel], path: Path, *, measure: str) -> Path:
    """Write a panel a pair of factors: means joined by lines, each run a small point; parallel lines do not interact.

    Args:
        panels: pairs of factors.
        path: of the PNG; its folder is made if it is missing.
        measure: what the results are, for the axis.

    Returns:
        ``path``.
    """
    from matplotlib.figure import Figure

    columns = max(min(_COLUMNS, len(panels)), 1)
    rows = max(math.ceil(len(panels) / columns), 1)
    width = WIDTH if columns > 1 else 0.6 * WIDTH
    figure = Figure(figsize=(width, 0.3 + rows * 3.0), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for place, axes in enumerate(grid.flat):
        if place < len(panels):
            _draw(axes, panels[place])
        else:
            axes.remove()
    figure.supylabel(plain(measure), fontsize=9)
    return save_small(figure, path)


def _draw(axes: Any, panel: InteractionPanel) -> None:
    levels = list(panel.values)
    for number, line in enumerate(dict.fromkeys(line for found in panel.values.values() for line in found)):
        style = look(number)
        groups = [panel.values[level].get(line, ()) for level in levels]
        means = [statistics.fmean(group) if group else math.nan for group in groups]
        axes.plot(range(len(levels)), means, marker="o", markersize=5, label=plain(line, 20), linewidth=1.6, **style)
        for place, group in enumerate(groups):
            axes.plot([place] * len(group), group, ".", color=style["color"], alpha=0.3, markersize=4)
    turned = max(map(len, levels), default=0) * len(levels) > 30
    look_of_names = {"rotation": 25, "ha": "right"} if turned else {}
    axes.set_xticks(range(len(levels)), [plain(level, 18) for level in levels], fontsize=8, **look_of_names)
    axes.set_xlim(-0.4, len(levels) - 0.6)
    axes.set_xlabel(plain(panel.across, 36), fontsize=9)
    axes.tick_params(axis="y", labelsize=8)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(
        title=plain(panel.lines, 36),
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=2,
        frameon=False,
        fontsize=7.5,
        title_fontsize=9,
        alignment="left",
        handlelength=1.4,
        columnspacing=0.9,
    )
