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
from mtvision.training import processes, sharding
from mtvision.training.averaging import Averaging
from mtvision.training.balanced_backward import BalancedBackward, shared_parameters
from mtvision.training.balancing.base import Balancer
from mtvision.training.compiling import compiled_losses
from mtvision.training.device import deterministic, prepared, uses_channels_last
from mtvision.training.loop import Loop
from mtvision.training.loss_meter import LossMeter
from mtvision.training.optimizers import fuse
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
        plain: the model as the user gave it, where the one that is trained is a copy shared by processes; else None.
    """

    def __init__(
        self,
        model: MultiTaskModel,
        accelerator: "Accelerator",
        loop: Loop,
        averaging: Averaging | None,
        plain: MultiTaskModel | None = None,
    ) -> None:
        self.model, self.accelerator, self.loop, self.averaging = model, accelerator, loop, averaging
        self.plain = plain

    @property
    def scored(self) -> MultiTaskModel:
        """The model to score and to keep: the average where there is one; the plain one is as `collect` left it."""
        return self.plain if self.plain is not None else self._current

    @property
    def _current(self) -> MultiTaskModel:
        return self.averaging.model if self.averaging is not None else self.model

    def collect(self) -> None:
        """Bring `scored` up to date; every process takes part."""
        if self.plain is not None:
            sharding.fill(self.plain, self._current)

    @contextmanager
    def scoring(self) -> Iterator[None]:
        """Have `scored` up to date and on the device; a plain one beside a shared one leaves the device again."""
        self.collect()
        if self.plain is None:
            yield
            return
        self.plain.to(self.accelerator.device)
        try:
            yield
        finally:
            self.plain.to("cpu")

    def forward(self, images: Tensor) -> dict[str, Any]:
        """Return the output of `scored`, in the precision of the training."""
        if self.scored is self.model:
            outputs: dict[str, Any] = self.model(images)  # accelerate has put the precision into its forward
            return outputs
        from accelerate.utils import convert_to_fp32

        with self.accelerator.autocast():
            others: dict[str, Any] = convert_to_fp32(self.scored(images))
        return others

    def weights(self) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor] | None]:
        """Return the weights that are trained, and their average; all processes ask, the main one gets them whole."""
        trained: Mapping[str, Tensor] = sharding.whole(self.model.state_dict())
        return trained, None if self.averaging is None else sharding.whole(self.averaging.model.state_dict())

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
        meter = LossMeter.shared_state([each["meter"] for each in own], processes.number())
        self.loop.restore({**state, "meter": meter})
        torch.manual_seed(torch.initial_seed() + self.loop.steps_done)


@contextmanager
def open_session(model: MultiTaskModel, config: Config, accelerator: "Accelerator") -> Iterator[Session]:
    """Put together all that trains a model, and leave the model unwrapped at the end.

    Where processes share it, a copy is trained; the model has its weights when the session is closed, but not after an
    exception, since other processes may be gone then.
    """
    settings = config.training
    name = settings.balancer.name
    if config.system.compile and getattr(BALANCERS.get(name), "on_gradients", False):
        raise ConfigError(
            [f"system.compile: balancer '{name}' goes back several times, which compiled networks refuse"]
        )
    is_sharded = sharding.is_sharded(config)
    trained = sharding.copied(model, accelerator.device) if is_sharded else model
    _place(trained, accelerator, uses_channels_last(config, accelerator.device))
    with torch.random.fork_rng(devices=[]):  # one that draws must draw alike in all processes
        torch.manual_seed(config.system.seed)
        balancer = BALANCERS.build(settings.balancer, len(model.tasks)).to(accelerator.device)
    # before the model is wrapped: the copy must have a forward of its own
    decay = settings.ema_decay
    averaging = Averaging(trained, decay, one_by_one=is_sharded) if decay is not None else None
    if is_sharded:
        for each in (trained, *([averaging.model] if averaging is not None else [])):
            sharding.shard(each, accelerator.device)
    groups = parameter_groups(trained, balancer, settings)
    optimizer = OPTIMIZERS.build(settings.optimizer, groups, settings.lr, settings.weight_decay)
    if accelerator.scaler is None and not is_sharded:  # a scaler leaves a step out before the optimizer is called
        fuse(optimizer)
    balancing = _balancing(trained, balancer, accelerator, settings.loss_weights)
    with (
        prepared(trained, accelerator, training=not is_sharded) as network,
        deterministic(config.system.deterministic),
        compiled_losses(trained, config.system.compile),
    ):
        called: Any = torch.compile(network) if config.system.compile else network
        loop = Loop(config, trained, called, accelerator.prepare(optimizer), accelerator, balancing, averaging)
        yield Session(trained, accelerator, loop, averaging, model if is_sharded else None)
    if is_sharded:
        sharding.hand_back(model, trained, accelerator.device)


def _balancing(
    model: MultiTaskModel, balancer: Balancer, accelerator: "Accelerator", loss_weights: Mapping[str, float]
) -> BalancedBackward:
    shared, own = shared_parameters(model)
    return BalancedBackward(
        balancer,
        list(model.tasks),
        loss_weights,
        shared,
        own,
        backward=accelerator.backward,
        mean_over_processes=processes.mean,
        scale=accelerator.scaler.scale if accelerator.scaler is not None else lambda loss: loss,
    )


def _place(model: MultiTaskModel, accelerator: "Accelerator", channels_last: bool) -> None:
    if channels_last:
        model.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    else:
        model.to(accelerator.device)
