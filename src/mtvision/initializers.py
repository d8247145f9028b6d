"""Initialization schemes, and their application to a model."""

from collections.abc import Callable, Iterator
from typing import Annotated, Literal, Protocol, TypeAlias, runtime_checkable

import torch
from pydantic import Field
from torch import Tensor, nn

from mtvision.registries import INITIALIZERS
from mtvision.types import SupportsPrior

Initializer: TypeAlias = Callable[[Tensor], None]
Distribution: TypeAlias = Literal["normal", "uniform"]
Positive = Annotated[float, Field(gt=0)]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_NORMS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    nn.RMSNorm,
)


@runtime_checkable
class _SupportsZeroInit(Protocol):
    """timm's residual blocks."""

    def zero_init_last(self) -> None: ...


@INITIALIZERS.register("kaiming")
def kaiming(*, mode: Literal["fan_in", "fan_out"] = "fan_in", distribution: Distribution = "normal") -> Initializer:
    """Variance 2 / fan, for rectifiers (He et al. 2015, arXiv 1502.01852)."""
    fill = nn.init.kaiming_normal_ if distribution == "normal" else nn.init.kaiming_uniform_

    def initialize_weight(weight: Tensor) -> None:
        fill(weight, mode=mode, nonlinearity="relu")

    return initialize_weight


@INITIALIZERS.register("xavier")
def xavier(*, distribution: Distribution = "uniform", gain: Positive = 1.0) -> Initializer:
    """Variance 2 gain² / (fan_in + fan_out) (Glorot & Bengio 2010)."""
    fill = nn.init.xavier_normal_ if distribution == "normal" else nn.init.xavier_uniform_

    def initialize_weight(weight: Tensor) -> None:
        fill(weight, gain=gain)

    return initialize_weight


@INITIALIZERS.register("normal")
def normal(*, std: Positive = 0.01) -> Initializer:
    """Normal distribution with a fixed standard deviation (0.01: Krizhevsky et al. 2012)."""

    def initialize_weight(weight: Tensor) -> None:
        nn.init.normal_(weight, std=std)

    return initialize_weight


@torch.no_grad()
def initialize(module: nn.Module, initializer: Initializer, *, zero_init_residual: bool = False) -> None:
    """Fill the weights of all convolutions and linear layers, set their biases to 0, and reset the norms.

    Each group of a grouped convolution is filled by itself, so that fans are those of a group. Other parameters
    (position embeddings, layer scale, fused attention projections) keep what their module gave them.

    Args:
        module: a model or a part of one.
        initializer: fills one weight tensor ``(fan-out channels, fan-in channels, ...)`` in place.
        zero_init_residual: as in `reset_norms`.

    Example:
        >>> layer = nn.Linear(3, 4)
        >>> initialize(layer, normal(std=0.1))
        >>> layer.bias.tolist()
        [0.0, 0.0, 0.0, 0.0]
    """
    for layer in module.modules():
        if isinstance(layer, (*_CONVOLUTIONS, *_TRANSPOSED, nn.Linear)):
            for weight in _groups(layer):
                initializer(weight)
            if layer.bias is not None:
                layer.bias.zero_()
    reset_norms(module, zero_init_residual=zero_init_residual)


@torch.no_grad()
def reset_norms(module: nn.Module, *, zero_init_residual: bool = False) -> None:
    """Set the weight of every norm to 1 and its bias to 0.

    Args:
        module: a model or a part of one.
        zero_init_residual: start residual blocks as the identity, where they know how to: the weight of their last norm
            is 0 (Goyal et al. 2017, arXiv 1706.02677). timm does so by default; it slows short training from scratch.
    """
    for layer in module.modules():
        if isinstance(layer, _NORMS):
            for name, value in (("weight", 1.0), ("bias", 0.0)):
                parameter = getattr(layer, name, None)  # None where a norm is not affine
                if isinstance(parameter, Tensor):
                    parameter.fill_(value)
    if zero_init_residual:
        for block in module.modules():
            if isinstance(block, _SupportsZeroInit):
                block.zero_init_last()


@torch.no_grad()
def reset_priors(module: nn.Module) -> None:
    """Let every submodule that has a prior (`types.SupportsPrior`) set it; after the scheme, which clears biases."""
    for part in module.modules():
        if isinstance(part, SupportsPrior):
            part.reset_prior()


def _groups(layer: nn.Module) -> Iterator[Tensor]:
    """Yield views of the weight, one a group, each ``(out, in, ...)`` as the fans are counted."""
    weight = layer.weight
    if not isinstance(weight, Tensor):
        return
    groups = getattr(layer, "groups", 1)
    for part in weight.chunk(int(groups), dim=0):
        yield part.transpose(0, 1) if isinstance(layer, _TRANSPOSED) else part
