"""Segmentation losses: ``loss(logits (N, C, H, W), mask (N, H, W) int64) -> scalar``.

Void pixels (255) never count, a mask without any other pixel gives a zero that is connected to the logits, and half
precision is raised to float32 before the exponentials.
"""

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from mtvision.errors import ConfigError
from mtvision.registries import SEGMENTATION_LOSSES
from mtvision.types import VOID

NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


def segmentation_cross_entropy(
    logits: Tensor, mask: Tensor, *, class_weights: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Softmax cross-entropy, averaged over the pixels that count.

    With ``class_weights`` it is the weighted mean of `torch.nn.functional.cross_entropy`: the sum over pixels divided
    by the sum of the weights of their classes.

    Args:
        logits: ``(N, C, H, W)``.
        mask: int64 ``(N, H, W)`` in [0, C) or 255.
        class_weights: ``(C,)``.
        label_smoothing: share of the target that is spread evenly over all classes (Szegedy et al. 2015, arXiv
            1512.00567).

    Raises:
        ConfigError: if there is not one weight a class.

    Example:
        >>> segmentation_cross_entropy(torch.zeros(1, 4, 2, 2), torch.zeros(1, 2, 2, dtype=torch.int64))
        tensor(1.3863)
    """
    logits = _at_least_float32(logits)
    weights = _per_class("class_weights", class_weights, logits)
    # torch has no deterministic CUDA form of the summed loss, but of the elementwise one
    total = F.cross_entropy(
        logits, mask, weight=weights, ignore_index=VOID, label_smoothing=label_smoothing, reduction="none"
    ).sum()
    counted = mask != VOID
    count = counted.sum() if weights is None else (_gather(weights, mask) * counted).sum()
    return total / torch.where(count > 0, count, 1)


def softmax_focal(logits: Tensor, mask: Tensor, *, gamma: float = 2.0, alpha: Tensor | None = None) -> Tensor:
    """Focal loss of a softmax, ``-alpha_t (1 - p_t)^gamma log p_t``, averaged over the pixels that count.

    The many-class form of Lin et al. 2017 (arXiv 1708.02002, equation 5). ``alpha`` scales a pixel's term and not the
    number it is divided by; ``gamma`` 0 is the cross-entropy.

    Args:
        logits: ``(N, C, H, W)``.
        mask: int64 ``(N, H, W)`` in [0, C) or 255.
        gamma: how strongly pixels that are right already are left out.
        alpha: ``(C,)``, a factor for each true class.

    Raises:
        ConfigError: if there is not one alpha a class.

    Example:
        >>> softmax_focal(torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, dtype=torch.int64), gamma=1.0)
        tensor(0.3466)
    """
    logits = _at_least_float32(logits)
    factors = _per_class("alpha", alpha, logits)
    cross_entropy = F.cross_entropy(logits, mask, ignore_index=VOID, reduction="none")  # (N, H, W), 0 where void
    # 1 - p_t; above zero, since the slope of x^gamma is infinite there for gamma < 1
    error = -torch.expm1(-cross_entropy)
    terms = error.clamp(min=torch.finfo(error.dtype).eps) ** gamma * cross_entropy
    if factors is not None:
        terms = terms * _gather(factors, mask)
    return terms.sum() / (mask != VOID).sum().clamp(min=1)


@SEGMENTATION_LOSSES.register("cross_entropy")
class CrossEntropy(nn.Module):
    """Softmax cross-entropy over the pixels that are not void.

    Args:
        class_weights: one weight a class, background first; None: all 1.
        label_smoothing: as in `segmentation_cross_entropy`.
    """

    class_weights: Tensor | None

    def __init__(self, *, class_weights: list[NonNegative] | None = None, label_smoothing: Fraction = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.register_buffer("class_weights", _as_tensor(class_weights), persistent=False)

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return `segmentation_cross_entropy`."""
        return segmentation_cross_entropy(
            logits, mask, class_weights=self.class_weights, label_smoothing=self.label_smoothing
        )


@SEGMENTATION_LOSSES.register("focal")
class Focal(nn.Module):
    """Softmax focal loss over the pixels that are not void: easy pixels count less.

    Args:
        gamma: as in `softmax_focal`.
        alpha: one factor a class, background first; a single number ``a`` in [0, 1] stands for ``1 - a`` for the
            background and ``a`` for every other class, as Lin et al. 2017 weigh negatives and positives; None: all 1.
    """

    alpha: Tensor | None

    def __init__(self, *, gamma: NonNegative = 2.0, alpha: list[NonNegative] | Fraction | None = None) -> None:
        super().__init__()
        self.gamma = gamma
        self.balance = alpha if isinstance(alpha, int | float) else None
        self.register_buffer("alpha", _as_tensor(alpha if isinstance(alpha, list) else None), persistent=False)

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return `softmax_focal`."""
        alpha = self.alpha
        if self.balance is not None:
            alpha = logits.new_full((logits.shape[1],), self.balance, dtype=torch.float32)
            alpha[0] = 1 - self.balance
        return softmax_focal(logits, mask, gamma=self.gamma, alpha=alpha)


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def _as_tensor(values: list[float] | None) -> Tensor | None:
    return None if values is None else torch.tensor(values, dtype=torch.float32)


def _per_class(name: str, values: Tensor | None, logits: Tensor) -> Tensor | None:
    if values is None:
        return None
    num_classes = logits.shape[1]
    if len(values) != num_classes:
        raise ConfigError([f"training.seg_loss.{name}: must have one entry a class ({num_classes}), got {len(values)}"])
    return values.to(logits.dtype)


def _gather(values: Tensor, mask: Tensor) -> Tensor:
    """Look up ``(C,)`` by mask, giving ``(N, H, W)``; a void pixel gets class 0's value, for the caller to drop."""
    return values[torch.where(mask == VOID, 0, mask)]
