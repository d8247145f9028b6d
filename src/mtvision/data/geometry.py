"""Transforms of a sample without randomness: resizing and keeping proper boxes."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtvision.types import VOID, Sample

_MIN_SIDE = 1.0
"""Boxes with a side below it, in pixels of the transformed image, are dropped: nothing of the object is left to see."""

_ROUNDING = 1e-3  # of float32 boxes that went through [0, 1] and back

_INSIDE = 2.0**20  # far from whatever a border is filled with


def resize(sample: Sample, size: tuple[int, int]) -> Sample:
    """Stretch a sample to ``size`` (H, W): image by area or linearly, mask and maps by nearest pixels, and boxes.

    Nearest, for maps of real values too: a mean over an edge, where one surface hides another, is on neither of them.
    Boxes that get thinner than one pixel are dropped.
    """
    import cv2

    height, width = sample.image.shape[:2]
    if (height, width) == size:
        return select_boxes(sample, size)
    shrinks = size[0] <= height and size[1] <= width
    image = cv2.resize(sample.image, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    mask = sample.mask
    if mask is not None:
        # EXACT: centres on centres, as for the image; plain INTER_NEAREST takes the upper left neighbour.
        mask = np.asarray(cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT), dtype=np.uint8)
    scale = np.array([size[1] / width, size[0] / height] * 2, dtype=np.float32)
    boxes = None if sample.boxes is None else sample.boxes * scale
    maps = {name: None if values is None else _nearest(values, size) for name, values in sample.maps.items()}
    resized = replace(sample, image=np.asarray(image, dtype=np.uint8), mask=mask, boxes=boxes, maps=maps)
    return select_boxes(resized, size)


def _nearest(values: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Return ``(H, W, ...)`` of any dtype at another size, of the same pixels as the mask."""
    rows, columns = (_nearest_indices(old, new) for old, new in zip(values.shape[:2], size, strict=True))
    resized: NDArray[Any] = values[rows[:, None], columns]
    return resized


def _nearest_indices(old: int, new: int) -> NDArray[np.int64]:
    import cv2

    row = np.arange(old, dtype=np.float64)[None]  # OpenCV knows no 64-bit integers
    return np.asarray(cv2.resize(row, (new, 1), interpolation=cv2.INTER_NEAREST_EXACT)[0], dtype=np.int64)


def select_boxes(sample: Sample, size: tuple[int, int]) -> Sample:
    """Clip the boxes to an image of ``size`` (H, W) and drop those with a side below one pixel."""
    if sample.boxes is None or sample.labels is None or sample.difficult is None:
        return sample
    limits = np.array([size[1], size[0]] * 2, dtype=np.float32)
    boxes = np.clip(sample.boxes.reshape(-1, 4), 0, limits).astype(np.float32)
    keep = (boxes[:, 2:] - boxes[:, :2] >= _MIN_SIDE - _ROUNDING).all(axis=1)
    return replace(sample, boxes=boxes[keep], labels=sample.labels[keep], difficult=sample.difficult[keep])


def pixel_positions(size: tuple[int, int]) -> NDArray[np.float32]:
    """Return a picture ``(H, W, 3)`` of where its pixels are: row, column, and a mark that no border has.

    Warped beside an image, whatever the transform fills its border with, it tells `take_pixels` what went where.
    """
    rows, columns = np.indices(size, dtype=np.float32)
    return np.stack([rows, columns, np.full(size, _INSIDE, dtype=np.float32)], axis=-1)


def take_pixels(
    maps: Mapping[str, NDArray[Any] | None], positions: NDArray[np.float32]
) -> dict[str, NDArray[Any] | None]:
    """Return maps whose pixels are those at warped `pixel_positions`, void where there is none.

    Void is NaN in a map of real numbers and 255 in one of integers. A position between pixels, as of a transform that
    interpolates, stands for the nearest of them; one that is mixed with the border is beyond it.
    """
    inside = abs(positions[..., 2] - _INSIDE) < 1  # (H, W)
    row, column = (np.rint(np.where(inside, positions[..., axis], 0)).astype(np.int64) for axis in (0, 1))
    taken: dict[str, NDArray[Any] | None] = {}
    for name, values in maps.items():
        if values is None:
            taken[name] = None
            continue
        moved = values[row.clip(0, len(values) - 1), column.clip(0, values.shape[1] - 1)]
        moved[~inside] = np.nan if values.dtype.kind == "f" else VOID
        taken[name] = moved
    return taken
