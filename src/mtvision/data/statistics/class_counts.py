"""How many pixels of a data set each class has."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtvision.data.preprocessing import fingerprint
from mtvision.data.reading import readable
from mtvision.data.statistics_cache import cache_file, read_cached, write_cached
from mtvision.errors import DataError
from mtvision.types import VOID, Sample


class ClassCounts(NamedTuple):
    """Annotated pixels of a data set, at the original size of its images; void is not annotated.

    Attributes:
        pixels: of each class, int64 ``(C,)``.
        image_pixels: of all images in which the class occurs, int64 ``(C,)``.
    """

    pixels: NDArray[np.int64]
    image_pixels: NDArray[np.int64]


def class_pixel_counts(
    dataset: Sequence[Sample], num_classes: int, cache: bool = True, *, skip_bad: bool = False
) -> ClassCounts:
    """Count the pixels of each class over all masks, in one pass; images without a mask are left out.

    The result is kept where `compute_statistics` keeps its own, under the data set's `fingerprint`.

    Args:
        dataset: to be read.
        num_classes: C, the background included.
        cache: False: neither read nor write the cache.
        skip_bad: leave out items that cannot be read.

    Raises:
        DataError: if an item cannot be read, or a mask has a class that is not below ``num_classes``.

    Example:
        >>> from mtvision.data.readers.shapes import Shapes
        >>> counts = class_pixel_counts(Shapes("train", num_images=4, image_size=32), 6, cache=False)
        >>> int(counts.pixels.sum()) == 4 * 32 * 32
        True
    """
    key = fingerprint(dataset) if cache else None
    path = _cache_path(key, num_classes) if key is not None else None
    known = read_cached(path, partial(_parse, num_classes=num_classes)) if path is not None else None
    if known is not None:
        return known
    counted = _count(dataset, num_classes, skip_bad)
    if key is not None:
        keep_class_counts(key, counted)
    return counted


def keep_class_counts(key: str, counts: ClassCounts) -> None:
    """Write what another pass over a data set has made to where `class_pixel_counts` looks, by the `fingerprint`."""
    path = _cache_path(key, len(counts.pixels))
    write_cached(path, {name: values.tolist() for name, values in counts._asdict().items()})


def _cache_path(key: str, num_classes: int) -> Path:
    return cache_file(f"class-counts-{num_classes}", key)


def _count(dataset: Sequence[Sample], num_classes: int, skip_bad: bool) -> ClassCounts:
    counter = ClassCounter(num_classes)
    for sample in readable(dataset, skip_bad):
        if sample.mask is not None:
            counter.add(sample)
    return counter.total


class ClassCounter:
    """Adds up `ClassCounts` image by image.

    Attributes:
        total: of the images so far.
    """

    def __init__(self, num_classes: int) -> None:
        pixels, image_pixels = np.zeros((2, num_classes), dtype=np.int64)
        self.total = ClassCounts(pixels, image_pixels)

    def add(self, sample: Sample) -> NDArray[np.int64]:
        """Count the pixels of each class in a sample that has a mask, and return those of this mask, ``(C,)``.

        Raises:
            DataError: if the mask has a class that is not below the number of classes.
        """
        counts = _mask_counts(sample, len(self.total.pixels))
        pixels, image_pixels = self.total
        pixels += counts
        image_pixels += np.where(counts > 0, counts.sum(), 0)
        return counts


def _mask_counts(sample: Sample, num_classes: int) -> NDArray[np.int64]:
    counts = np.bincount(np.ravel(sample.mask), minlength=VOID + 1)[:VOID].astype(np.int64)  # type: ignore[arg-type]
    unknown = np.flatnonzero(counts[num_classes:]) + num_classes
    if unknown.size:
        raise DataError(
            f"image '{sample.image_id}': its mask has class {unknown[0]}, but the classes are 0 to {num_classes - 1}"
        )
    return counts[:num_classes]


def _parse(content: Any, num_classes: int) -> ClassCounts:
    """Return the counts of a cache file.

    Raises:
        ValueError: if it holds none (or a LookupError, a TypeError).
    """
    pixels, image_pixels = (np.array(content[name], dtype=np.int64) for name in ClassCounts._fields)
    fits = pixels.shape == image_pixels.shape == (num_classes,)
    if not fits or (pixels < 0).any() or (pixels > image_pixels).any():
        raise ValueError(f"{content} are no counts of {num_classes} classes")
    return ClassCounts(pixels, image_pixels)
