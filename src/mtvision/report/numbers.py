"""Numbers and names as a person reads them in a report."""

import math
from collections.abc import Iterable

MISSING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
_MOST = 6  # decimals

_HEADINGS = {
    "miou": "mIoU",
    "map": "mAP",
    "map50": "mAP50",
    "map50_95": "mAP50-95",
    "pixel_accuracy": "pixel accuracy",
    "val_loss": "validation loss",
    "train_loss": "training loss",
    "best_epoch": "best epoch",
    "epochs_to_95": "epochs to 95 %",
    "train_val_gap": "train-val gap",
    "first_5_epochs_loss": "loss, first 5 epochs",
    "seconds_per_epoch": "seconds an epoch",
    "multiply_adds": "multiply-adds",
}


def heading(column: str) -> str:
    """Return what stands above a column of results.

    Example:
        >>> heading("seg/miou"), heading("val/loss"), heading("val/seg/loss"), heading("my_number")
        ('mIoU', 'validation loss', 'validation seg loss', 'my number')
    """
    parts = column.split("/")
    known = _HEADINGS.get(bare_name(column))
    if known is not None:
        return known
    words = [{"val": "validation", "train": "training"}.get(parts[0], parts[0]), *parts[1:]]
    return " ".join(words).replace("_", " ")


def bare_name(column: str) -> str:
    """Return a column's name without the task, in one spelling.

    Example:
        >>> bare_name("det/map50"), bare_name("val/loss"), bare_name("Pixel Accuracy")
        ('map50', 'val_loss', 'pixel_accuracy')
    """
    name = column.lower().replace(" ", "_").replace("-", "_")
    if name in ("val/loss", "train/loss", "validation_loss"):
        return {"validation_loss": "val_loss"}.get(name, name.replace("/", "_"))
    return name.rpartition("/")[2]


def decimals_for(values: Iterable[float]) -> int:
    """Return how many decimals tell numbers of one column apart; none for counts.

    Two digits of their range, and of a range below 1 at least three decimals.

    Example:
        >>> decimals_for([0.41, 0.445]), decimals_for([0.8362, 0.8371]), decimals_for([3, 54]), decimals_for([2.5, 4])
        (3, 5, 0, 2)
    """
    finite = [float(value) for value in values if math.isfinite(value)]
    if all(value == int(value) for value in finite):
        return 0
    size = max(finite) - min(finite) or max(map(abs, finite))
    if size >= 1:
        return max(2 - math.floor(math.log10(size)), 0)
    return min(max(1 - math.floor(math.log10(size)), 3), _MOST)


def number_text(value: float, decimals: int, *, signed: bool = False) -> str:
    """Return a number with a true minus and a comma between thousands.

    Example:
        >>> number_text(-0.02149, 3), number_text(0.02149, 3, signed=True), number_text(11234567, 0)
        ('−0.021', '+0.021', '11,234,567')
        >>> number_text(float("nan"), 3), number_text(-0.0001, 2)
        ('–', '0.00')
    """
    if math.isnan(value):
        return MISSING
    text = f"{value:{'+' if signed else ''},.{decimals}f}"
    if not text.strip("+-0.,"):
        text = text.replace("-", "+" if signed else "")
    return text.replace("-", MINUS)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun.

    Example:
        >>> counted(1, "run"), counted(2, "run")
        ('1 run', '2 runs')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def interval_text(mean: float, low: float, high: float) -> str:
    """Return a mean with its 95 % interval.

    Example:
        >>> interval_text(0.4123, 0.4012, 0.4234), interval_text(0.4123, float("nan"), float("nan"))
        ('0.412 (95 % interval 0.401 to 0.423)', '0.412 (no interval: too few seeds)')
    """
    if math.isnan(low) or math.isnan(high):
        return f"{number_text(mean, decimals_for([mean]))} (no interval: too few seeds)"
    decimals = decimals_for([low, high])
    ends = " to ".join(number_text(end, decimals) for end in (low, high))
    return f"{number_text(mean, decimals)} (95 % interval {ends})"
