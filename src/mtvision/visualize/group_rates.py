"""How often something is so in groups, with intervals, as points."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mtvision.visualize.saving import COLORS, WIDTH, plain, save_small


class GroupRate(NamedTuple):
    """One group; a share and its interval, fractions in [0, 1].

    Attributes:
        column: by what it is grouped.
        group: its name.
        number: cases.
        rate: share.
        low: end of the interval.
        high: its other end.
    """

    column: str
    group: str
    number: int
    rate: float
    low: float
    high: float


def write_group_rates(series: Mapping[str, Sequence[GroupRate]], path: Path, *, measure: str) -> Path:
    """Write a row a group, with a point and an interval a series.

    Args:
        series: by name, such as model and data; groups of one name stand in one row.
        path: of the PNG; its folder is made if it is missing.
        measure: what the share is.

    Returns:
        ``path``.
    """
    from matplotlib.figure import Figure

    places = list(dict.fromkeys((row.column, row.group) for rows in series.values() for row in rows))
    heights = _heights(places)
    size = 0.19 if len(series) == 1 else 0.25
    figure = Figure(figsize=(WIDTH, size * (max(heights, default=0) + 2) + 0.9), layout="constrained")
    axes = figure.subplots()
    by_place = dict(zip(places, heights, strict=True))
    step = 0.32 if len(series) > 1 else 0.0
    for index, (name, rows) in enumerate(series.items()):
        at = [by_place[row.column, row.group] + step * (index - (len(series) - 1) / 2) for row in rows]
        _draw(axes, rows, at, COLORS[index % len(COLORS)], name)
    labels = [plain(f"{column}: {group}" if group else column, 40) for column, group in places]
    axes.set_yticks(heights, labels, fontsize=8)
    axes.set_ylim(max(heights, default=0) + 1, -1)
    axes.set_xlim(0, 1)
    axes.set_xlabel(f"{measure}, with 95 % intervals; numbers are cases", fontsize=9)
    axes.grid(axis="x", alpha=0.3)
    axes.tick_params(axis="x", labelsize=8)
    if len(series) > 1:
        figure.legend(fontsize=8, frameon=False, loc="outside upper center", ncols=2)
    return save_small(figure, path)


def _heights(places: Sequence[tuple[str, str]]) -> list[float]:
    """Return where each row stands: half a row between the columns."""
    heights, height = [], 0.0
    for index, (column, _) in enumerate(places):
        height += 0 if index == 0 else (1.0 if column == places[index - 1][0] else 1.6)
        heights.append(height)
    return heights


def _draw(axes: Any, rows: Sequence[GroupRate], heights: Sequence[float], color: str, name: str) -> None:
    known = [(row, height) for row, height in zip(rows, heights, strict=True) if row.number]
    rates = [row.rate for row, _ in known]
    errors = [[row.rate - row.low for row, _ in known], [row.high - row.rate for row, _ in known]]
    ends = [height for _, height in known]
    axes.errorbar(rates, ends, xerr=errors, fmt="o", color=color, markersize=4, linewidth=1.4, label=plain(name))
    for row, height in known:
        left = row.high > 0.9
        place = (row.low - 0.01, "right") if left else (row.high + 0.01, "left")
        axes.text(place[0], height, f"{row.number:,}", fontsize=7, color="0.35", va="center", ha=place[1])
