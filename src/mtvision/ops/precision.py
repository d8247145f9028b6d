"""The precision in which boxes and losses are computed."""

import torch
from torch import Tensor


def at_least_float32(values: Tensor) -> Tensor:
    """Return half precision and integers as float32; float32 and float64 as they are.

    Example:
        >>> at_least_float32(torch.zeros(1, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    return values.to(torch.promote_types(values.dtype, torch.float32))
