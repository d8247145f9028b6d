"""The statistics of a data set as numbers and pictures in a folder."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtvision.data.statistics.stats_records import (
    LARGE_SIDE,
    SMALL_SIDE,
    BoxSizes,
    DataStatistics,
    Histogram,
    ImageSizes,
    Matrix,
    ObjectsPerImage,
)
from mtvision.visualize.saving import COLORS, WIDTH, plain, save_small

_MOST_CLASSES = 80  # in a picture; stats.json has all
_MOST_NUMBERS = 24  # classes of a heat map up to which its cells have room for numbers
_BAR = 0.19  # inches a class
_NAME = 22  # characters


def statistics(stats: DataStatistics, folder: str | Path) -> dict[str, Path]:
    """Write ``stats.json`` with all numbers, and a picture each of classes, boxes, images and co-occurrence.

    Where there is nothing to draw, as of boxes that nobody annotated, the picture says so. Of more than 80 classes the
    pictures have the 80 most frequent.

    Args:
        stats: from ``mtv.data.stats``.
        folder: is made if it is missing; files of these names in it are replaced.

    Returns:
        the paths by name: ``stats``, ``class_frequencies``, ``box_sizes``, ``image_sizes``, ``co_occurrence``.

    Example:
        >>> import tempfile
        >>> from mtvision.data import Shapes, stats
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     paths = statistics(stats(Shapes("train", num_images=4, image_size=64)), folder)
        >>> paths["box_sizes"].name
        'box_sizes.png'
    """
    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "stats.json"
    path.write_text(json.dumps(asdict(stats), indent=1), encoding="utf-8")
    return {
        "stats": path,
        "class_frequencies": _write_classes(stats, folder / "class_frequencies.png"),
        "box_sizes": _write_boxes(stats.box_sizes, stats.objects_per_image, folder / "box_sizes.png"),
        "image_sizes": _write_images(stats.image_sizes, folder / "image_sizes.png"),
        "co_occurrence": _write_together(stats, folder / "co_occurrence.png"),
    }


def _write_classes(stats: DataStatistics, path: Path) -> Path:
    """Draw a panel for masks and one for boxes, a bar a class on a logarithmic axis, most frequent on top."""
    panels = (
        ("pixels in masks", "pixels", [(row.name, row.pixels, row.images) for row in stats.class_pixels], COLORS[0]),
        ("boxes", "boxes", [(row.name, row.boxes, row.images) for row in stats.class_boxes], COLORS[1]),
    )
    most = min(max(len(rows) for _, _, rows, _ in panels), _MOST_CLASSES)
    figure, all_axes = _figure(1, 2, height=1.3 + _BAR * max(most, 4))
    for axes, (title, unit, rows, color) in zip(all_axes, panels, strict=True):
        shown = sorted(rows, key=lambda row: -row[1])[:_MOST_CLASSES]
        axes.set_title(title + _left_out(len(rows)), fontsize=10)
        if not any(row[1] for row in shown):
            _say_nothing(axes, f"no {unit}")
            continue
        counts = [row[1] for row in shown]
        axes.barh(range(len(shown)), counts, color=color, height=0.7)
        floor = _log_axis(axes, counts)
        for place, (_, count, images) in enumerate(shown):
            text = f" {_short(count)} in {images:,} image{'' if images == 1 else 's'}" if count else " none"
            axes.text(max(count, floor), place, text, va="center", fontsize=7, color="0.25")
        _name_rows(axes, [row[0] for row in shown])
        axes.set_xlabel(f"{unit} (logarithmic)", fontsize=9)
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
    return save_small(figure, path)


def _log_axis(axes: Any, counts: Sequence[int]) -> float:
    """Give an axis room for the counts and, to their right, for their numbers; return where it begins."""
    from matplotlib.ticker import NullFormatter

    floor = max(10.0 ** math.floor(math.log10(0.8 * min(count for count in counts if count))), 0.5)
    axes.set_xscale("log")
    axes.set_xlim(floor, max(counts) * (max(counts) / floor) ** 0.65)
    axes.xaxis.set_minor_formatter(NullFormatter())
    return floor


def _write_boxes(sizes: BoxSizes, objects: ObjectsPerImage, path: Path) -> Path:
    figure, (pixels, shares, numbers) = _figure(1, 3, height=3.1)
    _draw_histogram(pixels, sizes.pixels_histogram, "side of a box in pixels (root of its area)")
    _draw_histogram(shares, sizes.share_histogram, "side of a box / side of its image\n(roots of their areas)")
    if sizes.pixels is not None:
        shares.set_xlim(0, 1)
        _mark_kinds(pixels, sizes)
    if objects.counts:
        numbers.bar(range(len(objects.counts)), objects.counts, color=COLORS[5], width=0.85)
        numbers.set_xlim(-0.6, max(len(objects.counts), 2) - 0.4)
        numbers.xaxis.get_major_locator().set_params(integer=True)
        numbers.set_xlabel(f"boxes in an image (mean {objects.mean:.2f})", fontsize=9)
        _count_axis(numbers, "images")
    else:
        _say_nothing(numbers, "no image is annotated for boxes")
    return save_small(figure, path)


def _draw_histogram(axes: Any, histogram: Histogram, label: str) -> None:
    if not histogram.counts:
        _say_nothing(axes, "no boxes")
        return
    axes.stairs(histogram.counts, histogram.edges, fill=True, color=COLORS[5])
    axes.set_xlabel(label, fontsize=9)
    _count_axis(axes, "boxes")


def _count_axis(axes: Any, label: str) -> None:
    axes.set_ylabel(label, fontsize=9)
    axes.set_ylim(bottom=0)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)


def _mark_kinds(axes: Any, sizes: BoxSizes) -> None:
    """Draw the limits between small, medium and large, with how many boxes are of each kind."""
    from matplotlib.ticker import NullFormatter, NullLocator, ScalarFormatter

    low = min(sizes.pixels_histogram.edges[0], SMALL_SIDE / 4)
    high = max(sizes.pixels_histogram.edges[-1], LARGE_SIDE * 4)
    axes.set_xscale("log", base=2)
    axes.set_xlim(low, high)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    limits = (low, SMALL_SIDE, LARGE_SIDE, high)
    for place, (kind, number) in enumerate(
        {"small": sizes.small, "medium": sizes.medium, "large": sizes.large}.items()
    ):
        middle = float(np.sqrt(limits[place] * limits[place + 1]))
        text = f"{kind}\n{_short(number)}"
        axes.text(middle, 1.02, text, transform=axes.get_xaxis_transform(), ha="center", va="bottom", fontsize=8)
    for limit in (SMALL_SIDE, LARGE_SIDE):
        axes.axvline(limit, color="0.2", linewidth=1, linestyle="--")


def _write_images(sizes: ImageSizes, path: Path) -> Path:
    """Draw a point a size, its area by how many images have it."""
    figure, (axes,) = _figure(1, 1, height=4.6, width=0.62 * WIDTH)
    heights, widths, numbers = np.array(sizes.counts).T
    areas = 14 + 500 * numbers / numbers.max() if len(numbers) > 1 else 200
    axes.scatter(widths, heights, s=areas, color=COLORS[0], alpha=0.45, linewidths=0)
    longest = 1.1 * max(heights.max(), widths.max())
    axes.plot([0, longest], [0, longest], color="0.6", linewidth=1, linestyle="--", zorder=0)
    axes.text(0.1 * longest, 0.11 * longest, "square", ha="center", fontsize=8, color="0.4", rotation=45)
    axes.set(xlim=(0, longest), ylim=(0, longest), aspect="equal")
    axes.set_xlabel("width in pixels", fontsize=9)
    axes.set_ylabel("height in pixels", fontsize=9)
    heights, widths, most = sizes.counts[int(numbers.argmax())]
    title = f"{numbers.sum():,} images, {len(numbers):,} size{'' if len(numbers) == 1 else 's'}; "
    axes.set_title(f"{title}{most:,} are {widths} wide and {heights} high", fontsize=10)
    axes.grid(alpha=0.3)
    return save_small(figure, path)


def _write_together(stats: DataStatistics, path: Path) -> Path:
    """Draw a heat map for masks and one for boxes; the background, which is nearly everywhere, is left out."""
    masks = [row.name for row in stats.class_pixels[1:]], tuple(row[1:] for row in stats.mask_cooccurrence[1:])
    boxes = [row.name for row in stats.class_boxes], stats.box_cooccurrence
    panels = {"masks": masks, "boxes": boxes}
    if any(map(any, masks[1])) != any(map(any, boxes[1])):  # one alone is not given the room of two
        panels = {title: panel for title, panel in panels.items() if any(map(any, panel[1]))}
    largest = min(max(len(names) for names, _ in panels.values()), _MOST_CLASSES)
    side = 2.1 + min(0.36 * max(largest, 5), 7.6)
    figure, all_axes = _figure(len(panels), 1, height=len(panels) * side, width=max(side + 2.4, 0.62 * WIDTH))
    for axes, (title, (names, together)) in zip(all_axes, panels.items(), strict=True):
        _draw_together(figure, axes, title, names, together)
    return save_small(figure, path, colors=128)


def _draw_together(figure: Any, axes: Any, title: str, names: Sequence[str], together: Matrix) -> None:
    counts = np.array(together, dtype=np.int64).reshape(len(names), len(names))
    order = np.argsort(-counts.diagonal(), kind="stable")[:_MOST_CLASSES]
    counts = counts[np.ix_(order, order)]
    axes.set_title(f"{title}: images that have both classes{_left_out(len(names))}", fontsize=10)
    if not counts.any():
        _say_nothing(axes, f"no class in the {title}")
        return
    images = counts.diagonal()
    shares = np.divide(counts, images[:, None], out=np.zeros(counts.shape), where=images[:, None] > 0)
    np.fill_diagonal(shares, np.nan)
    axes.set_facecolor("0.88")  # of the diagonal
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    bar = figure.colorbar(picture, ax=axes, shrink=0.7, format=lambda share, _: f"{share:.0%}")
    bar.set_label("share of the row's images\nthat also have the column", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    labels = [names[place] for place in order]
    _name_rows(axes, labels)
    axes.set_xticks(
        range(len(labels)), [plain(label, _NAME) for label in labels], rotation=90, fontsize=_font(len(labels))
    )
    axes.tick_params(length=0)
    if len(labels) <= _MOST_NUMBERS:
        _write_cells(axes, counts, shares)


def _write_cells(axes: Any, counts: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
    for (row, column), count in np.ndenumerate(counts):
        dark = row != column and shares[row, column] > 0.55
        if count:
            axes.text(column, row, _short(int(count)), ha="center", va="center", fontsize=7, color="w" if dark else "k")


def _figure(rows: int, columns: int, *, height: float, width: float = WIDTH) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    all_axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in all_axes:
        axes.tick_params(labelsize=8)
    return figure, all_axes


def _name_rows(axes: Any, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [plain(name, _NAME) for name in names], fontsize=_font(len(names)))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def _font(names: int) -> float:
    return 8 if names <= _MOST_NUMBERS else 6.5


def _say_nothing(axes: Any, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=9, color="0.4")
    axes.set_xticks([])
    axes.set_yticks([])


def _left_out(classes: int) -> str:
    return f" (the {_MOST_CLASSES} most frequent of {classes} classes)" if classes > _MOST_CLASSES else ""


def _short(number: int) -> str:
    """Return a count in at most five characters.

    Example:
        >>> _short(950), _short(12345), _short(3_400_000)
        ('950', '12k', '3.4M')
    """
    for scale, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= scale:
            return f"{number / scale:.2g}{unit}" if number < 100 * scale else f"{number / scale:.0f}{unit}"
    return str(number)
