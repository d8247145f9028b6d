"""The contract of `Sample`: what is wrong with a value that a data set returns, a sentence for each breach."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mtvision.data.readers.files import BOX_TOLERANCE, mask_problems
from mtvision.types import STANDARD_TASKS, VOID, Classes, Sample


def classes_problems(classes: object) -> list[str]:
    """Return what is wrong with a data set's ``classes``, in a sentence."""
    if not isinstance(classes, Classes):
        return [f"classes: expected an mtvision.Classes, got {_kind(classes)}"]
    if not isinstance(classes.others, Mapping):
        return [f"classes.others: expected a mapping from task names to class names, got {_kind(classes.others)}"]
    return [f"classes.others: '{name}' has a field of its own" for name in STANDARD_TASKS if name in classes.others]


def annotation_name_problems(sample: Sample) -> list[str]:
    """Return what is wrong with the names in ``maps`` and ``values``, one sentence each."""
    problems = []
    for field, fields in (("maps", sample.maps), ("values", sample.values)):
        taken = [name for name in STANDARD_TASKS if name in fields]
        problems += [f"{field}: the name '{name}' is taken by a standard task; choose another" for name in taken]
    twice = [str(name) for name in sample.maps if name in sample.values]
    return problems + [f"'{name}' is in maps and in values; a task has one annotation" for name in twice]


def sample_problems(sample: object, classes: Classes | None = None) -> list[str]:
    """Return how a value breaks the contract of `Sample`, one sentence each.

    Boxes may be of any floating type and labels of any integer type: the loader makes float32 and int64 of them; maps
    and values may be of either. A box may reach over the image's edge by up to a pixel: it is clipped.

    Args:
        sample: to be looked at; anything, since it comes from a user's code.
        classes: None: class ids and labels are not compared with their number.
    """
    if not isinstance(sample, Sample):
        return [f"expected an mtvision.Sample, got {_kind(sample)}"]
    image = sample.image
    if not _is_array(image, "u", 3) or image.dtype != np.uint8 or image.shape[2] != 3 or image.size == 0:
        return [f"image '{sample.image_id}': expected uint8 (H, W, 3), got {_kind(image)}"]
    problems = _description_problems(sample) + _mask_problems(sample, classes) + _box_problems(sample, classes)
    problems += _instance_problems(sample) + _further_problems(sample)
    return [f"image '{sample.image_id}': {problem}" for problem in problems]


def _description_problems(sample: Sample) -> list[str]:
    problems = []
    if not isinstance(sample.image_id, str):
        problems.append(f"image_id: expected a text, got {_kind(sample.image_id)}")
    size, own = sample.original_size, sample.image.shape[:2]
    is_size = isinstance(size, tuple | list) and all(isinstance(side, int | np.integer) for side in size)
    if not is_size or tuple(size) != own:  # predictions are made at this size and scored against this mask
        problems.append(f"original_size: expected {own}, the image's own (H, W), got {size!r}")
    return problems


def _mask_problems(sample: Sample, classes: Classes | None) -> list[str]:
    mask = sample.mask
    if mask is None:
        return []
    if not _is_array(mask, "u", 2) or mask.dtype != np.uint8:
        return [f"expected a mask of uint8 (H, W), got {_kind(mask)}"]
    height, width = sample.image.shape[:2]
    return mask_problems(mask, (height, width), len(classes.segmentation) if classes else VOID)


def _box_problems(sample: Sample, classes: Classes | None) -> list[str]:
    boxes, labels, difficult = sample.boxes, sample.labels, sample.difficult
    if boxes is None or labels is None or difficult is None:
        together = boxes is None and labels is None and difficult is None
        return [] if together else ["boxes, labels and difficult must be None together"]
    problems = []
    if not _is_array(boxes, "f", 2) or boxes.shape[1] != 4:
        problems.append(f"expected boxes (M, 4) of float, got {_kind(boxes)}")
    if not _is_array(labels, "iu", 1):
        problems.append(f"expected labels (M,) of integer, got {_kind(labels)}")
    if not _is_array(difficult, "b", 1):
        problems.append(f"expected difficult (M,) of bool, got {_kind(difficult)}")
    if problems:
        return problems
    if not len(boxes) == len(labels) == len(difficult):
        shapes = f"boxes {boxes.shape}, labels {labels.shape}, difficult {difficult.shape}"
        return [f"expected boxes (M, 4), labels (M,) and difficult (M,), got {shapes}"]
    return _value_problems(sample.image.shape[:2], boxes, labels, classes)


def _value_problems(size: tuple[int, ...], boxes: Any, labels: Any, classes: Classes | None) -> list[str]:
    height, width = size
    clipped = np.clip(boxes, 0, [width, height, width, height])  # as the transforms do
    inside = (abs(boxes - clipped) <= BOX_TOLERANCE).all(1)  # False for NaN
    proper = inside & (clipped[:, 2:] > clipped[:, :2]).all(1)
    problems = [f"the box {boxes[row].tolist()} is empty or outside the image" for row in np.flatnonzero(~proper)]
    if classes is not None:
        wrong = sorted({int(label) for label in labels if not 0 <= label < len(classes.detection)})
        problems += [f"label {label} is outside 0 to {len(classes.detection) - 1}" for label in wrong]
    return problems


def _instance_problems(sample: Sample) -> list[str]:
    instances = sample.instances
    if instances is None:
        return []
    if not _is_array(instances, "u", 2) or instances.dtype.itemsize > 2:
        return [f"expected instances of uint8 or uint16 (H, W), got {_kind(instances)}"]
    if sample.boxes is None:
        return []  # of no use then, but true still
    own, wanted = instances.shape, sample.image.shape[:2]
    if own != wanted:
        return [
            f"the instances are {own[0]} x {own[1]} pixels (height x width) but the image is {wanted[0]} x {wanted[1]}"
        ]
    if instances.size and instances.max() > len(sample.boxes):
        return [f"the instances have object {instances.max()}, but there are {len(sample.boxes)} boxes"]
    return []


def _further_problems(sample: Sample) -> list[str]:
    """Return what is wrong with the annotations of further tasks."""
    problems = [
        f"{field}: expected a mapping from task names to arrays, got {_kind(fields)}"
        for field, fields in (("maps", sample.maps), ("values", sample.values))
        if not isinstance(fields, Mapping) or not all(isinstance(name, str) for name in fields)
    ]
    if problems:
        return problems
    problems = annotation_name_problems(sample)
    for name, values in sample.maps.items():
        problems += _map_problems(name, values, sample.image.shape[:2])
    return problems + [
        f"expected the value '{name}' to be an array of numbers, got {_kind(values)}"
        for name, values in sample.values.items()
        if values is not None and not (isinstance(values, np.ndarray) and values.dtype.kind in "fiub")
    ]


def _map_problems(name: str, values: object, size: tuple[int, ...]) -> list[str]:
    if values is None:
        return []
    if not (isinstance(values, np.ndarray) and values.ndim in (2, 3) and values.dtype.kind in "fiu"):
        return [f"expected the map '{name}' to be (H, W) or (H, W, K) of float or integer, got {_kind(values)}"]
    if values.dtype == np.int8:
        return [f"the map '{name}' is of int8, which cannot hold {VOID} (void): choose uint8 or int16"]
    if values.shape[:2] != size:
        own, wanted = (" x ".join(map(str, sides)) for sides in (values.shape[:2], size))
        return [f"the map '{name}' is {own} pixels (height x width) but its image is {wanted}"]
    return []


def _is_array(value: object, kinds: str, ndim: int) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in kinds and value.ndim == ndim


def _kind(value: object) -> str:
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
