"""Counts and sums over the processes that share one batch, so that its loss does not depend on how it was shared.

A loss is most often a sum over pixels or objects divided by their number. Where each process divides by its own number
and the gradients are averaged, an object in a process with few of them weighs more. Within `shared_batch` the number is
that of the whole batch: the mean over the processes is then the loss of the whole batch, and so is the mean gradient.

Every process must compute the same losses in the same order, also for a batch without annotation: each of these calls
waits for all processes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed


class _Sharing:
    """Whether a batch is shared now; a plain attribute, which torch.compile guards in every version."""

    def __init__(self) -> None:
        self.on = False


_SHARING = _Sharing()


@contextmanager
def shared_batch() -> Iterator[None]:
    """Say that the losses computed within are those of one process's part of a batch.

    A loop around several processes (``torch.distributed``) puts it around ``model.loss``. Without it, and in a process
    alone, all counts are those of the process.
    """
    before, _SHARING.on = _SHARING.on, distributed.is_available() and distributed.is_initialized()
    try:
        yield
    finally:
        _SHARING.on = before


def divisor(count: Tensor, least: int = 1) -> Tensor:
    """Return what a process divides a sum by so that the mean over the processes is the mean of the whole batch.

    That is the count of the whole batch, ``least`` at least, over the number of processes; in a process alone just
    ``count.clamp(min=least)``.

    Args:
        count: of any shape, of this process; it has no gradient.
        least: keeps an empty count from dividing by zero; 0 leaves counts above 0 as they are and makes others 1.

    Example:
        >>> divisor(torch.tensor([0, 3]))
        tensor([1, 3])
    """
    if not _SHARING.on:
        return _at_least(count, least)
    total = count.detach().clone()
    distributed.all_reduce(total)
    return _at_least(total, least) / distributed.get_world_size()


def _at_least(count: Tensor, least: int) -> Tensor:
    return torch.where(count > 0, count, 1) if least == 0 else count.clamp(min=least)


def whole_sum(values: Tensor) -> Tensor:
    """Return the sum of the values of all processes, the same in each, through which gradients flow.

    For losses of sums that are no plain means, such as Dice: each process then has the loss of the whole batch, and the
    mean of their gradients is its gradient.

    Example:
        >>> whole_sum(torch.tensor([1.0, 2.0]))
        tensor([1., 2.])
    """
    if not _SHARING.on:
        return values
    total: Tensor = _Sum.apply(values)
    return total


class _Sum(torch.autograd.Function):
    """Sum over processes; since each of them has the sum, a gradient of it is the sum of all of theirs."""

    @staticmethod
    def forward(values: Tensor) -> Tensor:
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        """Nothing of the forward is needed."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        del ctx
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        return total
