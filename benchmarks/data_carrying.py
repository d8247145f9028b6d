"""What a batch costs the process that trains, before it is on a device: masks as int64 and as bytes."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import measured
from reporting import Row
from torch.utils.data import DataLoader

import mtvision as mtv
from mtvision.data.loading.collating import collate_items

MASKS = {"int64": False, "bytes": True}
"""How masks come from the workers, and whether the loader is told to leave them small, as it is for CUDA."""


def carrying_rows(
    config: mtv.Config, data: mtv.data.SampleDataset, workers: Sequence[int], repeats: int, cache: Path
) -> list[Row]:
    """Return a row for each number of workers and each type of masks, from the cache of samples.

    Each batch is taken from shared memory and copied once, which stands for the copy to page-locked memory.
    """
    rows: list[Row] = []
    for number in workers:
        settings = config.replace({"system.device": "cpu", "data.num_workers": number, "data.cache": str(cache)})
        loaders = {name: loader_of(settings, data, small) for name, small in MASKS.items()}
        counts = {name: count_all(loader) for name, loader in loaders.items()}
        seconds = measured({name: partial(take_all, loader) for name, loader in loaders.items()}, repeats)
        for name, loader in loaders.items():
            images, num_bytes = counts[name]
            rows.append(
                {
                    "masks": name,
                    "workers": number,
                    "MiB a batch": num_bytes / 2**20,
                    "images/s": images / seconds[name].wall,
                    "CPU ms of this process, a batch": seconds[name].cpu / len(loader) * 1000,
                }
            )
    return rows


def loader_of(config: mtv.Config, data: mtv.data.SampleDataset, small: bool) -> Any:
    """Return a loader for training that leaves masks small or not, whatever device there is."""
    loader = mtv.build_loader(config, data, training=True)
    collate: Callable[..., mtv.Batch] = partial(collate_items, small_masks=small)
    loader.collate_fn = collate
    return loader


def as_they_come(loader: Any) -> Iterator[mtv.Batch]:
    """Return batches as the workers give them, which `Loader` makes ready for the CPU."""
    return DataLoader.__iter__(loader)


def count_all(loader: Any) -> tuple[int, int]:
    """Return the number of images of an epoch, and the bytes of images and masks of the largest batch."""
    found = [(len(batch.images), batch.images.nbytes + batch.targets["seg"].nbytes) for batch in as_they_come(loader)]
    return sum(images for images, _ in found), max(num_bytes for _, num_bytes in found)


def take_all(loader: Any) -> list[torch.Tensor]:
    """Copy images and masks of each batch, and return the last copies."""
    copies: list[torch.Tensor] = []
    for batch in as_they_come(loader):
        copies = [batch.images.clone(), batch.targets["seg"].clone()]
    return copies
