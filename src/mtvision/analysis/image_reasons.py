"""What can be measured about an image that may explain why it is predicted well or badly."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from mtvision.types import VOID, Classes, Sample

OUTER = 0.2
"""Share of the images, at either end of a measure, of which it is called a reason."""

_FEWEST = 10  # images, below which no correlation is called shown
_ERROR = 0.05
_BORDER = 1.0  # pixels


class Kind(NamedTuple):
    """A measure: its name, and what is said of an image at its low and its high end."""

    name: str
    low: str
    high: str
    text: Callable[[float], str]


class ImageFacts(NamedTuple):
    """What was measured of one image; the object measures are missing where nobody looked, or nothing is there.

    Attributes:
        values: by the key of `KINDS`.
        classes: name of each object's class.
        from_boxes: whether the objects are annotated boxes, or regions of the mask.
    """

    values: Mapping[str, float]
    classes: tuple[str, ...]
    from_boxes: bool


def _percent(value: float) -> str:
    return f"{100 * value:.2g} %" if value < 0.1 else f"{100 * value:.0f} %"


def _count(value: float) -> str:
    return f"{value:.0f}"


def _fraction(value: float) -> str:
    return f"{value:.2f}"


_OBJECTS = "of the objects"
KINDS: Mapping[str, Kind] = {
    "size": Kind(
        "median object size",
        "small objects: median side {} of the image (smallest fifth)",
        "large objects: median side {} of the image (largest fifth)",
        _percent,
    ),
    "smallest": Kind(
        "smallest object size",
        "a very small object: side {} of the image (smallest fifth)",
        "no small object: the smallest has a side of {} of the image (largest fifth)",
        _percent,
    ),
    "truncated": Kind(
        "objects at the border",
        f"few objects at the border: {{}} {_OBJECTS} (lowest fifth)",
        f"cut off by the border: {{}} {_OBJECTS} (highest fifth)",
        _percent,
    ),
    "covered": Kind(
        "overlap of boxes",
        "boxes hardly overlap: {} of a box lies in another one (lowest fifth)",
        "boxes overlap: {} of a box lies in another one (highest fifth)",
        _percent,
    ),
    "difficult": Kind(
        "difficult objects",
        f"few difficult objects: {{}} {_OBJECTS} (lowest fifth)",
        f"marked as difficult: {{}} {_OBJECTS} (highest fifth)",
        _percent,
    ),
    "rarity": Kind(
        "share of its rarest class",
        "rare class: {} of all objects (rarest fifth)",
        "common classes only: the rarest is {} of all objects (most common fifth)",
        _percent,
    ),
    "objects": Kind(
        "number of objects", "few objects: {} (lowest fifth)", "clutter: {} objects (highest fifth)", _count
    ),
    "brightness": Kind(
        "brightness",
        "dark: mean brightness {} of 1 (darkest fifth)",
        "bright: mean brightness {} of 1 (brightest fifth)",
        _fraction,
    ),
    "contrast": Kind(
        "contrast",
        "low contrast: standard deviation {} of 1 (lowest fifth)",
        "high contrast: standard deviation {} of 1 (highest fifth)",
        _fraction,
    ),
}


def measure(sample: Sample, classes: Classes | None) -> ImageFacts:
    """Measure an image: its light, and its objects.

    Args:
        sample: annotated at its original size (its image may be smaller); without boxes, each class of its mask counts
            as one object.
        classes: names.
    """
    light = sample.image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32) / 255
    values = {"brightness": float(light.mean()), "contrast": float(light.std())}
    if sample.boxes is not None and sample.labels is not None and sample.difficult is not None:
        boxes, names = sample.boxes, _names(sample.labels, classes.detection if classes else ())
        difficult = sample.difficult
    elif sample.mask is not None:
        present = np.setdiff1d(np.unique(sample.mask), [0, VOID])
        boxes = np.array([_extent(sample.mask == value) for value in present], dtype=np.float32).reshape(-1, 4)
        names, difficult = (
            _names(present, classes.segmentation if classes else ()),
            np.zeros(len(boxes), dtype=np.bool_),
        )
    else:
        return ImageFacts(values, (), False)
    height, width = sample.original_size
    values |= {"objects": float(len(boxes)), **_of_objects(boxes, difficult, height, width)}
    return ImageFacts(values, names, sample.boxes is not None)


def _names(labels: Sequence[int] | NDArray[np.generic], names: Sequence[str]) -> tuple[str, ...]:
    return tuple(names[int(label)] if int(label) < len(names) else str(int(label)) for label in labels)


def _extent(pixels: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _of_objects(boxes: NDArray[np.float32], difficult: NDArray[np.bool_], height: int, width: int) -> dict[str, float]:
    if not len(boxes):
        return {}
    sides = np.sqrt(_areas(boxes) / (height * width))
    low, high = boxes[:, :2] <= _BORDER, boxes[:, 2:] >= np.array([width, height]) - _BORDER
    return {
        "size": float(np.median(sides)),
        "smallest": float(sides.min()),
        "truncated": float((low | high).any(axis=1).mean()),
        "covered": float(_covered(boxes).mean()),
        "difficult": float(difficult.mean()),
    }


def _areas(boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    sides = np.clip(boxes[..., 2:] - boxes[..., :2], 0, None).astype(np.float64)
    return np.asarray(sides.prod(axis=-1))


def _covered(boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the largest share of each box that lies in another one, ``(M,)``."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shares = _areas(np.concatenate([low, high], axis=-1)) / np.maximum(_areas(boxes), 1e-9)[:, None]
    np.fill_diagonal(shares, 0)
    return np.asarray(shares.max(axis=1))


def facts_table(images: Sequence[ImageFacts]) -> pd.DataFrame:
    """Return the measures of all images, a row an image and a column a measure.

    Where some images have boxes, the regions of the others' masks are no objects: they would not compare.
    """
    boxes = any(image.from_boxes for image in images)
    used = [image if image.from_boxes or not boxes else ImageFacts(_light(image), (), False) for image in images]
    counts = Counter(name for image in used for name in image.classes)
    rows = []
    for image in used:
        rarest = min((counts[name] for name in image.classes), default=0) / max(counts.total(), 1)
        rows.append({**image.values, **({"rarity": rarest} if image.classes else {})})
    return pd.DataFrame(rows, columns=list(KINDS), dtype=float)


def _light(image: ImageFacts) -> dict[str, float]:
    return {name: value for name, value in image.values.items() if name in ("brightness", "contrast")}


def outer_sides(table: pd.DataFrame) -> pd.DataFrame:
    """Return -1 where an image is among the lowest fifth of a measure, 1 among the highest, else 0.

    Equal values count with it: where more than a fifth of the images have the lowest value, none of them is low.

    Example:
        >>> sides = outer_sides(pd.DataFrame({"size": [1.0, 2.0, 3.0, 4.0, 5.0], "objects": [1.0, 1.0, 2.0, 2.0, 2.0]}))
        >>> sides["size"].tolist(), sides["objects"].tolist()
        ([-1, 0, 0, 0, 1], [0, 0, 0, 0, 0])
    """
    limit = OUTER * table.notna().sum() + 1e-9
    low, high = table.rank(method="max") <= limit, (-table).rank(method="max") <= limit
    return high.astype(int) - low.astype(int)


def correlations(table: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Return how each measure goes with the scores over the images: Spearman's rank correlation.

    Args:
        table: of `facts_table`.
        scores: columns ``score`` and those of the tasks, rows as in ``table``.

    Returns:
        A row a measure that is not the same everywhere: ``measure, key, n, rho, p`` with ``score``, ``shown`` (whether
        a correlation is shown at 5 % for all measures together, after Holm 1979, Scandinavian Journal of Statistics 6;
        never below 10 images), and ``rho_TASK`` for each task.
    """
    rows = []
    for key, kind in KINDS.items():
        found = {name: _spearman(table[key], scores[name]) for name in scores}
        number, rho, p = found["score"]
        if number >= 3 and not np.isnan(rho):
            tasks = {f"rho_{name}": value[1] for name, value in found.items() if name != "score"}
            rows.append({"measure": kind.name, "key": key, "n": number, "rho": rho, "p": p, "shown": False, **tasks})
    frame = pd.DataFrame(rows, columns=None if rows else ["measure", "key", "n", "rho", "p", "shown"])
    for place, index in enumerate(frame["p"].sort_values(kind="stable").index):
        if frame.loc[index, "p"] > _ERROR / (len(frame) - place):
            break
        frame.loc[index, "shown"] = frame.loc[index, "n"] >= _FEWEST
    return frame


def _spearman(values: pd.Series, scores: pd.Series) -> tuple[int, float, float]:
    both = values.notna() & scores.notna()
    x, y = values[both].to_numpy(), scores[both].to_numpy()
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return len(x), float("nan"), float("nan")
    found = stats.spearmanr(x, y)
    return len(x), float(found.statistic), float(found.pvalue)
