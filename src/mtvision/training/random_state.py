"""The state of all global random generators, as plain values that a checkpoint can hold."""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def seed_all(seed: int) -> None:
    """Seed the generators of torch, CUDA, NumPy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the global one is meant
    random.seed(seed)


def random_state() -> dict[str, Any]:
    """Return the state of the generators of torch, CUDA, NumPy and Python."""
    name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 - the global one is meant
    kind, internal, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [
            str(name),
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            int(position),
            int(has_gauss),
            float(cached),
        ],
        "python": [kind, list(internal), gauss],
    }


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Put all global random generators into a state of `random_state`."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.device_count() == len(state["cuda"]):
        torch.cuda.set_rng_state_all(state["cuda"])
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
    kind, internal, gauss = state["python"]
    random.setstate((kind, tuple(internal), gauss))
