"""Boxes on a picture, each in a colour of its own, and which pixels of a mask are wrong."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtvision.types import VOID
from mtvision.visualize.error_colors import ERROR_COLORS, rgb

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

PIXEL_COLORS = {
    "right": ERROR_COLORS["true"],
    "wrong class": ERROR_COLORS["classification"],
    "object where there is none": ERROR_COLORS["background"],
    "missed object": ERROR_COLORS["missed"],
}
"""Colours of `mask_errors` by what they say of the pixels of objects."""

_DASH, _GAP = 5, 4  # pixels
_OPACITY = {"right": 0.35, "void": 0.6}
_WRONG = 0.8  # opacity
_DIMMED = 0.55


class Mark(NamedTuple):
    """A box that is drawn.

    Attributes:
        box: xyxy pixels of the picture.
        color: ``#rrggbb``.
        text: at its upper edge; empty: none.
        dashed: whether its line is.
    """

    box: tuple[float, float, float, float]
    color: str
    text: str = ""
    dashed: bool = False


def draw_marks(picture: NDArray[np.uint8], marks: Sequence[Mark]) -> NDArray[np.uint8]:
    """Return a copy of a picture with boxes on it, the last one on top; a text that would hide another is left out.

    Args:
        picture: ``(H, W, 3)``.
        marks: may reach over the edge of the picture.
    """
    from PIL import Image, ImageDraw, ImageFont

    canvas = Image.fromarray(picture)
    pen = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=10)
    for mark in marks:
        _rectangle(pen, mark, canvas.size)
    taken: list[tuple[float, float, float, float]] = []
    for mark in reversed(marks):  # texts last, those on top first
        left, top, right, bottom = pen.textbbox((0, 0), mark.text, font=font)
        place = _free_place(mark, (right + 2, bottom + 2), canvas.size, taken) if mark.text else None
        if place is not None:
            x, y = place
            pen.rectangle((x + left - 1, y + top - 1, x + right + 1, y + bottom), fill=mark.color)
            pen.text((x, y), mark.text, fill=_readable_on(mark.color), font=font)
    return np.asarray(canvas).copy()


def _free_place(
    mark: Mark, size: tuple[float, float], canvas: tuple[int, int], taken: list[tuple[float, float, float, float]]
) -> tuple[float, float] | None:
    """Return where the text of a mark hides no other: above the box, at its inner or outer lower edge; and take it."""
    width, height = size
    x = min(max(mark.box[0], 0), max(canvas[0] - width, 0))
    for edge in (mark.box[1] - height, mark.box[3] - height, mark.box[3], mark.box[1]):
        y = min(max(edge, 0), max(canvas[1] - height, 0))
        if all(x >= right or x + width <= left or y >= low or y + height <= top for left, top, right, low in taken):
            taken.append((x, y, x + width, y + height))
            return x, y
    return None


def _rectangle(pen: "ImageDraw", mark: Mark, size: tuple[int, int]) -> None:
    x1, y1, x2, y2 = mark.box
    x2, y2 = max(x2 - 1, x1), max(y2 - 1, y1)
    if not mark.dashed:
        pen.rectangle((x1, y1, x2, y2), outline=mark.color, width=2)
        return
    width, height = size
    for start in np.arange(max(x1, 0), min(x2, width), _DASH + _GAP):
        for y in (y1, y2):
            pen.line((start, y, min(start + _DASH, x2), y), fill=mark.color, width=2)
    for start in np.arange(max(y1, 0), min(y2, height), _DASH + _GAP):
        for x in (x1, x2):
            pen.line((x, start, x, min(start + _DASH, y2)), fill=mark.color, width=2)


def _readable_on(color: str) -> str:
    red, green, blue = rgb(color)
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 125 else "white"


def mask_errors(
    picture: NDArray[np.uint8], truth: NDArray[np.uint8], predicted: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Return a grey copy of a picture with the pixels of objects coloured by what is right, see `PIXEL_COLORS`.

    What is background in both stays grey, and void is light.

    Args:
        picture: ``(H, W, 3)``.
        truth: ``(H, W)``, 0 = background, 255 = void.
        predicted: ``(H, W)``, 0 = background.

    Example:
        >>> black, truth = np.zeros((1, 3, 3), np.uint8), np.array([[0, 1, 1]], np.uint8)
        >>> mask_errors(black, truth, np.array([[0, 0, 2]], np.uint8))[0].tolist()
        [[0, 0, 0], [192, 182, 53], [163, 97, 134]]
    """
    grey = picture.astype(np.float32).mean(axis=2, keepdims=True).repeat(3, axis=2) * _DIMMED
    void = truth == VOID
    kinds = {
        "right": (truth == predicted) & (truth > 0),
        "wrong class": (truth > 0) & (predicted > 0) & (truth != predicted) & ~void,
        "object where there is none": (truth == 0) & (predicted > 0),
        "missed object": (truth > 0) & (predicted == 0) & ~void,
    }
    for name, pixels in kinds.items():
        opacity = _OPACITY.get(name, _WRONG)
        grey[pixels] = (1 - opacity) * grey[pixels] + opacity * np.array(rgb(PIXEL_COLORS[name]), dtype=np.float32)
    grey[void] = (1 - _OPACITY["void"]) * grey[void] + _OPACITY["void"] * 235
    return np.asarray(grey.round().astype(np.uint8))
