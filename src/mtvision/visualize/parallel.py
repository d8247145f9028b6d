"""All runs at once: a line a run through the levels that it had, coloured by its result."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtvision.visualize.saving import WIDTH, plain, save_small

_SPREAD = 0.5  # of the distance of two levels, over which lines through the same level are spread
_SHADES = 8  # of the results; hundreds of crossing lines in all colours would take four times the bytes


def write_parallel(
    levels: Mapping[str, Sequence[str]],
    runs: Sequence[tuple[Mapping[str, str], float]],
    path: Path,
    *,
    measure: str,
    higher_is_better: bool = True,
) -> Path:
    """Write parallel coordinates: an axis a factor, a line a run; the best lines lie on top.

    Args:
        levels: by factor the labels of its levels, from bottom to top.
        runs: levels by factor and the result of each run.
        path: of the PNG; its folder is made if it is missing.
        measure: what the results are.
        higher_is_better: of the results.

    Returns:
        ``path``.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    runs = sorted((run for run in runs if math.isfinite(run[1])), key=lambda run: run[1], reverse=not higher_is_better)
    results = [result for _, result in runs] or [0.0]
    norm = Normalize(min(results), max(results))
    colors = colormaps["cividis" if higher_is_better else "cividis_r"].resampled(_SHADES)
    tallest = max(map(len, levels.values()), default=1)
    figure = Figure(figsize=(WIDTH, 1.8 + 0.38 * max(tallest, 4)), layout="constrained")
    axes = figure.subplots()
    for number, (own, result) in enumerate(runs):
        heights = [_height(names, own[factor], number, len(runs)) for factor, names in levels.items()]
        color = colors(norm(result))
        marker = "o" if len(heights) == 1 else None
        axes.plot(range(len(heights)), heights, color=color, linewidth=1.2, marker=marker)
    _draw_axes(axes, levels)
    bar = figure.colorbar(ScalarMappable(norm, colors), ax=axes, pad=0.01, aspect=30)
    bar.set_label(plain(measure), fontsize=9)
    bar.ax.tick_params(labelsize=8)
    return save_small(figure, path, colors=3 * _SHADES)


def _height(names: Sequence[str], level: str, number: int, count: int) -> float:
    """Return where a line crosses an axis: at its level, a little apart from the lines of other runs."""
    step = 1 / max(len(names), 1)
    apart = (number / max(count - 1, 1) - 0.5) * _SPREAD if count > 1 else 0.0
    return (list(names).index(level) + 0.5 + apart) * step


def _draw_axes(axes: Any, levels: Mapping[str, Sequence[str]]) -> None:
    room = 60 // max(len(levels), 4)  # characters that fit between two axes, at most
    for place, names in enumerate(levels.values()):
        axes.axvline(place, color="0.6", linewidth=0.8, zorder=0)
        for index, name in enumerate(names):
            box = {"facecolor": "white", "alpha": 0.85, "linewidth": 0, "pad": 1}
            height = (index + 0.5) / len(names)
            text = plain(name, min(2 * room, 24))
            axes.text(place + 0.03, height, text, fontsize=7, va="center", ha="left", bbox=box, zorder=5)
    axes.set_xlim(-0.15, max(len(levels) - 0.2, 0.8))
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.xaxis.tick_top()
    axes.set_xticks(range(len(levels)), [plain(name, 26) for name in levels], fontsize=8.5, rotation=25, ha="left")
    axes.tick_params(axis="x", length=0)
    axes.spines[:].set_visible(False)
