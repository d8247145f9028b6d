"""Augmentation by covering parts of an image."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mtvision.data.sampler import Transform
from mtvision.types import VOID, Sample

_PROBABILITY = 0.5
_MAX_HOLES = 3
_HOLE_SIDES = (0.08, 0.3)  # of the image's sides
_MIN_VISIBLE = 0.2  # a box of which less can be seen is dropped


class Occlusion:
    """Another transform, then up to three rectangles of flat colour or noise over the image in half of the samples.

    Under a rectangle the mask is void; a box stays as it is, and is dropped where less than 20 % of it can be seen.
    After DeVries and Taylor, 2017 (arXiv 1708.04552) and Zhong et al., 2017 (arXiv 1708.04896).
    """

    def __init__(self, transform: Transform) -> None:
        self._transform = transform

    def __call__(self, sample: Sample, seed: int) -> Sample:
        """Return the transformed and perhaps partly covered sample."""
        sample = self._transform(sample, seed)
        rng = np.random.default_rng(np.random.SeedSequence([seed, 1]))  # apart from the transform's own stream
        if rng.random() >= _PROBABILITY:
            return sample
        limits = np.array(sample.image.shape[1::-1])  # (W, H)
        for _ in range(int(rng.integers(1, _MAX_HOLES + 1))):
            sides = np.maximum(limits * rng.uniform(*_HOLE_SIDES, size=2), 1).astype(np.int64)
            corner = rng.integers(0, limits - sides + 1)
            shape = (3,) if rng.random() < 0.5 else (sides[1], sides[0], 3)
            fill = rng.integers(0, 256, size=shape, dtype=np.uint8)
            sample = occlude(sample, np.concatenate([corner, corner + sides]), fill, _MIN_VISIBLE)
        return sample


def occlude(sample: Sample, hole: NDArray[np.int64], fill: NDArray[np.uint8], min_visible: float) -> Sample:
    """Cover a rectangle: the image there becomes ``fill``, the mask void, since nobody can see what is behind.

    A box stays as it is (the object is still there) unless less than ``min_visible`` of its area can be seen.

    Args:
        sample: is not changed.
        hole: ``(4,)`` xyxy in whole pixels, within the image.
        fill: uint8 ``(3,)``, or of the hole's shape ``(h, w, 3)``.
        min_visible: fraction in [0, 1].
    """
    left, top, right, bottom = hole.tolist()
    image, mask = sample.image.copy(), sample.mask
    image[top:bottom, left:right] = fill
    if mask is not None:
        mask = mask.copy()
        mask[top:bottom, left:right] = VOID
    sample = replace(sample, image=image, mask=mask)
    if sample.boxes is None or sample.labels is None or sample.difficult is None:
        return sample
    keep = _visible_fraction(sample.boxes, hole) >= min_visible
    return replace(sample, boxes=sample.boxes[keep], labels=sample.labels[keep], difficult=sample.difficult[keep])


def _visible_fraction(boxes: NDArray[np.float32], hole: NDArray[np.int64]) -> NDArray[np.float32]:
    overlap = np.minimum(boxes[:, 2:], hole[2:]) - np.maximum(boxes[:, :2], hole[:2])  # (M, 2)
    hidden = np.clip(overlap, 0, None).prod(axis=1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return np.asarray(1 - hidden / np.maximum(area, 1e-6), dtype=np.float32)
