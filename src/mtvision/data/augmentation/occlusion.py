"""Augmentation by covering parts of an image."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mtvision.data.base import Transform
from mtvision.data.geometry import keep_objects
from mtvision.types import VOID, Sample

_PROBABILITY = 0.5
_MAX_HOLES = 3
_HOLE_SIDES = (0.08, 0.3)  # of the image's sides
_MIN_VISIBLE = 0.2  # a box of which less can be seen is dropped


class Occlusion:
    """Another transform, then up to three rectangles of flat colour or noise over the image in half of the samples.

    Under a rectangle the mask is void; a box stays as it is, and is dropped where less than 20 % of it can be seen.
    Maps and values stay: a covered surface has a depth still.
    After DeVries and Taylor, 2017 (arXiv 1708.04552) and Zhong et al., 2017 (arXiv 1708.04896).
    """

    def __init__(self, transform: Transform) -> None:
        self._transform = transform

    @property
    def resizes_first(self) -> bool:
        """Whether the transform before does."""
        return bool(getattr(self._transform, "resizes_first", False))

    def __call__(self, sample: Sample, seed: int) -> Sample:
        """Return the transformed and perhaps partly covered sample."""
        sample = self._transform(sample, seed)
        rng = np.random.default_rng(np.random.SeedSequence([seed, 1]))  # apart from the transform's own stream
        if rng.random() >= _PROBABILITY:
            return sample
        image = sample.image.copy()
        hidden = np.zeros(image.shape[:2], dtype=np.bool_)
        for _ in range(int(rng.integers(1, _MAX_HOLES + 1))):
            hole = _draw_hole(image.shape[:2], rng)
            shape = (3,) if rng.random() < 0.5 else image[hole].shape
            image[hole] = rng.integers(0, 256, size=shape, dtype=np.uint8)
            hidden[hole] = True
        return hide(replace(sample, image=image), hidden, _MIN_VISIBLE)


def hide(sample: Sample, hidden: NDArray[np.bool_], min_visible: float) -> Sample:
    """Account for pixels ``(H, W)`` that cannot be seen: the mask becomes void there.

    A box stays as it is (the object is still there) unless less than ``min_visible`` of its pixels can be seen.

    Args:
        sample: is not changed.
        hidden: True where something is in front.
        min_visible: fraction in [0, 1].
    """
    if sample.mask is not None:
        sample = replace(sample, mask=np.where(hidden, np.uint8(VOID), sample.mask))
    if sample.instances is not None:
        sample = replace(sample, instances=np.where(hidden, sample.instances.dtype.type(0), sample.instances))
    if sample.boxes is None:
        return sample
    return keep_objects(sample, visible_shares(hidden, sample.boxes) >= min_visible)


def visible_shares(hidden: NDArray[np.bool_], boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return which share of the pixels of each box ``(M, 4)`` is not hidden, ``(M,)``."""
    return 1 - _mean_within(hidden, boxes)


def _draw_hole(size: tuple[int, ...], rng: "np.random.Generator") -> tuple[slice, slice]:
    limits = np.array(size)
    sides = np.maximum(limits * rng.uniform(*_HOLE_SIDES, size=2), 1).astype(np.int64)
    start = rng.integers(0, limits - sides + 1)
    rows, columns = (slice(int(first), int(first + side)) for first, side in zip(start, sides, strict=True))
    return rows, columns


def _mean_within(values: NDArray[np.bool_], boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean of ``values`` over the pixels that each box touches, by a summed-area table (Crow, 1984)."""
    table = np.zeros((values.shape[0] + 1, values.shape[1] + 1), dtype=np.int64)
    table[1:, 1:] = values.cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
    left, top = np.floor(boxes[:, :2]).astype(np.int64).T
    right, bottom = np.ceil(boxes[:, 2:]).astype(np.int64).T
    total = table[bottom, right] - table[top, right] - table[bottom, left] + table[top, left]
    return np.asarray(total / np.maximum((right - left) * (bottom - top), 1), dtype=np.float64)
