"""Convolution blocks."""

from math import gcd
from typing import Literal

from torch import nn

_CHANNELS_PER_GROUP = 16
"""The group width that Wu & He 2018 (arXiv 1803.08494, table 3) find best."""


class ConvNormAct(nn.Sequential):
    """Convolution without bias, normalization and ReLU.

    ``(N, K, H, W)`` to ``(N, out_channels, ceil(H / stride), ceil(W / stride))``. The convolution is ``block[0]``, the
    norm ``block[1]``; the model's activation takes the place of the ReLU later (see `mtvision.activations`).

    Args:
        in_channels: K of the input.
        out_channels: K of the output.
        kernel_size: odd.
        stride: of the convolution.
        groups: of the convolution; ``in_channels`` makes it depthwise.
        norm: "batch", or "group" (Wu & He 2018, arXiv 1803.08494) for levels that share weights but not statistics.

    Example:
        >>> import torch
        >>> ConvNormAct(3, 8, stride=2)(torch.zeros(1, 3, 65, 97)).shape
        torch.Size([1, 8, 33, 49])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        groups: int = 1,
        norm: Literal["batch", "group"] = "batch",
    ) -> None:
        super().__init__(
            nn.Conv2d(
                in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, groups=groups, bias=False
            ),
            make_norm(norm, out_channels),
            nn.ReLU(inplace=True),
        )


def make_norm(norm: Literal["batch", "group"], channels: int) -> nn.Module:
    """Return a normalization layer for ``channels``; groups have 16 channels, or more where 16 does not divide them."""
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(gcd(channels, max(channels // _CHANNELS_PER_GROUP, 1)), channels)
