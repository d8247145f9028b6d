"""What does not fit together in a sample that can be used: boxes and mask, the same box twice."""

from collections import defaultdict
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtvision.types import VOID, Classes, Sample

_MOSTLY = 0.5  # of a box's pixels: with so many of them void nobody can tell whether its object is there


class Doubt(NamedTuple):
    """The kind of something that looks wrong, and what it is."""

    kind: str
    text: str


class _Objects(NamedTuple):
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    difficult: NDArray[np.bool_]


def sample_doubts(sample: Sample, classes: Classes | None) -> list[Doubt]:
    """Return what looks wrong in a sample that keeps the contract, without naming it.

    Boxes and mask are compared for the classes that both tasks have, by their names. A difficult object need not have
    pixels, and neither need one whose box is mostly void; but its class may have pixels because of it.

    Args:
        sample: without a problem of `sample_problems`.
        classes: None: boxes and mask cannot be compared.
    """
    doubts = []
    if all(value is None for value in (sample.mask, sample.boxes, *sample.maps.values(), *sample.values.values())):
        doubts.append(Doubt("not-annotated", "nothing is annotated: it counts in no loss and no metric"))
    if sample.boxes is None or sample.labels is None or sample.difficult is None:
        return doubts
    objects = _Objects(sample.boxes, sample.labels, sample.difficult)
    doubts += _repeated_boxes(objects, classes)
    if sample.mask is None or classes is None:
        return doubts
    return (
        doubts + _boxes_without_mask(objects, sample.mask, classes) + _mask_without_boxes(objects, sample.mask, classes)
    )


def _repeated_boxes(objects: _Objects, classes: Classes | None) -> list[Doubt]:
    rows = defaultdict(list)
    for row, (label, box) in enumerate(zip(objects.labels.tolist(), objects.boxes.tolist(), strict=True)):
        rows[label, *box].append(row)
    return [
        Doubt("duplicate-box", f"the box {_written(box)} of {_name(int(label), classes)} is there {len(found)} times")
        for (label, *box), found in rows.items()
        if len(found) > 1
    ]


def _boxes_without_mask(objects: _Objects, mask: NDArray[np.uint8], classes: Classes) -> list[Doubt]:
    values = _mask_values(classes)
    doubts = []
    for row in np.flatnonzero(~objects.difficult & (values[objects.labels] > 0)):
        left, top, right, bottom = objects.boxes[row].tolist()
        inside = mask[max(int(top), 0) : int(np.ceil(bottom)), max(int(left), 0) : int(np.ceil(right))]
        label = int(objects.labels[row])
        if not (inside == values[label]).any() and (inside == VOID).mean() < _MOSTLY:
            box = _written(objects.boxes[row].tolist())
            doubts.append(
                Doubt(
                    "box-without-mask",
                    f"the box {box} of {_name(label, classes)} has no pixel of its class in the mask",
                )
            )
    return doubts


def _mask_without_boxes(objects: _Objects, mask: NDArray[np.uint8], classes: Classes) -> list[Doubt]:
    counts = np.bincount(mask.ravel(), minlength=VOID + 1)
    boxed = {int(value) for value in _mask_values(classes)[objects.labels]}
    doubts = []
    for value in _mask_values(classes):
        if value > 0 and counts[value] and int(value) not in boxed:
            name = classes.segmentation[value]
            doubts.append(
                Doubt(
                    "mask-without-box",
                    f"the mask has {counts[value]:,} pixels of '{name}', but no box is of that class",
                )
            )
    return doubts


def _mask_values(classes: Classes) -> NDArray[np.int64]:
    """Return the mask value of each label, 0 for a class that masks do not have."""
    names = classes.segmentation
    return np.array([names.index(name) if name in names else 0 for name in classes.detection], dtype=np.int64)


def _name(label: int, classes: Classes | None) -> str:
    return f"'{classes.detection[label]}'" if classes is not None else f"label {label}"


def _written(box: list[float]) -> str:
    return f"({', '.join(f'{edge:g}' for edge in box)})"
