"""What is alive while a model is trained: network, optimizer, balancer, average; and all of it as plain values."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mtvision.config import Config
from mtvision.errors import ConfigError
from mtvision.model import MultiTaskModel
from mtvision.registries import BALANCERS, OPTIMIZERS
from mtvision.training import processes
from mtvision.training.averaging import Averaging
from mtvision.training.balanced_backward import BalancedBackward, shared_parameters
from mtvision.training.device import deterministic, prepared
from mtvision.training.evaluation import LossMeter
from mtvision.training.loop import Loop
from mtvision.training.parameters import parameter_groups
from mtvision.training.random_state import random_state, restore_random_state

if TYPE_CHECKING:
    from accelerate import Accelerator


class Session:
    """One training, alive.

    Attributes:
        model: that is trained.
        accelerator: device, precision, processes.
        loop: its optimizer steps.
        averaging: of its weights, None where the config wants none.
    """

    def __init__(
        self, model: MultiTaskModel, accelerator: "Accelerator", loop: Loop, averaging: Averaging | None
    ) -> None:
        self.model, self.accelerator, self.loop, self.averaging = model, accelerator, loop, averaging

    @property
    def scored(self) -> MultiTaskModel:
        """The model to score and to keep: the average where there is one."""
        return self.averaging.model if self.averaging is not None else self.model

    def forward(self, images: Tensor) -> dict[str, Any]:
        """Return the output of `scored`, in the precision of the training."""
        if self.averaging is None:
            outputs: dict[str, Any] = self.model(images)  # accelerate has put the precision into its forward
            return outputs
        from accelerate.utils import convert_to_fp32

        with self.accelerator.autocast():
            averaged: dict[str, Any] = convert_to_fp32(self.averaging.model(images))
        return averaged

    def state(self) -> dict[str, Any]:
        """Return what is needed, beside the weights, to go on after this step; every process must ask."""
        state = self.loop.state()
        own = {"random": random_state(), "meter": state.pop("meter")}
        return {**state, "of_processes": processes.gather(own)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`; with another number of processes than before, dropout draws other numbers."""
        own: Sequence[Mapping[str, Any]] = state["of_processes"]
        if len(own) == processes.number():
            self.loop.restore({**state, "meter": own[processes.rank()]["meter"]})
            restore_random_state(own[processes.rank()]["random"])
            return
        self.loop.restore({**state, "meter": LossMeter.mean_state([each["meter"] for each in own])})
        torch.manual_seed(torch.initial_seed() + self.loop.steps_done)


@contextmanager
def open_session(model: MultiTaskModel, config: Config, accelerator: "Accelerator") -> Iterator[Session]:
    """Put together all that trains a model, and leave the model unwrapped at the end."""
    settings = config.training
    name = settings.balancer.name
    if config.system.compile and getattr(BALANCERS.get(name), "on_gradients", False):
        raise ConfigError(
            [f"system.compile: balancer '{name}' goes back several times, which compiled networks refuse"]
        )
    _place(model, accelerator, config.system.channels_last)
    with torch.random.fork_rng(devices=[]):  # one that draws must draw alike in all processes
        torch.manual_seed(config.system.seed)
        balancer = BALANCERS.build(settings.balancer, len(model.tasks)).to(accelerator.device)
    groups = parameter_groups(model, balancer, settings)
    optimizer = OPTIMIZERS.build(settings.optimizer, groups, settings.lr, settings.weight_decay)
    # before the model is wrapped: the copy must have a forward of its own
    averaging = Averaging(model, settings.ema_decay) if settings.ema_decay is not None else None
    shared, own = shared_parameters(model)
    balancing = BalancedBackward(
        balancer,
        list(model.tasks),
        settings.loss_weights,
        shared,
        own,
        backward=accelerator.backward,
        mean_over_processes=processes.mean,
        scale=accelerator.scaler.scale if accelerator.scaler is not None else lambda loss: loss,
    )
    with prepared(model, accelerator) as network, deterministic(config.system.deterministic):
        called: Any = torch.compile(network) if config.system.compile else network
        loop = Loop(config, model, called, accelerator.prepare(optimizer), accelerator, balancing, averaging)
        yield Session(model, accelerator, loop, averaging)


def _place(model: MultiTaskModel, accelerator: "Accelerator", channels_last: bool) -> None:
    if channels_last:
        model.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    else:
        model.to(accelerator.device)
