"""Non-maximum suppression."""

from torch import Tensor


def class_wise_nms(boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """Return the indices of the boxes that stay, best first; boxes of different classes do not suppress each other.

    Args:
        boxes: ``(M, 4)`` float32 xyxy.
        scores: ``(M,)``.
        labels: ``(M,)`` int64.
        threshold: a box goes if its IoU with a better one of its class is above it.
    """
    from torchvision.ops import batched_nms  # costs seconds to import

    kept: Tensor = batched_nms(boxes, scores, labels, threshold)
    return kept
