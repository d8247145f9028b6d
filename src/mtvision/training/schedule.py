"""Learning-rate schedules: pure functions of how far the run is, so there is nothing to save or to restore."""

import math
from typing import Annotated

from pydantic import Field

from mtvision.config_sections import TrainingConfig
from mtvision.registries import SCHEDULES, Schedule

Factor = Annotated[float, Field(ge=0, le=1)]
Epoch = Annotated[float, Field(ge=0)]


@SCHEDULES.register("constant")
def constant(epochs: float) -> Schedule:
    """Keep the base learning rate (mtvision)."""
    del epochs
    return lambda _epoch: 1.0


@SCHEDULES.register("cosine")
def cosine(epochs: float, *, start_epoch: Epoch = 0.0, final_factor: Factor = 0.0) -> Schedule:
    """Half a cosine from the base rate down to ``final_factor`` of it (Loshchilov & Hutter 2017, arXiv 1608.03983).

    Args:
        epochs: length of the run.
        start_epoch: the rate stays at its base value until here.
        final_factor: factor at the end of the run.
    """

    def factor(epoch: float) -> float:
        if epoch <= start_epoch or start_epoch >= epochs:
            return 1.0
        progress = min((epoch - start_epoch) / (epochs - start_epoch), 1.0)
        return final_factor + (1 - final_factor) * 0.5 * (1 + math.cos(math.pi * progress))

    return factor


@SCHEDULES.register("step")
def step(epochs: float, *, milestones: list[Epoch] | None = None, gamma: Factor = 0.5) -> Schedule:
    """Multiply the rate by ``gamma`` at each milestone (as in He et al. 2015, arXiv 1512.03385).

    Args:
        epochs: length of the run.
        milestones: epochs, in any order; None: 30 and 45.
        gamma: factor a milestone.
    """
    del epochs
    at = [30.0, 45.0] if milestones is None else milestones
    return lambda epoch: gamma ** sum(epoch >= milestone for milestone in at)


def scaled_rate(settings: TrainingConfig) -> float:
    """Return the base learning rate: ``lr``, in proportion to the images a step where it is meant for another number.

    The rule of Goyal et al. 2017 (arXiv 1706.02677): k times the images, k times the rate.

    Example:
        >>> scaled_rate(TrainingConfig(lr=0.1, batch_size=64, lr_batch_size_reference=16))
        0.4
    """
    reference = settings.lr_batch_size_reference
    if reference is None or settings.batch_size == "auto":
        return settings.lr
    return settings.lr * settings.batch_size * settings.accumulate / reference


def learning_rate(base: float, schedule: Schedule, epoch: float, warmup_epochs: float) -> float:
    """Return the rate of the optimizer step at ``epoch`` (fractional): the schedule, times a linear warm-up.

    Example:
        >>> learning_rate(0.1, constant(10), epoch=0.5, warmup_epochs=1.0)
        0.05
    """
    warmup = min(epoch / warmup_epochs, 1.0) if warmup_epochs > 0 else 1.0
    return base * warmup * schedule(epoch)
