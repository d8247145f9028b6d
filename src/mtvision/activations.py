"""Activations by name, and their replacement across a whole model."""

from collections.abc import Callable
from typing import Annotated

from pydantic import Field
from torch import nn

from mtvision.registries import ACTIVATIONS

_TORCH_NONLINEARITIES = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.PReLU,
    nn.RReLU,
    nn.ELU,
    nn.CELU,
    nn.SELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Hardswish,
    nn.Softplus,
)
_TIMM_MODULE = "timm.layers.activations"
_TIMM_NONLINEARITIES = {"Swish", "Mish", "HardSwish", "HardMish", "GELU", "GELUTanh", "QuickGELU", "PReLU"}
_TIMM_NONLINEARITIES |= {f"{name}Me" for name in _TIMM_NONLINEARITIES}  # its memory-efficient twins


def is_nonlinearity(module: nn.Module) -> bool:
    """Tell whether a module is an elementwise activation between layers.

    Sigmoid, Hardsigmoid and Tanh are not: they bound a gate (as in squeeze-and-excitation) or an output. timm's classes
    are told by name, which does not import timm.
    """
    kind = type(module)
    of_timm = kind.__module__.startswith(_TIMM_MODULE) and kind.__name__ in _TIMM_NONLINEARITIES
    return of_timm or isinstance(module, _TORCH_NONLINEARITIES)


def replace_activations(module: nn.Module, make: Callable[[], nn.Module]) -> int:
    """Replace every nonlinearity inside ``module`` by a new one, in place; return how many were replaced.

    A nonlinearity that is used in several places stays shared. What worked in place goes on to do so, where the new
    activation can; what did not, does not: its input may be needed elsewhere. ``module`` itself is never replaced.

    Args:
        module: a model or a part of one.
        make: returns a new activation at each call.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.Sigmoid())
        >>> replace_activations(model, nn.GELU)
        1
        >>> model[1]
        GELU(approximate='none')
    """
    new_of: dict[nn.Module, nn.Module] = {}
    for parent in list(module.modules()):
        for name, child in list(
            parent._modules.items()
        ):  # named_children() leaves out the second place of a shared child
            if child is None or not is_nonlinearity(child):
                continue
            if child not in new_of:
                new_of[child] = _matching(make(), child)
            setattr(parent, name, new_of[child])
    return len(new_of)


def _matching(new: nn.Module, old: nn.Module) -> nn.Module:
    if hasattr(new, "inplace"):
        new.inplace = bool(getattr(old, "inplace", False))  # type: ignore[assignment] # a plain attribute
    parameter = next(old.parameters(), None)
    if parameter is not None:
        new.to(parameter.device)
    return new.train(old.training)


@ACTIVATIONS.register("relu")
def relu() -> nn.Module:
    """Rectified linear unit: max(x, 0) (Nair & Hinton 2010)."""
    return nn.ReLU()


@ACTIVATIONS.register("relu6")
def relu6() -> nn.Module:
    """ReLU cut at 6 (Howard et al. 2017, arXiv 1704.04861)."""
    return nn.ReLU6()


@ACTIVATIONS.register("leaky_relu")
def leaky_relu(*, negative_slope: Annotated[float, Field(ge=0, lt=1)] = 0.01) -> nn.Module:
    """ReLU with a small slope below zero (Maas et al. 2013).

    Args:
        negative_slope: below zero.
    """
    return nn.LeakyReLU(negative_slope)


@ACTIVATIONS.register("prelu")
def prelu(*, initial_slope: Annotated[float, Field(ge=0, lt=1)] = 0.25) -> nn.Module:
    """ReLU with one learned slope below zero a layer (He et al. 2015, arXiv 1502.01852).

    Args:
        initial_slope: from which the slope is learned.
    """
    return nn.PReLU(init=initial_slope)


@ACTIVATIONS.register("elu")
def elu(*, alpha: Annotated[float, Field(gt=0)] = 1.0) -> nn.Module:
    """Exponential linear unit: alpha (exp(x) - 1) below zero (Clevert et al. 2015, arXiv 1511.07289).

    Args:
        alpha: the negative of the limit far below zero.
    """
    return nn.ELU(alpha)


@ACTIVATIONS.register("gelu")
def gelu() -> nn.Module:
    """Gaussian error linear unit: x P(Z <= x), Z normal (Hendrycks & Gimpel 2016, arXiv 1606.08415)."""
    return nn.GELU()


@ACTIVATIONS.register("silu")
def silu() -> nn.Module:
    """Sigmoid linear unit, or swish: x sigmoid(x) (Elfwing et al. 2017, arXiv 1702.03118)."""
    return nn.SiLU()


@ACTIVATIONS.register("mish")
def mish() -> nn.Module:
    """Mish: x tanh(softplus(x)) (Misra 2019, arXiv 1908.08681)."""
    return nn.Mish()


@ACTIVATIONS.register("hardswish")
def hardswish() -> nn.Module:
    """Piecewise approximation of swish: x relu6(x + 3) / 6 (Howard et al. 2019, arXiv 1905.02244)."""
    return nn.Hardswish()
