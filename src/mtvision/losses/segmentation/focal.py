"""Focal losses: easy pixels count less, everywhere or in rare classes alone."""

from functools import partial
from typing import Annotated, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from mtvision.data.statistics.class_counts import ClassCounts
from mtvision.errors import ConfigError
from mtvision.losses.class_counts import ClassValues, OneSentence, WeightRule
from mtvision.losses.segmentation.common import (
    Fraction,
    NonNegative,
    batch_mean,
    gather,
    per_class,
    pixel_cross_entropy,
)
from mtvision.ops.precision import at_least_float32
from mtvision.registries import SEGMENTATION_LOSSES
from mtvision.types import VOID

Alpha: TypeAlias = Annotated[list[NonNegative] | Fraction | WeightRule | None, OneSentence]
ClassId: TypeAlias = Annotated[int, Field(ge=0, lt=VOID)]
RareClasses: TypeAlias = Annotated[list[ClassId] | Literal["auto"], OneSentence]


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
    logits = at_least_float32(logits)
    factors = None if alpha is None else per_class("alpha", alpha, logits)
    losses = pixel_cross_entropy(logits, mask)
    terms = _modulation(losses, gamma) * losses
    if factors is not None:
        terms = terms * gather(factors, mask)
    return batch_mean(terms, mask != VOID)


def rare_class_focal(logits: Tensor, mask: Tensor, *, rare: Tensor, gamma: float = 2.0) -> Tensor:
    """Focal loss in pixels whose true class is rare, cross-entropy in all others, averaged over the pixels that count.

    The focal term is that of Lin et al. 2017 (arXiv 1708.02002). Without rare classes it is the cross-entropy, with all
    of them `softmax_focal`.

    Args:
        logits: ``(N, C, H, W)``.
        mask: int64 ``(N, H, W)`` in [0, C) or 255.
        rare: ``(C,)``, above 0 for a rare class.
        gamma: as in `softmax_focal`.

    Raises:
        ConfigError: if ``rare`` has not one entry a class.

    Example:
        >>> mask = torch.tensor([[[0, 1]]])
        >>> rare_class_focal(torch.zeros(1, 2, 1, 2), mask, rare=torch.tensor([0.0, 1.0]), gamma=1.0)
        tensor(0.5199)
    """
    logits = at_least_float32(logits)
    is_rare = gather(per_class("rare", rare, logits) > 0, mask)
    losses = pixel_cross_entropy(logits, mask)
    terms = torch.where(is_rare, _modulation(losses, gamma), 1.0) * losses
    return batch_mean(terms, mask != VOID)


def find_rare_classes(counts: ClassCounts, share: float) -> NDArray[np.float64]:
    """Return 1 for a class with less than ``share`` of all annotated pixels, 0 for the others, ``(C,)``."""
    total = max(int(counts.pixels.sum()), 1)
    return (counts.pixels < share * total).astype(np.float64)


def _modulation(losses: Tensor, gamma: float) -> Tensor:
    """Return ``(1 - p_t)^gamma`` from the cross-entropy ``-log p_t``."""
    error = -torch.expm1(-losses)
    # above zero, since the slope of x^gamma is infinite there for gamma < 1
    return error.clamp(min=torch.finfo(error.dtype).eps) ** gamma


@SEGMENTATION_LOSSES.register("focal")
class Focal(ClassValues):
    """Softmax focal loss over the pixels that are not void: easy pixels count less (Lin et al. 2017, arXiv 1708.02002).

    Args:
        gamma: how strongly pixels that are right already are left out; 0 is the cross-entropy.
        alpha: one factor a class, background first; a single number ``a`` in [0, 1] stands for ``1 - a`` for the
            background and ``a`` for every other class, as Lin et al. 2017 weigh negatives and positives; ``balanced``
            or ``median_frequency``: from the pixel counts of the training set, as in `CrossEntropy`; None: all 1.

    Example:
        >>> loss = Focal(gamma=0.0, alpha=0.25)
        >>> loss(torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, dtype=torch.int64))
        tensor(0.5199)
    """

    alpha: Tensor | None

    def __init__(self, *, gamma: NonNegative = 2.0, alpha: Alpha = None) -> None:
        super().__init__("alpha", None if isinstance(alpha, int | float) else alpha)
        self.gamma = gamma
        self.balance = alpha if isinstance(alpha, int | float) else None

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return `softmax_focal`."""
        alpha = self.values(logits)
        if self.balance is not None:
            alpha = logits.new_full((logits.shape[1],), self.balance, dtype=torch.float32)
            alpha[0] = 1 - self.balance
        return softmax_focal(logits, mask, gamma=self.gamma, alpha=alpha)


@SEGMENTATION_LOSSES.register("rare_focal")
class RareFocal(ClassValues):
    """Focal loss on rare classes, cross-entropy on common ones (after Lin et al. 2017, arXiv 1708.02002).

    Args:
        gamma: of the focal loss on rare classes; 0 is the cross-entropy.
        rare_classes: their ids, 0 is the background; ``auto``: those with less than ``rare_share`` of the annotated
            pixels of the training set (until its counts are known no class is rare).
        rare_share: a fraction of all pixels that are not void.

    Raises:
        ConfigError: at the first call, if an id is not below the number of classes.

    Example:
        >>> loss = RareFocal(gamma=1.0, rare_classes=[1])
        >>> loss(torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]]))
        tensor(0.5199)
    """

    rare: Tensor

    def __init__(
        self,
        *,
        gamma: NonNegative = 2.0,
        rare_classes: RareClasses = "auto",
        rare_share: Fraction = 0.01,
    ) -> None:
        given = rare_classes if isinstance(rare_classes, list) else None
        rule = partial(find_rare_classes, share=rare_share) if given is None else None
        super().__init__("rare", None if given is None else [float(k in given) for k in range(VOID)], rule, initial=0.0)
        self.gamma = gamma
        self.largest = max(given or [0])

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return `rare_class_focal`."""
        num_classes = logits.shape[1]
        if self.largest >= num_classes:
            raise ConfigError(
                [f"training.seg_loss.rare_classes: there is no class {self.largest}, only 0 to {num_classes - 1}"]
            )
        self.check_counts(logits)
        return rare_class_focal(logits, mask, rare=self.rare[:num_classes], gamma=self.gamma)
