"""Seconds to score detections: COCO's protocol here against torchmetrics with its two back ends, on the same boxes.

    python benchmarks/metrics.py [--images 1449] [--detections 100] [--classes 20] [--repeats 3] [--per-class]
                                 [--output FILE]

Every program gets the same generated boxes, image by image in batches of 16, and gives the twelve numbers of COCO's
summary. Ours gives them for each class as well; theirs only with ``--per-class``, which makes them slower. The programs
take turns; medians are told, and the largest difference of any of the twelve numbers. Where one differs by more than
1e-4, the work was not the same.
"""

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from common import measured
from reporting import Row, Table, report
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision

from mtvision.tasks.detection_protocols import DETECTION_PROTOCOLS
from mtvision.types import DetectionPrediction, DetectionTarget

BATCH = 16
BACKENDS = ("pycocotools", "faster_coco_eval")
OURS, REFERENCE = "mtvision, coco", "torchmetrics, pycocotools"
WANTED = 10
TOLERANCE = 1e-4
NAMES_OF_TORCHMETRICS = {
    **{"ap": "map", "ap50": "map_50", "ap75": "map_75"},
    **{f"ap_{size}": f"map_{size}" for size in ("small", "medium", "large")},
    **{f"ar{most}": f"mar_{most}" for most in (1, 10, 100)},
    **{f"ar_{size}": f"mar_{size}" for size in ("small", "medium", "large")},
}
RECALLS = np.linspace(0, 1, 101).tolist()
"""Bit for bit pycocotools' own. Those of torchmetrics are float32, which moves its numbers: by 4e-5 on these boxes."""


class Boxes(NamedTuple):
    """What is to be scored."""

    predictions: list[DetectionPrediction]
    truths: list[DetectionTarget]


def main(
    images: int = 1449,
    detections: int = 100,
    classes: int = 20,
    repeats: int = 3,
    per_class: bool = False,
    output: Path | None = None,
) -> list[Row]:
    """Print and return a row for each program."""
    backends = [backend for backend in BACKENDS if find_spec(backend)]
    rows = detection_rows(make_boxes(images, detections, classes), classes, backends, repeats, per_class)
    notes = [
        f"Left out: torchmetrics with {backend}; pip install {backend}"
        for backend in BACKENDS
        if backend not in backends
    ]
    notes += [
        f"Wanted: {REFERENCE} at least {WANTED} x our CPU seconds; found {row['x ours (CPU)']:.1f}."
        for row in rows
        if row["program"] == REFERENCE
    ]
    kinds = "by class" if per_class else "torchmetrics not by class"
    title = f"{images} images x {detections} detections x {classes} classes, {kinds}, median of {repeats}"
    report("metrics", [Table(title, rows, notes)], output, "pycocotools", "faster-coco-eval")
    return rows


def detection_rows(boxes: Boxes, classes: int, backends: Sequence[str], repeats: int, per_class: bool) -> list[Row]:
    """Return seconds, ratios to COCO's protocol here, and the largest difference where the numbers are the same."""
    found: dict[str, dict[str, float]] = {}

    def kept(name: str, score: Callable[[], dict[str, float]]) -> Callable[[], None]:
        return lambda: found.update({name: score()})

    own = {f"mtvision, {name}": ours(name, boxes, classes) for name in DETECTION_PROTOCOLS}
    others = {f"torchmetrics, {backend}": theirs(backend, boxes, per_class) for backend in backends}
    seconds = measured({name: kept(name, score) for name, score in {**own, **others}.items()}, repeats)
    differences = {name: largest_difference(found[OURS], found[name]) for name in others}
    check(differences)
    return [
        {
            "program": name,
            "CPU s": value.cpu,
            "wall s": value.wall,
            "x ours (CPU)": value.cpu / seconds[OURS].cpu,
            "x ours (wall)": value.wall / seconds[OURS].wall,
            "largest difference": differences.get(name),
        }
        for name, value in seconds.items()
    ]


def check(differences: Mapping[str, float]) -> None:
    """Leave if a program gives other numbers."""
    for name, difference in differences.items():
        if not difference <= TOLERANCE:
            raise SystemExit(f"{name} and ours do not agree: they differ by up to {difference:.1g}")


def ours(protocol: str, boxes: Boxes, classes: int) -> Callable[[], dict[str, float]]:
    """Return what scores the boxes by a protocol of this package."""

    def score() -> dict[str, float]:
        evaluator = DETECTION_PROTOCOLS[protocol](classes)
        for start in range(0, len(boxes.truths), BATCH):
            batch = slice(start, start + BATCH)
            evaluator.update(boxes.predictions[batch], boxes.truths[batch])
        return evaluator.compute().metrics

    return score


def theirs(backend: str, boxes: Boxes, per_class: bool) -> Callable[[], dict[str, float]]:
    """Return what scores the boxes by torchmetrics; its -1 is NaN here."""
    truths = [{"boxes": t["boxes"], "labels": t["labels"], "iscrowd": t["difficult"].long()} for t in boxes.truths]
    predictions: list[Any] = list(boxes.predictions)

    def score() -> dict[str, float]:
        metric = MeanAveragePrecision(
            backend=backend,  # type: ignore[arg-type]
            class_metrics=per_class,
            rec_thresholds=RECALLS,
        )
        for start in range(0, len(truths), BATCH):
            metric.update(predictions[start : start + BATCH], truths[start : start + BATCH])
        values = metric.compute()
        numbers = {name: float(values[other]) for name, other in NAMES_OF_TORCHMETRICS.items()}
        return {name: math.nan if value < 0 else value for name, value in numbers.items()}

    return score


def largest_difference(first: dict[str, float], second: dict[str, float]) -> float:
    """Return the largest difference of COCO's twelve numbers; infinite where only one of two exists."""
    pairs = [(first[name], second[name]) for name in NAMES_OF_TORCHMETRICS]
    if any(math.isnan(one) != math.isnan(other) for one, other in pairs):
        return math.inf
    return max((abs(one - other) for one, other in pairs if not math.isnan(one)), default=0.0)


def make_boxes(images: int, detections: int, classes: int, seed: int = 0) -> Boxes:
    """Return 1 to 8 objects an image of 500 x 375 pixels, every tenth difficult, and detections.

    Half of the detections lie near an object and mostly have its class, the others lie anywhere.
    """
    generator = torch.Generator().manual_seed(seed)
    boxes = Boxes([], [])
    for _ in range(images):
        count = int(torch.randint(1, 9, (1,), generator=generator))
        truth, labels = _boxes(count, generator), torch.randint(0, classes, (count,), generator=generator)
        which = torch.randint(0, count, (detections // 2,), generator=generator)
        near = truth[which] + torch.randn(len(which), 4, generator=generator) * 10
        near[:, 2:] = torch.maximum(near[:, 2:], near[:, :2] + 1)
        far = _boxes(detections - len(which), generator)
        guesses = torch.randint(0, classes, (detections,), generator=generator)
        right = torch.rand(len(which), generator=generator) < 0.8
        guesses[: len(which)] = torch.where(right, labels[which], guesses[: len(which)])
        scores = torch.rand(detections, generator=generator)
        boxes.predictions.append({"boxes": torch.cat([near, far]), "scores": scores, "labels": guesses})
        difficult = torch.rand(count, generator=generator) < 0.1
        boxes.truths.append({"boxes": truth, "labels": labels, "difficult": difficult})
    return boxes


def _boxes(count: int, generator: torch.Generator) -> Tensor:
    """Return boxes of all sizes, ``(count, 4)`` xyxy."""
    sides = 10 * 20 ** torch.rand(count, 2, generator=generator)  # 10 to 200 pixels
    low = torch.rand(count, 2, generator=generator) * (torch.tensor([500.0, 375.0]) - sides)
    return torch.cat([low, low + sides], dim=1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1449)
    parser.add_argument("--detections", type=int, default=100)
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--per-class", action="store_true", help="per-class numbers from torchmetrics as well")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the rows here too, as JSON")
    main(**vars(parser.parse_args()))
