"""What several processes that train together say to each other; a process alone talks to nobody.

Every process must make the same calls in the same order: each waits for all the others.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from mtvision.errors import TrainingError

T = TypeVar("T")

_CLOSED = (
    "Connection closed",
    "Connection reset",
    "Broken pipe",
    "Connection refused",
    "NCCL communicator was aborted",
)


def number() -> int:
    """Return how many processes there are."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def launched() -> int:
    """Return how many processes a launcher has started, also before they have found each other."""
    return max(number(), int(os.environ.get("WORLD_SIZE", "1")))


def rank() -> int:
    """Return which of them this is, counted from 0."""
    return distributed.get_rank() if number() > 1 else int(os.environ.get("RANK", "0")) if launched() > 1 else 0


def is_main() -> bool:
    """Tell whether this is the one that writes."""
    return rank() == 0


def gather(value: T) -> list[T]:
    """Return the values of all processes, in their order."""
    if number() == 1:
        return [value]
    values: list[Any] = [None] * number()
    distributed.all_gather_object(values, value)
    return values


def wait() -> None:
    """Wait until all processes are here."""
    if number() > 1:
        distributed.barrier()


def any_of(flag: Tensor) -> Tensor:
    """Return whether a flag, a bool scalar, is set in any process."""
    if number() == 1:
        return flag
    counts = flag.to(torch.int32)
    distributed.all_reduce(counts)
    return counts > 0


def mean(values: Tensor) -> Tensor:
    """Return the mean of a tensor over the processes, the same in each."""
    if number() == 1:
        return values
    total = values.detach().clone()
    distributed.all_reduce(total)
    return total / number()


def means(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the `mean` of each of several scalars, in one message."""
    if number() == 1 or not values:
        return dict(values)
    return dict(zip(values, mean(torch.stack(list(values.values()))).unbind(), strict=True))


def spread(module: nn.Module) -> None:
    """Give all processes the main one's parameters and buffers."""
    if number() > 1:
        for parameter in module.parameters():
            distributed.broadcast(parameter.detach(), src=0)
    spread_buffers(module)


def spread_buffers(module: nn.Module) -> None:
    """Give all processes the main one's buffers, such as the running statistics of batch norm."""
    if number() > 1:
        for buffer in module.buffers():
            distributed.broadcast(buffer, src=0)


@contextmanager
def named_failures(run_dir: Path | None) -> Iterator[None]:
    """Say that another process has died, where torch tells of a closed connection.

    Raises:
        TrainingError: in that case.
    """
    try:
        yield
    except RuntimeError as error:
        if number() == 1 or not any(text in str(error) for text in _CLOSED):
            raise
        resumed = f"the same command goes on from the last checkpoint in {run_dir}" if run_dir else "nothing was saved"
        raise TrainingError(f"another process of this training has died, and with it the run; {resumed}") from error
