"""Where the windows of an image lie."""

import math

from mtvision.tasks.blending import Region, Size


def windows_of(image_size: Size, window: Size | None, overlap: float) -> list[Region]:
    """Return windows that cover an image, row by row; all have one size and neighbours share at least ``overlap``.

    They are as few as that allows, and evenly spread. Along a side that is not longer than the window's, the window is
    that side.

    Args:
        image_size: ``(H, W)`` in pixels.
        window: ``(height, width)`` in pixels; None: one window, the image.
        overlap: share of a window's side that it has in common with its neighbour, in [0, 1).

    Example:
        >>> [region.left for region in windows_of((40, 100), (40, 40), 0.25)]
        [0, 30, 60]
    """
    height, width = (min(side, own) for side, own in zip(window or image_size, image_size, strict=True))
    return [
        Region(top, left, height, width)
        for top in _starts(image_size[0], height, overlap)
        for left in _starts(image_size[1], width, overlap)
    ]


def _starts(length: int, side: int, overlap: float) -> list[int]:
    step = max(math.floor(side * (1 - overlap)), 1)
    gaps = math.ceil((length - side) / step)
    return [0, *(index * (length - side) // gaps for index in range(1, gaps + 1))]
