"""The Lovász-softmax loss."""

import torch
from torch import Tensor, nn

from mtvision.losses.segmentation.common import batch_mean, class_maps, mean_where
from mtvision.ops.precision import at_least_float32
from mtvision.registries import SEGMENTATION_LOSSES
from mtvision.types import VOID


def lovasz_softmax(logits: Tensor, mask: Tensor, *, per_image: bool = False, include_background: bool = True) -> Tensor:
    """Lovász extension of 1 - IoU at the errors of the softmax (Berman et al. 2018, arXiv 1705.08790).

    The mean over the classes that occur in the truth; for hard predictions exactly their mean of 1 - IoU.

    Args:
        logits: ``(N, C, H, W)``.
        mask: int64 ``(N, H, W)`` in [0, C) or 255.
        per_image: True: the mean over the images that are not void of the loss of each, with its own classes; False:
            all pixels of the batch as one image (of each process's part of it, where several share a batch).
        include_background: False: class 0 is not one of the classes.

    Example:
        >>> logits = torch.tensor([[[[99.0, -99.0]], [[-99.0, 99.0]]]])
        >>> lovasz_softmax(logits, torch.tensor([[[0, 0]]]))  # IoU 1/2
        tensor(0.5000)
    """
    probabilities, truth = class_maps(at_least_float32(logits), mask, include_background)
    errors = _pixels_last(torch.where(truth, 1 - probabilities, probabilities), per_image)  # (N or 1, C, pixels)
    truth, counted = _pixels_last(truth, per_image), _pixels_last(mask[:, None] != VOID, per_image)
    losses = (errors * _jaccard_slopes(errors, truth, counted)).sum(dim=2)
    present = truth.any(dim=2)
    return batch_mean(mean_where(losses, present), present.any(dim=1))


def _pixels_last(maps: Tensor, per_image: bool) -> Tensor:
    """Return maps ``(N, K, H, W)`` as ``(N, K, H W)``, or as one image ``(1, K, N H W)``."""
    return maps.flatten(2) if per_image else maps.transpose(0, 1).flatten(1)[None]


@torch.no_grad()
def _jaccard_slopes(errors: Tensor, truth: Tensor, counted: Tensor) -> Tensor:
    """Return by how much each pixel raises 1 - IoU if it and all with greater errors are wrong: the paper's gradient.

    With U the union and I the intersection after the step it is 1 / U for a pixel of the class and I / (U (U - 1)) for
    another: the difference of two Jaccard losses in closed form, where subtracting them would cancel digits.
    Counts are integers, whose cumulative sum is deterministic on CUDA too.
    """
    order = torch.where(counted, errors, -1.0).argsort(dim=2, descending=True)  # void last, where nothing follows
    ranked = truth.gather(2, order)
    total = truth.sum(dim=2, keepdim=True)
    missed = ranked.cumsum(dim=2)
    union = total + torch.arange(1, ranked.shape[2] + 1, device=ranked.device) - missed
    others = (total - missed).to(errors.dtype) / (union * (union - 1)).clamp(min=1)
    slopes = torch.where(ranked, 1 / union.to(errors.dtype), others)
    return torch.zeros_like(errors).scatter(2, order, slopes)


@SEGMENTATION_LOSSES.register("lovasz")
class Lovasz(nn.Module):
    """Lovász-softmax, a surrogate of 1 - IoU (Berman et al. 2018, arXiv 1705.08790).

    Args:
        per_image: True: the mean of the losses of each image; False: all pixels of the batch as one image.
        include_background: False: class 0 is not one of the classes.

    Example:
        >>> Lovasz()(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64))
        tensor(0.5000)
    """

    def __init__(self, *, per_image: bool = False, include_background: bool = True) -> None:
        super().__init__()
        self.per_image = per_image
        self.include_background = include_background

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return `lovasz_softmax`."""
        return lovasz_softmax(logits, mask, per_image=self.per_image, include_background=self.include_background)
