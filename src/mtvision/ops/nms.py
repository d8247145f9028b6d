"""Non-maximum suppression: which of several detections of one object stay.

Overlaps are computed in float64, where the device has it: no class is shifted out of float32's resolution, and an IoU
that equals the threshold on paper does so in the comparison.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from mtvision.errors import ConfigError
from mtvision.ops.boxes import pairwise_iou

Decay = Callable[[Tensor], Tensor]


def class_wise_nms(boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """Return the indices of the boxes that stay, best first; boxes of different classes do not suppress each other.

    Each class is moved to a place of its own, so that one pass serves all. Of equal scores the first comes first.

    Args:
        boxes: ``(M, 4)`` xyxy.
        scores: ``(M,)``.
        labels: ``(M,)`` int64.
        threshold: a box goes if its IoU with a better one of its class is above it.

    Example:
        >>> boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0], [0.0, 0.0, 8.0, 7.0], [0.0, 0.0, 8.0, 6.0]])
        >>> class_wise_nms(boxes, torch.tensor([0.5, 0.9, 0.7]), torch.tensor([0, 1, 0]), 0.6)
        tensor([1, 2])
    """
    if boxes.numel() == 0:
        return torch.zeros_like(labels)
    precise = _precise(boxes)
    room = precise.amax() - precise.amin() + 1
    return class_agnostic_nms(precise + (labels * room)[:, None], scores, threshold)


def class_agnostic_nms(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Return the indices of the boxes that stay, best first; a box suppresses worse ones of every class.

    Of equal scores the first comes first.

    Args:
        boxes: ``(M, 4)`` xyxy.
        scores: ``(M,)``.
        threshold: a box goes if its IoU with a better one is above it.

    Example:
        >>> boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0], [0.0, 0.0, 8.0, 7.0], [8.0, 8.0, 9.0, 9.0]])
        >>> class_agnostic_nms(boxes, torch.tensor([0.5, 0.9, 0.7]), 0.6)
        tensor([1, 2])
    """
    from torchvision.ops import nms  # costs seconds to import

    kept: Tensor = nms(_precise(boxes), _precise(scores), threshold)
    return kept


@torch.no_grad()
def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    *,
    method: Literal["gaussian", "linear"] = "gaussian",
    sigma: float = 0.5,
    threshold: float = 0.3,
    score_threshold: float = 0.001,
    max_detections: int = 100,
) -> tuple[Tensor, Tensor]:
    """Return indices, best first, and new scores: overlap lowers a score (Bodla et al. 2017, arXiv 1704.04503).

    The best box is taken; the scores of the others of its class are multiplied by ``exp(-IoU^2 / sigma)`` (gaussian)
    or, where their IoU is above ``threshold``, by ``1 - IoU`` (linear); and so on. There is one step for each box that
    is taken, over all classes at once and without waiting for the device.

    Args:
        boxes: ``(M, 4)`` xyxy.
        scores: ``(M,)``, not negative. Of equal ones the first is taken first.
        labels: ``(M,)`` int64.
        method: how a score falls with the overlap.
        sigma: of "gaussian"; a small one removes what overlaps at all.
        threshold: of "linear"; boxes of no larger IoU keep their scores.
        score_threshold: what falls below it is dropped.
        max_detections: boxes that are taken at most.

    Returns:
        Indices ``(K,)`` int64 and their new scores ``(K,)``, which do not rise, ``K <= max_detections``.

    Raises:
        ConfigError: if ``method`` is neither of the two or ``sigma`` is not above 0.

    Example:
        >>> boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0], [0.0, 0.0, 8.0, 4.0], [8.0, 8.0, 9.0, 9.0]])
        >>> soft_nms(boxes, torch.tensor([0.75, 0.5, 0.375]), torch.tensor([0, 0, 0]), method="linear")
        (tensor([0, 2, 1]), tensor([0.7500, 0.3750, 0.2500]))
    """
    decay = _decay(method, sigma, threshold)
    precise, remaining = _precise(boxes), _precise(scores).clone()
    steps = min(max_detections, len(boxes))
    taken, new_scores = labels.new_empty(steps), remaining.new_empty(steps)
    for step in range(steps):
        best = remaining.argmax(dim=0, keepdim=True)  # (1,), an index that stays on the device
        taken[step], new_scores[step] = best[0], remaining[best][0]
        factors = decay(pairwise_iou(precise[best], precise)[0])  # (M,)
        lowered = (labels == labels[best]) & (remaining > 0)  # not what is taken: it stays at -1
        remaining = torch.where(lowered, remaining * factors, remaining).index_fill_(0, best, -1)
    stays = new_scores >= score_threshold
    return taken[stays], new_scores[stays].to(scores.dtype)


def _decay(method: str, sigma: float, threshold: float) -> Decay:
    if method not in ("gaussian", "linear"):
        raise ConfigError([f"soft NMS: method must be 'gaussian' or 'linear', got '{method}'"])
    if not sigma > 0:
        raise ConfigError([f"soft NMS: sigma must be above 0, got {sigma}"])
    if method == "gaussian":
        return lambda iou: (-iou.square() / sigma).exp()
    return lambda iou: torch.where(iou > threshold, 1 - iou, 1.0)


def _precise(values: Tensor) -> Tensor:
    """Return the values in float64, or in float32 on MPS, which has no more."""
    return values.to(torch.float32 if values.device.type == "mps" else torch.float64)
