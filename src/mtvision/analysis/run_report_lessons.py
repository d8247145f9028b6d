"""What one learns from an analysis, in sentences; each only where the numbers bear it."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from mtvision.analysis.analysis import Analysis
from mtvision.analysis.box_errors import ERROR_NAMES
from mtvision.analysis.outcome_rates import wilson_interval
from mtvision.analysis.run_report_numbers import Intervals, RunNumbers
from mtvision.report.numbers import MINUS

FEWEST_IMAGES = 5
"""In which a class must be for anything to be said about it."""

FEWEST_CASES = 10
"""Of errors, or of boxes in a group."""

_LEAST_GAIN = 0.005  # AP50
_LEAST_GAP = 0.02  # of confidence and accuracy
_MOST_PROPERTIES = 3
_MOST_GROUPS = 3


def lessons(analysis: Analysis, numbers: RunNumbers) -> list[str]:
    """Return what the analysis shows, a sentence each; what too few cases are behind is left out.

    Args:
        analysis: of the model.
        numbers: of it, with intervals.
    """
    found: list[str] = []
    for task, masks in analysis.observations.masks.items():
        names = analysis.names(task, len(masks.counts.confusion))
        found += _classes("Masks" if task == "seg" else task, "IoU", names, numbers.per_class[task], first=1)
        found += _confused(analysis, task)
        found += _pixel_calibration(analysis, task)
    for task, boxes in analysis.boxes.items():
        names = analysis.names(task, boxes.num_classes)
        found += _classes("Boxes" if task == "det" else task, "AP50", names, numbers.per_class[task], first=0)
        found += _largest_error(analysis, task)
        found += _groups(analysis.tables[f"{task}/recall"])
        found += _box_calibration(analysis, task)
    return [*found, *_agreement(analysis), *_properties(analysis)]


def _classes(title: str, measure: str, names: Sequence[str], numbers: Intervals, first: int) -> Iterator[str]:
    """Tell the strongest and the weakest class where their intervals do not meet."""
    enough = (numbers.images >= FEWEST_IMAGES) & ~np.isnan(numbers.value)
    enough[:first] = False  # the background
    rows = np.flatnonzero(enough)
    if len(rows) < 2:
        return
    best, worst = rows[np.argmax(numbers.value[rows])], rows[np.argmin(numbers.value[rows])]
    if numbers.low[best] > numbers.high[worst]:
        strong, weak = (
            f"{names[row]} ({measure} {numbers.value[row]:.2f}, 95 % interval {numbers.low[row]:.2f} to "
            f"{numbers.high[row]:.2f}, in {numbers.images[row]} images)"
            for row in (best, worst)
        )
        yield (
            f"{title}: the strongest class is {strong}, the weakest {weak}, among the {len(rows)} classes that are in "
            f"at least {FEWEST_IMAGES} images."
        )


def _confused(analysis: Analysis, task: str) -> Iterator[str]:
    """Tell the most confused pair of classes, if its true class is in enough images."""
    table, counts = analysis.tables[f"{task}/confused"], analysis.observations.masks[task].counts
    images = dict(zip(analysis.names(task, len(counts.confusion)), (counts.true > 0).sum(axis=0), strict=True))
    for row in table.itertuples():
        if images[row.true] >= FEWEST_IMAGES:
            yield (
                f"Masks: most often {row.true} is taken for {row.predicted}: {_percent(row.share_of_errors)} of all "
                f"wrong pixels, and {_percent(row.share_of_true)} of the pixels of {row.true} "
                f"(in {images[row.true]} images)."
            )
            return


def _pixel_calibration(analysis: Analysis, task: str) -> Iterator[str]:
    table = analysis.tables.get(f"{task}/calibration")
    if table is None or analysis.observations.masks[task].counts.annotated.sum() < FEWEST_CASES:
        return
    sure, right = _means(table)
    if abs(sure - right) >= _LEAST_GAP:
        yield (
            f"Masks are {'over' if sure > right else 'under'}-confident: on average {_percent(sure)} sure of a pixel, "
            f"and right in {_percent(right)} of them."
        )


def _box_calibration(analysis: Analysis, task: str) -> Iterator[str]:
    table = analysis.tables.get(f"{task}/calibration")
    if table is None or table["decisions"].sum() < FEWEST_CASES:
        return
    sure, right = _means(table)
    number = int(table["decisions"].sum())
    low, high = wilson_interval(round(right * number), number)
    if not low <= sure <= high:
        yield (
            f"Scores of boxes are too {'high' if sure > right else 'low'}: {sure:.2f} on average, while "
            f"{right:.2f} of the {number:,} boxes are right (95 % interval {low:.2f} to {high:.2f})."
        )


def _means(table: pd.DataFrame) -> tuple[float, float]:
    """Return the mean confidence and the share that is right, over all decisions."""
    weights = table["decisions"] / table["decisions"].sum()
    return float((table["confidence"] * weights).sum()), float((table["accuracy"] * weights).sum())


def _largest_error(analysis: Analysis, task: str) -> Iterator[str]:
    table = analysis.tables[f"{task}/errors"].set_index("error").loc[list(ERROR_NAMES)]
    known = table["delta_ap"].dropna()
    if known.empty:
        return
    name = str(known.idxmax())
    number, used, gain = (table.loc[name, column] for column in ("n_all", "n_used", "delta_ap"))
    if number >= FEWEST_CASES and gain >= _LEAST_GAIN:
        now = _ap50(analysis, task)
        yield (
            f"Boxes: the error that costs most on these images is {_ERROR_WORDS[name]}: without it AP50 would be "
            f"{now + gain:.3f} instead of {now:.3f} ({int(used)} cases at the score from which boxes are used)."
        )


_ERROR_WORDS = {
    "classification": "the wrong class of a box that fits",
    "localisation": "a box of the right class that fits badly",
    "both": "a box that fits badly and has the wrong class",
    "duplicate": "a second box for the same object",
    "background": "a box where no object is",
    "missed": "the object that no box refers to",
}


def _ap50(analysis: Analysis, task: str) -> float:
    return float(analysis.tables[f"{task}/errors_by_class"]["ap50"].mean())


def _groups(recall: pd.DataFrame) -> Iterator[str]:
    """Tell by what the share of found objects differs: the lowest and the highest group, if their intervals part."""
    found = []
    enough = recall[(recall["column"] != "all") & (recall["n"] >= FEWEST_CASES)]
    for column, rows in enough.groupby("column", sort=False):
        low, high = rows.loc[rows["rate"].idxmin()], rows.loc[rows["rate"].idxmax()]
        if low["high"] < high["low"]:
            found.append((high["rate"] - low["rate"], str(column), low, high))
    for _, column, low, high in sorted(found, key=lambda each: -each[0])[:_MOST_GROUPS]:
        worse, better = (_found(column, row) for row in (low, high))
        yield f"Boxes: {worse} are found, {better}."


def _found(column: str, row: pd.Series) -> str:
    return f"of {row['n']} {_objects(column, row['group'])} {_percent(row['rate'])}"


def _objects(column: str, group: str) -> str:
    if column == "truncated":
        return "objects that are cut off by the border" if group == "True" else "objects within the image"
    if column == "size":
        return f"{group} objects"
    if column == "rarity":
        return f"objects of classes in the {group} by number of objects"
    return f"objects in images of the {group} by {column}"


def _agreement(analysis: Analysis) -> Iterator[str]:
    """Tell whether the tasks disagree more than the annotations do."""
    table = analysis.tables.get("agreement")
    if table is None:
        return
    rates = table[table["column"] == "all"].reset_index(drop=True)  # boxes, regions, then the true ones of both
    for place, words in enumerate(_AGREEMENT_WORDS):
        model, data = rates.loc[place], rates.loc[place + 2]
        if min(model["n"], data["n"]) >= FEWEST_CASES and model["high"] < data["low"]:
            interval = f"95 % interval {_percent(model['low'])} to {_percent(model['high'])}"
            said = words.format(_percent(model["rate"]), interval, model["n"], _percent(data["rate"]), data["n"])
            yield f"The tasks disagree more than the annotations do: {said}."


_AGREEMENT_WORDS = (
    "the predicted mask agrees with {} ({}) of the {} boxes that are used, the true mask with {} of the {} true boxes",
    "there is a box for {} ({}) of the {} regions of predicted masks, and for {} of the {} regions of true masks",
)
"""Of boxes, and of regions."""


def _properties(analysis: Analysis) -> Iterator[str]:
    table = analysis.tables["correlations"]
    shown = table[table["shown"].astype(bool)]
    order = shown["rho"].astype(float).abs().sort_values(ascending=False, kind="stable").index[:_MOST_PROPERTIES]
    for row in shown.loc[order].itertuples():
        rho = f"{row.rho:.2f}".replace("-", MINUS)
        yield (
            f"The score of an image goes {'up' if row.rho > 0 else 'down'} with: {row.measure} (rank correlation {rho} "
            f"over {row.n} images)."
        )
    if len(table) and shown.empty:
        number = int(table["n"].max())
        yield f"No measured property of the images is shown to go along with their score ({number} images)."


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"
