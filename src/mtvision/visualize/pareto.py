"""Runs by two or three measures, and which of them no other run beats in all."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mtvision.visualize.saving import COLORS, WIDTH, plain, save_small

_OFFSETS = ((7, 7), (7, -13), (-13, 7), (-13, -13), (12, -3), (-20, -3), (0, 15), (0, -22), (18, 14), (-26, -20))
_APART = 13.0  # points between two numbers


class Measure(NamedTuple):
    """A measure: its name, and whether more of it is better."""

    name: str
    higher_is_better: bool


def write_pareto(
    measures: Sequence[Measure], runs: Sequence[Sequence[float]], front: Sequence[int], path: Path
) -> Path:
    """Write a scatter plot of runs; those on the front are ringed and numbered from 1, in the order given.

    Args:
        measures: two or three; the third is the colour.
        runs: a value a measure each; those with NaN are left out.
        front: which of the runs are on the front.
        path: of the PNG; its folder is made if it is missing.

    Returns:
        ``path``.

    Raises:
        ValueError: if there are not two or three measures.
    """
    from matplotlib.figure import Figure

    if len(measures) not in (2, 3):
        raise ValueError(f"a Pareto plot shows 2 or 3 measures, got {len(measures)}")
    figure = Figure(figsize=(0.8 * WIDTH, 4.6), layout="constrained")
    axes = figure.subplots()
    found = [run for run in runs if all(map(math.isfinite, run))]
    columns = list(zip(*found, strict=True)) or [()] * len(measures)
    color: dict[str, Any] = {"color": COLORS[5]}
    if len(measures) == 3:
        shades = "cividis" if measures[2].higher_is_better else "cividis_r"
        color = {"c": columns[2], "cmap": shades}
    points = axes.scatter(columns[0], columns[1], s=34, edgecolors="white", linewidths=0.6, **color)
    if len(measures) == 3:
        figure.colorbar(points, ax=axes, aspect=30).set_label(_title(measures[2]), fontsize=9)
    best = [runs[index] for index in front]
    axes.scatter([run[0] for run in best], [run[1] for run in best], s=90, facecolors="none", edgecolors=COLORS[1])
    axes.set_xlabel(_title(measures[0]))
    axes.set_ylabel(_title(measures[1]))
    axes.margins(0.1)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    figure.draw_without_rendering()  # so that the places of the points are known
    _number(axes, best)
    return save_small(figure, path)


def _title(measure: Measure) -> str:
    return plain(f"{measure.name} ({'more' if measure.higher_is_better else 'less'} is better)")


def _number(axes: Any, points: Sequence[Sequence[float]]) -> None:
    """Write each point's number beside it, not where another point of the front or number is."""
    scale = 72 / axes.figure.dpi
    places = [tuple(axes.transData.transform((point[0], point[1])) * scale) for point in points]
    taken = list(places)
    for number, (x, y) in enumerate(places, start=1):
        own = [place for place in taken if place != (x, y)]
        offset = max(_OFFSETS, key=lambda move: min(_distance((x + move[0] + 4, y + move[1] + 4), own), _APART))
        taken.append((x + offset[0] + 4, y + offset[1] + 4))
        point = points[number - 1]
        axes.annotate(str(number), (point[0], point[1]), offset, textcoords="offset points", fontsize=9, weight="bold")


def _distance(place: tuple[float, float], others: Sequence[tuple[float, float]]) -> float:
    return min((math.dist(place, other) for other in others), default=math.inf)
