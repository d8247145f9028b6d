"""Resizing of feature maps and logits."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def resize_to(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize ``(N, K, H, W)`` to ``(N, K, *size)``, bilinear, with pixel centres at half-integers.

    Example:
        >>> import torch
        >>> resize_to(torch.zeros(1, 2, 4, 4), (7, 9)).shape
        torch.Size([1, 2, 7, 9])
    """
    return F.interpolate(x, size=(size[0], size[1]), mode="bilinear", align_corners=False)
