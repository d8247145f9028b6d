"""Images in the forms that people have them in, as samples without annotations."""

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mtvision.data.files import read_image
from mtvision.errors import DataError
from mtvision.types import Sample

ImageSource: TypeAlias = Any
"""A path, a PIL image, a uint8 array ``(H, W, 3)`` or a tensor ``(3, H, W)``, uint8 or float in [0, 1]; RGB."""


def as_sample(image: ImageSource) -> Sample:
    """Return an image as a sample without annotations.

    Raises:
        DataError: if a file is missing or no image, or a value has not the shape, type or range of one.
    """
    pixels = _pixels(image)
    return Sample(pixels, None, None, None, None, str(image) if isinstance(image, str | Path) else "", pixels.shape[:2])


def _pixels(image: ImageSource) -> NDArray[np.uint8]:
    if isinstance(image, str | Path):
        pixels, problems = read_image(Path(image))
        if pixels is None:
            raise DataError("; ".join(problems))
        return pixels
    if isinstance(image, Tensor):
        return _from_tensor(image)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise DataError(f"an image array: expected uint8 (H, W, 3), got {image.dtype} {image.shape}")
        return image
    if hasattr(image, "convert"):
        return np.asarray(image.convert("RGB"), dtype=np.uint8)
    raise DataError(f"an image: expected a path, a PIL image, an array or a tensor, got {type(image).__name__}")


def _from_tensor(image: Tensor) -> NDArray[np.uint8]:
    if image.ndim != 3 or image.shape[0] != 3:
        raise DataError(f"an image tensor: expected (3, H, W), got {tuple(image.shape)}")
    values = image.detach().cpu().permute(1, 2, 0).numpy()
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    if values.dtype.kind != "f" or values.min() < 0 or values.max() > 1:
        raise DataError(
            f"an image tensor: expected uint8 or float in [0, 1], got {image.dtype} in [{values.min()}, {values.max()}]"
        )
    return np.ascontiguousarray((values * 255).round().astype(np.uint8))
