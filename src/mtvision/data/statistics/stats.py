"""What a data set has, counted in one pass: pixels, classes, sizes, and what occurs together."""

import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mtvision.data.checking.check import checked_reader, classes_problems
from mtvision.data.preprocessing import fingerprint, keep_statistics, normalization_of, value_counts
from mtvision.data.statistics.annotation_table import AnnotationRows, Progress, keep_table
from mtvision.data.statistics.class_counts import ClassCounter, keep_class_counts
from mtvision.data.statistics.stats_records import (
    LARGE_SIDE,
    SMALL_SIDE,
    BoxSizes,
    ClassBoxes,
    ClassPixels,
    DataStatistics,
    Histogram,
    ImageCounts,
    ImageSizes,
    Matrix,
    ObjectsPerImage,
    Quantiles,
)
from mtvision.errors import DataError
from mtvision.types import Classes, Sample

_BINS_AN_OCTAVE = 4
_SHARE_BINS = 40


def stats(
    dataset: Sequence[Sample], *, classes: Classes | None = None, progress: Progress | None = None, cache: bool = True
) -> DataStatistics:
    """Return the statistics of a data set, read once, item by item; ``None`` in a sample is not counted as empty.

    No image is kept: what grows with the data set is four bytes a box for each of two sizes, three bytes and one a
    class for each image, and the table of distinct image sizes. ``mtv.visualize.statistics`` writes the result as
    pictures. What training would look for in a pass of its own (`compute_statistics`, `class_pixel_counts`,
    `annotation_table`) is left where it looks, if the data set has a `fingerprint`.

    Args:
        dataset: to be read; a sample that breaks the contract of `Sample` is an error, as in training.
        classes: names of the classes, so that those that do not occur are listed with 0; None: ``dataset.classes``.
        progress: called after each item with the number of items read and that of all.
        cache: False: leave nothing for later.

    Raises:
        DataError: if the data set is empty, an item cannot be read or has a class that ``classes`` has not, or there
            are no ``classes``.

    Example:
        >>> from mtvision.data.readers.shapes import Shapes
        >>> found = stats(Shapes("train", num_images=4, image_size=64))
        >>> found.images.total, found.images.with_mask, len(found.class_boxes)
        (4, 4, 5)
        >>> print(str(found).splitlines()[0])
        4 images, annotated: 4 with a mask, 4 with boxes, 4 with both, 0 with neither
    """
    known = _classes_of(dataset, classes)
    total = len(dataset)
    if total == 0:
        raise DataError("the statistics of an empty data set are not defined")
    read, counts = checked_reader(dataset), _Counts(total, known)
    for index in range(total):
        counts.add(index, read(index))
        if progress is not None:
            progress(index + 1, total)
    found = counts.statistics()
    if cache:
        _keep(dataset, found, counts.rows if known == getattr(dataset, "classes", None) else None)
    return found


class _Counts:
    """All that is counted in the pass."""

    def __init__(self, num_images: int, classes: Classes) -> None:
        self.images, self.rows = _Images(), AnnotationRows(num_images, classes)
        self.masks, self.boxes = _Masks(classes.segmentation), _Boxes(classes.detection)

    def add(self, index: int, sample: Sample) -> None:
        self.images.add(sample)
        self.masks.add(sample)
        self.boxes.add(sample)
        self.rows.add(index, sample)

    def statistics(self) -> DataStatistics:
        images, masks, boxes = self.images, self.masks, self.boxes
        return DataStatistics(
            images=images.annotated(),
            normalization=normalization_of(images.values),
            class_pixels=masks.rows(),
            void_pixels=masks.void,
            void_share=_ratio(masks.void, masks.size),
            class_boxes=boxes.rows(),
            box_sizes=boxes.sizes(),
            objects_per_image=boxes.objects(),
            image_sizes=images.size_statistics(),
            mask_cooccurrence=_matrix(masks.together),
            box_cooccurrence=_matrix(boxes.together),
        )


def _keep(dataset: Sequence[Sample], found: DataStatistics, rows: AnnotationRows | None) -> None:
    """Write what other functions would compute in a pass of their own to where each looks for it."""
    key = fingerprint(dataset)
    if key is None:
        return
    keep_statistics(key, found.normalization)
    keep_class_counts(key, found.class_counts)
    if rows is not None:
        keep_table(dataset, rows.table)


def _classes_of(dataset: Sequence[Sample], given: Classes | None) -> Classes:
    classes = getattr(dataset, "classes", None) if given is None else given
    if classes is None:
        raise DataError("the data set has no attribute 'classes': give them, stats(dataset, classes=mtv.Classes(...))")
    problems = classes_problems(classes)
    if problems or not isinstance(classes, Classes):
        raise DataError("\n".join(problems))
    return classes


class _Images:
    """What is counted of every image."""

    def __init__(self) -> None:
        self.values = np.zeros((3, 256), dtype=np.int64)
        self._sizes: Counter[tuple[int, int]] = Counter()
        self._annotated: Counter[tuple[bool, bool]] = Counter()  # (mask, boxes)

    def add(self, sample: Sample) -> None:
        self.values += value_counts(sample.image)
        height, width = sample.image.shape[:2]
        self._sizes[height, width] += 1
        self._annotated[sample.mask is not None, sample.boxes is not None] += 1

    def annotated(self) -> ImageCounts:
        both, neither = self._annotated[True, True], self._annotated[False, False]
        masks, boxes = both + self._annotated[True, False], both + self._annotated[False, True]
        return ImageCounts(self._annotated.total(), masks, boxes, both, neither)

    def size_statistics(self) -> ImageSizes:
        counts = tuple((height, width, number) for (height, width), number in sorted(self._sizes.items()))
        heights, widths, numbers = np.array(counts).T
        ratios = {(width // math.gcd(height, width), height // math.gcd(height, width)) for height, width, _ in counts}
        height, width, ratio = (
            Quantiles.of(np.repeat(values, numbers)) for values in (heights, widths, widths / heights)
        )
        return ImageSizes(height, width, ratio, len(ratios), counts)


class _Masks:
    """What is counted of the masks that there are."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self.counter = ClassCounter(len(names))
        self.size = 0  # pixels
        self.together = np.zeros((len(names), len(names)), dtype=np.int64)

    def add(self, sample: Sample) -> None:
        if sample.mask is not None:
            self.size += sample.mask.size
            _add_together(self.together, np.flatnonzero(self.counter.add(sample)))

    @property
    def void(self) -> int:
        return self.size - int(self.counter.total.pixels.sum())

    def rows(self) -> tuple[ClassPixels, ...]:
        pixels, image_pixels = (counts.tolist() for counts in self.counter.total)
        images = self.together.diagonal().tolist()
        columns = zip(self._names, pixels, images, image_pixels, strict=True)
        return tuple(ClassPixels(name, own, _ratio(own, sum(pixels)), n, around) for name, own, n, around in columns)


class _Boxes:
    """What is counted of the boxes of the images that somebody annotated for them."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._boxes, self._difficult = np.zeros((2, len(names)), dtype=np.int64)
        self._kinds = np.zeros(3, dtype=np.int64)  # small, medium, large
        self._pixels, self._shares = array("f"), array("f")
        self._pixel_bins: Counter[int] = Counter()
        self._share_bins: Counter[int] = Counter()
        self._numbers: Counter[int] = Counter()
        self.together = np.zeros((len(names), len(names)), dtype=np.int64)

    def add(self, sample: Sample) -> None:
        if sample.boxes is None or sample.labels is None or sample.difficult is None:
            return
        labels = sample.labels.astype(np.int64)
        unknown = labels[(labels < 0) | (labels >= len(self._names))]
        if unknown.size:
            raise DataError(
                f"image '{sample.image_id}': a box has the label {unknown[0]}, but the labels are "
                f"0 to {len(self._names) - 1}"
            )
        self._numbers[len(labels)] += 1
        self._boxes += np.bincount(labels, minlength=len(self._names))
        self._difficult += np.bincount(labels[sample.difficult], minlength=len(self._names))
        _add_together(self.together, np.unique(labels))
        self._add_sizes(sample.boxes, sample.image.shape[:2])

    def _add_sizes(self, boxes: NDArray[np.float32], size: tuple[int, ...]) -> None:
        height, width = size
        clipped = np.clip(boxes.astype(np.float64), 0, [width, height, width, height])  # as the transforms do
        areas = (clipped[:, 2:] - clipped[:, :2]).prod(axis=1)  # (M,)
        self._kinds += np.bincount(np.digitize(areas, [SMALL_SIDE**2, LARGE_SIDE**2]), minlength=3)
        pixels, shares = np.sqrt(areas), np.sqrt(areas / (height * width))
        self._pixels.extend(pixels)
        self._shares.extend(shares)
        octaves = np.log2(np.maximum(pixels, 1e-6))
        self._pixel_bins.update(np.floor(octaves * _BINS_AN_OCTAVE).astype(int).tolist())
        self._share_bins.update(np.minimum(shares * _SHARE_BINS, _SHARE_BINS - 1).astype(int).tolist())

    def rows(self) -> tuple[ClassBoxes, ...]:
        counts = (self._boxes, self.together.diagonal(), self._difficult)
        return tuple(map(ClassBoxes, self._names, *(values.tolist() for values in counts)))

    def sizes(self) -> BoxSizes:
        small, medium, large = self._kinds.tolist()
        return BoxSizes(
            pixels=Quantiles.of(self._pixels) if self._pixels else None,
            image_share=Quantiles.of(self._shares) if self._shares else None,
            small=small,
            medium=medium,
            large=large,
            pixels_histogram=_histogram(self._pixel_bins, lambda place: 2 ** (place / _BINS_AN_OCTAVE)),
            share_histogram=_histogram(self._share_bins, lambda place: place / _SHARE_BINS),
        )

    def objects(self) -> ObjectsPerImage:
        counts = tuple(self._numbers[number] for number in range(max(self._numbers, default=-1) + 1))
        numbers = np.repeat(np.arange(len(counts)), counts)
        quantiles = Quantiles.of(numbers) if counts else None
        return ObjectsPerImage(_ratio(int(numbers.sum()), len(numbers)), quantiles, counts)


def _add_together(together: NDArray[np.int64], present: NDArray[np.int64]) -> None:
    together[np.ix_(present, present)] += 1


def _histogram(bins: Mapping[int, int], edge: Callable[[int], float]) -> Histogram:
    places: Iterable[int] = range(min(bins), max(bins) + 1) if bins else ()
    counts = tuple(bins.get(place, 0) for place in places)
    edges = tuple(edge(min(bins) + place) for place in range(len(counts) + 1)) if bins else ()
    return Histogram(edges, counts)


def _matrix(counts: NDArray[np.int64]) -> Matrix:
    return tuple(tuple(row) for row in counts.tolist())


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
