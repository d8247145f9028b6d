"""Which class is taken for which, as a heat map."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtvision.visualize.saving import WIDTH, plain, save_small

_MOST_CLASSES = 60
_COUNTS_UP_TO = 8  # columns whose cells have room for counts
_SHARES_UP_TO = 25
_LEAST_SHARE = 0.005
_NAME = 16  # characters


def write_confusion(
    matrix: NDArray[np.int64], rows: Sequence[str], columns: Sequence[str], path: Path, *, unit: str
) -> Path:
    """Write a confusion matrix: cells are coloured by their share of the row; few have counts too, some per cent.

    A class that is in neither its row nor its column is left out. With more than 60 classes the most frequent 60 are
    shown.

    Args:
        matrix: counts, a row a true class, and in the same order a column a predicted one.
        rows: names.
        columns: names.
        path: of the PNG; its folder is made if it is missing.
        unit: what is counted, such as ``pixels``.

    Returns:
        ``path``.
    """
    from matplotlib.figure import Figure

    kept = _kept(matrix)
    counts = matrix[np.ix_(kept, kept)]
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)
    side = float(np.clip(0.36 * len(kept), 2.2, WIDTH - 2.8))
    figure = Figure(figsize=(side + 2.8, side + 1.0), layout="constrained")
    axes = figure.subplots()
    axes.set_facecolor("0.9")  # of a class that is never there
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    bar = figure.colorbar(picture, ax=axes, shrink=0.75, format=lambda share, _: f"{share:.0%}")
    bar.set_label(f"share of the row's {unit}", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    font = 8 if len(kept) <= _SHARES_UP_TO else 6
    axes.set_xticks(range(len(kept)), [plain(columns[at], _NAME) for at in kept], rotation=90, fontsize=font)
    axes.set_yticks(range(len(kept)), [plain(rows[at], _NAME) for at in kept], fontsize=font)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted", fontsize=9)
    axes.set_ylabel("true", fontsize=9)
    if len(kept) <= _SHARES_UP_TO:
        _write_cells(axes, counts, shares)
    if len(kept) == _MOST_CLASSES < len(matrix):
        axes.set_title(f"the {_MOST_CLASSES} most frequent of {len(matrix)} classes", fontsize=9)
    return save_small(figure, path, colors=128)


def _kept(matrix: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return which rows and columns are shown, in their order."""
    seen = matrix.sum(axis=0) + matrix.sum(axis=1)
    most = np.argsort(-seen, kind="stable")[:_MOST_CLASSES]
    return np.sort(most[seen[most] > 0]) if seen.any() else most[:1]


def _write_cells(axes: Any, counts: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
    few = len(counts) <= _COUNTS_UP_TO
    for (row, column), share in np.ndenumerate(shares):
        if share >= _LEAST_SHARE:
            text = f"{share:.0%}\n{_short(int(counts[row, column]))}" if few else f"{100 * share:.0f}"
            color = "w" if share > 0.55 else "k"
            axes.text(column, row, text, ha="center", va="center", fontsize=8 if few else 6.5, color=color)


def _short(number: int) -> str:
    """Return a count in few characters.

    Example:
        >>> _short(950), _short(12345), _short(3_400_000)
        ('950', '12.3k', '3.4M')
    """
    for scale, unit in ((10**6, "M"), (10**3, "k")):
        if number >= scale:
            return f"{number / scale:.1f}{unit}"
    return str(number)
