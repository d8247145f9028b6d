"""How a run went, as pictures."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


def write_curves(history: Sequence[Mapping[str, Any]], folder: Path) -> Path:
    """Write ``curves.png``: losses, metrics and learning rate by epoch.

    Args:
        history: rows with ``epoch`` and numbers by name, as in ``history.jsonl``.
        folder: is made if it is missing.

    Returns:
        The file.
    """
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(key for row in history for key, value in row.items() if isinstance(value, int | float)))
    is_metric = {name for name in names if name.startswith("val/") and "/loss" not in name}
    groups = {
        "loss": [name for name in names if "/loss" in name],
        "metrics (fractions)": [name for name in names if name in is_metric],
        "learning rate": ["lr"],
    }
    groups = {title: members for title, members in groups.items() if members}
    figure = Figure(figsize=(6 * len(groups), 5.5), layout="constrained")
    epochs = [row["epoch"] for row in history]
    for axes, (title, members) in zip(figure.subplots(1, len(groups), squeeze=False)[0], groups.items(), strict=True):
        for name in members:
            values = [float(row.get(name, math.nan)) for row in history]
            total = name in {"train/loss", "val/loss", "val/score"}
            style = "--" if name.startswith("val/loss") else "-"
            axes.plot(epochs, values, style, marker=".", linewidth=2.2 if total else 1.2, label=name)
        _finish(axes, title, [float(row.get(name, math.nan)) for row in history for name in members])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "curves.png"
    figure.savefig(path, dpi=110)
    return path


def _finish(axes: Any, title: str, values: Iterable[float]) -> None:
    axes.set(title=title, xlabel="epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    finite = [value for value in values if math.isfinite(value)]
    if title == "loss" and finite:  # one epoch's outlier would press all other curves flat
        axes.set_ylim(min(0.0, *finite), min(max(finite), 4 * statistics.median(finite) + 1) * 1.05)
    elif title.startswith("metrics"):
        axes.set_ylim(0, 1)
    else:
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14)}  # hides no curve
    axes.legend(fontsize=8, ncols=2, frameon=False, **below)
