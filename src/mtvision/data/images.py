"""Images in the forms that people have them in, as samples without annotations."""

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtvision.data.readers.files import read_image
from mtvision.errors import DataError
from mtvision.types import Sample

ImageSource: TypeAlias = Any
"""A path, a PIL image, an array ``(H, W, 3)`` or a tensor ``(3, H, W)``; both uint8 or float in [0, 1]; RGB."""

_DEEPEST = 65535


def as_sample(image: ImageSource) -> Sample:
    """Return an image as a sample without annotations.

    A file gives the same pixels by its path and as a PIL image: turned as its EXIF orientation says, without
    transparency, and of 16 bits the upper 8. Floats are scaled to uint8.

    Args:
        image: a path, a PIL image, an array ``(H, W, 3)`` or a tensor ``(3, H, W)``, on any device; arrays and tensors
            are uint8 or float in [0, 1].

    Raises:
        DataError: if a file is missing or no image, or a value is empty or has not the shape, type or range of one.

    Example:
        >>> as_sample(torch.zeros(3, 40, 60)).original_size
        (40, 60)
    """
    pixels = _pixels(image)
    height, width = pixels.shape[:2]
    return Sample(pixels, None, None, None, None, str(image) if isinstance(image, str | Path) else "", (height, width))


def _pixels(image: ImageSource) -> NDArray[np.uint8]:
    if isinstance(image, str | Path):
        pixels, problems = read_image(Path(image).expanduser())
        if pixels is None:
            raise DataError("; ".join(problems))
        return pixels
    if isinstance(image, Tensor):
        return _from_tensor(image)
    if isinstance(image, np.ndarray):
        return _from_array(image, "an image array", "(H, W, 3) RGB", image.shape)
    if _is_pil(image):
        return _from_pil(image)
    raise DataError(f"an image: expected a path, a PIL image, an array or a tensor, got {type(image).__name__}")


def _from_tensor(image: Tensor) -> NDArray[np.uint8]:
    if image.ndim != 3 or image.shape[0] != 3:
        raise DataError(f"an image tensor: expected (3, H, W), got {tuple(image.shape)}")
    values = image.detach().cpu().permute(1, 2, 0)
    values = values.float() if values.dtype == torch.bfloat16 else values  # which NumPy does not know
    return _from_array(values.numpy(), "an image tensor", "(3, H, W)", tuple(image.shape))


def _is_pil(image: object) -> bool:
    from PIL import Image

    return isinstance(image, Image.Image)


def _from_pil(image: Any) -> NDArray[np.uint8]:
    """Read a PIL image as `read_image` reads its file."""
    from PIL import ImageOps

    if image.mode == "F":
        raise DataError("a PIL image: expected 8 or 16 bits a channel, got mode F; give an array in [0, 1] instead")
    is_deep = image.mode.startswith("I")  # I;16 and its byte orders, or I: 32 bits
    try:
        upright = ImageOps.exif_transpose(image)
        values = np.asarray(upright if is_deep else upright.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"a PIL image cannot be read ({' '.join(str(error).split())})") from None
    return _from_deep(values) if is_deep else _from_array(values, "a PIL image", "pixels", values.shape)


def _from_deep(values: NDArray[Any]) -> NDArray[np.uint8]:
    if values.size and (values.min() < 0 or values.max() > _DEEPEST):
        raise DataError(f"a PIL image: expected grey values 0 to {_DEEPEST}, got {values.min()} to {values.max()}")
    grey = (values >> 8).astype(np.uint8)  # as OpenCV does for a path
    return _from_array(np.stack([grey] * 3, axis=-1), "a PIL image", "pixels", values.shape)


def _from_array(values: NDArray[Any], what: str, expected: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    if values.ndim != 3 or values.shape[2] != 3 or values.size == 0:
        emptiness = ", which is empty" if values.size == 0 else ""
        raise DataError(f"{what}: expected {expected}, got {values.dtype} {tuple(shape)}{emptiness}")
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    kind = f"{what}: expected uint8 or float in [0, 1], got {values.dtype}"
    if values.dtype.kind != "f":
        raise DataError(kind)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):  # also NaN
        raise DataError(f"{kind} in [{low:g}, {high:g}]")
    return np.ascontiguousarray((values.astype(np.float32) * 255).round().astype(np.uint8))
