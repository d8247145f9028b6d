"""Boxes, polygons and run lengths of objects: what is wrong with them, and the pixels that they cover."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mtvision.data.readers.files import BOX_TOLERANCE, Objects, Size
from mtvision.data.readers.instance_maps import InstanceMap, number_type
from mtvision.types import VOID

Region: TypeAlias = NDArray[np.int64]
"""Run lengths, column by column: how many pixels are out, then in, then out, ...; they add up to the image."""

_MIN_POINTS = 3


class Found(NamedTuple):
    """One object: its box in xyxy pixels, label, whether it is difficult."""

    box: tuple[float, float, float, float]
    label: int
    difficult: bool = False


class Layer(NamedTuple):
    """The pixels of one object, the value that they get in the mask, and in the instance map (0: it has no box)."""

    value: int
    region: Region
    number: int = 0


class Painted(NamedTuple):
    """Mask uint8 ``(H, W)`` and instance map uint8 or uint16 ``(H, W)``, None if it had too many objects."""

    mask: NDArray[np.uint8]
    instances: InstanceMap | None


def box_problem(box: Sequence[float], size: Size | None, written: str | None = None) -> str:
    """Return what is wrong with a box in xyxy pixels, empty if nothing is.

    Args:
        box: before it is clipped to the image.
        size: ``(H, W)`` of the image, None if that is unknown.
        written: the box as the file has it, for the sentence; None: by its edges.
    """
    left, top, right, bottom = box
    written = written or f"the box ({', '.join(f'{edge:g}' for edge in box)})"
    if not (right > left and bottom > top):
        return f"{written} is empty: its width and height must be positive"
    if size is None:
        return ""
    height, width = size
    where = f"the image of {height} x {width} pixels (height x width)"
    if left >= width or top >= height or right <= 0 or bottom <= 0:
        return f"{written} lies outside {where}"
    if min(left, top) < -BOX_TOLERANCE or right > width + BOX_TOLERANCE or bottom > height + BOX_TOLERANCE:
        return f"{written} reaches outside {where}"
    first_x, first_y, last_x, last_y = clipped(np.array(box, dtype=np.float32), size).tolist()
    if not (last_x > first_x and last_y > first_y):
        return f"{written} is empty: within {where} nothing is left of it in single precision"
    return ""


def clipped(boxes: NDArray[np.float32], size: Size) -> NDArray[np.float32]:
    """Return boxes ``(..., 4)`` in xyxy pixels, clipped to the image ``(H, W)``."""
    height, width = size
    return np.clip(boxes, 0, np.array([width, height, width, height], dtype=np.float32))


def to_objects(found: Sequence[Found], size: Size | None) -> Objects:
    """Return objects as arrays, their boxes clipped to the image ``(H, W)`` where that is known."""
    boxes = np.array([item.box for item in found], dtype=np.float32).reshape(-1, 4)  # (M, 4)
    return Objects(
        boxes if size is None else clipped(boxes, size),
        np.array([item.label for item in found], dtype=np.int64),
        np.array([item.difficult for item in found], dtype=np.bool_),
    )


def polygon_problem(points: NDArray[np.float64], size: Size) -> str:
    """Return what is wrong with a polygon ``(x1, y1, x2, y2, ...)`` in pixels, empty if nothing is.

    What lies outside of the image is cut off; further out than the image is large is no drawing error.
    """
    if len(points) % 2:
        return f"the polygon has an odd number of coordinates, {len(points)}"
    if len(points) < 2 * _MIN_POINTS:
        return f"the polygon has {len(points) // 2} points; at least {_MIN_POINTS} are needed"
    sides = np.resize(np.array(size[::-1], dtype=np.float64), len(points))
    if ((points < -sides) | (points > 2 * sides)).any():
        return f"the polygon reaches far outside the image of {size[0]} x {size[1]} pixels (height x width)"
    return ""


def polygon_region(polygons: Sequence[Sequence[float]], size: Size) -> Region:
    """Return the pixels of the union of polygons, as the COCO tools rasterise them."""
    from faster_coco_eval.core import mask as masks

    merged = masks.merge(masks.frPyObjects([list(points) for points in polygons], *size))
    return np.array(_decompressed(merged["counts"].decode()), dtype=np.int64)


def run_length_region(segmentation: dict[Any, Any], size: Size) -> tuple[Region | None, str]:
    """Return the pixels of COCO's run lengths, a list of counts or the compressed text; or what is wrong with them."""
    counts, own = segmentation.get("counts"), segmentation.get("size")
    if own != list(size):
        return None, f"the run lengths are of size {str(own)[:40]}, the image of {list(size)} (height, width)"
    lengths = _decompressed(counts) if isinstance(counts, str) else counts
    whole = isinstance(lengths, list) and all(type(count) is int and count >= 0 for count in lengths)
    if not whole or not isinstance(lengths, list) or sum(lengths) != size[0] * size[1]:
        return None, f"the run lengths must be whole numbers that add up to the image's {size[0] * size[1]} pixels"
    return np.array(lengths, dtype=np.int64), ""


def paint(layers: Sequence[Layer], size: Size) -> Painted:
    """Return the mask of objects and which is seen where: void lowest, then the larger ones, the smallest on top.

    Of equal ones the later is on top. What has no object is 0 in both.
    """
    areas = [int(layer.region[1::2].sum()) for layer in layers]
    order = sorted(range(len(layers)), key=lambda index: (layers[index].value != VOID, -areas[index]))
    kind = np.uint8 if len(layers) < np.iinfo(np.uint8).max else np.uint32
    # Column by column: 0 none, k the k-th layer.
    owners: NDArray[np.unsignedinteger[Any]] = np.zeros(size[0] * size[1], dtype=kind)
    for index in order:
        region = layers[index].region
        # The tools' own decoder takes five times as long.
        owners[np.repeat(np.arange(len(region)) % 2 == 1, region)] = index + 1
    owners = np.ascontiguousarray(owners.reshape(size[::-1]).T)  # (H, W)
    values = np.array([0, *(layer.value for layer in layers)], dtype=np.uint8)
    numbers = np.array([0, *(layer.number for layer in layers)], dtype=np.int64)
    kept = number_type(int(numbers.max()))
    return Painted(np.take(values, owners), None if kept is None else np.take(numbers.astype(kept), owners))


def _decompressed(text: str) -> list[int] | None:
    """Return the counts of COCO's compressed text: differences to the count before last, five bits a character."""
    values: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 60:
            return None
        value |= (code & 0x1F) << shift
        shift += 5
        if not code & 0x20:
            values.append(value - (1 << shift) if code & 0x10 else value)
            value = shift = 0
    for position in range(3, len(values)):
        values[position] += values[position - 2]
    return None if shift else values


def finite(values: object) -> NDArray[np.float64] | None:
    """Return a list of finite numbers as an array, None if it is none."""
    if not isinstance(values, list) or any(type(value) not in (int, float) for value in values):
        return None
    try:
        array = np.array(values, dtype=np.float64)
    except OverflowError:
        return None
    return array if np.isfinite(array).all() else None


def bounds(points: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Return the box of a polygon ``(x1, y1, x2, y2, ...)``."""
    return float(points[::2].min()), float(points[1::2].min()), float(points[::2].max()), float(points[1::2].max())
