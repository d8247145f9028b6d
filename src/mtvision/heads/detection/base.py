"""The contract of a detection head."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from mtvision.ops.boxes import boxes_to_distances, distances_to_boxes

_LARGEST_LOG_DISTANCE = 6.0
"""403 strides, wider than any image; keeps the exponential and its gradient finite."""


class DetectionMaps(NamedTuple):
    """What a detection head says at each of its A points.

    Attributes:
        class_logits: ``(N, A, C)``; the classes are independent (sigmoid), there is no background class.
        box_regression: ``(N, A, 4)``, whatever the head's ``decode`` understands.
        points: ``(A, 3)`` x, y and stride in pixels of the input.
    """

    class_logits: Tensor
    box_regression: Tensor
    points: Tensor


class DetectionHead(nn.Module, ABC):
    """Features to class logits and boxes at points.

    A head of one's own defines `forward`. `decode` is inherited where the regression means log distances, which it does
    unless the head overrides `decode`.
    """

    @abstractmethod
    def forward(self, features: Sequence[Tensor]) -> DetectionMaps:
        """Return logits, regression and points of features ``(N, K, H, W)``, finest first."""

    def decode(self, box_regression: Tensor, points: Tensor) -> Tensor:
        """Return boxes ``(..., A, 4)`` float32 xyxy in input pixels; see `decode_log_distances`."""
        return decode_log_distances(box_regression, points)


def decode_log_distances(box_regression: Tensor, points: Tensor) -> Tensor:
    """Return the boxes whose edges lie ``stride * exp(regression)`` left, above, right and below each point.

    The exponential makes the gradient of an IoU loss depend on an object's shape, not its size: large objects learn as
    fast as small ones from scratch (a softplus gives an object of eight strides an eighth of the gradient).

    Args:
        box_regression: ``(..., A, 4)`` logarithms of the distances left, top, right, bottom in strides.
        points: ``(A, 3)`` x, y, stride.

    Returns:
        ``(..., A, 4)`` float32 xyxy in pixels of the input.
    """
    strides = points[:, 2:].float()  # (A, 1)
    distances = box_regression.float().clamp(max=_LARGEST_LOG_DISTANCE).exp() * strides
    return distances_to_boxes(distances, points[:, :2].float())


def encode_log_distances(boxes: Tensor, points: Tensor) -> Tensor:
    """Return the regression ``(..., A, 4)`` that `decode_log_distances` turns into boxes ``(..., A, 4)``.

    Minus infinity or NaN where a point lies on the edge of its box or outside it.

    Example:
        >>> import torch
        >>> points = torch.tensor([[4.0, 4.0, 8.0]])
        >>> decode_log_distances(encode_log_distances(torch.tensor([[0.0, 0.0, 8.0, 6.0]]), points), points)
        tensor([[0., 0., 8., 6.]])
    """
    return (boxes_to_distances(boxes.float(), points[:, :2].float()) / points[:, 2:].float()).log()
