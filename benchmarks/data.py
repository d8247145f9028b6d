"""How fast the loader is against torchvision.transforms.v2 and bare albumentations, and how long a step waits for it.

    python benchmarks/data.py [--root FOLDER [--enlarge]] [--size 256] [--batch 16] [--level heavy] [--workers 0 1 2]
                              [--repeats 5] [--output FILE]

**Loading.** Each pipeline reads JPEG, mask and boxes of a folder in Pascal VOC's layout, flips, warps and changes
colours as the level says, and gives batches of images and masks and lists of boxes. Without ``--root`` the folder is
generated: shapes of 500 x 375 pixels. The peers are written as their manuals do, with the resize first: v2 on tensors
that torchvision decodes, albumentations on arrays that OpenCV decodes. Rows:

* ``mtvision``: from the files; ``cached``: from the cache of samples; ``writing the cache``: the pass that fills it;
* ``to float``: what the peers do beyond, since the model normalises here, is done after the loader too.

The pipelines take turns. Medians of whole epochs are compared, in wall seconds and, without workers, in CPU seconds.

**Carrying.** What a batch costs the process that trains until it could be copied to a device, with masks as int64 and
as the bytes that they are on their way to CUDA; from the cache, with workers.

**Waiting.** The model of the defaults trains on the same folder: forward, losses of both tasks, backward, AdamW. The
share of all time that passes in asking the loader for a batch is told, of the epochs after the first; how much of it
was for the first batch of an epoch, which short epochs have more of than real ones; and how many images a second
were left of the same step on one batch that is there already: workers take cores from a step on the same processor.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import torch
from common import Seconds, measured
from data_carrying import carrying_rows
from data_folders import enlarged, generated
from data_peers import DEVIATION, MEAN, Files, albumentations_pipeline, peer_loader, torchvision_pipeline
from data_waiting import waiting_rows
from reporting import Row, Table, report

import mtvision as mtv

PEER = "torchvision v2"
WANTED = {"mtvision": 3, "mtvision cached": 8}
"""Images a second in multiples of the peer's that each row is to reach."""


class Settings(NamedTuple):
    """What is measured; see ``--help``."""

    root: Path | None = None
    enlarge: bool = False
    images: int = 128
    size: int = 256
    batch: int = 16
    level: str = "heavy"
    workers: tuple[int, ...] = (0, 1, 2)
    repeats: int = 5
    backbone: str = "resnet18"
    step_images: int = 64
    epochs: int = 3
    device: str = "cpu"


def main(settings: Settings, output: Path | None = None) -> list[Table]:
    """Print and return a table of loading and, if there are numbers of workers above 0, of carrying and of waiting."""
    with tempfile.TemporaryDirectory() as folder:
        data = mtv.data.VOC(_root(settings, Path(folder) / "devkit"), "train")
        if len(data) < 2 * settings.batch:
            raise SystemExit(f"{len(data)} images are too few: at least two batches of {settings.batch} are needed")
        tables = [loading_table(data, settings)]
        workers = [number for number in settings.workers if number > 0]
        if workers:
            tables.append(carrying_table(data, settings, workers, Path(folder) / "carried"))
            tables.append(waiting_table(data, settings, workers, Path(folder) / "cache"))
    report("data", tables, output)
    return tables


def _root(settings: Settings, folder: Path) -> Path:
    if settings.root is None:
        return generated(folder, settings.images)
    return enlarged(settings.root, folder) if settings.enlarge else settings.root


def loading_table(data: mtv.data.VOC, settings: Settings) -> Table:
    with one_thread():
        rows = [row for workers in settings.workers for row in compare(data, settings, workers)]
    notes = []
    for name, wanted in WANTED.items():
        ratios = [f"{row['x torchvision (wall)']:.2f}" for row in rows if row["pipeline"] == name]
        numbers = ", ".join(map(str, settings.workers))
        notes.append(f"Wanted: '{name}' at least {wanted} x {PEER}; found {', '.join(ratios)} (workers: {numbers}).")
    source = "generated images" if settings.root is None else "images"
    title = f"Loading: {len(data)} {source} to {settings.size} px, batches of {settings.batch}, '{settings.level}'"
    return Table(f"{title}, median of {settings.repeats}, one thread a process", rows, notes)


def carrying_table(data: mtv.data.VOC, settings: Settings, workers: list[int], cache: Path) -> Table:
    with one_thread():
        rows = carrying_rows(_config(settings, 0), data, workers, settings.repeats, cache)
    title = f"Carrying: {len(data)} images from the cache to {settings.size} px, batches of {settings.batch}"
    return Table(f"{title}, '{settings.level}', median of {settings.repeats}, one thread a process", rows)


def waiting_table(data: mtv.data.VOC, settings: Settings, workers: list[int], cache: Path) -> Table:
    config = _config(settings, 0).replace(
        {"model.backbone": settings.backbone, "model.dropout_rate": 0.0, "system.device": settings.device}
    )
    few = data[: settings.step_images]
    rows = waiting_rows(config, few, workers, settings.epochs, cache)
    steps = len(mtv.build_loader(config, few, training=True))
    title = f"Waiting: {settings.backbone}, {settings.size} px, {steps} steps an epoch, epochs 2 to {settings.epochs}"
    note = "Wanted: no waiting beyond the first batch of an epoch."
    return Table(f"{title}, {settings.device}, {torch.get_num_threads()} threads", rows, [note])


@contextmanager
def one_thread() -> Iterator[None]:
    """Work with one thread a process, of torch and of OpenCV."""
    threads, of_opencv = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        cv2.setNumThreads(of_opencv)


def compare(data: mtv.data.VOC, settings: Settings, workers: int) -> list[Row]:
    """Return images a second of each pipeline with a number of workers, and the ratio to torchvision's."""
    with tempfile.TemporaryDirectory() as folder:
        config = mtv.Config(data={"image_size": settings.size, "num_workers": workers, "cache": folder})
        began = time.perf_counter()
        mtv.build_loader(config, data, training=True)
        writing = len(data) / (time.perf_counter() - began)
        runs = pipelines(data, settings, workers, Path(folder))
        images = {name: run() for name, run in runs.items()}  # also warms up: files in the page cache, workers started
        check(images)
        seconds = measured(runs, settings.repeats, warm_up=0)
    peer = seconds[PEER]
    rows = [_row(name, workers, images[name], value, peer) for name, value in seconds.items()]
    cold: Row = {
        "pipeline": "writing the cache",
        "workers": workers,
        "images/s": writing,
        "x torchvision (wall)": writing * peer.wall / images[PEER],
        "x torchvision (CPU)": None,
    }
    return [*rows, cold]


def _row(name: str, workers: int, images: int, seconds: Seconds, peer: Seconds) -> Row:
    return {
        "pipeline": name,
        "workers": workers,
        "images/s": images / seconds.wall,
        "x torchvision (wall)": peer.wall / seconds.wall,
        "x torchvision (CPU)": peer.cpu / seconds.cpu if workers == 0 else None,  # that of workers is not counted
    }


def check(images: dict[str, int]) -> None:
    """Leave if some pipeline gives another number of images than the peer."""
    for name, number in images.items():
        if number != images[PEER]:
            raise SystemExit(
                f"'{name}' gives {number} images an epoch, {PEER} {images[PEER]}: that is not the same work"
            )


def pipelines(data: mtv.data.VOC, settings: Settings, workers: int, cache: Path) -> dict[str, Callable[[], int]]:
    """Return an epoch of each pipeline; it returns how many images it gave."""
    size, level, batch = settings.size, settings.level, settings.batch
    config = _config(settings, workers)
    own = mtv.build_loader(config, data, training=True)
    cached = mtv.build_loader(config.replace({"data.cache": str(cache)}), data, training=True)
    peers = {
        PEER: peer_loader(Files(data, torchvision_pipeline(size, level)), batch, workers),
        "albumentations": peer_loader(Files(data, albumentations_pipeline(size, level)), batch, workers),
    }
    found: dict[str, Callable[[], int]] = {
        name: partial(count, loader, size, torch.float32) for name, loader in peers.items()
    }
    found["mtvision"] = partial(count, own, size, torch.uint8)
    found["mtvision, to float"] = lambda: count(to_float(own), size, torch.float32)
    found["mtvision cached"] = partial(count, cached, size, torch.uint8)
    found["mtvision cached, to float"] = lambda: count(to_float(cached), size, torch.float32)
    return found


def _config(settings: Settings, workers: int) -> mtv.Config:
    return mtv.Config(
        training={"batch_size": settings.batch},
        data={"image_size": settings.size, "augmentation_level": settings.level, "num_workers": workers},
    )


def to_float(batches: Iterable[mtv.Batch]) -> Iterator[tuple[Any, Any]]:
    """Yield normalised images and masks."""
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, DEVIATION))
    for batch in batches:
        yield (batch.images.float() / 255 - mean) / deviation, batch.targets["seg"]


def count(batches: Iterable[Any], size: int, kind: torch.dtype) -> int:
    """Return the number of images; leave where images or masks are not what every pipeline is to give."""
    number = 0
    for batch in batches:
        images, masks = (batch.images, batch.targets["seg"]) if isinstance(batch, mtv.Batch) else batch[:2]
        shape = (len(images), 3, size, size)
        if images.shape != shape or images.dtype != kind or masks.shape != (len(images), size, size):
            raise SystemExit(f"expected {kind} {shape} with masks, got {images.dtype} {tuple(images.shape)}")
        number += len(images)
    return number


def parsed(arguments: list[str] | None = None) -> tuple[Settings, Path | None]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Settings()
    parser.add_argument("--root", type=Path, help="folder in VOC's layout, every image with both annotations")
    parser.add_argument("--enlarge", action="store_true", help="bring all images to 500 x 375 first, VOC's usual size")
    parser.add_argument("--images", type=int, default=default.images, help="how many are generated without --root")
    parser.add_argument("--size", type=int, default=default.size)
    parser.add_argument("--batch", type=int, default=default.batch)
    parser.add_argument("--level", choices=["basic", "heavy"], default=default.level)
    parser.add_argument("--workers", type=int, nargs="+", default=default.workers)
    parser.add_argument("--repeats", type=int, default=default.repeats)
    parser.add_argument("--backbone", default=default.backbone, help="of the model that waits")
    parser.add_argument("--step-images", type=int, default=default.step_images, help="of an epoch of that model")
    parser.add_argument("--epochs", type=int, default=default.epochs, help="of that model; the first is not counted")
    parser.add_argument("--device", default=default.device, help="of that model")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the tables here too, as JSON")
    options = vars(parser.parse_args(arguments))
    if options["enlarge"] and options["root"] is None:
        parser.error("--enlarge needs --root: generated images have that size already")
    if options["epochs"] < 2:
        parser.error("--epochs must be at least 2: the first is not counted")
    output = options.pop("output")
    return Settings(**{**options, "workers": tuple(options["workers"])}), output


if __name__ == "__main__":
    main(*parsed())
