"""How much memory a process holds at most, and measurements in processes of their own."""

import ctypes
import gc
import os
import platform
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import torch

T = TypeVar("T")

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_EXACT = "MALLOC_MMAP_THRESHOLD_", str(64 * 1024)
"""Lets glibc take each block above 64 KiB from the system and give it back when it is free."""


def in_fresh_process(function: Callable[..., T], *values: object, exact: bool = False) -> T:
    """Return what a function returns in a new process.

    Args:
        function: of a module, as are the values.
        values: its arguments.
        exact: whether memory goes back to the system as soon as it is free, so that a peak is what was needed, and not
            how the heap happened to be cut; with glibc, else it has no effect.
    """
    name, threshold = _EXACT
    if exact:
        os.environ[name] = threshold
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return pool.submit(function, *values).result()
    finally:
        if exact:
            del os.environ[name]


class PeakMemory:
    """How much more memory than before was held at most; ``with PeakMemory(device) as peak: ...; peak.bytes``."""

    def __init__(self, device: str = "cpu") -> None:
        self.device, self.bytes = device, 0

    def __enter__(self) -> "PeakMemory":
        if self.device == "cuda":
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        else:
            _give_back()
        self._before = self._now()
        return self

    def __exit__(self, *problem: object) -> None:
        self.bytes = self.so_far()

    def so_far(self) -> int:
        """Return the bytes since the block began."""
        return self._now() - self._before

    def _now(self) -> int:
        return torch.cuda.max_memory_allocated() if self.device == "cuda" else resident_peak()


def resident_peak() -> int:
    """Return the most bytes held since `_give_back`; where that cannot be told, since the process began."""
    if not _STATUS.exists():
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if platform.system() == "Darwin" else peak * 1024
    # not ru_maxrss: what a process inherits through exec counts there, its parent's peak
    line = next(line for line in _STATUS.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def _give_back() -> None:
    """Hand free memory to the system, and forget the peak so far, where there are ways to do so."""
    gc.collect()  # a trainer and its session refer to each other
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
    if _CLEAR.exists():
        _CLEAR.write_text("5", encoding="utf-8")
