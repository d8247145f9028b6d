"""Losses of the overlap of regions, of each class over the whole batch: Dice, Jaccard, Tversky."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from mtvision.errors import ConfigError
from mtvision.losses.segmentation.common import NonNegative, class_maps, mean_where
from mtvision.ops.precision import at_least_float32
from mtvision.ops.processes import whole_sum
from mtvision.registries import SEGMENTATION_LOSSES

Positive = Annotated[float, Field(gt=0)]

_SMALLEST = 1e-7
"""Keeps a quotient, a logarithm and the slope of ``x^gamma`` at 0 finite."""


def tversky_loss(
    logits: Tensor,
    mask: Tensor,
    *,
    alpha: float = 0.5,
    beta: float = 0.5,
    gamma: float = 1.0,
    smooth: float = 0.0,
    log_loss: bool = False,
    include_background: bool = True,
) -> Tensor:
    """Tversky loss, ``1 - TP / (TP + alpha FP + beta FN)`` a class (Salehi et al. 2017, arXiv 1706.05721).

    TP, FP and FN are sums of probabilities over all pixels of the batch that are not void. The loss is the mean over
    the classes that occur in the truth; segmentation_models_pytorch divides the same sum by all C. ``alpha = beta =
    0.5`` is Dice, ``alpha = beta = 1`` Jaccard.

    Args:
        logits: ``(N, C, H, W)``.
        mask: int64 ``(N, H, W)`` in [0, C) or 255.
        alpha: weight of false positives.
        beta: weight of false negatives.
        gamma: exponent of each class's loss: focal Tversky (Abraham and Khan 2018, arXiv 1810.07842, whose gamma is 1
            over this one: their 4/3 is 0.75 here).
        smooth: is added to numerator and denominator.
        log_loss: take ``-log`` of a class's score, not 1 minus it.
        include_background: False: class 0 is not one of the classes.

    Example:
        >>> logits = torch.tensor([[[[9.0, -9.0]], [[-9.0, 9.0]]]])
        >>> round(tversky_loss(logits, torch.tensor([[[0, 0]]])).item(), 3)  # a half is found: 1 - 2 / 3
        0.333
    """
    probabilities, truth = class_maps(at_least_float32(logits), mask, include_background)
    pixels = (0, 2, 3)
    hits = torch.where(truth, probabilities, 0).sum(pixels)  # (C,)
    false = torch.where(truth, 0, probabilities).sum(pixels)
    missed = torch.where(truth, 1 - probabilities, 0).sum(pixels)
    size = truth.sum(pixels).to(hits.dtype)
    hits, false, missed, size = whole_sum(torch.stack([hits, false, missed, size])).unbind()
    score = (hits + smooth) / (hits + alpha * false + beta * missed + smooth).clamp(min=_SMALLEST)
    losses = -score.clamp(min=_SMALLEST).log() if log_loss else 1 - score
    if gamma != 1:
        losses = losses.clamp(min=_SMALLEST) ** gamma
    return mean_where(losses, size > 0)


@SEGMENTATION_LOSSES.register("tversky")
class Tversky(nn.Module):
    """Tversky loss: false positives and false negatives weigh differently (Salehi et al. 2017, arXiv 1706.05721).

    Args:
        alpha: weight of false positives.
        beta: weight of false negatives; with alpha 0.3 and beta 0.7 the paper found small lesions best.
        gamma: exponent of each class's loss; 0.75 is the focal Tversky loss (Abraham and Khan 2018, arXiv 1810.07842).
        smooth: is added to numerator and denominator.
        log_loss: take ``-log`` of a class's score, not 1 minus it.
        include_background: False: class 0 is not one of the classes.

    Raises:
        ConfigError: if ``alpha`` and ``beta`` are both 0.

    Example:
        >>> loss = Tversky(alpha=0.3, beta=0.7)
        >>> loss(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64))
        tensor(0.4118)
    """

    def __init__(
        self,
        *,
        alpha: NonNegative = 0.5,
        beta: NonNegative = 0.5,
        gamma: Positive = 1.0,
        smooth: NonNegative = 0.0,
        log_loss: bool = False,
        include_background: bool = True,
    ) -> None:
        super().__init__()
        if alpha == beta == 0:
            raise ConfigError(
                ["training.seg_loss: alpha and beta of 'tversky' must not both be 0: nothing would be wrong"]
            )
        self.alpha, self.beta, self.gamma = alpha, beta, gamma
        self.smooth, self.log_loss, self.include_background = smooth, log_loss, include_background

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return `tversky_loss`."""
        return tversky_loss(
            logits,
            mask,
            alpha=self.alpha,
            beta=self.beta,
            gamma=self.gamma,
            smooth=self.smooth,
            log_loss=self.log_loss,
            include_background=self.include_background,
        )


@SEGMENTATION_LOSSES.register("dice")
class Dice(Tversky):
    """Dice loss, ``1 - 2 TP / (2 TP + FP + FN)``, 1 - F1 of each class (Milletari et al. 2016, arXiv 1606.04797).

    The denominator has plain sums, not the squares of the paper: for hard predictions both are the same. See
    `tversky_loss` for the classes that count.

    Args:
        smooth: is added to TP and to TP + (FP + FN) / 2.
        log_loss: take ``-log`` of a class's score, not 1 minus it.
        include_background: False: class 0 is not one of the classes.

    Example:
        >>> Dice()(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64))
        tensor(0.3333)
    """

    def __init__(self, *, smooth: NonNegative = 0.0, log_loss: bool = False, include_background: bool = True) -> None:
        super().__init__(alpha=0.5, beta=0.5, smooth=smooth, log_loss=log_loss, include_background=include_background)


@SEGMENTATION_LOSSES.register("jaccard")
class Jaccard(Tversky):
    """Jaccard loss, ``1 - TP / (TP + FP + FN)``, 1 - IoU of each class (Rahman and Wang 2016, ISVC).

    See `tversky_loss` for the classes that count.

    Args:
        smooth: is added to numerator and denominator.
        log_loss: take ``-log`` of a class's score, not 1 minus it.
        include_background: False: class 0 is not one of the classes.

    Example:
        >>> Jaccard()(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64))
        tensor(0.5000)
    """

    def __init__(self, *, smooth: NonNegative = 0.0, log_loss: bool = False, include_background: bool = True) -> None:
        super().__init__(alpha=1.0, beta=1.0, smooth=smooth, log_loss=log_loss, include_background=include_background)
