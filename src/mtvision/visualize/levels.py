"""Learning curves by the levels of factors, as small panels."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from mtvision.visualize.saving import WIDTH, look, plain, save_small

Curves: TypeAlias = Sequence[Sequence[float]]

_COLUMNS = 3
_LEGEND_COLUMNS = 2


def write_level_curves(factors: Mapping[str, Mapping[str, Curves]], path: Path, *, measure: str) -> Path:
    """Write a panel a factor with a curve a level: the mean over its runs, and one standard deviation to either side.

    Args:
        factors: by factor and level the curves of the runs, a value an epoch; they may differ in length.
        path: of the PNG; its folder is made if it is missing.
        measure: what the curves show, for the axis.

    Returns:
        ``path``.
    """
    from matplotlib.figure import Figure

    columns = max(min(_COLUMNS, len(factors)), 1)
    rows = max(math.ceil(len(factors) / columns), 1)
    legend = max((math.ceil(len(levels) / _LEGEND_COLUMNS) for levels in factors.values()), default=1)
    width = WIDTH if columns > 1 else 0.6 * WIDTH
    figure = Figure(figsize=(width, 0.3 + rows * (1.9 + 0.17 * legend)), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for place, axes in enumerate(panels.flat):
        if place >= len(factors):
            axes.remove()
    for axes, (factor, levels) in zip(panels.flat, factors.items(), strict=False):
        for number, (level, curves) in enumerate(levels.items()):
            _draw(axes, curves, plain(level, 18), number)
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.tick_params(labelsize=8, labelbottom=True)
        _add_legend(axes, plain(factor, 34))
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel(plain(measure), fontsize=9)
    return save_small(figure, path)


def _draw(axes: Any, curves: Curves, label: str, number: int) -> None:
    values = [_finite(curves, epoch) for epoch in range(max(map(len, curves), default=0))]
    means = [statistics.fmean(found) if found else math.nan for found in values]
    spreads = [statistics.stdev(found) if len(found) > 1 else 0.0 for found in values]
    epochs = range(1, len(means) + 1)
    style = look(number)
    marker = "." if len(means) < 3 else None  # a line of one point cannot be seen
    axes.plot(epochs, means, label=f"{label} ({len(curves)})", linewidth=1.5, marker=marker, **style)
    low = [mean - spread for mean, spread in zip(means, spreads, strict=True)]
    high = [mean + spread for mean, spread in zip(means, spreads, strict=True)]
    axes.fill_between(epochs, low, high, color=style["color"], alpha=0.12, linewidth=0)


def _finite(curves: Curves, epoch: int) -> list[float]:
    return [curve[epoch] for curve in curves if epoch < len(curve) and math.isfinite(curve[epoch])]


def _add_legend(axes: Any, title: str) -> None:
    """Put the legend above the panel, where it hides no curve, with the factor as its title."""
    legend = axes.legend(
        title=title,
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=_LEGEND_COLUMNS,
        frameon=False,
        fontsize=7.5,
        title_fontproperties={"size": 9, "weight": "bold"},
        alignment="left",
        handlelength=1.4,
        columnspacing=0.9,
        borderpad=0.1,
    )
    legend.set_in_layout(True)
