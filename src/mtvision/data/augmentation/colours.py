"""Changes of colour and light, as one linear map of R, G and B or one table of values: nothing moves."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = NDArray[np.uint8]

_LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of R, G, B in the brightness of a pixel: ITU-R BT.601."""

_TO_YIQ = np.array([_LUMA, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])


def jitter(image: Image, *, brightness: float, contrast: float, saturation: float, hue: float) -> Image:
    """Return an image with other colours, by one linear map.

    Args:
        image: uint8 ``(H, W, 3)`` RGB.
        brightness: factor of all values.
        contrast: factor of the difference to the image's mean grey.
        saturation: factor of the difference to the pixel's own grey.
        hue: turn about the grey axis (in YIQ, which is linear), as a share of a full turn.
    """
    import cv2

    linear = brightness * contrast * saturation_matrix(saturation) @ hue_matrix(hue)
    mean = brightness * float(_LUMA @ cv2.mean(image)[:3])
    offset = np.full(3, (1 - contrast) * mean)
    return np.asarray(cv2.transform(image, np.column_stack([linear, offset])), dtype=np.uint8)


def saturation_matrix(factor: float) -> NDArray[np.float64]:
    """Return ``(3, 3)`` that mixes a colour with its grey; 0: grey, 1: as it is."""
    return factor * np.eye(3) + (1 - factor) * np.tile(_LUMA, (3, 1))


def hue_matrix(turn: float) -> NDArray[np.float64]:
    """Return ``(3, 3)`` that turns colours about the grey axis by a share of a full turn; greys and luma stay.

    A positive turn goes from red to yellow to green, as hue is counted in HSV.
    """
    angle = -2 * np.pi * turn
    rotation = np.array(
        [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]], dtype=np.float64
    )
    return np.asarray(np.linalg.inv(_TO_YIQ) @ rotation @ _TO_YIQ, dtype=np.float64)


def relight(image: Image, *, gamma: float = 1.0, gain: float = 1.0, offset: float = 0.0) -> Image:
    """Return an image whose values v in [0, 1] are ``gain * v ** gamma + offset``, clipped, by a table.

    Args:
        image: uint8 ``(H, W, 3)``.
        gamma: above 1 darkens.
        gain: factor.
        offset: added afterwards, in [-1, 1].
    """
    import cv2

    values: Any = np.linspace(0, 1, 256) ** gamma * gain + offset
    table = np.clip(np.rint(values * 255), 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(image, table), dtype=np.uint8)
