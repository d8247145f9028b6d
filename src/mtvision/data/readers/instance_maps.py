"""Which object is seen at a pixel: whose box the numbers of a picture belong to."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mtvision.data.instances import instance_bounds
from mtvision.types import VOID

InstanceMap: TypeAlias = NDArray[np.uint8 | np.uint16]
"""``(H, W)``: ``k + 1`` for the object of row ``k`` of the boxes, 0 for none."""

_MIN_OVERLAP = 0.5
_SLACK = 1.0  # pixels; outlines and boxes are rounded by different tools


def number_type(largest: int) -> type[np.uint8] | type[np.uint16] | None:
    """Return the smaller type that holds the numbers 0 to ``largest``, None if neither does."""
    return next((kind for kind in (np.uint8, np.uint16) if largest <= np.iinfo(kind).max), None)


def belonging(numbers: NDArray[np.uint8], boxes: NDArray[np.float32]) -> InstanceMap | None:
    """Return the instance map of numbered pixels, which may be numbered in another order than the boxes.

    Number ``k`` is the ``k``-th box if the bounds of its pixels overlap that box by an IoU of 0.5 or more. Of the
    others, those that overlap a box best come first, from an IoU of 0.5 on. What is left, an object that others cover,
    is the ``k``-th box if it lies within that box, else no object.

    Args:
        numbers: ``(H, W)``: 0 none, 255 void.
        boxes: ``(M, 4)`` xyxy pixels.
    """
    kind = number_type(len(boxes))
    if kind is None:
        return None
    bounds = instance_bounds(np.where(numbers == VOID, np.uint8(0), numbers), VOID - 1)
    present = np.flatnonzero(~np.isnan(bounds[:, 0]))
    owners = _match(bounds[present], present, boxes)
    table = np.zeros(VOID + 1, dtype=kind)
    table[present + 1] = owners + 1
    return _looked_up(table, numbers)


def _match(bounds: NDArray[np.float32], rows: NDArray[np.int64], boxes: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the row of the box that each of the bounds ``(P, 4)`` belongs to, -1 for none; ``rows`` are likely."""
    owners = np.full(len(bounds), -1, dtype=np.int64)
    overlaps = _overlaps(bounds, boxes)  # (P, M)
    likely = np.flatnonzero(rows < len(boxes))
    sure = likely[overlaps[likely, rows[likely]] >= _MIN_OVERLAP]
    owners[sure] = rows[sure]
    overlaps[sure] = 0
    overlaps[:, rows[sure]] = 0
    while overlaps.size and overlaps.max() >= _MIN_OVERLAP:
        one, other = np.unravel_index(overlaps.argmax(), overlaps.shape)
        owners[one] = other
        overlaps[one] = 0
        overlaps[:, other] = 0
    for one in likely[(owners[likely] < 0) & ~np.isin(rows[likely], owners)]:
        within = bounds[one] - boxes[rows[one]]
        if (within[:2] >= -_SLACK).all() and (within[2:] <= _SLACK).all():
            owners[one] = rows[one]
    return owners


def _overlaps(bounds: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the IoU ``(P, M)`` of each of the bounds with each box."""
    low = np.maximum(bounds[:, None, :2], boxes[None, :, :2])
    high = np.minimum(bounds[:, None, 2:], boxes[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2, dtype=np.float64)
    areas = [(edges[:, 2:] - edges[:, :2]).prod(axis=1, dtype=np.float64) for edges in (bounds, boxes)]
    return np.asarray(shared / (areas[0][:, None] + areas[1][None] - shared), dtype=np.float64)


def agreeing(instances: InstanceMap, mask: NDArray[np.uint8], ids: NDArray[np.uint8]) -> InstanceMap:
    """Return an instance map without the pixels to which the mask gives another class than that of the object.

    Args:
        instances: ``(H, W)``.
        mask: ``(H, W)``; void agrees with any object.
        ids: ``(M,)``, the mask id of each object's class.
    """
    table = np.zeros(np.iinfo(instances.dtype).max + 1, dtype=np.uint8)
    table[1 : 1 + len(ids)] = ids
    agrees = (mask == _looked_up(table, instances)) | (mask == VOID)
    return np.where(agrees, instances, instances.dtype.type(0))


def _looked_up(table: NDArray[Any], numbers: NDArray[Any]) -> NDArray[Any]:
    """Return ``table[numbers]``, by OpenCV where it can, which is ten times as fast."""
    if numbers.dtype != np.uint8:
        return np.take(table, numbers)
    import cv2

    return np.asarray(cv2.LUT(numbers, table))
