"""Convolution blocks and their norms."""

from math import gcd
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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


class FrozenBatchNorm2d(nn.Module):
    """Batch norm whose statistics and affine weights never change (He et al. 2015, appendix A, arXiv 1512.03385).

    ``(N, channels, H, W)`` to the same: what a batch norm does in evaluation, in training too. Weight and bias are
    buffers like the statistics, so there is nothing to train. Loads the state dict of a batch norm.

    Args:
        channels: K of the maps.
        eps: added to the variance.

    Example:
        >>> norm = FrozenBatchNorm2d(2)
        >>> _ = norm.load_state_dict(nn.BatchNorm2d(2).state_dict())
        >>> len(list(norm.parameters()))
        0
    """

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_load_state_dict_pre_hook(_drop_counter)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor) -> Tensor:
        """Normalize ``(N, channels, H, W)`` with the stored statistics."""
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)

    def extra_repr(self) -> str:
        """Return the settings that ``repr`` shows."""
        return f"{len(self.running_mean)}, eps={self.eps}"


def _drop_counter(_module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Pass over the number of batches that a batch norm counts for its statistics."""
    state_dict.pop(f"{prefix}num_batches_tracked", None)
