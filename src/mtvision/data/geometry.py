"""Transforms of a sample without randomness: resizing and keeping proper boxes."""

from dataclasses import replace

import numpy as np

from mtvision.types import Sample

_MIN_SIDE = 1.0
"""Boxes with a side below it, in pixels of the transformed image, are dropped: nothing of the object is left to see."""

_ROUNDING = 1e-3  # of float32 boxes that went through [0, 1] and back


def resize(sample: Sample, size: tuple[int, int]) -> Sample:
    """Stretch a sample to ``size`` (H, W): the image by area or linearly, the mask by nearest pixels, and the boxes.

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
    return select_boxes(replace(sample, image=np.asarray(image, dtype=np.uint8), mask=mask, boxes=boxes), size)


def select_boxes(sample: Sample, size: tuple[int, int]) -> Sample:
    """Clip the boxes to an image of ``size`` (H, W) and drop those with a side below one pixel."""
    if sample.boxes is None or sample.labels is None or sample.difficult is None:
        return sample
    limits = np.array([size[1], size[0]] * 2, dtype=np.float32)
    boxes = np.clip(sample.boxes.reshape(-1, 4), 0, limits).astype(np.float32)
    keep = (boxes[:, 2:] - boxes[:, :2] >= _MIN_SIDE - _ROUNDING).all(axis=1)
    return replace(sample, boxes=boxes[keep], labels=sample.labels[keep], difficult=sample.difficult[keep])
