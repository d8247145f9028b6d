"""Which pixels are whose: bounds of the objects of an instance map, and boxes that are kept tight by them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]

_SAME_OBJECT = 0.7
"""IoU from which on a box is taken to be the bound of the object's pixels; less: most of the object is hidden."""

_ROUNDING = 1.5  # pixels that a side may differ by after a resize

_DEAD_ZONE = 1.0  # pixels: by so much rounding alone may move the bound of warped pixels


def instance_bounds(instances: NDArray[Any], num_objects: int) -> Boxes:
    """Return the box of the pixels of each object, ``(M, 4)`` xyxy; NaN for an object without a pixel.

    Args:
        instances: ``(H, W)``, ``k + 1`` where the object of row ``k`` is seen.
        num_objects: M.

    Example:
        >>> instance_bounds(np.array([[0, 1, 1], [0, 0, 1]], dtype=np.uint8), 1).tolist()
        [[1.0, 0.0, 3.0, 2.0]]
    """
    found = np.full((num_objects, 4), np.nan, dtype=np.float32)
    if not num_objects or not instances.size:
        return found
    # Runs of equal pixels within a row are far fewer than pixels.
    width = instances.shape[1]
    flat = np.ascontiguousarray(instances).ravel()
    begins = flat[1:] != flat[:-1]
    begins[width - 1 :: width] = True
    starts = np.flatnonzero(np.concatenate([[True], begins]))
    owners = flat[starts].astype(np.int64)
    ends = np.append(starts[1:], len(flat)) - 1
    starts, ends, owners = (values[owners > 0] for values in (starts, ends, owners))
    order = np.argsort(owners, kind="stable")  # rows stay in order within an object
    starts, ends, owners = starts[order], ends[order], owners[order]
    if not len(owners):
        return found
    first = np.flatnonzero(np.concatenate([[True], owners[1:] != owners[:-1]]))
    last = np.append(first[1:], len(owners)) - 1
    left = np.minimum.reduceat(starts % width, first)
    right = np.maximum.reduceat(ends % width, first) + 1
    found[owners[first] - 1] = np.stack([left, starts[first] // width, right, ends[last] // width + 1], axis=1)
    return found


def tightened(boxes: Boxes, moved: Boxes, seen: Boxes, own: NDArray[np.bool_]) -> tuple[Boxes, NDArray[np.bool_]]:
    """Return transformed boxes as tight around their objects as before, and which objects are still to be seen.

    The box around the corners of a rotated box is larger than the object in it. How much larger, the pixels tell: each
    side moves in by as much as the bound of the object's transformed pixels lies within the transformed bound of its
    pixels. What an annotation was looser or tighter than the pixels it stays.

    Args:
        boxes: transformed and clipped, ``(M, 4)``.
        moved: bounds of the pixels before the transform, transformed and clipped likewise; NaN: there were none.
        seen: bounds of the pixels after the transform; NaN: there are none.
        own: whether the pixels are the whole object, see `are_whole`, ``(M,)``.

    Returns:
        ``(M, 4)``, and False ``(M,)`` for those of which a pixel was seen and none is left.
    """
    had, has = ~np.isnan(moved[:, 0]), ~np.isnan(seen[:, 0])
    inward = np.concatenate([seen[:, :2] - moved[:, :2], moved[:, 2:] - seen[:, 2:]], axis=1)
    inward = np.where((own & had & has)[:, None] & (inward > _DEAD_ZONE), inward, 0).astype(np.float32)
    tight = boxes + inward * np.array([1, 1, -1, -1], dtype=np.float32)
    proper = (tight[:, 2:] > tight[:, :2]).all(axis=1)
    return np.where(proper[:, None], tight, boxes), ~(had & ~has)


def are_whole(boxes: Boxes, bounds: Boxes) -> NDArray[np.bool_]:
    """Tell which boxes are, but for drawing errors, the bounds of the pixels of their objects, ``(M,)``.

    Of the others most is hidden by something in front; their pixels say little about where they end.
    """
    top_left, bottom_right = np.maximum(boxes[:, :2], bounds[:, :2]), np.minimum(boxes[:, 2:], bounds[:, 2:])
    common = np.clip(bottom_right - top_left, 0, None).prod(axis=1)
    areas = [(each[:, 2:] - each[:, :2]).prod(axis=1) for each in (boxes, bounds)]
    with np.errstate(invalid="ignore", divide="ignore"):
        overlap = common / (areas[0] + areas[1] - common)
        # Of a tiny object rounding alone takes much.
        return np.asarray((overlap >= _SAME_OBJECT) | (abs(boxes - bounds) <= _ROUNDING).all(axis=1))
