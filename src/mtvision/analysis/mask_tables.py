"""What the masks of a task get wrong, as tables."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtvision.analysis.calibration import Reliability
from mtvision.analysis.mask_counts import MaskCounts
from mtvision.analysis.observations import MaskObservations

MOST_CONFUSED = 20
"""Pairs of classes in `confused_pairs`."""


def mask_tables(masks: MaskObservations, names: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Return the tables by name.

    * ``confusion``: pixels by true class (a row each) and predicted class (a column each);
    * ``confused``: the pairs of classes that most pixels are confused between, see `confused_pairs`;
    * ``calibration`` and ``calibration_by_class``: see `calibration_table`; left out where nothing has a confidence.

    Args:
        masks: that were observed.
        names: of the classes.
    """
    confusion = masks.counts.confusion
    tables = {"confusion": matrix_table(confusion, names, names), "confused": confused_pairs(masks.counts, names)}
    return tables | calibration_tables(masks.reliability, names)


def matrix_table(matrix: NDArray[np.int64], rows: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    """Return a matrix with its names: the first column is ``true``, the name of the row.

    Example:
        >>> matrix_table(np.array([[3, 1]]), ["cat"], ["cat", "dog"]).values.tolist()
        [['cat', 3, 1]]
    """
    # two classes may have one name, and a class may be called "true": columns by place, names last
    frame = pd.concat([pd.Series(list(rows), dtype=object), pd.DataFrame(matrix)], axis=1)
    frame.columns = pd.Index(["true", *columns], dtype=object)
    return frame


def confused_pairs(counts: MaskCounts, names: Sequence[str], most: int = MOST_CONFUSED) -> pd.DataFrame:
    """Return which classes are taken for which, those with most pixels first.

    Args:
        counts: of `count_masks`.
        names: of the classes.
        most: rows at most.

    Returns:
        Columns ``true``, ``predicted``, ``pixels``, ``share_of_true`` (of the pixels of the true class) and
        ``share_of_errors`` (of all wrong pixels), fractions in [0, 1].
    """
    wrong = counts.confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[: min(most, np.count_nonzero(wrong))]
    true, predicted = np.unravel_index(order, wrong.shape)
    pixels, of_class = wrong[true, predicted], counts.confusion.sum(axis=1)[true]
    return pd.DataFrame(
        {
            "true": [names[index] for index in true],
            "predicted": [names[index] for index in predicted],
            "pixels": pixels,
            "share_of_true": pixels / of_class,
            "share_of_errors": pixels / max(int(wrong.sum()), 1),
        }
    )


def calibration_tables(reliability: Reliability, names: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Return ``calibration``, the rows of a reliability diagram, and ``calibration_by_class``; none without decisions.

    ``calibration`` has ``low, high, decisions, confidence, accuracy`` of each bin; ``calibration_by_class`` has
    ``class, decisions, ece, mce``, first of all classes together.
    """
    bins = reliability.bins()
    if not bins.decisions.any():
        return {}
    counts = [int(reliability.bins(label).decisions.sum()) for label in range(len(names))]
    by_class: Mapping[str, Sequence[object]] = {
        "class": ["all", *names],
        "decisions": [int(bins.decisions.sum()), *counts],
        "ece": [reliability.ece, *reliability.class_ece()],
        "mce": [reliability.mce, *reliability.class_mce()],
    }
    return {"calibration": pd.DataFrame(bins._asdict()), "calibration_by_class": pd.DataFrame(by_class)}
