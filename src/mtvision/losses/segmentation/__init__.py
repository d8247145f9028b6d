"""Segmentation losses: ``loss(logits (N, C, H, W), mask (N, H, W) int64) -> scalar``.

Void pixels (255) never count, a mask without any other pixel gives a zero that is connected to the logits, and half
precision is raised to float32 before the exponentials. Losses of regions take the mean over the classes that occur in
the truth.
"""

from mtvision.losses.segmentation.boundary import Boundary, boundary_loss
from mtvision.losses.segmentation.cross_entropy import (
    CrossEntropy,
    HardPixelCrossEntropy,
    hard_pixel_cross_entropy,
    segmentation_cross_entropy,
)
from mtvision.losses.segmentation.focal import Focal, RareFocal, rare_class_focal, softmax_focal
from mtvision.losses.segmentation.lovasz import Lovasz, lovasz_softmax
from mtvision.losses.segmentation.overlap import Dice, Jaccard, Tversky, tversky_loss
from mtvision.losses.segmentation.sums import WeightedSum

__all__ = [
    "Boundary",
    "CrossEntropy",
    "Dice",
    "Focal",
    "HardPixelCrossEntropy",
    "Jaccard",
    "Lovasz",
    "RareFocal",
    "Tversky",
    "WeightedSum",
    "boundary_loss",
    "hard_pixel_cross_entropy",
    "lovasz_softmax",
    "rare_class_focal",
    "segmentation_cross_entropy",
    "softmax_focal",
    "tversky_loss",
]
