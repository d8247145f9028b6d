"""How many processes load images."""

import multiprocessing
import os

import torch

from mtvision.config import Config

_MOST = 12
"""More of them wait for the one process that takes their batches."""


def loads_for_cuda(config: Config) -> bool:
    """Tell whether batches go to a CUDA device."""
    return torch.cuda.is_available() and config.system.device.partition(":")[0] in ("auto", "cuda")


def worker_count(config: Config) -> int:
    """Return how many processes load images: ``data.num_workers``, or what ``auto`` means on this machine.

    That is 0 where the processor trains, since each process would take from training what it gives to loading, and
    where new processes begin by importing the user's script, which may not be written for that. Else it is the cores
    that each training process of the machine has, without one for itself, at most 12.

    Example:
        >>> worker_count(Config(data={"num_workers": 3})), worker_count(Config(system={"device": "cpu"}))
        (3, 0)
    """
    chosen = config.data.num_workers
    if chosen != "auto":
        return chosen
    if not loads_for_cuda(config) or _start_method() != "fork":
        return 0
    share = usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(max(share - 1, 1), _MOST)


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _start_method() -> str:
    """Return how new processes begin, without deciding it."""
    return multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
