"""Which parameters are trained, at which rate, and with which decay."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from mtvision.config_sections import TrainingConfig
from mtvision.model import MultiTaskModel


def parameter_groups(model: MultiTaskModel, balancer: nn.Module, settings: TrainingConfig) -> list[dict[str, Any]]:
    """Return the groups for an optimizer: backbone and rest, each with and without weight decay; empty ones left out.

    Norm weights and biases, which are those with less than two dimensions, do not decay unless the config says so: a
    decay of what only scales and shifts changes the function without regularizing it (He et al. 2019, arXiv 1812.01187,
    section 3.1). What a balancer learns is a group of its own, without decay and at the base rate: it is never shared
    by processes, as the others may be, and one group cannot hold both.

    Returns:
        Groups with ``params``, ``weight_decay`` and ``lr_factor``, the multiple of the base learning rate.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    own = {id(parameter) for parameter in model.backbone.parameters()}
    for parameter in model.parameters():
        decays = settings.decay_norms_and_biases or parameter.ndim >= 2
        groups.setdefault((id(parameter) in own, decays), []).append(parameter)
    learned = list(balancer.parameters())
    of_model = [
        {
            "params": parameters,
            "weight_decay": settings.weight_decay if decays else 0.0,
            "lr_factor": settings.backbone_lr_factor if of_backbone else 1.0,
        }
        for (of_backbone, decays), parameters in sorted(groups.items())
    ]
    return [*of_model, *([{"params": learned, "weight_decay": 0.0, "lr_factor": 1.0}] if learned else [])]


@contextmanager
def frozen_backbone(model: MultiTaskModel, frozen: bool) -> Iterator[None]:
    """Keep the backbone as it is while ``frozen``: no gradients, and its norms use their running statistics."""
    parameters = [parameter for parameter in model.backbone.parameters() if parameter.requires_grad]
    if frozen:
        for parameter in parameters:
            parameter.requires_grad_(False)
            parameter.grad = None
        model.backbone.eval()
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
