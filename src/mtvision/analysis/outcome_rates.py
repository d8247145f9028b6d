"""How often something is so among detections, regions or objects, in groups of them; with intervals."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from mtvision.errors import choices_hint
from mtvision.ops.detection_matching import box_areas
from mtvision.tasks.detection_protocols import COCO_SIZES

THIRDS = ("lowest third", "middle third", "highest third")
SIZES = ("small", "medium", "large")
GROUPS = ("size", "truncated", "rarity", "brightness", "contrast")
"""The columns of `with_groups`."""

_BORDER = 1.0  # pixels
_CONFIDENCE = 0.95
_MISSING = "missing"


def wilson_interval(count: int, number: int) -> tuple[float, float]:
    """Return the 95 % interval of a share, ``count`` of ``number`` (Wilson 1927, JASA 22); NaN of none.

    It takes the cases as independent. Those of one image are not quite, so it is rather too narrow.

    Example:
        >>> [round(bound, 4) for bound in wilson_interval(8, 10)]
        [0.4902, 0.9433]
    """
    if number == 0:
        return float("nan"), float("nan")
    interval = stats.binomtest(count, number).proportion_ci(_CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def outcome_rates(frame: pd.DataFrame, outcome: str, by: Sequence[str]) -> pd.DataFrame:
    """Return how often the outcome is so, among all rows and in each group of each column.

    Args:
        frame: a row a detection, region or object.
        outcome: a column of flags; rows where it is missing (of the type ``boolean``) are left out.
        by: columns to group by, each for itself. Groups stand in the order of a categorical column, else sorted;
            rows without a value are the group ``missing``, last.

    Returns:
        Columns ``column, group, n, count, rate, low, high``: ``low`` and ``high`` of `wilson_interval`. The first row
        is all of them, with ``column`` "all".

    Raises:
        ValueError: if the frame lacks a column, or the outcome has other values than flags.

    Example:
        >>> frame = pd.DataFrame({"found": [True, True, False], "size": ["small", "large", "small"]})
        >>> outcome_rates(frame, "found", ["size"])[["column", "group", "n", "rate"]].values.tolist()[1:]
        [['size', 'large', 1, 1.0], ['size', 'small', 2, 0.5]]
    """
    for name in (outcome, *by):
        if name not in frame:
            raise ValueError(f"rates: there is no column {name!r}{choices_hint(name, map(str, frame.columns))}")
    if len(frame) and not pd.api.types.is_bool_dtype(frame[outcome]):
        raise ValueError(f"rates: expected flags in {outcome!r}, got the type {frame[outcome].dtype}")
    frame = frame[frame[outcome].notna()]
    flags = frame[outcome].to_numpy(dtype=np.bool_)
    rows = [_rate("all", "", flags)]
    for name in by:
        rows += [_rate(name, group, flags[where]) for group, where in _groups(frame[name])]
    return pd.DataFrame(rows, columns=["column", "group", "n", "count", "rate", "low", "high"])


def _rate(column: str, group: str, flags: NDArray[np.bool_]) -> tuple[str, str, int, int, float, float, float]:
    number, count = len(flags), int(flags.sum())
    return column, group, number, count, count / number if number else float("nan"), *wilson_interval(count, number)


def _groups(values: pd.Series) -> list[tuple[str, NDArray[np.bool_]]]:
    """Return the name of each group that has a row, and which rows it has."""
    codes, names = pd.factorize(values, sort=True)  # of a categorical column by its order
    groups = [(str(name), np.asarray(codes == code)) for code, name in enumerate(names)]
    return groups + ([(_MISSING, np.asarray(codes < 0))] if (codes < 0).any() else [])


def thirds(values: ArrayLike) -> pd.Categorical:
    """Return in which third each value is; equal values are in the same one, NaN in none.

    Example:
        >>> thirds([5.0, 1.0, 1.0, 7.0, 9.0]).tolist()
        ['middle third', 'lowest third', 'lowest third', 'highest third', 'highest third']
        >>> thirds([3.0, 3.0, float("nan")]).tolist()
        ['middle third', 'middle third', nan]
    """
    series = pd.Series(np.asarray(values, dtype=np.float64))
    place = (series.rank() - 0.5) / series.notna().sum()  # middle of the value's place in [0, 1]
    return _ordered(np.select([place.isna(), place < 1 / 3, place <= 2 / 3], [-1, 0, 1], 2), THIRDS)


def box_sizes(boxes: NDArray[np.floating]) -> pd.Categorical:
    """Return COCO's size of each box ``(B, 4)``: small up to 32 x 32 pixels, medium up to 96 x 96, else large.

    Example:
        >>> box_sizes(np.array([[0.0, 0.0, 32.0, 32.0], [0.0, 0.0, 33.0, 32.0]])).tolist()
        ['small', 'medium']
    """
    bounds = [COCO_SIZES[f"_{size}"][1] for size in SIZES[:-1]]
    return _ordered(np.searchsorted(bounds, box_areas(np.asarray(boxes, dtype=np.float64)), side="left"), SIZES)


def class_rarity(labels: NDArray[np.int64], num_classes: int) -> pd.Categorical:
    """Return in which third of the classes each class is by its share of all objects, ``(C,)``.

    Classes of which there is no object are in none.

    Args:
        labels: ``(M,)`` of all objects.
        num_classes: C.

    Example:
        >>> class_rarity(np.array([0, 0, 0, 2, 2, 3]), 4).tolist()
        ['highest third', nan, 'middle third', 'lowest third']
    """
    counts = np.bincount(labels, minlength=num_classes).astype(np.float64)
    return thirds(np.where(counts > 0, counts, np.nan))


def with_groups(frame: pd.DataFrame, images: pd.DataFrame, object_labels: NDArray[np.int64]) -> pd.DataFrame:
    """Return the frame with the columns to group by that can be known of a box, its class and its image.

    Args:
        frame: columns ``image, label, x1, y1, x2, y2``: of `judge_boxes`, `judge_regions`, or of objects.
        images: by the values of ``image``: ``height, width``, ``brightness``, ``contrast``.
        object_labels: ``(M,)`` of all true objects of the data set.

    Returns:
        With ``size`` (COCO's, of the box), ``truncated`` (whether the box is within 1 pixel of the image's border),
        ``rarity`` (third of the classes by their share of all objects), ``brightness`` and ``contrast`` (third of the
        images).

    Raises:
        ValueError: if an image of the frame is not among the images.

    Example:
        >>> images = pd.DataFrame({"height": [9], "width": [9], "brightness": [0.5], "contrast": [0.1]}, index=["a"])
        >>> boxes = pd.DataFrame({"image": ["a"], "label": [0], "x1": [2], "y1": [2], "x2": [8], "y2": [7]})
        >>> with_groups(boxes, images, np.array([0]))[["size", "truncated", "rarity"]].values.tolist()
        [['small', True, 'middle third']]
    """
    boxes = frame[["x1", "y1", "x2", "y2"]].to_numpy(dtype=np.float64)
    labels = frame["label"].to_numpy(dtype=np.int64)
    places = images.index.get_indexer(frame["image"])
    if (places < 0).any():
        raise ValueError(
            f"groups: there is no image {frame['image'].iloc[int((places < 0).argmax())]!r} among the images"
        )
    sides = images[["width", "height"]].to_numpy(dtype=np.float64)[places]
    num_classes = 1 + max(int(labels.max(initial=-1)), int(object_labels.max(initial=-1)))
    light = {name: thirds(images[name]).take(places) for name in ("brightness", "contrast")}
    return frame.assign(
        size=box_sizes(boxes),
        truncated=((boxes[:, :2] <= _BORDER) | (boxes[:, 2:] >= sides - _BORDER)).any(axis=1),
        rarity=class_rarity(object_labels, num_classes).take(labels),
        **light,
    )


def _ordered(codes: NDArray[np.int64], names: Sequence[str]) -> pd.Categorical:
    return pd.Categorical.from_codes(codes, categories=list(names), ordered=True)
