"""What `stats` found in a data set."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from mtvision.data.preprocessing import Normalization
from mtvision.data.statistics.class_counts import ClassCounts

Matrix: TypeAlias = tuple[tuple[int, ...], ...]

SMALL_SIDE, LARGE_SIDE = 32, 96
"""Pixels: COCO calls a box small below an area of 32 x 32, large from 96 x 96 on, medium between (Lin et al. 2014)."""

_PROBABILITIES = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Smallest and largest value and what lies between, interpolated linearly (numpy's default)."""

    min: float
    p5: float
    p25: float
    median: float
    p75: float
    p95: float
    max: float

    @classmethod
    def of(cls, values: ArrayLike) -> "Quantiles":
        """Return those of the values ``(n,)``, of which there is at least one.

        Example:
            >>> Quantiles.of([3, 1, 2]).median
            2.0
        """
        return cls(*np.quantile(np.asarray(values, dtype=np.float64), _PROBABILITIES).tolist())


@dataclass(frozen=True, slots=True)
class ImageCounts:
    """How many images there are, and how many of them somebody annotated; one without objects is annotated."""

    total: int
    with_mask: int
    with_boxes: int
    with_both: int
    with_neither: int


@dataclass(frozen=True, slots=True)
class ClassPixels:
    """A class in the masks.

    Attributes:
        name: of the class.
        pixels: of all masks.
        share: of the pixels that are not void; 0 where there is no such pixel.
        images: in whose mask it occurs.
        image_pixels: that are not void, of those images.
    """

    name: str
    pixels: int
    share: float
    images: int
    image_pixels: int


@dataclass(frozen=True, slots=True)
class ClassBoxes:
    """A class in the boxes: boxes (the difficult ones too), images with one of them, and how many are difficult."""

    name: str
    boxes: int
    images: int
    difficult: int


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts between edges: ``counts[i]`` values are at least ``edges[i]`` and less than ``edges[i + 1]``.

    The edges are the same for every data set, as far as its values reach, so that histograms can be compared.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BoxSizes:
    """How large the boxes are, the difficult ones too, in their images at original size.

    Attributes:
        pixels: of the square root of a box's area.
        image_share: of the square root of a box's area over that of its image, in [0, 1].
        small: number of boxes with an area below 32 x 32 pixels, as COCO has it (of boxes here, not of segments).
        medium: from there to below 96 x 96.
        large: from there on.
        pixels_histogram: of ``pixels``, in steps of a fourth of an octave.
        share_histogram: of ``image_share``, in steps of 1/40; the last one has 1 as well.
    """

    pixels: Quantiles | None
    image_share: Quantiles | None
    small: int
    medium: int
    large: int
    pixels_histogram: Histogram
    share_histogram: Histogram


@dataclass(frozen=True, slots=True)
class ObjectsPerImage:
    """Boxes an image, of those that are annotated for boxes; ``counts[k]`` images have exactly ``k``."""

    mean: float
    quantiles: Quantiles | None
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ImageSizes:
    """How large the images are, in pixels as stored.

    Attributes:
        height: quantiles over the images.
        width: likewise.
        aspect_ratio: of width over height.
        distinct_ratios: how many there are.
        counts: ``(height, width, images)`` of each size there is, sorted.
    """

    height: Quantiles
    width: Quantiles
    aspect_ratio: Quantiles
    distinct_ratios: int
    counts: Matrix


@dataclass(frozen=True, slots=True)
class DataStatistics:
    """What a data set has; ``str()`` is a table of it.

    Attributes:
        images: how many, and annotated for what.
        normalization: mean and standard deviation of R, G, B in [0, 1], as `compute_statistics` gives them.
        class_pixels: of each class of the masks.
        void_pixels: of all masks.
        void_share: of all pixels of masks; 0 without masks.
        class_boxes: of each class of the boxes.
        box_sizes: of all boxes.
        objects_per_image: how many boxes.
        image_sizes: of all images.
        mask_cooccurrence: images whose mask has class i and class j; on the diagonal, those that have class i.
        box_cooccurrence: likewise for boxes.
    """

    images: ImageCounts
    normalization: Normalization
    class_pixels: tuple[ClassPixels, ...]
    void_pixels: int
    void_share: float
    class_boxes: tuple[ClassBoxes, ...]
    box_sizes: BoxSizes
    objects_per_image: ObjectsPerImage
    image_sizes: ImageSizes
    mask_cooccurrence: Matrix
    box_cooccurrence: Matrix

    @property
    def class_counts(self) -> ClassCounts:
        """Pixels of each class, as `class_pixel_counts` gives them: what class weights are made of."""
        pixels = np.array([row.pixels for row in self.class_pixels], dtype=np.int64)
        return ClassCounts(pixels, np.array([row.image_pixels for row in self.class_pixels], dtype=np.int64))

    def __str__(self) -> str:
        from mtvision.data.statistics.stats_text import statistics_text

        return statistics_text(self)
