"""Transforms of a sample without randomness: resizing and keeping proper boxes."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from mtvision.types import VOID, Sample

_MIN_SIDE = 1.0
"""Boxes with a side below it, in pixels of the transformed image, are dropped: nothing of the object is left to see."""

_ROUNDING = 1e-3  # of float32 boxes that went through [0, 1] and back

_INSIDE = 2.0**20  # far from whatever a border is filled with


def resize(sample: Sample, size: tuple[int, int], annotated: tuple[int, int] | None = None) -> Sample:
    """Stretch a sample to ``size`` (H, W): image linearly without aliasing, mask and maps by nearest pixels, and boxes.

    Nearest, for maps of real values too: a mean over an edge, where one surface hides another, is on neither of them.
    Boxes that get thinner than one pixel are dropped.

    Args:
        sample: is not changed.
        size: of the result.
        annotated: ``(H, W)`` that mask, instances, maps and boxes have, where that is not the image's own size.
    """
    height, width = annotated or sample.image.shape[:2]
    if (height, width) == size == sample.image.shape[:2]:
        return select_boxes(sample, size)
    mask = None if sample.mask is None else _nearest_resized(sample.mask, size)
    instances = None if sample.instances is None else _nearest_resized(sample.instances, size)
    scale = np.array([size[1] / width, size[0] / height] * 2, dtype=np.float32)
    boxes = None if sample.boxes is None else sample.boxes * scale
    maps = {name: None if values is None else _nearest(values, size) for name, values in sample.maps.items()}
    image = resize_image(sample.image, size, _content(sample.image.shape[:2], (height, width)))
    return select_boxes(replace(sample, image=image, mask=mask, boxes=boxes, maps=maps, instances=instances), size)


def resize_image(
    image: NDArray[np.uint8], size: tuple[int, int], content: tuple[float, float] | None = None
) -> NDArray[np.uint8]:
    """Stretch an image uint8 ``(H, W, 3)`` to ``size`` (H, W), linearly and without aliasing (as Pillow does).

    Args:
        image: is not changed.
        size: of the result.
        content: height and width in pixels that are stretched, from the upper left corner; None: all of it.
    """
    content = content or (float(image.shape[0]), float(image.shape[1]))
    if image.shape[:2] == size == content:
        return image
    # OpenCV's own way without aliasing, by area, takes four times as long.
    planes = writable_tensor(image)[None].permute(0, 3, 1, 2)  # (1, 3, H, W), channels last
    if content == image.shape[:2]:
        resized = functional.interpolate(planes, size=size, mode="bilinear", antialias=True)
    else:  # by what lies between, which gives a row more at most
        scales = [(side + 1e-6) / own for side, own in zip(size, content, strict=True)]
        resized = functional.interpolate(planes, scale_factor=scales, mode="bilinear", antialias=True)
    return np.ascontiguousarray(resized.permute(0, 2, 3, 1)[0, : size[0], : size[1]].numpy())


def writable_tensor(values: NDArray[Any]) -> torch.Tensor:
    """Return an array as a tensor, of the same memory where that may be written (of other torch warns)."""
    return torch.from_numpy(np.ascontiguousarray(values) if values.flags.writeable else values.copy())


def _content(own: tuple[int, ...], whole: tuple[int, int]) -> tuple[float, float]:
    """Return how many pixels the content of an image spans, which a decoder may have made smaller.

    Of 1001 pixels it makes 501 of two each, of which the last lies half outside.
    """
    factor = next((f for f in (1, 2, 4, 8) if tuple(-(-side // f) for side in whole) == tuple(own)), None)
    if factor is None:
        return float(own[0]), float(own[1])
    return whole[0] / factor, whole[1] / factor


def _nearest_resized(values: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    import cv2

    # EXACT: centres on centres, as for the image; plain INTER_NEAREST takes the upper left neighbour.
    return np.asarray(cv2.resize(values, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT), dtype=values.dtype)


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
    if sample.boxes is None:
        return sample
    limits = np.array([size[1], size[0]] * 2, dtype=np.float32)
    boxes = np.clip(sample.boxes.reshape(-1, 4), 0, limits).astype(np.float32)
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    return keep_objects(replace(sample, boxes=boxes), np.minimum(width, height) >= _MIN_SIDE - _ROUNDING)


def keep_objects(sample: Sample, keep: NDArray[np.bool_]) -> Sample:
    """Drop the objects for which ``keep`` ``(M,)`` is False; the instance map follows."""
    if sample.boxes is None or sample.labels is None or sample.difficult is None or keep.all():
        return sample
    instances = sample.instances
    if instances is not None:
        numbers = np.zeros(np.iinfo(instances.dtype).max + 1, dtype=instances.dtype)
        numbers[1 + np.flatnonzero(keep)] = 1 + np.arange(keep.sum())
        instances = numbers[instances]
    return replace(
        sample,
        boxes=sample.boxes[keep],
        labels=sample.labels[keep],
        difficult=sample.difficult[keep],
        instances=instances,
    )


def pixel_positions(size: tuple[int, int]) -> NDArray[np.float32]:
    """Return a picture ``(H, W, 3)`` of where its pixels are: row, column, and a mark that no border has.

    Warped beside an image, whatever the transform fills its border with, it tells `take_pixels` what went where.
    """
    rows, columns = np.indices(size, dtype=np.float32)
    return np.stack([rows, columns, np.full(size, _INSIDE, dtype=np.float32)], axis=-1)


def take_pixels(
    maps: Mapping[str, NDArray[Any] | None], positions: NDArray[np.float32], fill: float | None = None
) -> dict[str, NDArray[Any] | None]:
    """Return maps whose pixels are those at warped `pixel_positions`, ``fill`` where there is none.

    By default that is void: NaN in a map of real numbers and 255 in one of integers. A position between pixels, as of a
    transform that interpolates, stands for the nearest of them; one that is mixed with the border is beyond it.
    """
    inside = abs(positions[..., 2] - _INSIDE) < 1  # (H, W)
    row, column = (np.rint(np.where(inside, positions[..., axis], 0)).astype(np.int64) for axis in (0, 1))
    taken: dict[str, NDArray[Any] | None] = {}
    for name, values in maps.items():
        if values is None:
            taken[name] = None
            continue
        moved = values[row.clip(0, len(values) - 1), column.clip(0, values.shape[1] - 1)]
        moved[~inside] = fill if fill is not None else np.nan if values.dtype.kind == "f" else VOID
        taken[name] = moved
    return taken
