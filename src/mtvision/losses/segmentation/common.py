"""What the segmentation losses share: void pixels, values one a class, maps of each class, means over what is there."""

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from mtvision.errors import ConfigError
from mtvision.ops.processes import divisor
from mtvision.types import VOID

NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


def pixel_cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the cross-entropy of each pixel, ``(N, H, W)``, 0 where void."""
    # torch has no deterministic CUDA form of the summed loss, but of this one
    return F.cross_entropy(logits, mask, ignore_index=VOID, reduction="none")


def per_class(name: str, values: Tensor, logits: Tensor) -> Tensor:
    """Return values ``(C,)`` in the type of the logits.

    Raises:
        ConfigError: if there is not one value a class.
    """
    num_classes = logits.shape[1]
    if len(values) != num_classes:
        raise ConfigError([f"training.seg_loss.{name}: must have one entry a class ({num_classes}), got {len(values)}"])
    return values.to(logits.dtype)


def gather(values: Tensor, mask: Tensor) -> Tensor:
    """Look up ``(C,)`` by mask, giving ``(N, H, W)``; a void pixel gets class 0's value, for the caller to drop."""
    return values[torch.where(mask == VOID, 0, mask)]


def class_maps(logits: Tensor, mask: Tensor, include_background: bool) -> tuple[Tensor, Tensor]:
    """Return the probability and the truth (bool) of each class in each pixel, both ``(N, C, H, W)``.

    A void pixel is 0 and False in every class. Without background the maps of class 0 are left out.
    """
    first = 0 if include_background else 1
    probabilities = logits.softmax(dim=1)[:, first:] * (mask != VOID)[:, None]
    classes = torch.arange(first, logits.shape[1], device=mask.device)
    return probabilities, mask[:, None] == classes[:, None, None]


def mean_where(values: Tensor, counted: Tensor, dim: int = -1) -> Tensor:
    """Return the mean of the values that count along ``dim``, 0 (connected to the values) where none does."""
    return (values * counted).sum(dim) / counted.sum(dim).clamp(min=1)


def batch_mean(values: Tensor, counted: Tensor) -> Tensor:
    """Return the mean of the values of the batch that count, a scalar, over all processes that share it."""
    return (values * counted).sum() / divisor(counted.sum())
