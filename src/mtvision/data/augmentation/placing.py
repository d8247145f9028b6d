"""Cutting out a part of a sample, or putting it into a larger one."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtvision.data.augmentation.warp import BORDER_COLOUR, tight_boxes
from mtvision.data.geometry import select_boxes
from mtvision.types import VOID, Sample

Size = tuple[int, int]


def place(sample: Sample, size: Size, corner: tuple[int, int]) -> Sample:
    """Return a sample as seen through a window ``size`` (H, W) in which its upper left corner is at ``corner``.

    Around it are `BORDER_COLOUR`, void and no object. Boxes are clipped, and where the sample has ``instances`` a box
    that was the bound of its object's pixels is so afterwards; objects out of sight are dropped.

    Args:
        sample: is not changed.
        size: of the window.
        corner: row and column of the sample's first pixel; negative: that much is cut off.
    """
    own = (sample.image.shape[0], sample.image.shape[1])
    if own == size and corner == (0, 0):
        return select_boxes(sample, size)
    pasted = _paster(own, size, corner)
    placed = replace(
        sample,
        image=pasted(sample.image, BORDER_COLOUR),
        mask=None if sample.mask is None else pasted(sample.mask, VOID),
        maps={name: None if values is None else pasted(values, _void(values)) for name, values in sample.maps.items()},
        instances=None if sample.instances is None else pasted(sample.instances, 0),
    )
    if sample.boxes is None:
        return placed
    shift = np.array([corner[1], corner[0]], dtype=np.float32)
    placed = replace(placed, boxes=sample.boxes + np.tile(shift, 2))
    if sample.instances is None:
        return select_boxes(placed, size)
    matrix = np.eye(3)
    matrix[:2, 2] = shift
    return tight_boxes(sample, placed, matrix)


def _void(values: NDArray[Any]) -> float:
    return np.nan if values.dtype.kind == "f" else VOID


def _paster(own: Size, size: Size, corner: tuple[int, int]) -> Callable[[NDArray[Any], Any], NDArray[Any]]:
    """Return a function that copies the common part of an array into one of ``size`` filled with a value."""
    places = []
    for side, length, start in zip(size, own, corner, strict=True):
        first, last = max(start, 0), min(start + length, side)
        places.append((slice(first, max(last, first)), slice(first - start, max(last, first) - start)))
    (rows, own_rows), (columns, own_columns) = places

    def paste(values: NDArray[Any], fill: Any) -> NDArray[Any]:
        window = np.empty((*size, *values.shape[2:]), dtype=values.dtype)
        window[...] = fill
        window[rows, columns] = values[own_rows, own_columns]
        return window

    return paste
