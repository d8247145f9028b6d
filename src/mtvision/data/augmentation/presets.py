"""Augmentation by name: what the levels none, basic, heavy and robust do, and large-scale jitter.

Each is a function of (sample, seed). The sample is brought to ``image_size`` first, which saves work; all geometry is
then one warp and all colours one linear map.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, TypeAlias

import numpy as np
from pydantic import Field

from mtvision.data.augmentation.colours import jitter, relight
from mtvision.data.augmentation.occlusion import Occlusion
from mtvision.data.augmentation.placing import place
from mtvision.data.augmentation.warp import affine_matrix, flip, flip_matrix, warp
from mtvision.data.base import Transform
from mtvision.data.geometry import resize
from mtvision.registries import AUGMENTATIONS
from mtvision.types import Sample

Size: TypeAlias = tuple[int, int]
Step: TypeAlias = Callable[[Sample, "np.random.Generator"], Sample]

_FLIP = 0.5
_WARP = 0.8
_DEGREES, _SHEAR_DEGREES, _SHIFT = 15.0, 5.0, 0.1
_SCALES = (0.8, 1.2)
_COLOURS, _FACTORS, _HUE = 0.8, (0.8, 1.2), 0.02
_LIGHT, _GAMMAS, _LIGHT_LIMIT = 0.4, (0.4, 2.5), 0.5


class Resize:
    """Stretch to ``image_size`` (H, W), nothing random; the transform of evaluation."""

    resizes_first = True
    uses_instances = False

    def __init__(self, image_size: Size) -> None:
        self.image_size = image_size

    def __call__(self, sample: Sample, seed: int) -> Sample:  # noqa: ARG002 - every transform is called with a seed
        """Return the resized sample."""
        return resize(sample, self.image_size)


class Steps:
    """Resize to ``image_size``, then some random steps one after another.

    Attributes:
        resizes_first: it sees no more of a sample than what is left at ``image_size``, so that a cache may keep that.
        uses_instances: whether a sample without ``instances`` comes out otherwise.
    """

    resizes_first = True

    def __init__(self, image_size: Size, steps: Sequence[Step], uses_instances: bool = True) -> None:
        self.image_size = image_size
        self.steps = tuple(steps)
        self.uses_instances = uses_instances

    def __call__(self, sample: Sample, seed: int) -> Sample:
        """Return the augmented sample, a function of the sample and the seed."""
        rng = np.random.default_rng(seed)
        sample = resize(sample, self.image_size)
        for step in self.steps:
            sample = step(sample, rng)
        return sample


def resize_only(image_size: Size) -> Resize:
    """Return the transform of evaluation: stretch to ``image_size`` (H, W)."""
    return Resize(image_size)


@AUGMENTATIONS.register("none")
def none(image_size: Size) -> Transform:
    """Resize only (mtvision)."""
    return Resize(image_size)


@AUGMENTATIONS.register("basic")
def basic(image_size: Size) -> Transform:
    """Horizontal flip, brightness and contrast within 20 %, mild colour jitter (after Howard 2013, arXiv 1312.5402)."""
    return Steps(image_size, [_flip, _mild_colours], uses_instances=False)


@AUGMENTATIONS.register("heavy")
def heavy(image_size: Size) -> Transform:
    """Basic, rotation by 15 degrees, scale 0.8 to 1.2, shift by 10 %, shear by 5 degrees (after Simard et al. 2003)."""
    return Steps(image_size, [_flip_and_warp, _mild_colours])


@AUGMENTATIONS.register("robust")
def robust(image_size: Size) -> Transform:
    """Heavy, and extreme lighting and covered rectangles (after DeVries & Taylor 2017, arXiv 1708.04552).

    Rectangles of noise: Zhong et al. 2017, arXiv 1708.04896.
    """
    return Occlusion(Steps(image_size, [_flip_and_warp, _mild_colours, _extreme_light]))


@AUGMENTATIONS.register("large_scale_jitter")
def large_scale_jitter(
    image_size: Size,
    *,
    smallest: Annotated[float, Field(gt=0, le=1)] = 0.1,
    largest: Annotated[float, Field(ge=1, le=8)] = 2.0,
) -> Transform:
    """Basic, after scaling by 0.1 to 2 and a random crop or place (Ghiasi et al. 2021, arXiv 2012.07177).

    What is beyond the image is void in the mask.

    Args:
        image_size: ``(H, W)`` of the result.
        smallest: scale, relative to the image at ``image_size``.
        largest: likewise.
    """
    return _LargeScaleJitter(image_size, smallest, largest)


class _LargeScaleJitter:
    """Scales the sample as stored, so that enlarging shows what is there."""

    def __init__(self, image_size: Size, smallest: float, largest: float) -> None:
        self.image_size = image_size
        self.scales = (smallest, largest)

    def __call__(self, sample: Sample, seed: int) -> Sample:
        rng = np.random.default_rng(seed)
        scale = rng.uniform(*self.scales)
        size = tuple(max(round(side * scale), 1) for side in self.image_size)
        sample = resize(sample, (size[0], size[1]))
        spaces = [side - own for side, own in zip(self.image_size, size, strict=True)]
        row, column = (int(rng.integers(min(space, 0), max(space, 0) + 1)) for space in spaces)
        sample = place(sample, self.image_size, (row, column))
        return _mild_colours(_flip(sample, rng), rng)


def _flip(sample: Sample, rng: "np.random.Generator") -> Sample:
    return flip(sample) if rng.random() < _FLIP else sample


def _flip_and_warp(sample: Sample, rng: "np.random.Generator") -> Sample:
    """Flip, rotation, scale, shift and shear, as one warp where there is any."""
    flips = rng.random() < _FLIP
    if rng.random() >= _WARP:
        return flip(sample) if flips else sample
    size = (sample.image.shape[0], sample.image.shape[1])
    horizontal, vertical = rng.uniform(-_SHIFT, _SHIFT, 2).tolist()
    across, down = rng.uniform(-_SHEAR_DEGREES, _SHEAR_DEGREES, 2).tolist()
    matrix = affine_matrix(
        size,
        degrees=rng.uniform(-_DEGREES, _DEGREES),
        scale=rng.uniform(*_SCALES),
        shift=(horizontal, vertical),
        shear_degrees=(across, down),
    )
    return warp(sample, matrix @ flip_matrix(size) if flips else matrix)


def _mild_colours(sample: Sample, rng: "np.random.Generator") -> Sample:
    if rng.random() >= _COLOURS:
        return sample
    brightness, contrast, saturation = rng.uniform(*_FACTORS, 3).tolist()
    hue = rng.uniform(-_HUE, _HUE)
    return replace(
        sample, image=jitter(sample.image, brightness=brightness, contrast=contrast, saturation=saturation, hue=hue)
    )


def _extreme_light(sample: Sample, rng: "np.random.Generator") -> Sample:
    image = sample.image
    if rng.random() < _LIGHT:
        image = relight(image, gamma=float(np.exp(rng.uniform(*np.log(_GAMMAS)))))
    if rng.random() < _LIGHT:
        gain, offset = 1 + rng.uniform(-_LIGHT_LIMIT, _LIGHT_LIMIT), rng.uniform(-_LIGHT_LIMIT, _LIGHT_LIMIT)
        image = relight(image, gain=gain, offset=offset)
    return replace(sample, image=image)
