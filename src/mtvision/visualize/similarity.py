"""How much tasks agree about the layers that they share, as a picture."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

GroupValues: TypeAlias = Mapping[str, Sequence[float]]

_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # Okabe and Ito 2008: told apart without seeing red or green
_LEAST_SPAN = 0.2


def write_similarity(similarities: Mapping[str, Mapping[str, GroupValues]], path: Path) -> Path:
    """Write a PNG with a panel for each pair of tasks: the cosine of their gradients by layer group.

    A large point is the mean over the batches, its bar one standard deviation to either side, a small point one batch.

    Args:
        similarities: cosines in [-1, 1], one a batch: by state of the model, e.g. ``"best epoch"``, then by pair of
            tasks, then by layer group, from the image to the tasks.
        path: of the PNG; its folder is made if it is missing.

    Returns:
        ``path``.
    """
    from matplotlib.figure import Figure

    pairs = list(dict.fromkeys(pair for by_pair in similarities.values() for pair in by_pair))
    panels = {pair: {state: by_pair.get(pair, {}) for state, by_pair in similarities.items()} for pair in pairs}
    height = max((len(_groups(series)) for series in panels.values()), default=1)
    width = 7.0 * max(len(panels), 1)
    figure = Figure(figsize=(width, 2.2 + 0.55 * height), layout="constrained")
    limit = _limit(similarities)
    all_axes = figure.subplots(1, max(len(panels), 1), squeeze=False)[0]
    for axes, (pair, series) in zip(all_axes, panels.items(), strict=False):  # an empty frame where there is no pair
        _draw_panel(axes, series)
        _finish(axes, pair, _groups(series), limit)
        axes.set_xlabel(f"cosine similarity of the gradients\n(mean and standard deviation over {_number(series)})")
    handles, labels = all_axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=max(len(labels), 1), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path


def _draw_panel(axes: Any, series: Mapping[str, GroupValues]) -> None:
    """Draw each state of the model a little above or below the line of its group."""
    rows = {group: place for place, group in enumerate(_groups(series))}
    for number, (state, values) in enumerate(series.items()):
        color = _COLORS[number % len(_COLORS)]
        offset = 0.32 * (number - (len(series) - 1) / 2) - 0.06
        finite = {group: [cosine for cosine in cosines if math.isfinite(cosine)] for group, cosines in values.items()}
        shown = {rows[group] + offset: cosines for group, cosines in finite.items() if cosines}
        for place, cosines in shown.items():
            below = [place + 0.12] * len(cosines)  # else the bar hides them
            axes.plot(cosines, below, ".", color=color, alpha=0.4, markersize=5, markeredgewidth=0)
        means = [statistics.fmean(cosines) for cosines in shown.values()]
        spreads = [statistics.pstdev(cosines) for cosines in shown.values()]
        look = {"fmt": "o", "color": color, "markersize": 7, "capsize": 3, "elinewidth": 1.6}
        axes.errorbar(means, list(shown), xerr=spreads, label=state, **look)


def _finish(axes: Any, title: str, groups: Sequence[str], limit: float) -> None:
    axes.set_title(title, fontsize=12)
    axes.set_yticks(range(len(groups)), groups)
    axes.set_ylim(max(len(groups), 1) - 0.5, -0.5)  # the image's end on top
    axes.set_xlim(-limit, limit)
    axes.axvspan(-limit, 0, color="0.94", zorder=0)
    axes.axvline(0, color="0.25", linewidth=1.4, zorder=1)
    for x, text, side in ((0, "conflict", "left"), (1, "agreement", "right")):
        axes.text(x, 1.01, text, transform=axes.transAxes, ha=side, va="bottom", fontsize=10, color="0.35")
    axes.grid(axis="x", alpha=0.3)
    axes.tick_params(axis="y", length=0)


def _groups(series: Mapping[str, GroupValues]) -> list[str]:
    """Return the groups of all states in the order in which they come first."""
    return list(dict.fromkeys(group for values in series.values() for group in values))


def _number(series: Mapping[str, GroupValues]) -> str:
    """Return over how many batches the means go, as many as the group with the most has."""
    numbers = sorted({max(map(len, values.values()), default=0) for values in series.values()})
    return f"{' or '.join(map(str, numbers))} batch{'' if numbers == [1] else 'es'}"


def _limit(similarities: Mapping[str, Mapping[str, GroupValues]]) -> float:
    """Return the end of the axis: symmetric, so that zero is in the middle, and not narrower than noise."""
    cosines = [
        abs(cosine)
        for by_pair in similarities.values()
        for values in by_pair.values()
        for of_group in values.values()
        for cosine in of_group
        if math.isfinite(cosine)
    ]
    return min(max([*cosines, _LEAST_SPAN]) * 1.1, 1.05)
