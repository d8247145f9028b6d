"""What grows with the images that are scored, and what with the epochs that are loaded."""

import os
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from memory_meter import PeakMemory

import mtvision as mtv
from mtvision.data.readers.shapes import Shapes

MASKS, BOXES, BOTH = "seg", "det", "seg + det"
_LEFT_OUT = {MASKS: "detection_head", BOXES: "segmentation_head", BOTH: ""}
_DISTINCT = 8
MAX_DETECTIONS, BYTES_A_DETECTION = 100, 6 * 8
"""Detections of an image; a box of float64, a label and a score."""


def scoring_memory(tasks: str, counts: Sequence[int], size: tuple[int, int]) -> list[int]:
    """Return the bytes held at most in scoring so many images, each count after the one before.

    The network is small and untrained and nothing is below its threshold: it finds as many objects as it may.

    Args:
        tasks: `MASKS`, `BOXES` or `BOTH`.
        counts: of images, growing.
        size: ``(H, W)`` of the images, at which they are scored.
    """
    detections = {"score_threshold": 0.0, "max_detections": MAX_DETECTIONS}
    sections: dict[str, dict[str, object]] = {
        "model": {"backbone": "test_resnet", "detections": detections},
        "data": {"image_size": 32},
    }
    if _LEFT_OUT[tasks]:
        sections["model"][_LEFT_OUT[tasks]] = None
    drawn = Shapes("train", num_images=_DISTINCT, image_size=size)
    samples = _Repeated([drawn[index] for index in range(_DISTINCT)])
    model = mtv.build_model(sections, classes=samples.classes)
    found = []
    with PeakMemory() as peak:
        for count in counts:
            mtv.evaluate(model, samples.first(count))
            found.append(peak.so_far())
    return found


class _Repeated(Sequence[mtv.Sample]):
    """A few samples again and again, under names of their own: no time is lost in drawing."""

    classes = Shapes.classes

    def __init__(self, samples: Sequence[mtv.Sample], length: int = 0) -> None:
        self._samples, self._length = samples, length

    def first(self, length: int) -> "_Repeated":
        return _Repeated(self._samples, length)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        return replace(self._samples[index % len(self._samples)], image_id=f"{index:06d}")


class WorkerMemory(NamedTuple):
    """Means over the workers of a loader, in bytes.

    Attributes:
        unique: what a worker holds alone.
        proportional: that, and its share of what it has in common with others; None where the system does not tell.
        resident: all that it has in memory.
    """

    unique: float
    proportional: float | None
    resident: float


class _Named(Sequence[mtv.Sample]):
    """Samples that carry the number of the process that read them as their name."""

    def __init__(self, data: Sequence[mtv.Sample], classes: mtv.Classes) -> None:
        self._data, self.classes = data, classes

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: Any) -> Any:
        return replace(self._data[index], image_id=str(os.getpid()))


def worker_memory(root: Path, size: int, batch: int, workers: int, epochs: int) -> list[WorkerMemory]:
    """Return what the workers of a training loader hold at the end of each epoch over a VOC folder."""
    config = mtv.Config(
        training={"batch_size": batch},
        data={"dataset_root": root, "image_size": size, "num_workers": workers},
    )
    data = mtv.build_dataset(config, "train")
    loader = mtv.build_loader(config, _Named(data, data.classes), training=True)
    found = []
    for epoch in range(epochs):
        loader.set_epoch(epoch)
        names = {name for loaded in loader for name in loaded.image_ids}
        found.append(_mean_of([_memory(int(name)) for name in names]))  # they stay alive for the next epoch
    return found


def slope(values: Sequence[float]) -> float:
    """Return by how much values grow from one to the next, by least squares."""
    return statistics.linear_regression(range(len(values)), values).slope


def _memory(process: int) -> WorkerMemory:
    info = psutil.Process(process).memory_full_info()
    return WorkerMemory(info.uss, getattr(info, "pss", None), info.rss)


def _mean_of(found: Sequence[WorkerMemory]) -> WorkerMemory:
    shares = [each.proportional for each in found if each.proportional is not None]
    return WorkerMemory(
        statistics.fmean(each.unique for each in found),
        statistics.fmean(shares) if shares else None,
        statistics.fmean(each.resident for each in found),
    )
