"""The optimizer steps of one epoch."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mtvision.config import Config
from mtvision.errors import DataError, TrainingError
from mtvision.model import MultiTaskModel
from mtvision.ops.processes import shared_batch
from mtvision.registries import SCHEDULES
from mtvision.training import processes, sharding
from mtvision.training.averaging import Averaging
from mtvision.training.balanced_backward import BalancedBackward
from mtvision.training.device import uses_channels_last
from mtvision.training.kept_buffers import KeptBuffers
from mtvision.training.loss_meter import LossMeter, flatten, weighted_sum
from mtvision.training.schedule import learning_rate, scaled_rate
from mtvision.types import Batch

logger = logging.getLogger(__name__)


class _Seen(NamedTuple):
    """A batch whose losses are still on the device.

    Attributes:
        num_images: that it has in this process.
        image_ids: of its images; the images themselves must not stay in memory until the end of a group of batches.
        names: of its losses, their sum first.
        losses: ``(L,)``.
        broken: a bool scalar: their sum is not finite in some process.
    """

    num_images: int
    image_ids: Sequence[str]
    names: tuple[str, ...]
    losses: Tensor
    broken: Tensor


class Loop:
    """Optimizer steps, on what accelerate has prepared.

    A step waits for the device once, before the optimizer acts: all that the processor must know comes in one message.
    A balancer that looks at losses, and fp16 with its scaler, must know before the backward pass: one more wait.

    Args:
        config: its ``training`` section and number of epochs.
        model: whose losses are used.
        network: the model as accelerate wraps it.
        optimizer: likewise.
        accelerator: precision and clipping.
        balancing: backward passes and weights of the tasks.
        averaging: of the weights; None: none.

    Attributes:
        meter: mean losses since it was last reset.
        rate_at: base learning rate by fractional epoch.
        rate: that of the last step.
        losses: of the last batch, on the processor.
        batch_images: how many that batch had, in this process.
        problem: why the last skipped step was skipped.
        steps_done: optimizer steps in the run.
        skipped: how many more were left out since something was not finite.
    """

    def __init__(
        self,
        config: Config,
        model: MultiTaskModel,
        network: Any,
        optimizer: Any,
        accelerator: Any,
        balancing: BalancedBackward,
        averaging: Averaging | None = None,
    ) -> None:
        self.config, self.model, self.network = config, model, network
        self.optimizer, self.accelerator = optimizer, accelerator
        self.balancing, self.averaging = balancing, averaging
        self.rate_at: Callable[[float], float] = _schedule_of(config)
        self.meter, self.rate, self.problem = LossMeter(), 0.0, ""
        self.losses: dict[str, Tensor] = {}
        self._weights: dict[str, float] = {}
        self._statistics, self._seen = KeptBuffers(model), list[_Seen]()
        self.batch_images = self.steps_done = self.skipped = self._skipped_in_row = 0

    def steps(self, epoch: int, batches: Iterator[Batch], start: int, number: int) -> Iterator[int]:
        """Do the steps of an epoch, and yield after each how many batches are done.

        Args:
            epoch: counted from 0.
            batches: those that are left of it.
            start: how many were done before.
            number: how many there are in the epoch.

        Raises:
            TrainingError: after ``max_skipped_steps`` steps in a row that could not be made.
        """
        done = start
        while done < number:
            group = min(self.config.training.accumulate, number - done)  # the last group may be smaller
            self._set_learning_rate(epoch + (done + group - 0.5) / number)
            self._step(_taken(batches, group, done, number), group)
            done += group
            yield done

    @property
    def weights(self) -> dict[str, float]:
        """The last weights of the tasks; where a balancer chose them, reading them waits for the device."""
        if not self.balancing.balancer.looks_at_losses:
            return dict.fromkeys(self.balancing.factors, 1.0) if self.steps_done else self._weights
        return {name: float(value) for name, value in self.balancing.weights.items()} or self._weights

    def state(self) -> dict[str, Any]:
        """Return what is needed to go on after this step; every process must ask."""
        scaler = self.accelerator.scaler
        return {
            "optimizer": sharding.whole(self.optimizer.state_dict()),
            "balancer": self.balancing.balancer.state_dict(),
            "scaler": scaler.state_dict() if scaler is not None else {},
            "weights": self.weights,
            "meter": self.meter.state(),
            "lr": self.rate,
            "steps_done": self.steps_done,
            "skipped": self.skipped,
            "skipped_in_row": self._skipped_in_row,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        sharding.load_optimizer(self.optimizer, state["optimizer"])
        self.balancing.balancer.load_state_dict(state["balancer"])
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self._weights = dict(state["weights"])
        self.meter.restore(state["meter"])
        self.rate, self.steps_done, self.skipped = state["lr"], state["steps_done"], state["skipped"]
        self._skipped_in_row = state["skipped_in_row"]

    def _step(self, batches: Iterator[Batch], number: int) -> None:
        """Do one optimizer step over a group of ``number`` batches; where a loss of it is not finite, none."""
        self._statistics.keep()
        self._seen = []
        problem = ""
        for index, loaded in enumerate(batches, start=1):
            batch = loaded.to(self.accelerator.device, non_blocking=True)
            waits = index < number or self.balancing.balancer.on_gradients
            with self.accelerator.no_sync(self.network) if waits else nullcontext():
                problem = problem or self._backward(batch, 1 / number)
        problem = problem or self._update()
        self.optimizer.zero_grad()
        if problem:
            self._statistics.put_back()  # the forward pass has put what is not finite into those of batch norm
            self._skip(problem)
            return
        if self.accelerator.scaler is not None and self.accelerator.optimizer_step_was_skipped:
            return  # the scaler is looking for its scale
        self._skipped_in_row = 0
        self.steps_done += 1
        if self.averaging is not None:
            self.averaging.update(self.model, self.steps_done)
        self._look_after_step(batch)

    def _backward(self, batch: Batch, share: float) -> str:
        """Add a batch's gradients; return what is wrong instead, where that must be known now."""
        with shared_batch():
            parts = self.model.loss(self._forward(batch.images), batch.targets)
        total = weighted_sum(parts, self.config.training.loss_weights)
        named = flatten(parts, total)
        losses = torch.stack([value.detach().to(total) for value in named.values()])
        broken = processes.any_of(~torch.isfinite(total.detach()))
        self._seen.append(_Seen(len(batch.images), batch.image_ids, tuple(named), losses, broken))
        if self.accelerator.scaler is not None or self.balancing.balancer.looks_at_losses:
            problem, _ = self._look([])
            if problem:
                return problem
        self.balancing.backward(_by_task(parts), share)
        return ""

    def _update(self) -> str:
        """Let the optimizer act; return what is wrong instead, where a loss or the gradient is not finite."""
        self.balancing.finish()
        limit = self.config.training.clip_norm
        # without a limit only to look at the norm: nothing is above infinity
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), math.inf if limit is None else limit)
        scaler = self.accelerator.scaler
        if scaler is None:
            problem, (found,) = self._look([sharding.whole_scalar(norm)])
            if problem or not math.isfinite(found):
                return problem or f"the gradient is not finite, though the loss is ({float(self.losses['loss']):.4g})"
        self.optimizer.step()
        if scaler is not None and self.accelerator.optimizer_step_was_skipped and scaler.get_scale() < 1:
            return "the gradient is not finite at any scale of the loss"
        return ""

    def _look(self, scalars: Sequence[Tensor]) -> tuple[str, list[float]]:
        """Wait for the device; take down the losses of the batches since the last look.

        Returns:
            What is wrong with the first batch whose loss is not finite, if there is one, and the scalars' values.
        """
        seen, self._seen = self._seen, []
        flags = [each.broken for each in seen]
        pieces = [each.losses for each in seen] + [value.detach().reshape(1) for value in (*flags, *scalars)]
        kind = max((piece.dtype for piece in pieces), key=lambda dtype: dtype.itemsize)
        values = torch.cat([piece.to(kind) for piece in pieces]).cpu()
        *losses, broken, asked = values.split([*(len(each.names) for each in seen), len(seen), len(scalars)])
        for each, of_batch, is_broken in zip(seen, losses, broken.tolist(), strict=True):
            self.losses = dict(zip(each.names, of_batch.unbind(), strict=True))
            self.batch_images = each.num_images
            if is_broken:
                return _not_finite(self.losses, each.image_ids), asked.tolist()
            self.meter.update(self.losses, self.batch_images)
        return "", asked.tolist()

    def _look_after_step(self, batch: Batch) -> None:
        """Show a balancer that wants it what the step has made of the losses."""
        balancer = self.balancing.balancer
        if not balancer.looks_after_step:
            return
        self._statistics.keep()
        with torch.no_grad(), shared_batch():
            parts = _by_task(self.model.loss(self._forward(batch.images), batch.targets))
        self._statistics.put_back()  # batch norm has seen the batch already
        if not processes.any_of(~torch.isfinite(torch.stack(list(parts.values()))).all()):
            self.balancing.after_step(parts)

    def _skip(self, problem: str) -> None:
        self.balancing.discard()
        self.skipped += 1
        self.problem = problem
        self._skipped_in_row += 1
        logger.warning("step skipped: %s", problem)
        if self._skipped_in_row >= self.config.training.max_skipped_steps:
            raise TrainingError(
                f"{self._skipped_in_row} steps in a row could not be made; {problem}. Try a lower training.lr in a "
                "new run; the last checkpoint is from before them"
            )

    def _forward(self, images: Tensor) -> dict[str, Any]:
        if uses_channels_last(self.config, images.device):
            images = images.contiguous(memory_format=torch.channels_last)
        try:
            outputs: dict[str, Any] = self.network(images)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            shape = " x ".join(map(str, images.shape))
            raise TrainingError(
                f"batch norm has a single value a channel to normalise with, images {shape}: "
                "choose a larger training.batch_size or data.image_size; with a head that pools the whole "
                "image, such as deeplabv3, only the batch helps, or model.norm: group"
            ) from None
        return outputs

    def _set_learning_rate(self, epoch: float) -> None:
        self.rate = self.rate_at(epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * group["lr_factor"]


def _schedule_of(config: Config) -> Callable[[float], float]:
    """Return the base learning rate by fractional epoch, as the config wants it."""
    settings = config.training
    schedule = SCHEDULES.build(settings.lr_schedule, config.system.epochs)
    return lambda epoch: learning_rate(scaled_rate(settings), schedule, epoch, settings.warmup_epochs)


def _taken(batches: Iterator[Batch], number: int, done: int, expected: int) -> Iterator[Batch]:
    for _ in range(number):
        batch = next(batches, None)
        if batch is None:
            raise DataError(f"the loader ended after {done} batches, but its length is {expected}")
        yield batch
        done += 1


def _by_task(parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {task: torch.stack(list(losses.values())).sum() for task, losses in parts.items()}


def _not_finite(losses: Mapping[str, Tensor], image_ids: Sequence[str]) -> str:
    parts = [f"{name} = {float(value)}" for name, value in losses.items() if not torch.isfinite(value)]
    named = ", ".join(parts) or "in another process"
    return f"the loss is not finite: {named}; images: {', '.join(image_ids)}"
