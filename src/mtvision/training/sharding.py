"""Shares of a model: each of several processes holds a part of its weights, gradients and optimizer state.

That is ``fully_shard`` of torch (FSDP2; Zhao et al. 2023, arXiv 2304.11277): a part of the network is put together from
the shares just before it is computed, and falls apart after. What is shared is a copy; the model that the user gave
stays a plain one, which is brought up to date to be scored and kept, so an evaluation needs no other process.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, distributed, nn

from mtvision.config import Config
from mtvision.errors import ConfigError, TrainingError
from mtvision.model import MultiTaskModel
from mtvision.registries import BALANCERS, OPTIMIZERS
from mtvision.training import processes

logger = logging.getLogger(__name__)

_LEAST = 2**18
"""Weights of a block that is shared by itself: smaller ones would be messages that are not worth their while."""
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def is_sharded(config: Config) -> bool:
    """Tell whether a config's model is to be shared, now; a process alone has nobody to share it with.

    Raises:
        ConfigError: if what else the config says does not go together with sharding, all of it at once.
    """
    if config.system.sharding == "none":
        return False
    problems = [f"system.sharding: {problem}" for problem in _contradictions(config)]
    if problems:
        raise ConfigError(problems)
    if processes.number() == 1:
        logger.info("system.sharding: a process alone has nothing to share; it trains as with 'none'")
    return processes.number() > 1


def _contradictions(config: Config) -> Iterator[str]:
    system, balancer, optimizer = config.system, config.training.balancer.name, config.training.optimizer
    if system.precision == "fp16":
        yield "'full' trains in bf16 or fp32: it does not scale losses, as system.precision 'fp16' must"
    if system.compile:
        yield "'full' does not train compiled networks; set system.compile to false, or sharding to none"
    if system.channels_last:
        yield "'full' cuts weights into rows, which channels_last does not keep together; choose one of the two"
    if getattr(BALANCERS.get(balancer), "on_gradients", False):
        yield (
            f"balancer '{balancer}' needs whole gradients, of which each process has a part; choose one on losses, "
            "such as uncertainty, or sharding none"
        )
    if not acts_weight_by_weight(lambda parameters: OPTIMIZERS.build(optimizer, parameters, 0.01, 0.01)):
        yield (
            f"optimizer '{optimizer.name}' looks at several weights at once, of which each process has a part; choose "
            "one that does not, such as adamw, sgd or lion"
        )


def acts_weight_by_weight(build: Callable[[list[nn.Parameter]], torch.optim.Optimizer]) -> bool:
    """Try whether an optimizer does the same with two halves of tensors as with the whole ones.

    Args:
        build: makes the optimizer of some parameters.

    Example:
        >>> acts_weight_by_weight(lambda parameters: torch.optim.AdamW(parameters))
        True
        >>> from timm.optim import Lamb
        >>> acts_weight_by_weight(lambda parameters: Lamb(parameters))
        False
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        values = [torch.randn(32, 16, 3, 3), torch.randn(32)]
        gradients = [[torch.randn_like(value) for value in values] for _ in range(3)]
        try:
            whole = _stepped(build, values, gradients)
            halves = [
                _stepped(build, [value[rows] for value in values], [[g[rows] for g in step] for step in gradients])
                for rows in (slice(0, 16), slice(16, 32))
            ]
        except (RuntimeError, AssertionError):  # one that needs more than gradients, or another device
            return False
    return all(torch.allclose(value, torch.cat(parts), rtol=1e-4) for value, *parts in zip(whole, *halves, strict=True))


def _stepped(
    build: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
    values: Iterable[Tensor],
    gradients: Iterable[Iterable[Tensor]],
) -> list[Tensor]:
    parameters = [nn.Parameter(value.clone()) for value in values]
    optimizer = build(parameters)
    for step in gradients:
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


def copied(model: MultiTaskModel, device: torch.device) -> MultiTaskModel:
    """Return a copy on the device, as the main process has it; the model itself leaves the device."""
    copy = deepcopy(model.to("cpu")).to(device, memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    processes.spread(copy)
    return copy  # type: ignore[no-any-return]


def shard(model: MultiTaskModel, device: torch.device) -> None:
    """Let each process keep its share of a model's parameters, which are the same in all of them; no way back.

    Backbone, neck and each task are put together one after the other, and so is each large block of the backbone.

    Args:
        model: on the device, with dense tensors.
        device: of the process.

    Raises:
        ConfigError: if a parameter has no dimension to cut.
        TrainingError: if the processes cannot take the mean of their gradients.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    scalars = [name for name, parameter in model.named_parameters() if parameter.ndim == 0]
    if scalars:
        raise ConfigError(
            [f"system.sharding: parameter '{name}' is a scalar; give it the shape (1,) to share it" for name in scalars]
        )
    _check_mean(device)
    mesh = init_device_mesh(device.type, (processes.number(),))
    parts = [*_blocks(model.backbone), model.backbone, *([model.neck] if model.neck else []), *model.tasks.values()]
    for part in [*parts, model]:
        fully_shard(part, mesh=mesh, reshard_after_forward=True)


def _blocks(backbone: nn.Module) -> list[nn.Module]:
    """Return the large blocks of a backbone, the inner before the outer.

    They are the members of plain containers, which are called as they are: what else calls its children may as well
    use their parameters without.
    """
    parents = [module for module in backbone.modules() if type(module) in _CONTAINERS]
    members = dict.fromkeys(child for parent in parents for child in parent.children())
    found: list[nn.Module] = []
    taken: set[nn.Parameter] = set()
    for module in reversed(members):
        left = [parameter for parameter in module.parameters() if parameter not in taken]
        if type(module) not in _CONTAINERS and sum(parameter.numel() for parameter in left) >= _LEAST:
            found.append(module)
            taken.update(left)
    return found


def _check_mean(device: torch.device) -> None:
    """Refuse a backend that does not take means, silently as gloo in some versions of torch (its issue 162338)."""
    values = torch.full((processes.number(),), float(processes.rank()), device=device)
    mean = torch.empty(1, device=device)
    reduce: Any = getattr(distributed, "reduce_scatter_single", None) or distributed.reduce_scatter_tensor  # until 2.13
    try:
        reduce(mean, values, op=distributed.ReduceOp.AVG)
    except (RuntimeError, ValueError):
        mean.fill_(torch.nan)
    if float(mean) != (processes.number() - 1) / 2:
        raise TrainingError(
            f"system.sharding: torch {torch.__version__} cannot average gradients over processes on the device "
            f"'{device.type}'; take a newer one, or sharding none"
        )


def whole(values: Any) -> Any:
    """Return nested values with all tensors whole, in the main process on the CPU; every process takes part.

    In the others what was shared is empty: only the main one writes.
    """
    if processes.number() == 1:
        return values
    if isinstance(values, Mapping):
        return {key: whole(value) for key, value in values.items()}
    if not _is_shared(values):
        return values
    full = values.full_tensor().detach()
    return full.cpu() if processes.is_main() else full.new_empty(0)


def whole_scalar(value: Any) -> Tensor:
    """Return a scalar that may be the processes' together, such as a norm, the same in each."""
    full: Tensor = value.full_tensor() if _is_shared(value) else value
    return full


def shared_like(own: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return whole values by name as they are shared in ``own``; every process takes part."""
    return {name: _shared_like(own.get(name), value) for name, value in values.items()}


def load_optimizer(optimizer: Any, state: Mapping[str, Any]) -> None:
    """Load a `whole` state into an optimizer, whose parameters may be shared."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    entries = {
        index: {name: _shared_like(parameters[index], value) for name, value in values.items()}
        for index, values in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": entries})


def fill(plain: nn.Module, shared: nn.Module) -> None:
    """Give a plain model the weights of its shared copy, and the main process's buffers, in every process."""
    values = shared.state_dict()
    with torch.no_grad():
        for name, own in plain.state_dict().items():
            value = values[name].detach()
            if _is_shared(value):
                value = value.full_tensor()
            else:
                value = value.clone()
                distributed.broadcast(value, src=0)
            own.copy_(value)


def hand_back(plain: nn.Module, shared: nn.Module, device: torch.device) -> None:
    """Leave a plain model as if it had been trained itself: on the device, with weights and modes."""
    fill(plain.to(device), shared)
    for own, other in zip(plain.modules(), shared.modules(), strict=True):
        own.training = other.training


def _shared_like(own: Any, value: Any) -> Any:
    if not _is_shared(own) or value.shape != own.shape:  # of an optimizer's state also what counts steps
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(own.device), own.device_mesh, own.placements)


def _is_shared(value: Any) -> bool:
    if processes.number() == 1:
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(value, DTensor)
