"""The tables of a run's report, from the analysis."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtvision.analysis.analysis import Analysis
from mtvision.analysis.box_errors import ERROR_NAMES
from mtvision.analysis.image_reasons import KINDS
from mtvision.analysis.run_report_numbers import Intervals, RunNumbers
from mtvision.report.blocks import Column, Table
from mtvision.report.numbers import heading

ERROR_MEANINGS: Mapping[str, str] = {
    "classification": "The box fits an object (IoU 0.5 or more), but has the wrong class.",
    "localisation": "The class is right, but the box fits badly (IoU from 0.1 to 0.5).",
    "both": "The class is wrong, and the box fits badly (IoU from 0.1 to 0.5).",
    "duplicate": "The box fits an object that a better one has found already.",
    "background": "There is no object (IoU below 0.1 with every one).",
    "missed": "An object that no box finds, nor refers to with a wrong class or a bad fit.",
}
"""What each type of error is, in a sentence."""

_INTERVAL = (
    Column("value", "value", "number", "value"),
    Column("low", "low", "number", "value"),
    Column("high", "high", "number", "value"),
)


def metrics_table(analysis: Analysis, numbers: RunNumbers) -> Table:
    """Return all numbers of the data set, with 95 % intervals where images can be resampled."""
    rows = []
    for name, value in analysis.result.metrics.items():
        found = numbers.metrics.get(name)
        ends = (float(found.low), float(found.high), int(found.images)) if found else (np.nan, np.nan, np.nan)
        rows.append((name.partition("/")[0], heading(name), float(value), *ends))
    frame = pd.DataFrame(rows, columns=["task", "metric", "value", "low", "high", "images"])
    columns = [Column("task", "task"), Column("metric", "metric"), *_INTERVAL, Column("images", "images", "number")]
    caption = "The numbers of the data set, with 95 % intervals: what they could have been with other images"
    return Table("metrics", caption, columns, frame)


def class_tables(analysis: Analysis, numbers: RunNumbers) -> list[Table]:
    """Return a table a task: each class with its number, its interval, and how much there is of it."""
    tables = []
    for task, masks in analysis.observations.masks.items():
        counts = masks.counts
        shares = counts.true.sum(axis=0) / max(int(counts.true.sum()), 1)
        names = analysis.names(task, len(counts.confusion))
        tables.append(_class_table(task, "IoU", names, numbers.per_class[task], "share of pixels", shares))
    for task, boxes in analysis.boxes.items():
        objects = np.bincount(boxes.objects.labels[~boxes.objects.difficult], minlength=boxes.num_classes)
        names = analysis.names(task, boxes.num_classes)
        tables.append(_class_table(task, "AP50", names, numbers.per_class[task], "objects", objects))
    return tables


def _class_table(
    task: str,
    measure: str,
    names: Sequence[str],
    found: Intervals,
    amount: str,
    amounts: NDArray[Any],
) -> Table:
    frame = pd.DataFrame({"class": list(names), **found._asdict(), "amount": amounts})
    value, low, high = _INTERVAL
    columns = [Column("class", "class"), Column("value", measure, value.kind, value.group), low, high]
    columns += [Column("images", "images", "number"), Column("amount", amount, "number")]
    caption = f"{task}: {measure} of each class; a dash: it does not exist; 0 in no image: the class is only predicted"
    return Table(f"classes_{task}", caption, columns, frame, searchable=len(frame) > 10)


def confused_table(analysis: Analysis, task: str) -> Table:
    """Return the pairs of classes that are confused most."""
    columns = [
        Column("true", "true class"),
        Column("predicted", "taken for"),
        Column("pixels", "pixels", "number"),
        Column("share_of_true", "share of the true class", "number", "share"),
        Column("share_of_errors", "share of all wrong pixels", "number", "share"),
    ]
    return Table(f"confused_{task}", "Most confused classes", columns, analysis.tables[f"{task}/confused"])


def errors_table(analysis: Analysis, task: str) -> Table:
    """Return the six types of error with what each means."""
    frame = analysis.tables[f"{task}/errors"].set_index("error").loc[list(ERROR_NAMES)].reset_index()
    frame["meaning"] = [ERROR_MEANINGS[name] for name in frame["error"]]
    columns = [
        Column("error", "error"),
        Column("meaning", "what it is"),
        Column("delta_ap", "AP50 won without it", "signed"),
        Column("n_used", "among boxes used", "number"),
        Column("n_all", "among boxes of all scores", "number"),
    ]
    return Table(f"errors_{task}", "Errors of boxes; each is of exactly one type", columns, frame)


def class_errors_table(analysis: Analysis, task: str) -> Table:
    """Return how often each class has each type of error."""
    frame = analysis.tables[f"{task}/errors_by_class"]
    columns = [Column("class", "class"), Column("objects", "objects", "number"), Column("ap50", "AP50", "number")]
    columns += [Column(name, name, "number") for name in ("true", *ERROR_NAMES)]
    caption = "Boxes that are used, by class and verdict; missed are objects"
    return Table(f"errors_by_class_{task}", caption, columns, frame, searchable=len(frame) > 10)


def thresholds_table(analysis: Analysis, task: str) -> Table:
    """Return the score from which boxes are best used."""
    names = ("threshold", "f1", "precision", "recall")
    columns = [Column("class", "class"), Column("objects", "objects", "number")]
    columns += [Column(name, {"f1": "F1"}.get(name, name), "number", "share") for name in names]
    caption = "The score threshold with the best F1; those of few objects may be chance"
    return Table(f"thresholds_{task}", caption, columns, analysis.tables[f"{task}/thresholds"])


def rates_table(name: str, caption: str, frame: pd.DataFrame) -> Table:
    """Return a table of `outcome_rates`."""
    first = [Column("what", "what")] if "what" in frame else []
    columns = [
        *first,
        Column("column", "by"),
        Column("group", "group"),
        Column("n", "cases", "number"),
        Column("rate", "share", "number", "share"),
        Column("low", "low", "number", "share"),
        Column("high", "high", "number", "share"),
    ]
    return Table(name, caption, columns, frame)


def calibration_table(analysis: Analysis, task: str) -> Table:
    """Return the calibration errors of each class."""
    columns = [Column("class", "class"), Column("decisions", "decisions", "number")]
    columns += [Column(name, name.upper(), "number", "error") for name in ("ece", "mce")]
    caption = f"{task}: calibration error, expected (ECE) and largest (MCE), of the decisions for each class"
    return Table(f"calibration_{task}", caption, columns, analysis.tables[f"{task}/calibration_by_class"])


def disagreement_table(analysis: Analysis) -> Table:
    """Return what the masks say of the boxes that they do not agree with."""
    columns = [
        Column("class", "class of the box"),
        Column("verdict", "the mask says"),
        Column("mask_class", "class there"),
        Column("n", "boxes", "number"),
        Column("share_of_class", "share of the class's boxes", "number"),
    ]
    frame = analysis.tables["disagreements"].copy()
    frame["verdict"] = frame["verdict"].str.replace("_", " ")
    return Table("disagreements", "Boxes that the mask contradicts", columns, frame)


def correlation_table(frame: pd.DataFrame) -> Table:
    """Return how what is measured of images goes with their scores."""
    rho = [Column(name, name.replace("rho_", "rho, "), "signed", "rho") for name in frame if name.startswith("rho_")]
    columns = [
        Column("measure", "measure"),
        Column("n", "images", "number"),
        Column("rho", "rho", "signed", "rho"),
        Column("p", "p", "p"),
        Column("shown", "shown"),
        *rho,
    ]
    caption = "Does it matter? Spearman's rank correlation of each measure with the score, over all images"
    return Table("image_reasons", caption, columns, frame)


def image_table(frame: pd.DataFrame, thumbnails: Mapping[int, Path] | None = None) -> Table:
    """Return the scores and measures of all images, in their order, with small pictures where there are any.

    Args:
        frame: ``image_id`` and numbers; a column without any is left out.
        thumbnails: by row.
    """
    names = {key: kind.name for key, kind in KINDS.items()}
    kept = frame.dropna(axis=1, how="all")
    numbers = [
        Column(str(name), names.get(str(name), _heading(str(name))), "number") for name in kept if name != "image_id"
    ]
    columns = [Column("image_id", "image"), *numbers]
    if thumbnails:
        kept = kept.assign(picture=pd.Series(dict(thumbnails), index=kept.index, dtype=object))
        columns.insert(0, Column("picture", "prediction", "picture"))
    return Table("images", "All images", columns, kept, searchable=True)


def _heading(name: str) -> str:
    """Return a count's name without the task of boxes, where it has none of its own in a report.

    Example:
        >>> _heading("det/missed"), _heading("seg")
        ('missed', 'seg')
    """
    return name.rpartition("/")[2]


def slices_table(analysis: Analysis) -> Table:
    """Return the results of each slice."""
    frame = analysis.tables["slices"]
    columns = [Column("column", "column"), Column("slice", "slice"), Column("n", "images", "number")]
    columns += [Column(str(name), heading(str(name)), "number") for name in frame.columns[3:]]
    return Table("slices", "Results by slice; with few images they may be chance", columns, frame)
