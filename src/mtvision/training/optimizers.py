"""Optimizers: torch's two standards by their own names, timm's by name."""

from collections.abc import Callable, Iterable
from typing import Annotated, Any

from pydantic import Field
from torch import nn, optim

from mtvision.registries import OPTIMIZERS
from mtvision.registry import Catalogue

Momentum = Annotated[float, Field(ge=0, lt=1)]
Parameters = Iterable[nn.Parameter]


@OPTIMIZERS.register("adamw")
def adamw(
    parameters: Parameters,
    lr: float,
    weight_decay: float,
    *,
    beta1: Momentum = 0.9,
    beta2: Momentum = 0.999,
    eps: Annotated[float, Field(gt=0)] = 1e-8,
) -> optim.Optimizer:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv 1711.05101).

    Args:
        parameters: to optimize.
        lr: learning rate.
        weight_decay: share of a weight, times ``lr``, that is taken off at each step.
        beta1: decay of the running mean of the gradient.
        beta2: decay of the running mean of its square.
        eps: keeps the division by the root of that finite.
    """
    return optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, betas=(beta1, beta2), eps=eps)


@OPTIMIZERS.register("sgd")
def sgd(
    parameters: Parameters,
    lr: float,
    weight_decay: float,
    *,
    momentum: Momentum = 0.9,
    nesterov: bool = False,
) -> optim.Optimizer:
    """Stochastic gradient descent with momentum (Robbins & Monro 1951; Polyak 1964).

    Args:
        parameters: to optimize.
        lr: learning rate.
        weight_decay: times the weight, added to its gradient.
        momentum: share of the last step that is kept.
        nesterov: look one step ahead (Nesterov 1983; Sutskever et al. 2013).
    """
    return optim.SGD(parameters, lr=lr, weight_decay=weight_decay, momentum=momentum, nesterov=nesterov)


def fuse(optimizer: optim.Optimizer) -> None:
    """Let torch's own two optimizers update all weights in one launch, where those lie on a CUDA device.

    What they compute stays the same, up to the rounding of float32.
    """
    groups = optimizer.param_groups
    on_cuda = all(parameter.is_cuda for group in groups for parameter in group["params"])
    if on_cuda and type(optimizer) in (optim.AdamW, optim.SGD):
        for group in groups:
            group.update(fused=True, foreach=False)


def _find_in_timm(name: str) -> Callable[..., optim.Optimizer] | None:
    if name not in _timm_names():
        return None

    def from_timm(parameters: Parameters, lr: float, weight_decay: float) -> optim.Optimizer:
        """Any of timm's optimizers, with its own defaults (Wightman 2019, PyTorch Image Models)."""
        from timm.optim import create_optimizer_v2

        built: Any = create_optimizer_v2(list(parameters), opt=name, lr=lr, weight_decay=weight_decay)
        return built  # type: ignore[no-any-return]

    return from_timm


def _timm_names() -> list[str]:
    from timm.optim import list_optimizers

    return list(list_optimizers())


OPTIMIZERS.set_fallback(Catalogue(_find_in_timm, _timm_names))
