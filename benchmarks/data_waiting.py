"""What share of training a step waits for the loader."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from common import sum_of_parts
from reporting import Row

import mtvision as mtv

ALONE = ("one batch, there already", 0)
"""The row of a step that has nothing to wait for."""


class Epoch(NamedTuple):
    """Seconds of the clock: of a whole epoch, of waiting for its first batch, of waiting for the others."""

    whole: float
    first: float
    others: float
    images: int


def waiting_rows(
    config: mtv.Config, data: mtv.data.SampleDataset, workers: Sequence[int], epochs: int, cache: Path
) -> list[Row]:
    """Return a row for the step alone, and one for each source and number of workers.

    The epochs take turns, so that whatever else the machine does hits all of them; the first is not counted.
    """
    step = training_step(config, data.classes)
    loaders = {
        (source, number): mtv.build_loader(config.replace({"data.num_workers": number, **change}), data, training=True)
        for source, change in (("files", {}), ("cache", {"data.cache": str(cache)}))
        for number in workers
    }
    batch = next(iter(mtv.build_loader(config.replace({"data.num_workers": 0}), data, training=True)))
    found: dict[tuple[str, int], list[Epoch]] = {ALONE: [], **{key: [] for key in loaders}}
    for epoch in range(epochs):
        for key, loader in loaders.items():
            loader.set_epoch(epoch)
            found[key].append(timed_epoch(loader, step))
            if key == next(iter(loaders)):
                found[ALONE].append(timed_epoch([batch] * len(loader), step))
    return rows_of({key: values[1:] for key, values in found.items()})


def training_step(config: mtv.Config, classes: mtv.Classes) -> Callable[[mtv.Batch], None]:
    """Return forward, losses of both tasks, backward and AdamW; a step ends when the device has done all of it."""
    device = torch.device(config.system.device)
    model = mtv.build_model(config, classes=classes).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step(loaded: mtv.Batch) -> None:
        batch = loaded.to(device, non_blocking=True)
        sum_of_parts(model.loss(model(batch.images), batch.targets)).backward()
        optimizer.step()
        optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


def timed_epoch(batches: Iterable[mtv.Batch], step: Callable[[mtv.Batch], None]) -> Epoch:
    """Return the times of an epoch; to begin to read is part of waiting for the first batch."""
    began = asked = time.perf_counter()
    waits, images = [], 0
    for batch in batches:
        waits.append(time.perf_counter() - asked)
        step(batch)
        images += len(batch.images)
        asked = time.perf_counter()
    waits.append(time.perf_counter() - asked)  # until it is known that there is no more
    return Epoch(time.perf_counter() - began, waits[0], sum(waits[1:]), images)


def rows_of(epochs: Mapping[tuple[str, int], Sequence[Epoch]]) -> list[Row]:
    """Return images a second and shares of waiting, of all epochs of a row together."""
    whole = {key: Epoch(*map(sum, zip(*values, strict=True))) for key, values in epochs.items()}
    alone = whole[ALONE].images / whole[ALONE].whole
    return [
        {
            "batches from": source,
            "workers": workers,
            "images/s": total.images / total.whole,
            "x of the step alone": total.images / total.whole / alone,
            "waits, % of the time": (total.first + total.others) / total.whole * 100 if workers else None,
            "of it for first batches": total.first / total.whole * 100 if workers else None,
        }
        for (source, workers), total in whole.items()
    ]
