"""The pixels of a label map that lie near the edge of their region."""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def boundary_width(image_size: tuple[int, int], ratio: float = 0.02) -> int:
    """Return the width in pixels of the boundaries in an image: a share of its diagonal, rounded, 1 at least.

    The rule of Cheng et al. 2021 (Boundary IoU, arXiv 2103.16562), whose ratio is 0.02.

    Args:
        image_size: ``(H, W)`` in pixels.
        ratio: share of the diagonal, above 0.

    Example:
        >>> boundary_width((375, 500))
        12
    """
    return max(1, round(ratio * math.hypot(*image_size)))


def boundary_band(labels: Tensor, width: int) -> Tensor:
    """Tell which pixels are within ``width`` of a pixel of another label or of the outside, ``(H, W)`` bool.

    Distances are the larger one of rows and columns. For each label, these are the pixels that ``width`` erosions of
    its mask by 3 x 3 pixels take away, where what is outside of the image is not the label: the boundary of Cheng et
    al. 2021 (arXiv 2103.16562), here of all labels at once.

    Args:
        labels: ``(H, W)`` integer.
        width: in pixels, 1 at least.

    Example:
        >>> boundary_band(torch.zeros(3, 5, dtype=torch.int64), 1).int()
        tensor([[1, 1, 1, 1, 1],
                [1, 0, 0, 0, 1],
                [1, 1, 1, 1, 1]], dtype=torch.int32)
    """
    band = torch.ones_like(labels, dtype=torch.bool)
    height, columns = labels.shape
    if min(height, columns) > 2 * width:
        # a pixel is inside where all labels of the square around it are the same: their least is their greatest
        least, greatest = (_of_squares(labels, 2 * width + 1, extreme) for extreme in (torch.minimum, torch.maximum))
        band[width : height - width, width : columns - width] = least != greatest
    return band


def _of_squares(values: Tensor, side: int, extreme: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return the extreme of each square that is wholly inside, ``(H - side + 1, W - side + 1)``."""
    for dim in (0, 1):
        length = 1
        while length < side:  # windows of twice the length are two windows, which may overlap
            step = min(length, side - length)
            rest = values.shape[dim] - step
            values = extreme(values.narrow(dim, 0, rest), values.narrow(dim, step, rest))
            length += step
    return values
