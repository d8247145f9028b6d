"""An evaluation that several processes share: each scores a block of the images, and all return the same."""

from collections.abc import Mapping
from typing import Protocol

from torch import distributed

from mtvision.errors import DataError
from mtvision.training import processes
from mtvision.types import Prediction


class Shareable(Protocol):
    """Gives batches in the order of the data; a `Loader` or a batch sampler."""

    def share(self, rank: int, num_processes: int, /) -> None:
        """Give only the part of a process from now on."""


def take_own_block(batches: Shareable) -> bool:
    """Keep to this process's block of the images; tell whether there are several processes.

    Every process must call it, and then score its block with ``shared=True``. Those that a launcher (``torchrun``) has
    started find each other here, if nothing before has let them, and stay together until they end.

    Args:
        batches: of all images; blocks are whole batches, in the order of the processes.
    """
    if processes.launched() > processes.number():
        distributed.init_process_group()  # without a name: gloo for what is on the CPU, and the device's own
    if processes.number() == 1:
        return False
    batches.share(processes.rank(), processes.number())
    return True


def gather_predictions(own: Mapping[str, Prediction]) -> dict[str, Prediction]:
    """Return the predictions of all processes by image, in the order of the data; every process must call it.

    Args:
        own: those of this process, on the CPU.

    Raises:
        DataError: if an image id is in two processes.

    Example:
        >>> gather_predictions({"a": {}})
        {'a': {}}
    """
    gathered: dict[str, Prediction] = {}
    for block in processes.gather(dict(own)):
        twice = next(iter(gathered.keys() & block.keys()), None)
        if twice is not None:
            raise DataError(f"the image id {twice!r} occurs twice; predictions are kept by it, so it must not")
        gathered |= block
    return gathered
