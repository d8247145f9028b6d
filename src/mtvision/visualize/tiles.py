"""Pictures with captions beside and below each other."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_GAP = 4  # pixels
_CAPTION = 14
_QUALITY = 72

Captioned = tuple[str, NDArray[np.uint8]]
"""A caption and a picture ``(H, W, 3)``."""


def tiles(pictures: Sequence[Captioned], most_width: int) -> NDArray[np.uint8]:
    """Return pictures on white, in rows that are at most so wide; a row is as long as the shortest allows.

    Args:
        pictures: at least one; with a caption above each.
        most_width: pixels; a single picture may be wider.

    Example:
        >>> small = ("a", np.zeros((10, 30, 3), np.uint8))
        >>> tiles([small] * 4, 100).shape, tiles([small] * 4, 200).shape
        ((52, 64, 3), (24, 132, 3))
    """
    from PIL import Image, ImageDraw

    widest = max(picture.shape[1] for _, picture in pictures) + _GAP
    fitting = max((most_width + _GAP) // widest, 1)
    columns = -(-len(pictures) // -(-len(pictures) // fitting))  # rows of equal length
    rows = [pictures[start : start + columns] for start in range(0, len(pictures), columns)]
    width = max(sum(picture.shape[1] + _GAP for _, picture in row) for row in rows) - _GAP
    heights = [max(picture.shape[0] for _, picture in row) + _CAPTION for row in rows]
    canvas = Image.new("RGB", (width, sum(heights) + _GAP * (len(rows) - 1)), "white")
    pen, y = ImageDraw.Draw(canvas), 0
    for row, height in zip(rows, heights, strict=True):
        x = 0
        for caption, picture in row:
            pen.text((x, y + 1), fitting_text(caption, picture.shape[1]), fill="#404040")
            canvas.paste(Image.fromarray(np.ascontiguousarray(picture)), (x, y + _CAPTION))
            x += picture.shape[1] + _GAP
        y += height + _GAP
    return np.asarray(canvas).copy()


def fitting_text(text: str, width: int) -> str:
    """Return as much of a text as fits into so many pixels."""
    from PIL import ImageFont

    font = ImageFont.load_default()
    while text and font.getlength(text) > width:
        text = text[:-1]
    return text


def as_jpeg(picture: NDArray[np.uint8], quality: int = _QUALITY) -> bytes:
    """Return a small file of a picture ``(H, W, 3)``."""
    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", quality=quality, optimize=True)
    return buffer.getvalue()


def write_column(pictures: Sequence[Captioned], path: Path) -> Path:
    """Write a PNG of pictures below each other, each with its caption above.

    Args:
        pictures: at least one.
        path: the PNG; its folder is made if it is missing.

    Returns:
        ``path``.
    """
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(tiles(pictures, 1)).save(path, optimize=True)
    return path
