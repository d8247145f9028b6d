"""What the boxes of a task get wrong, as tables."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtvision.analysis.box_confusion import box_confusion
from mtvision.analysis.box_errors import ERROR_NAMES, count_errors
from mtvision.analysis.box_findings import BoxFindings
from mtvision.analysis.calibration import Reliability, judge_detections
from mtvision.analysis.curves import ScoreCurve
from mtvision.analysis.mask_tables import calibration_tables, matrix_table
from mtvision.analysis.outcome_rates import GROUPS, outcome_rates, with_groups

BACKGROUND, MISSED = "background", "missed"
"""The last row and the last column of the confusion matrix."""

_BOX = ["x1", "y1", "x2", "y2"]


def box_tables(found: BoxFindings, names: Sequence[str], images: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the tables by name.

    * ``errors`` and ``errors_by_class``: see `error_table`;
    * ``confusion``: objects by true class (a row each; last ``background``) and the class that they are taken for (a
      column each; last ``missed``), at the score from which boxes are used, see `box_confusion`;
    * ``thresholds``: see `threshold_table`;
    * ``recall``: how many objects are found, in all and by size, truncation, rarity, brightness and contrast;
    * ``calibration`` and ``calibration_by_class``: of the scores of all detections.

    Args:
        found: the boxes.
        names: of the classes.
        images: by index: ``height, width, brightness, contrast``.
    """
    confusion = box_confusion(found.detections, found.objects, found.num_classes, score_threshold=found.score_threshold)
    reliability = box_reliability(found)
    return {
        "errors": error_table(found),
        "errors_by_class": errors_by_class(found, names),
        "confusion": matrix_table(confusion, [*names, BACKGROUND], [*names, MISSED]),
        "thresholds": threshold_table(found, names),
        "recall": recall_table(found, images),
        **calibration_tables(reliability, names),
    }


def error_table(found: BoxFindings) -> pd.DataFrame:
    """Return one row a type of error, and ``false_positive`` and ``false_negative``, what several of them sum up to.

    Returns:
        Columns ``error``; ``delta_ap``, how much higher AP at IoU 0.5 would be without it (of all detections);
        ``n_used``, how many there are among the detections that are used; ``n_all``, among all.
    """
    costs = found.costs
    counts = [
        count_errors(errors, detections, found.objects, found.num_classes)
        for errors, detections in ((found.used_errors, found.used), (found.errors, found.detections))
    ]
    used, every = ({name: int(values.sum()) for name, values in count.items()} for count in counts)
    for number, outcomes in ((used, found.used_errors), (every, found.errors)):
        number["false_positive"] = sum(number[name] for name in ERROR_NAMES if name != "missed")
        number["false_negative"] = int((~outcomes.found & ~found.objects.difficult).sum())
    rows = [(name, costs.delta[name], used[name], every[name]) for name in (*ERROR_NAMES, *list(used)[-2:])]
    return pd.DataFrame(rows, columns=["error", "delta_ap", "n_used", "n_all"])


def errors_by_class(found: BoxFindings, names: Sequence[str]) -> pd.DataFrame:
    """Return one row a class: ``class, objects, ap50, true``, a column a type of error, and what each costs.

    ``true`` and the types count the detections that are used, ``missed`` objects; ``delta_<type>`` is how much higher
    the class's AP at IoU 0.5 would be without that error (of all detections).
    """
    costs = found.costs
    counts = count_errors(found.used_errors, found.used, found.objects, found.num_classes)
    objects = np.bincount(found.objects.labels[~found.objects.difficult], minlength=found.num_classes)
    columns: dict[str, NDArray[np.generic]] = {"objects": objects, "ap50": costs.ap_per_class}
    columns |= {name: counts[name] for name in ("true", *ERROR_NAMES)}
    columns |= {f"delta_{name}": costs.delta_per_class[name] for name in ERROR_NAMES}
    return pd.DataFrame({"class": list(names), **columns})


def threshold_table(found: BoxFindings, names: Sequence[str]) -> pd.DataFrame:
    """Return the score threshold with the best F1 of all classes together (first row) and of each class.

    Returns:
        Columns ``class, objects, threshold, f1, precision, recall``; NaN where there is no best one.
    """
    curves = [found.curves.overall, *found.curves.per_class]
    rows = [(name, curve.num_objects, *_best(curve)) for name, curve in zip(["all", *names], curves, strict=True)]
    return pd.DataFrame(rows, columns=["class", "objects", "threshold", "f1", "precision", "recall"])


def _best(curve: ScoreCurve) -> tuple[float, float, float, float]:
    row = curve.best.row
    if row < 0:
        return float("nan"), curve.best.value, float("nan"), float("nan")
    return curve.best.threshold, curve.best.value, float(curve.precision[row]), float(curve.recall[row])


def recall_table(found: BoxFindings, images: pd.DataFrame) -> pd.DataFrame:
    """Return how many of the objects are found by the detections that are used, see `outcome_rates`.

    Args:
        found: the boxes.
        images: by index: ``height, width, brightness, contrast``.
    """
    objects, outcomes = found.objects, found.outcomes
    frame = pd.DataFrame({"image": objects.image, "label": objects.labels, "found": outcomes.found})
    frame[_BOX] = objects.boxes
    counted = frame[outcomes.counted]
    return outcome_rates(with_groups(counted, images, objects.labels[outcomes.counted]), "found", GROUPS)


def box_reliability(found: BoxFindings) -> Reliability:
    """Return how often detections of each score are true at IoU 0.5."""
    reliability = Reliability(max(found.num_classes, 1))
    reliability.add(*judge_detections(found.detections, found.objects))
    return reliability
