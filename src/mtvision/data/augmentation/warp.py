"""One affine map of a whole sample: image, mask, instances, maps and boxes move together, in one interpolation."""

from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mtvision.data.geometry import keep_objects, pixel_positions, select_boxes, take_pixels
from mtvision.data.instances import are_whole, instance_bounds, tightened
from mtvision.types import VOID, Sample

Matrix: TypeAlias = NDArray[np.float64]
"""``(3, 3)``: where a point (x, y, 1) goes; continuous coordinates, the first pixel is from 0 to 1."""

BORDER_COLOUR = (124, 116, 104)
"""What the image gets from beyond its border: ImageNet's mean in uint8, about zero after the model's normalization."""


def warp(sample: Sample, matrix: Matrix) -> Sample:
    """Return a sample moved by an affine map, at the same size.

    * The image is interpolated linearly, mask, instances and maps take the nearest pixel.
    * From beyond the border comes `BORDER_COLOUR`, void (255, NaN in maps of real numbers), and no object.
    * A box becomes that of its moved corners, clipped to the image. Where the sample has ``instances``, and the box was
      the bound of the object's pixels, it is as tight afterwards; else it contains the object but may be larger.
    * Objects that left the image, or whose box has a side below one pixel, are dropped.
    """
    size = sample.image.shape[:2]
    image = _warped(sample.image, matrix, BORDER_COLOUR, linear=True)
    mask = None if sample.mask is None else _warped(sample.mask, matrix, VOID)
    maps = sample.maps
    if any(values is not None for values in maps.values()):
        # of any type and number of channels, which OpenCV may not know
        maps = take_pixels(maps, _warped(pixel_positions((size[0], size[1])), matrix, 0))
    instances = None if sample.instances is None else _warped(sample.instances, matrix, 0)
    moved = replace(sample, image=image, mask=mask, maps=maps, instances=instances)
    if sample.boxes is None:
        return moved
    moved = replace(moved, boxes=moved_boxes(sample.boxes, matrix))
    if instances is None:
        return select_boxes(moved, (size[0], size[1]))
    return tight_boxes(sample, moved, matrix)


def tight_boxes(before: Sample, after: Sample, matrix: Matrix) -> Sample:
    """Return a moved sample whose boxes are as tight around the pixels of ``instances`` as they were before.

    Args:
        before: with boxes and instances.
        after: the same objects in the same order, boxes not clipped yet.
        matrix: of the map between them.
    """
    if before.boxes is None or after.boxes is None or before.instances is None or after.instances is None:
        return after
    height, width = after.image.shape[:2]
    limits = np.array([width, height, width, height], dtype=np.float32)
    bounds = instance_bounds(before.instances, len(before.boxes))
    boxes, visible = tightened(
        np.clip(after.boxes, 0, limits),
        np.clip(moved_boxes(bounds, matrix), 0, limits),
        instance_bounds(after.instances, len(after.boxes)),
        are_whole(before.boxes, bounds),
    )
    return select_boxes(keep_objects(replace(after, boxes=boxes), visible), (height, width))


def moved_boxes(boxes: NDArray[np.float32], matrix: Matrix) -> NDArray[np.float32]:
    """Return the boxes ``(M, 4)`` around the moved corners of boxes."""
    corners = boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]].astype(np.float64)  # (M, 4, 2)
    corners = corners @ matrix[:2, :2].T + matrix[:2, 2]
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1).astype(np.float32)


def flip(sample: Sample) -> Sample:
    """Return a sample mirrored left to right, exactly."""
    width = sample.image.shape[1]
    boxes = sample.boxes
    if boxes is not None:
        boxes = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)
    return replace(
        sample,
        image=_mirrored(sample.image),
        mask=None if sample.mask is None else _mirrored(sample.mask),
        boxes=boxes,
        maps={name: None if values is None else _mirrored(values) for name, values in sample.maps.items()},
        instances=None if sample.instances is None else _mirrored(sample.instances),
    )


def flip_matrix(size: tuple[int, int]) -> Matrix:
    """Return the map that mirrors an image ``(H, W)`` left to right."""
    return np.array([[-1.0, 0.0, size[1]], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


def affine_matrix(
    size: tuple[int, int],
    *,
    degrees: float = 0.0,
    scale: float = 1.0,
    shift: tuple[float, float] = (0.0, 0.0),
    shear_degrees: tuple[float, float] = (0.0, 0.0),
) -> Matrix:
    """Return the map that shears, scales and rotates about the centre of an image ``(H, W)`` and then shifts.

    Args:
        size: of the image.
        degrees: clockwise, as y points down.
        scale: above 1 enlarges.
        shift: to the right and down, as a share of width and height.
        shear_degrees: of vertical lines, of horizontal lines.
    """
    height, width = size
    angle = np.deg2rad(degrees)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    across, down = np.tan(np.deg2rad(shear_degrees))
    linear = scale * rotation @ np.array([[1.0, across], [down, 1.0]])
    centre = np.array([width / 2, height / 2])
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    matrix[:2, 2] = centre + np.array(shift) * (width, height) - linear @ centre
    return matrix


def _mirrored(values: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(values[:, ::-1])


def _warped(values: NDArray[Any], matrix: Matrix, border: Any, linear: bool = False) -> NDArray[Any]:
    import cv2

    flags = cv2.INTER_LINEAR if linear else cv2.INTER_NEAREST
    height, width = values.shape[:2]
    warped = cv2.warpAffine(
        values, _of_pixels(matrix), (width, height), flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=border
    )
    return np.asarray(warped, dtype=values.dtype)


def _of_pixels(matrix: Matrix) -> Matrix:
    """Return ``(2, 3)`` of OpenCV's coordinates, in which a pixel's centre, not its corner, has the whole numbers."""
    half = np.array([0.5, 0.5])
    return np.column_stack([matrix[:2, :2], matrix[:2, :2] @ half + matrix[:2, 2] - half])
