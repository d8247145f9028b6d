"""Losses of class logits against soft targets in [0, 1], one value an element, in float32."""

from collections.abc import Callable
from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from mtvision.registries import CLASSIFICATION_LOSSES

_SMALLEST_ERROR = 1e-8
"""Keeps the gradient of ``error^gamma`` finite at 0 for gamma below 1."""


@CLASSIFICATION_LOSSES.register("focal")
def focal(
    *,
    gamma: Annotated[float, Field(ge=0)] = 2.0,
    alpha: Annotated[float, Field(ge=0, le=1)] | None = None,
) -> Callable[[Tensor, Tensor], Tensor]:
    """Focal loss with soft targets: what is nearly right counts little (Lin et al. 2017; Li et al. 2020).

    ``alpha`` is off by default: 0.25 was tuned to hard targets of 1, where positives outweigh; soft targets weigh them
    by their quality already, and Li et al. use none.
    """

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        return sigmoid_focal_loss(logits, targets, gamma, alpha)

    return loss


@CLASSIFICATION_LOSSES.register("bce")
def bce() -> Callable[[Tensor, Tensor], Tensor]:
    """Binary cross-entropy with soft targets."""
    return binary_cross_entropy


def binary_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the binary cross-entropy of each element; ``targets`` in [0, 1]."""
    return F.binary_cross_entropy_with_logits(logits.float(), targets.float(), reduction="none")


def sigmoid_focal_loss(logits: Tensor, targets: Tensor, gamma: float = 2.0, alpha: float | None = None) -> Tensor:
    """Return ``|t - p|^gamma`` times the binary cross-entropy of each element.

    For targets of 0 and 1 it is the focal loss (Lin et al. 2017, arXiv 1708.02002), for targets between them the
    quality focal loss (Li et al. 2020, arXiv 2006.04388), which is least at ``p = t``.

    Args:
        logits: any shape.
        targets: of that shape, in [0, 1].
        gamma: 0 is the binary cross-entropy.
        alpha: weight of targets of 1, ``1 - alpha`` of targets of 0, linear between; None: no weights.

    Example:
        >>> import torch
        >>> sigmoid_focal_loss(torch.tensor([0.0]), torch.tensor([0.5]))
        tensor([0.])
    """
    targets = targets.float()
    loss = binary_cross_entropy(logits, targets)
    if gamma > 0:
        error = (targets - logits.float().sigmoid()).abs()
        loss = loss * error.clamp(min=_SMALLEST_ERROR if gamma < 1 else 0.0).pow(gamma)
    if alpha is not None:
        loss = loss * (alpha * targets + (1 - alpha) * (1 - targets))
    return loss
