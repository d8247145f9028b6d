"""Losses of class logits against soft targets in [0, 1], one value an element, in float32 at least."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from mtvision.ops.precision import at_least_float32
from mtvision.registries import CLASSIFICATION_LOSSES, Loss

_SMALLEST_ERROR = 1e-8
"""Keeps the gradient of ``error^gamma`` finite at 0 for gamma below 1."""

NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class QualityLoss:
    """A class loss whose target at a positive is not 1 but the IoU of its predicted box with its object.

    Attributes:
        function: ``(logits, targets) ->`` elementwise.
        wants_quality: tells such a loss from others, which have no such attribute.

    Example:
        >>> QualityLoss(binary_cross_entropy)(torch.tensor([0.0]), torch.tensor([0.5]))
        tensor([0.6931])
    """

    function: Callable[[Tensor, Tensor], Tensor]
    wants_quality: ClassVar[bool] = True

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss in the shape of the logits."""
        return self.function(logits, targets)


@CLASSIFICATION_LOSSES.register("focal")
def focal(*, gamma: NonNegative = 2.0, alpha: Fraction | None = None) -> Loss:
    """Focal loss, also of soft targets: what is nearly right counts little (Lin et al. 2017, arXiv 1708.02002).

    Args:
        gamma: how little; 0 is the binary cross-entropy.
        alpha: weight of targets of 1, ``1 - alpha`` of targets of 0. Off by default: 0.25 was tuned to hard targets of
            1, where positives outweigh; soft targets weigh them by their quality already.
    """
    return partial(sigmoid_focal_loss, gamma=gamma, alpha=alpha)


@CLASSIFICATION_LOSSES.register("bce")
def bce() -> Loss:
    """Binary cross-entropy, also of soft targets (as in Redmon & Farhadi 2018, YOLOv3, arXiv 1804.02767)."""
    return binary_cross_entropy


@CLASSIFICATION_LOSSES.register("varifocal")
def varifocal(*, alpha: NonNegative = 0.75, gamma: NonNegative = 2.0) -> Loss:
    """Varifocal loss: positives count by their IoU, easy negatives little (Zhang et al. 2021, arXiv 2008.13367).

    Args:
        alpha: weight of the negatives.
        gamma: how little easy negatives count; 0 counts all alike.
    """
    return QualityLoss(partial(varifocal_loss, alpha=alpha, gamma=gamma))


@CLASSIFICATION_LOSSES.register("quality_focal")
def quality_focal(*, beta: NonNegative = 2.0) -> Loss:
    """Quality focal loss, the focal loss of a positive's IoU (Li et al. 2020, arXiv 2006.04388).

    Args:
        beta: how little counts what is nearly right; 0 is the binary cross-entropy.
    """
    return QualityLoss(partial(quality_focal_loss, beta=beta))


def binary_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the binary cross-entropy of each element; ``targets`` in [0, 1].

    Example:
        >>> binary_cross_entropy(torch.tensor([0.0]), torch.tensor([1.0]))
        tensor([0.6931])
    """
    return F.binary_cross_entropy_with_logits(at_least_float32(logits), at_least_float32(targets), reduction="none")


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
    logits, targets = at_least_float32(logits), at_least_float32(targets)
    error = (targets - logits.sigmoid()).abs()
    loss = binary_cross_entropy(logits, targets) * _power(error, gamma)
    return loss if alpha is None else loss * (alpha * targets + (1 - alpha) * (1 - targets))


def quality_focal_loss(logits: Tensor, targets: Tensor, beta: float = 2.0) -> Tensor:
    """Return ``|q - p|^beta`` times the binary cross-entropy of each element (Li et al. 2020, arXiv 2006.04388).

    ``q`` is the target: the IoU at a positive, 0 at a negative. Least at ``p = q``, where it is 0.

    Args:
        logits: any shape.
        targets: of that shape, in [0, 1].
        beta: 0 is the binary cross-entropy.

    Example:
        >>> quality_focal_loss(torch.tensor([0.0, 0.0]), torch.tensor([0.5, 1.0]))
        tensor([0.0000, 0.1733])
    """
    return sigmoid_focal_loss(logits, targets, gamma=beta)


def varifocal_loss(logits: Tensor, targets: Tensor, alpha: float = 0.75, gamma: float = 2.0) -> Tensor:
    """Return the weighted binary cross-entropy of each element (Zhang et al. 2021, arXiv 2008.13367).

    The weight (equation 2) is the target ``q`` itself at a positive, ``alpha p^gamma`` at a negative, which is where
    ``q`` is 0. The gradient goes through ``p^gamma`` too.

    Args:
        logits: any shape.
        targets: of that shape, in [0, 1].
        alpha: weight of the negatives.
        gamma: 0 gives all negatives the weight ``alpha``.

    Example:
        >>> varifocal_loss(torch.tensor([0.0, 0.0]), torch.tensor([0.5, 0.0]))
        tensor([0.3466, 0.1300])
    """
    logits, targets = at_least_float32(logits), at_least_float32(targets)
    weights = torch.where(targets > 0, targets, alpha * _power(logits.sigmoid(), gamma))
    return weights * binary_cross_entropy(logits, targets)


def _power(error: Tensor, gamma: float) -> Tensor:
    return error.clamp(min=_SMALLEST_ERROR if gamma < 1 else 0.0).pow(gamma)
