"""The loss at rising learning rates, as a picture."""

from collections.abc import Sequence
from pathlib import Path


def write_range_test(rates: Sequence[float], losses: Sequence[float], suggestion: float, path: Path) -> Path:
    """Write a plot of a range test.

    Args:
        rates: learning rates, rising.
        losses: the smoothed loss at each.
        suggestion: is marked.
        path: of the PNG file; its folder is made if it is missing.

    Returns:
        The file.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(rates, losses, linewidth=2)
    axes.axvline(suggestion, linestyle="--", color="tab:red", label=f"steepest fall: {suggestion:.2g}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss, smoothed", title="learning-rate range test")
    lowest, first = min(losses), losses[0]
    margin = 0.1 * max(first - lowest, 1e-3 * abs(first))
    axes.set_ylim(lowest - margin, max(first, lowest) + 5 * margin)  # what explodes would press the rest flat
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path
