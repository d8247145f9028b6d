"""Whether mask and boxes say the same, as tables."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtvision.analysis.agreement import VERDICTS
from mtvision.analysis.observations import Agreement
from mtvision.analysis.outcome_rates import GROUPS, outcome_rates, with_groups
from mtvision.types import Classes

_SOURCES = {
    "boxes": "predicted boxes that the predicted mask agrees with",
    "regions": "predicted regions that have a predicted box",
    "true_boxes": "true boxes that the true mask agrees with",
    "true_regions": "true regions that have a true box",
}
"""What is counted in the rows of ``agreement``, by the name of the part."""


def agreement_tables(
    agreement: Agreement,
    images: pd.DataFrame,
    object_labels: NDArray[np.int64],
    classes: Classes,
    score_threshold: float,
) -> dict[str, pd.DataFrame]:
    """Return the tables by name.

    * ``agreement``: how often the tasks agree, in all and by size, truncation, rarity, brightness and contrast; with
      ``what`` is counted, and for comparison the same of the true annotations;
    * ``disagreements``: what the mask says of the predicted boxes that it does not agree with, by class: ``class,
      verdict, mask_class, n, share_of_class``, most first.

    Args:
        agreement: that was observed.
        images: by index: ``height, width, brightness, contrast``.
        object_labels: of all true objects.
        classes: names.
        score_threshold: detections that score less do not count.
    """
    parts = counted_parts(agreement, score_threshold)
    rates = [
        outcome_rates(with_groups(frame, images, object_labels), "agrees", GROUPS).assign(what=_SOURCES[name])
        for name, frame in parts.items()
    ]
    joined = pd.concat(rates, ignore_index=True)
    return {
        "agreement": joined[["what", *(column for column in joined if column != "what")]],
        "disagreements": _disagreements(parts["boxes"], classes),
    }


def counted_parts(agreement: Agreement, score_threshold: float) -> Mapping[str, pd.DataFrame]:
    """Return the four frames without the boxes that score less, a region whose boxes all do having none.

    Args:
        agreement: that was observed.
        score_threshold: of detections.
    """
    regions = agreement.regions
    return {
        "boxes": agreement.boxes[agreement.boxes["score"] >= score_threshold],
        "regions": regions.assign(agrees=regions["score"] >= score_threshold),  # NaN is not
        "true_boxes": agreement.true_boxes,
        "true_regions": agreement.true_regions,
    }


def _disagreements(boxes: pd.DataFrame, classes: Classes) -> pd.DataFrame:
    totals = boxes["label"].value_counts()
    wrong = boxes[~boxes["agrees"]]
    named = wrong["verdict"] == VERDICTS[1]
    shown = wrong.assign(value=np.where(named, wrong["dominant"], -1), verdict=wrong["verdict"].astype(str))
    counts = shown.groupby(["label", "verdict", "value"]).size().sort_values(ascending=False, kind="stable")
    rows = [
        (
            _name(classes.detection, int(label)),
            verdict,
            _name(classes.segmentation, int(value)) if value >= 0 else "",
            int(number),
            number / totals[label],
        )
        for (label, verdict, value), number in counts.items()
    ]
    return pd.DataFrame(rows, columns=["class", "verdict", "mask_class", "n", "share_of_class"])


def _name(names: Sequence[str], index: int) -> str:
    return names[index] if index < len(names) else str(index)
