"""Six places in a run at which code of one's own is called."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from mtvision.training.history import History, Row

if TYPE_CHECKING:
    from mtvision.training.trainer import Trainer


@dataclass(frozen=True)
class StepInfo:
    """One optimizer step.

    Attributes:
        epoch: counted from 0.
        step: batches done in the epoch, this step's included.
        global_step: optimizer steps done in the run, this one included.
        lr: base learning rate of the step.
        losses: ``loss`` and ``<task>/<part>`` of its last batch, as tensors: reading one waits for the device.
        weights: of the tasks, as the balancer chose them.
    """

    epoch: int
    step: int
    global_step: int
    lr: float
    losses: Mapping[str, Tensor]
    weights: Mapping[str, float]


class Callback:
    """Base of callbacks: override what you need. Each process calls its own; only the main one writes.

    A callback is no part of the run's config and of no checkpoint: what it keeps is its own affair.

    Example:
        >>> class Stop(Callback):
        ...     def on_epoch_end(self, trainer, row):
        ...         if row["train/loss"] < 0.1:
        ...             trainer.stop("the training loss is below 0.1")
    """

    def on_fit_start(self, trainer: "Trainer") -> None:
        """Before the first step, with weights and state as a resumed run has them."""

    def on_epoch_start(self, trainer: "Trainer", epoch: int) -> None:
        """Before an epoch, counted from 0."""

    def on_step_end(self, trainer: "Trainer", step: StepInfo) -> None:
        """After each optimizer step, also one that was skipped: ``global_step`` is then the one before."""

    def on_epoch_end(self, trainer: "Trainer", row: Row) -> None:
        """After the validation of an epoch, with its row of the history; its checkpoint comes next."""

    def on_checkpoint(self, trainer: "Trainer", folder: Path) -> None:
        """After a checkpoint was written, in the process that writes."""

    def on_fit_end(self, trainer: "Trainer", history: History) -> None:
        """After the last epoch."""
