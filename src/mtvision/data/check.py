"""Walk a whole data set and list everything that is wrong with it."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from mtvision.data.base import Examinable
from mtvision.data.files import mask_problems
from mtvision.errors import DataError
from mtvision.types import VOID, Classes, Sample

# What reading a user's own item can be expected to fail with; a broken item is listed, not raised.
_ITEM_ERRORS = (DataError, OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError)


def check(dataset: Sequence[Sample]) -> list[str]:
    """Read every item and return a sentence for each problem, in order; an empty list means that all is well.

    Works for any data set: one that lists its problems itself (as ``voc`` does: several of one file at once) is asked,
    any other is read, and what it returns is held against the contract of `Sample`. A bad item never raises.

    Example:
        >>> from mtvision.data.shapes import Shapes
        >>> check(Shapes("train", num_images=4, image_size=32))
        []
    """
    if len(dataset) == 0:
        return ["the data set is empty"]
    classes = getattr(dataset, "classes", None)
    problems: list[str] = []
    ids: Counter[str] = Counter()
    for index in range(len(dataset)):
        sample, found = _read(dataset, index)
        problems += found
        if sample is not None:
            ids[sample.image_id] += 1
            problems += sample_problems(sample, classes)
    problems += [f"image id '{name}' occurs {count} times" for name, count in ids.items() if count > 1]
    return problems


def _read(dataset: Sequence[Sample], index: int) -> tuple[Sample | None, list[str]]:
    try:
        return dataset.examine(index) if isinstance(dataset, Examinable) else (dataset[index], [])
    except DataError as error:
        return None, str(error).split("\n")
    except _ITEM_ERRORS as error:
        return None, [f"item {index}: cannot be read ({type(error).__name__}: {' '.join(str(error).split())})"]


def sample_problems(sample: Sample, classes: Classes | None = None) -> list[str]:
    """Return how a sample breaks the contract of `Sample`, one sentence each.

    Args:
        sample: to be looked at.
        classes: None: class ids and labels are not compared with their number.
    """
    image = sample.image
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        return [f"image '{sample.image_id}': expected uint8 (H, W, 3), got {image.dtype} {image.shape}"]
    problems = _mask_problems(sample, classes) + _box_problems(sample, classes)
    return [f"image '{sample.image_id}': {problem}" for problem in problems]


def _mask_problems(sample: Sample, classes: Classes | None) -> list[str]:
    mask = sample.mask
    if mask is None:
        return []
    if mask.dtype != np.uint8 or mask.ndim != 2:
        return [f"expected a mask of uint8 (H, W), got {mask.dtype} {mask.shape}"]
    height, width = sample.image.shape[:2]
    return mask_problems(mask, (height, width), len(classes.segmentation) if classes else VOID)


def _box_problems(sample: Sample, classes: Classes | None) -> list[str]:
    boxes, labels, difficult = sample.boxes, sample.labels, sample.difficult
    if boxes is None or labels is None or difficult is None:
        together = boxes is None and labels is None and difficult is None
        return [] if together else ["boxes, labels and difficult must be None together"]
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not len(boxes) == len(labels) == len(difficult):
        shapes = f"boxes {boxes.shape}, labels {labels.shape}, difficult {difficult.shape}"
        return [f"expected boxes (M, 4), labels (M,) and difficult (M,), got {shapes}"]
    problems = []
    height, width = sample.image.shape[:2]
    inside = (boxes >= 0).all(1) & (boxes <= [width, height, width, height]).all(1)
    proper = inside & (boxes[:, 2:] > boxes[:, :2]).all(1)
    problems += [f"the box {boxes[row].tolist()} is empty or outside the image" for row in np.flatnonzero(~proper)]
    if classes is not None:
        wrong = sorted({int(label) for label in labels if not 0 <= label < len(classes.detection)})
        problems += [f"label {label} is outside 0 to {len(classes.detection) - 1}" for label in wrong]
    return problems
