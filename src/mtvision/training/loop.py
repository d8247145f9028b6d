"""The optimizer steps of one epoch."""

from collections.abc import Mapping
from typing import Any

import torch

from mtvision.config import Config
from mtvision.errors import TrainingError
from mtvision.model import MultiTaskModel
from mtvision.registries import SCHEDULES
from mtvision.training.checkpoint import random_state, restore_random_state
from mtvision.training.evaluation import LossMeter, flatten, weighted_sum
from mtvision.training.progress import Bar
from mtvision.training.schedule import learning_rate
from mtvision.types import Batch


class Loop:
    """One epoch of optimizer steps, on what accelerate has prepared.

    Args:
        config: its ``training`` section and number of epochs.
        model: whose losses are used.
        network: the model as accelerate wraps it.
        optimizer: likewise.
        accelerator: precision, accumulation and clipping.
    """

    def __init__(self, config: Config, model: MultiTaskModel, network: Any, optimizer: Any, accelerator: Any) -> None:
        self.config, self.model, self.network = config, model, network
        self.optimizer, self.accelerator = optimizer, accelerator
        self.schedule = SCHEDULES.build(config.training.lr_schedule, config.system.epochs)

    def train_epoch(self, epoch: int, loader: Any, bar: Bar) -> tuple[dict[str, float], float]:
        """Return the mean losses and the last learning rate."""
        self.network.train()
        meter, rate = LossMeter(), 0.0
        for step, batch in enumerate(bar.over(loader)):
            rate = self._set_learning_rate(epoch + (step + 0.5) / len(loader))
            losses = self._step(batch, self._group_size(step, len(loader)))
            meter.update(losses, len(batch.images))
            if bar.visible:
                bar.losses({name: float(value) for name, value in losses.items()})
        return meter.means(), rate

    def state(self) -> dict[str, Any]:
        """Return what is needed to go on after this epoch."""
        return {"optimizer": self.optimizer.state_dict(), "random": random_state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        self.optimizer.load_state_dict(state["optimizer"])
        restore_random_state(state["random"])

    def _forward(self, images: torch.Tensor) -> dict[str, Any]:
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

    def _group_size(self, step: int, num_batches: int) -> int:
        """Return how many batches the optimizer step of this batch is made of: the last group may be smaller."""
        accumulate = self.config.training.accumulate
        return min(accumulate, num_batches - step // accumulate * accumulate)

    def _step(self, batch: Batch, group_size: int) -> dict[str, torch.Tensor]:
        settings = self.config.training
        with self.accelerator.accumulate(self.network):
            outputs = self._forward(batch.images)
            parts = self.model.loss(outputs, batch.targets)
            total = weighted_sum(parts, settings.loss_weights)
            losses = {name: value.detach() for name, value in flatten(parts, total).items()}
            if not torch.isfinite(total):
                raise TrainingError(_not_finite(losses, batch))
            # accelerate divides by ``accumulate``; the mean over the group is meant
            self.accelerator.backward(total * (settings.accumulate / group_size))
            if self.accelerator.sync_gradients and settings.clip_norm is not None:
                self.accelerator.clip_grad_norm_(self.model.parameters(), settings.clip_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
        return losses

    def _set_learning_rate(self, epoch: float) -> float:
        settings = self.config.training
        rate = learning_rate(settings.lr, self.schedule, epoch, settings.warmup_epochs)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate


def _not_finite(losses: Mapping[str, torch.Tensor], batch: Batch) -> str:
    parts = [f"{name} = {float(value)}" for name, value in losses.items() if not torch.isfinite(value)]
    return f"the loss is not finite: {', '.join(parts)}; images: {', '.join(batch.image_ids)}. Try a lower training.lr"
