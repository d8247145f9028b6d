"""Initialization schemes, and their application to a model, which says what it did."""

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, Protocol, TypeAlias, runtime_checkable

import torch
from pydantic import Field
from torch import Tensor, nn

from mtvision.layers.blocks import FrozenBatchNorm2d
from mtvision.registries import INITIALIZERS
from mtvision.registry import Component
from mtvision.types import SupportsPrior

Initializer: TypeAlias = Callable[[Tensor], None]
Distribution: TypeAlias = Literal["normal", "uniform"]
Positive = Annotated[float, Field(gt=0)]

_ZERO = "0"

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
    FrozenBatchNorm2d,
)


@runtime_checkable
class _SupportsZeroInit(Protocol):
    """timm's residual blocks."""

    def zero_init_last(self) -> None: ...


@INITIALIZERS.register("kaiming")
def kaiming(*, mode: Literal["fan_in", "fan_out"] = "fan_in", distribution: Distribution = "normal") -> Initializer:
    """Variance 2 / fan, for rectifiers (He et al. 2015, arXiv 1502.01852).

    Args:
        mode: "fan_in" keeps the variance of activations from layer to layer, "fan_out" that of gradients.
        distribution: "normal" or "uniform", of the same variance.
    """
    fill = nn.init.kaiming_normal_ if distribution == "normal" else nn.init.kaiming_uniform_

    def initialize_weight(weight: Tensor) -> None:
        fill(weight, mode=mode, nonlinearity="relu")

    return initialize_weight


@INITIALIZERS.register("xavier")
def xavier(*, distribution: Distribution = "uniform", gain: Positive = 1.0) -> Initializer:
    """Variance 2 gain² / (fan_in + fan_out) (Glorot & Bengio 2010).

    Args:
        distribution: "normal" or "uniform", of the same variance.
        gain: factor of the standard deviation.
    """
    fill = nn.init.xavier_normal_ if distribution == "normal" else nn.init.xavier_uniform_

    def initialize_weight(weight: Tensor) -> None:
        fill(weight, gain=gain)

    return initialize_weight


@INITIALIZERS.register("normal")
def normal(*, std: Positive = 0.01) -> Initializer:
    """Normal distribution with a fixed standard deviation (0.01: Krizhevsky et al. 2012).

    Args:
        std: standard deviation.
    """

    def initialize_weight(weight: Tensor) -> None:
        nn.init.normal_(weight, std=std)

    return initialize_weight


@INITIALIZERS.register("trunc_normal")
def trunc_normal(*, std: Positive = 0.02) -> Initializer:
    """Normal distribution cut at two standard deviations (0.02: Touvron et al. 2020, DeiT, arXiv 2012.12877).

    The default bounds of `torch.nn.init.trunc_normal_` are the values -2 and 2, which at this ``std`` cut nothing.

    Args:
        std: of the normal distribution before the cut; what is drawn has 0.88 of it.
    """

    def initialize_weight(weight: Tensor) -> None:
        nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)

    return initialize_weight


@INITIALIZERS.register("orthogonal")
def orthogonal(*, gain: Positive = 1.0) -> Initializer:
    """Random orthogonal matrix times gain, a row for each output channel (Saxe et al. 2014, arXiv 1312.6120).

    W W^T = gain² I where there are not more output channels than inputs to each of them, else W^T W = gain² I.

    Args:
        gain: factor; the square root of 2 keeps the variance through a rectifier.
    """

    def initialize_weight(weight: Tensor) -> None:
        # the factorization takes neither transposed views nor half precision
        matrix = torch.empty(weight.shape, dtype=torch.promote_types(weight.dtype, torch.float32), device=weight.device)
        weight.copy_(nn.init.orthogonal_(matrix, gain=gain))

    return initialize_weight


def scheme_text(choice: Component) -> str:
    """Return a scheme with all of its options, those left at their defaults too, as `initialize` reports it.

    Raises:
        RegistryError: for an unknown scheme.
        pydantic.ValidationError: for an option that the scheme does not have or a value that it does not take.

    Example:
        >>> scheme_text(Component("xavier", {"gain": 2}))
        "xavier(distribution='uniform', gain=2.0)"
    """
    options = {**INITIALIZERS.describe(choice.name).options, **INITIALIZERS.check_options(choice)}
    return str(Component(choice.name, options))


@torch.no_grad()
def initialize(
    module: nn.Module, initializer: Initializer, *, zero_init_residual: bool = False, scheme: str = "init scheme"
) -> dict[str, str]:
    """Fill the weights of all convolutions and linear layers, set their biases to 0, and reset the norms.

    Each group of a grouped convolution is filled by itself, so that fans are those of a group. Other parameters
    (position embeddings, layer scale, fused attention projections) keep what their module gave them.

    Args:
        module: a model or a part of one.
        initializer: fills one weight tensor ``(fan-out channels, fan-in channels, ...)`` in place.
        zero_init_residual: as in `reset_norms`.
        scheme: what the report calls the initializer, e.g. `scheme_text` of the choice.

    Returns:
        What was done, by parameter name: ``scheme``, ``"0"`` for a bias, and what `reset_norms` returns. Parameters
        that were left alone are missing. See `mtvision.description`.

    Example:
        >>> layer = nn.Linear(3, 4)
        >>> initialize(layer, normal(std=0.1), scheme="normal(std=0.1)")
        {'weight': 'normal(std=0.1)', 'bias': '0'}
        >>> layer.bias.tolist()
        [0.0, 0.0, 0.0, 0.0]
    """
    done: dict[str, str] = {}
    for prefix, layer in module.named_modules():
        if isinstance(layer, (*_CONVOLUTIONS, *_TRANSPOSED, nn.Linear)):
            for weight in _groups(layer):
                initializer(weight)
            if layer.bias is not None:
                layer.bias.zero_()
            done |= _own(layer, prefix, {"weight": scheme, "bias": _ZERO})
    return done | reset_norms(module, zero_init_residual=zero_init_residual)


@torch.no_grad()
def reset_norms(module: nn.Module, *, zero_init_residual: bool = False) -> dict[str, str]:
    """Set the weight of every norm to 1 and its bias to 0.

    Args:
        module: a model or a part of one.
        zero_init_residual: start residual blocks as the identity, where they know how to: the weight of their last norm
            is 0 (Goyal et al. 2017, arXiv 1706.02677). timm does so by default; it slows short training from scratch.

    Returns:
        What was done, by parameter name: ``"norm: 1"``, ``"0"`` or ``"zero (residual)"``.
    """
    done: dict[str, str] = {}
    for prefix, layer in module.named_modules():
        if isinstance(layer, _NORMS):
            for name, value in (("weight", 1.0), ("bias", 0.0)):
                parameter = getattr(layer, name, None)  # None where a norm is not affine
                if isinstance(parameter, Tensor):
                    parameter.fill_(value)
            done |= _own(layer, prefix, {"weight": "norm: 1", "bias": _ZERO})
    if zero_init_residual:
        for prefix, block in module.named_modules():
            if isinstance(block, _SupportsZeroInit):
                done |= dict.fromkeys(_written(block, prefix, block.zero_init_last), "zero (residual)")
    return done


@torch.no_grad()
def reset_priors(module: nn.Module) -> dict[str, str]:
    """Let every submodule that has a prior (`types.SupportsPrior`) set it; after the scheme, which clears biases.

    Returns:
        What was done, by parameter name: ``"prior (p = 0.01)"`` where the sigmoid of a parameter is the part's
        ``prior_probability``, else ``"prior"``.
    """
    done: dict[str, str] = {}
    for prefix, part in module.named_modules():
        if isinstance(part, SupportsPrior):
            for name, parameter in _written(part, prefix, part.reset_prior).items():
                done[name] = _prior_text(part, parameter)
    return done


def _own(layer: nn.Module, prefix: str, texts: Mapping[str, str]) -> dict[str, str]:
    """Return the texts of a layer's own parameters (a parametrized weight is none), by their full name."""
    own = dict(layer.named_parameters(recurse=False, remove_duplicate=False))
    return {_joined(prefix, name): text for name, text in texts.items() if name in own}


def _written(part: Any, prefix: str, act: Callable[[], None]) -> dict[str, nn.Parameter]:
    """Run ``act`` and return the parameters of ``part`` that it wrote to, by their full name.

    Writing the same value counts too: every write in place raises a tensor's version, but one to ``.data``.
    """
    before = {name: (p, p._version, p.detach().clone()) for name, p in part.named_parameters()}
    act()
    found = {}
    for name, parameter in part.named_parameters():
        old, version, values = before.get(name, (None, 0, parameter))
        if parameter is not old or parameter._version != version or not torch.equal(parameter, values):
            found[_joined(prefix, name)] = parameter
    return found


def _prior_text(part: object, parameter: Tensor) -> str:
    probability = getattr(part, "prior_probability", None)
    if isinstance(probability, float) and torch.allclose(
        parameter.sigmoid(), parameter.new_tensor(probability), rtol=1e-3
    ):
        return f"prior (p = {probability:g})"
    return "prior"


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _groups(layer: nn.Module) -> Iterator[Tensor]:
    """Yield views of the weight, one a group, each ``(out, in, ...)`` as the fans are counted."""
    weight = layer.weight
    if not isinstance(weight, Tensor):
        return
    groups = getattr(layer, "groups", 1)
    for part in weight.chunk(int(groups), dim=0):
        yield part.transpose(0, 1) if isinstance(layer, _TRANSPOSED) else part
