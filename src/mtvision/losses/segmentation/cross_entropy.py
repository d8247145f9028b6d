"""Cross-entropy: over all pixels, and over the hard ones alone."""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from mtvision.losses.class_counts import ClassValues, ClassWeights
from mtvision.losses.segmentation.common import (
    Fraction,
    batch_mean,
    gather,
    per_class,
    pixel_cross_entropy,
)
from mtvision.ops.precision import at_least_float32
from mtvision.ops.processes import divisor
from mtvision.registries import SEGMENTATION_LOSSES
from mtvision.types import VOID

Share = Annotated[float, Field(gt=0, le=1)]


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
    logits = at_least_float32(logits)
    weights = None if class_weights is None else per_class("class_weights", class_weights, logits)
    # torch has no deterministic CUDA form of the summed loss, but of the elementwise one
    total = F.cross_entropy(
        logits, mask, weight=weights, ignore_index=VOID, label_smoothing=label_smoothing, reduction="none"
    ).sum()
    counted = mask != VOID
    count = counted.sum() if weights is None else (gather(weights, mask) * counted).sum()
    return total / divisor(count, least=0)


def hard_pixel_cross_entropy(
    logits: Tensor,
    mask: Tensor,
    *,
    threshold: float = 0.7,
    min_kept: float = 1 / 16,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of the hard pixels alone, known as OHEM or bootstrapping (Wu et al. 2016, arXiv 1605.06885).

    A pixel is hard if the probability of its true class is below ``threshold``; where fewer than ``min_kept`` of the
    batch's pixels are, that many with the greatest loss are kept; where several processes share a batch, of the part of
    each. Weights change the mean over the kept pixels, as in `segmentation_cross_entropy`, not which are kept.

    Args:
        logits: ``(N, C, H, W)``.
        mask: int64 ``(N, H, W)`` in [0, C) or 255.
        threshold: in [0, 1]; 0 keeps only the share ``min_kept``.
        min_kept: share in (0, 1] of the pixels that are not void, rounded up to whole pixels; 1 is the cross-entropy.
        class_weights: ``(C,)``.

    Raises:
        ConfigError: if there is not one weight a class.

    Example:
        >>> logits = torch.tensor([[[[9.0, 0.0]], [[0.0, 0.0]]]])  # sure of the first pixel, not of the second
        >>> hard_pixel_cross_entropy(logits, torch.zeros(1, 1, 2, dtype=torch.int64))
        tensor(0.6931)
    """
    logits = at_least_float32(logits)
    weights = None if class_weights is None else per_class("class_weights", class_weights, logits)
    losses = pixel_cross_entropy(logits, mask)
    kept = _hard_pixels(losses, mask != VOID, threshold, min_kept)
    if weights is None:
        return batch_mean(losses, kept)
    factors = gather(weights, mask) * kept
    return (losses * factors).sum() / divisor(factors.sum(), least=0)


@torch.no_grad()
def _hard_pixels(losses: Tensor, counted: Tensor, threshold: float, min_kept: float) -> Tensor:
    """Return which pixels to keep, bool of the shape of ``losses``."""
    ranked, order = torch.where(counted, losses, -1.0).flatten().sort(descending=True)  # void last
    least = torch.ceil(counted.sum() * min_kept)
    easiest = -math.log(threshold) if threshold > 0 else math.inf
    hard = (ranked > easiest) | ((torch.arange(ranked.shape[0], device=ranked.device) < least) & (ranked >= 0))
    return torch.zeros_like(hard).scatter(0, order, hard).view_as(counted)


@SEGMENTATION_LOSSES.register("cross_entropy")
class CrossEntropy(ClassValues):
    """Softmax cross-entropy over the pixels that are not void (as in Long et al. 2015, arXiv 1411.4038).

    Args:
        class_weights: one weight a class, background first; from the pixel counts of the training set by the rule
            ``balanced`` (all pixels / (number of classes * pixels of the class)) or ``median_frequency`` (median
            frequency / frequency of the class: Eigen and Fergus 2015, arXiv 1411.4734); None: all 1.
        label_smoothing: share of the target that is spread evenly over all classes.

    Example:
        >>> CrossEntropy(class_weights="balanced").needs_class_counts
        True
    """

    class_weights: Tensor | None

    def __init__(self, *, class_weights: ClassWeights = None, label_smoothing: Fraction = 0.0) -> None:
        super().__init__("class_weights", class_weights)
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return `segmentation_cross_entropy`."""
        weights = self.values(logits)
        return segmentation_cross_entropy(logits, mask, class_weights=weights, label_smoothing=self.label_smoothing)


@SEGMENTATION_LOSSES.register("ohem")
class HardPixelCrossEntropy(ClassValues):
    """Cross-entropy of the hard pixels alone (Wu et al. 2016, arXiv 1605.06885).

    Args:
        threshold: a pixel is hard if the probability of its true class is below it.
        min_kept: share of the pixels that is kept at least, the hardest ones.
        class_weights: as in `CrossEntropy`.

    Example:
        >>> loss = HardPixelCrossEntropy(min_kept=0.25)
        >>> loss(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64))
        tensor(0.6931)
    """

    class_weights: Tensor | None

    def __init__(
        self, *, threshold: Fraction = 0.7, min_kept: Share = 1 / 16, class_weights: ClassWeights = None
    ) -> None:
        super().__init__("class_weights", class_weights)
        self.threshold = threshold
        self.min_kept = min_kept

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return `hard_pixel_cross_entropy`."""
        weights = self.values(logits)
        return hard_pixel_cross_entropy(
            logits, mask, threshold=self.threshold, min_kept=self.min_kept, class_weights=weights
        )
