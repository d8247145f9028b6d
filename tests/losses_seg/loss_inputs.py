"""Logits and masks for the tests of the segmentation losses."""

import torch
import torch.nn.functional as F

from mtvision.types import VOID


def example(seed=0, num_classes=5, void=True, dtype=torch.float32, size=(7, 9)):
    """Return random logits and a random mask, of which 30 % are void."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, num_classes, *size, generator=generator, dtype=dtype) * 3
    mask = torch.randint(0, num_classes, (2, *size), generator=generator)
    if void:
        mask[torch.rand(2, *size, generator=generator) < 0.3] = VOID
    return logits.requires_grad_(), mask


def hard(prediction, num_classes=5, certainty=100.0):
    """Return logits that are sure of a mask."""
    return F.one_hot(prediction, num_classes).movedim(-1, 1).float() * certainty


def blobs(seed=0, num_classes=4, size=(24, 28)):
    """Return a mask of connected regions and another one, shifted and with some wrong pixels."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, num_classes, (2, 1, 5, 6), generator=generator).float()
    truth = F.interpolate(coarse, size, mode="nearest")[:, 0].long()
    prediction = truth.roll((1, 2), dims=(1, 2))
    wrong = torch.rand(prediction.shape, generator=generator) < 0.05
    return truth, torch.where(wrong, (prediction + 1) % num_classes, prediction)
