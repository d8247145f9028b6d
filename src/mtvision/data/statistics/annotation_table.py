"""Which image of a data set is annotated for what, and which classes it has: what the samplers choose by."""

import base64
import hashlib
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mtvision.data.base import reads_resized
from mtvision.data.checking.check import checked_reader, classes_problems
from mtvision.data.preprocessing import fingerprint
from mtvision.data.statistics.class_counts import ClassCounter
from mtvision.data.statistics_cache import cache_file, read_cached, write_cached
from mtvision.errors import DataError
from mtvision.types import Classes, Sample

logger = logging.getLogger(__name__)

Progress: TypeAlias = Callable[[int, int], object]
Flags: TypeAlias = NDArray[np.bool_]

_SHOWN = 5


class AnnotationTable(NamedTuple):
    """What is known of each image without looking at it again; N images, C classes of a task.

    Attributes:
        has_mask: bool ``(N,)``, whether somebody made a mask.
        has_boxes: bool ``(N,)``, whether somebody looked for objects; one without any is True.
        mask_classes: bool ``(N, C)`` of the mask's classes, whether a pixel has the class; void is none, 0 is the
            background.
        box_classes: bool ``(N, C)`` of the boxes' classes, whether there is a box. Difficult boxes are left out: a loss
            takes them for neither a positive nor a negative, so such an image teaches nothing about the class.
        is_readable: bool ``(N,)``; False only where an image that cannot be read was to be skipped, and then it counts
            as annotated for nothing.
    """

    has_mask: Flags
    has_boxes: Flags
    mask_classes: Flags
    box_classes: Flags
    is_readable: Flags

    @property
    def is_complete(self) -> Flags:
        """Which images are annotated for both tasks, bool ``(N,)``."""
        return self.has_mask & self.has_boxes


def annotation_table(
    dataset: Sequence[Sample], cache: bool = True, progress: Progress | None = None, *, skip_bad: bool = False
) -> AnnotationTable:
    """Return which images are annotated for what, and with which classes, in one pass.

    The result is kept where `compute_statistics` keeps its own, under the data set's `fingerprint` and its classes.
    ``stats(dataset)`` leaves it there too.

    Args:
        dataset: to be read; with ``classes``.
        cache: False: neither read nor write the cache.
        progress: called after each item with the number of items read and that of all; not where nothing is read.
        skip_bad: True: an item that cannot be read is named in the log and counts as annotated for nothing.

    Raises:
        DataError: if the data set is empty or has no ``classes``, or (unless ``skip_bad``) if an item cannot be read or
            has a class that ``classes`` has not.

    Example:
        >>> from mtvision.data.readers.shapes import Shapes
        >>> table = annotation_table(Shapes("train", num_images=4, image_size=32), cache=False)
        >>> table.has_mask.tolist(), table.box_classes.shape
        ([True, True, True, True], (4, 5))
    """
    classes = classes_of(dataset)
    if len(dataset) == 0:
        raise DataError("the data set is empty: there are no annotations to list")
    path = _cache_path(dataset, classes) if cache else None
    known = read_cached(path, partial(_parse, shape=_shape(len(dataset), classes))) if path is not None else None
    if known is not None and (skip_bad or known.is_readable.all()):
        return known
    table = _read_all(dataset, classes, progress, skip_bad)
    if path is not None:
        write_cached(path, _packed(table))
    return table


def keep_table(dataset: Sequence[Sample], table: AnnotationTable) -> None:
    """Write a table that another pass over the data set has made to where `annotation_table` looks for it."""
    path = _cache_path(dataset, classes_of(dataset))
    if path is not None:
        write_cached(path, _packed(table))


class AnnotationRows:
    """Fills an `AnnotationTable` image by image.

    Args:
        num_images: N.
        classes: of the data set.
    """

    def __init__(self, num_images: int, classes: Classes) -> None:
        shape = _shape(num_images, classes)
        self.table = AnnotationTable(*(np.zeros(size, dtype=np.bool_) for size in shape))
        self._counter = ClassCounter(len(classes.segmentation))

    def add(self, index: int, sample: Sample) -> None:
        """Fill the row of an image.

        Raises:
            DataError: if it has a class that there is not.
        """
        has_mask, has_boxes, mask_classes, box_classes, is_readable = self.table
        if sample.mask is not None:
            mask_classes[index] = self._counter.add(sample) > 0
        if sample.labels is not None and sample.difficult is not None:
            box_classes[index, _checked_labels(sample, box_classes.shape[1])] = True
        has_mask[index], has_boxes[index] = sample.mask is not None, sample.boxes is not None
        is_readable[index] = True


def _checked_labels(sample: Sample, num_classes: int) -> NDArray[np.int64]:
    """Return the labels of the boxes that are not difficult."""
    labels = np.asarray(sample.labels, dtype=np.int64)
    unknown = labels[(labels < 0) | (labels >= num_classes)]
    if unknown.size:
        raise DataError(
            f"image '{sample.image_id}': a box has the label {unknown[0]}, but the labels are 0 to {num_classes - 1}"
        )
    return labels[~np.asarray(sample.difficult, dtype=np.bool_)]


def classes_of(dataset: Sequence[Sample]) -> Classes:
    """Return the ``classes`` of a data set.

    Raises:
        DataError: if there are none, or they are no `mtvision.Classes`.
    """
    classes = getattr(dataset, "classes", None)
    if classes is None:
        raise DataError("the data set has no attribute 'classes': an mtvision.Classes is expected")
    problems = classes_problems(classes)
    if problems or not isinstance(classes, Classes):
        raise DataError("\n".join(problems))
    return classes


def _shape(num_images: int, classes: Classes) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of the columns of an `AnnotationTable`."""
    one = (num_images,)
    return one, one, (num_images, len(classes.segmentation)), (num_images, len(classes.detection)), one


def _read_all(
    dataset: Sequence[Sample], classes: Classes, progress: Progress | None, skip_bad: bool
) -> AnnotationTable:
    whole: Any = dataset
    read = whole.annotations if reads_resized(dataset) else checked_reader(dataset)
    rows, total = AnnotationRows(len(dataset), classes), len(dataset)
    problems = []
    for index in range(total):
        try:
            rows.add(index, read(index))
        except Exception as error:
            if not skip_bad:
                raise
            rows.table.mask_classes[index] = False  # the mask may have been good, and the boxes not
            problems.append(f"item {index}: {error or type(error).__name__}")
        if progress is not None:
            progress(index + 1, total)
    if problems:
        shown = "\n".join(problems[:_SHOWN])
        logger.warning("%d of %d items cannot be read; they count as not annotated:\n%s", len(problems), total, shown)
    return rows.table


def _cache_path(dataset: Sequence[Sample], classes: Classes) -> Path | None:
    key = fingerprint(dataset)
    if key is None:
        return None
    # not every fingerprint tells which classes were chosen, and the columns are theirs
    names = hashlib.sha256(repr((classes.segmentation, classes.detection)).encode()).hexdigest()[:16]
    return cache_file(f"annotations-{names}", key)


def _packed(table: AnnotationTable) -> dict[str, Any]:
    """Return a table for JSON, of which each bit takes 1/6 of a character."""
    bits = {name: base64.b64encode(np.packbits(flags).tobytes()).decode() for name, flags in table._asdict().items()}
    return {"num_images": len(table.has_mask), **bits}


def _parse(content: Any, shape: Sequence[tuple[int, ...]]) -> AnnotationTable:
    """Return the table of a cache file.

    Raises:
        ValueError: if it holds none (or a LookupError, a TypeError).
    """
    if content["num_images"] != shape[0][0]:
        raise ValueError(f"it is of {content['num_images']} images, not of {shape[0][0]}")
    return AnnotationTable(
        *(_unpacked(content[name], size) for name, size in zip(AnnotationTable._fields, shape, strict=True))
    )


def _unpacked(text: str, shape: tuple[int, ...]) -> Flags:
    packed = np.frombuffer(base64.b64decode(text, validate=True), dtype=np.uint8)
    number = int(np.prod(shape))
    if len(packed) != -(-number // 8):
        raise ValueError(f"{len(packed)} bytes do not hold {number} flags")
    return np.unpackbits(packed, count=number).astype(np.bool_).reshape(shape)
