"""Which learning rate: a range test (Smith 2017, arXiv 1506.01186)."""

import copy
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from mtvision.config import Config
from mtvision.data.loading.loader import Loader
from mtvision.errors import TrainingError
from mtvision.model import MultiTaskModel
from mtvision.training import processes
from mtvision.training.device import build_accelerator
from mtvision.training.random_state import random_state, restore_random_state
from mtvision.training.session import open_session
from mtvision.types import Batch

_SMOOTHING = 0.9
_EXPLODED = 4.0
"""Times the lowest loss so far: from here on higher rates tell nothing."""
_LEAST_STEPS = 10


@dataclass(frozen=True)
class RangeTest:
    """The loss at rising learning rates.

    Attributes:
        rates: one an optimizer step, rising by the same factor.
        losses: the training loss then, as a moving average with decay 0.9, without its bias to 0.
        suggestion: the rate at which the loss fell most steeply, over the logarithm of the rate: a good base rate, with
            a schedule that begins with a warm-up.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float

    def write_plot(self, path: str | Path) -> None:
        """Write a picture of losses over rates."""
        from mtvision.visualize.rates import write_range_test

        write_range_test(self.rates, self.losses, self.suggestion, Path(path))


def range_test(
    model: MultiTaskModel, config: Config, loader: DataLoader[Batch], lowest: float, highest: float, steps: int
) -> RangeTest:
    """Train a copy of a model for some steps at rising rates; model and random generators stay as they are.

    Args:
        model: to begin with.
        config: of the training.
        loader: as many epochs of it as it takes.
        lowest: rate of the first step.
        highest: of the last.
        steps: optimizer steps; it ends before where the loss is not finite or four times the lowest so far.

    Raises:
        ValueError: if the rates are not rising from above 0, or there are less than 10 steps.
        TrainingError: if the loss is not finite before there is anything to see.
    """
    if not 0 < lowest < highest or steps < _LEAST_STEPS:
        raise ValueError(
            f"find_lr: expected 0 < lowest < highest and {_LEAST_STEPS} steps or more, got {lowest}, {highest}, {steps}"
        )
    settings = config.replace({"training.max_skipped_steps": 1, "training.freeze_backbone_epochs": 0})
    before = random_state()
    try:
        rates, losses = _losses(copy.deepcopy(model), settings, loader, lowest, highest, steps)
    finally:
        restore_random_state(before)
    return RangeTest(tuple(rates), tuple(losses), _steepest(rates, losses))


def _losses(
    model: MultiTaskModel, config: Config, loader: DataLoader[Batch], lowest: float, highest: float, steps: int
) -> tuple[list[float], list[float]]:
    rates: list[float] = []
    losses: list[float] = []
    average = 0.0
    number = steps * config.training.accumulate
    with open_session(model, config, build_accelerator(config)) as session:
        loop = session.loop
        loop.rate_at = lambda epoch: lowest * (highest / lowest) ** epoch
        loop.network.train()
        try:
            for _ in loop.steps(0, _endless(loader), 0, number):
                loss = processes.mean(loop.losses["loss"].to(loop.accelerator.device))
                average = _SMOOTHING * average + (1 - _SMOOTHING) * float(loss)
                rates.append(loop.rate)
                losses.append(average / (1 - _SMOOTHING ** len(rates)))
                if losses[-1] - min(losses) > (_EXPLODED - 1) * abs(min(losses)):  # a loss may be negative
                    break
        except TrainingError:  # not finite: the rates before are the result
            if len(rates) < _LEAST_STEPS:
                raise
    return rates, losses


def _endless(loader: DataLoader[Batch]) -> Iterator[Batch]:
    for epoch in itertools.count():
        if isinstance(loader, Loader):
            loader.set_epoch(epoch)
        yield from loader


def _steepest(rates: list[float], losses: list[float]) -> float:
    """Return the rate at which the loss falls fastest over the logarithm of the rate, before it is lowest."""
    values = torch.tensor(losses, dtype=torch.float64)
    end = max(int(values.argmin()), 1)
    slopes = torch.gradient(values, spacing=(torch.tensor([math.log(rate) for rate in rates], dtype=torch.float64),))[0]
    return rates[int(slopes[: end + 1].argmin())]
