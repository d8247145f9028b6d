"""A loss of the boundaries between classes."""

from typing import Annotated

import torch.nn.functional as F
from pydantic import AfterValidator, Field
from torch import Tensor, nn

from mtvision.losses.segmentation.common import batch_mean, class_maps
from mtvision.ops.precision import at_least_float32
from mtvision.registries import SEGMENTATION_LOSSES

_SMALLEST = 1e-7


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(f"must be odd, got {value}")
    return value


Kernel = Annotated[int, Field(ge=3), AfterValidator(_odd)]


def boundary_loss(
    logits: Tensor,
    mask: Tensor,
    *,
    boundary_kernel: int = 3,
    tolerance_kernel: int = 5,
    include_background: bool = True,
) -> Tensor:
    """One minus the boundary F1 score of each class in each image (Bokhovkin and Burnaev 2019, arXiv 1905.07852).

    The inner boundary of a map is what max pooling of its complement adds to the complement. Precision is the share of
    the predicted boundary that lies near a true one, recall the share of the true one near a predicted one; near is
    what max pooling with the second kernel reaches. The loss is the mean over the classes and images in which the truth
    has a boundary: the edge of an image is none. A void pixel is outside of every class, in truth and prediction alike,
    so that the void contours of VOC leave the boundaries beside them.

    The loss of Kervadec et al. 2019 (arXiv 1812.07032), called boundary loss too, is another one: the sum of the
    probabilities times the signed distance to the true boundary. It needs a distance transform of each mask, may be
    negative and goes with a loss of regions.

    Args:
        logits: ``(N, C, H, W)``.
        mask: int64 ``(N, H, W)`` in [0, C) or 255.
        boundary_kernel: theta_0 of the paper, odd, in pixels: the boundary is ``(boundary_kernel - 1) / 2`` wide.
        tolerance_kernel: theta of the paper, odd, in pixels: boundaries up to ``(tolerance_kernel - 1) / 2`` apart
            (in rows and columns) meet.
        include_background: False: class 0 is not one of the classes.

    Example:
        >>> import torch
        >>> mask = torch.zeros(1, 16, 16, dtype=torch.int64)
        >>> mask[:, 4:9, 4:9] = 1
        >>> logits = 99 * F.one_hot(mask, 2).movedim(-1, 1).float()
        >>> boundary_loss(logits, mask), boundary_loss(logits.roll(2, dims=3), mask)  # all is within the tolerance
        (tensor(0.), tensor(0.))
        >>> boundary_loss(logits.roll(7, dims=3), mask).item() > 0.7
        True
    """
    probabilities, truth = class_maps(at_least_float32(logits), mask, include_background)
    true = _boundary(truth.to(probabilities.dtype), boundary_kernel)
    predicted = _boundary(probabilities, boundary_kernel)
    precision = _share(predicted, _dilate(true, tolerance_kernel))
    recall = _share(true, _dilate(predicted, tolerance_kernel))
    score = 2 * precision * recall / (precision + recall).clamp(min=_SMALLEST)  # (N, C)
    return batch_mean(1 - score, (true > 0).any(dim=(2, 3)))


def _dilate(maps: Tensor, kernel: int) -> Tensor:
    return F.max_pool2d(maps, kernel, stride=1, padding=kernel // 2)


def _boundary(maps: Tensor, kernel: int) -> Tensor:
    outside = 1 - maps
    return _dilate(outside, kernel) - outside


def _share(maps: Tensor, region: Tensor) -> Tensor:
    """Return which share of maps ``(N, C, H, W)`` lies in a region, ``(N, C)``."""
    return (maps * region).sum((2, 3)) / maps.sum((2, 3)).clamp(min=_SMALLEST)


@SEGMENTATION_LOSSES.register("boundary")
class Boundary(nn.Module):
    """One minus the boundary F1 score, by max pooling (Bokhovkin and Burnaev 2019, arXiv 1905.07852).

    It says little where the prediction is far from the truth: add it to a loss of pixels or regions.

    Args:
        boundary_kernel: odd, in pixels: a boundary is ``(boundary_kernel - 1) / 2`` wide (theta_0 of the paper).
        tolerance_kernel: odd, in pixels: boundaries up to ``(tolerance_kernel - 1) / 2`` apart meet (theta; the paper
            advises at most the distance between neighbouring segments).
        include_background: False: class 0 is not one of the classes.

    Example:
        >>> import torch
        >>> Boundary()(torch.zeros(1, 2, 4, 4), torch.eye(4, dtype=torch.int64)[None])
        tensor(1.)
    """

    def __init__(
        self, *, boundary_kernel: Kernel = 3, tolerance_kernel: Kernel = 5, include_background: bool = True
    ) -> None:
        super().__init__()
        self.boundary_kernel = boundary_kernel
        self.tolerance_kernel = tolerance_kernel
        self.include_background = include_background

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return `boundary_loss`."""
        return boundary_loss(
            logits,
            mask,
            boundary_kernel=self.boundary_kernel,
            tolerance_kernel=self.tolerance_kernel,
            include_background=self.include_background,
        )
