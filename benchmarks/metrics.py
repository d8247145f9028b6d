"""Seconds to score detections: COCO's protocol here against torchmetrics with its two back ends, on the same boxes.

    python benchmarks/metrics.py [--images 1449] [--detections 100] [--classes 20] [--repeats 3] [--per-class]

Every program gets the same generated boxes, image by image in batches of 16, and gives the twelve numbers of COCO's
summary. Ours gives them for each class as well; theirs only with ``--per-class``, which makes them slower. Seconds are
CPU seconds, medians of turns taken one after another. The largest difference of any of the twelve numbers is told.
"""

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from common import median_seconds
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision

from mtvision.tasks.detection_protocols import DETECTION_PROTOCOLS
from mtvision.types import DetectionPrediction, DetectionTarget

BATCH = 16
BACKENDS = ("pycocotools", "faster_coco_eval")
OURS = "mtvision, coco"
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
    *,
    images: int = 1449,
    detections: int = 100,
    classes: int = 20,
    repeats: int = 3,
    per_class: bool = False,
    json_file: Path | None = None,
) -> dict[str, dict[str, float]]:
    """Print and return a row a program: seconds, how many times ours, and the largest difference from ours."""
    boxes = make_boxes(images, detections, classes)
    rows = detection_table(boxes, classes, repeats=repeats, per_class=per_class)
    print(f"{images} images x {detections} detections x {classes} classes, CPU seconds, median of {repeats}")
    print(f"{'':32}{'seconds':>10}{'x ours':>10}{'difference':>12}")
    for name, row in rows.items():
        difference = f"{row['difference']:.0e}" if "difference" in row else ""
        print(f"{name:32}{row['seconds']:10.2f}{row['ratio']:10.1f}{difference:>12}")
    if json_file is not None:
        json_file.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return rows


def detection_table(boxes: Boxes, classes: int, *, repeats: int, per_class: bool) -> dict[str, dict[str, float]]:
    """Return seconds, ratio to COCO's protocol here, and the largest difference where the numbers are the same."""
    found: dict[str, dict[str, float]] = {}

    def kept(name: str, score: Callable[[], dict[str, float]]) -> Callable[[], None]:
        return lambda: found.update({name: score()})

    programs = {
        f"mtvision, {name}": kept(f"mtvision, {name}", ours(name, boxes, classes)) for name in DETECTION_PROTOCOLS
    }
    for backend in BACKENDS:
        name = f"torchmetrics, {backend}"
        programs[name] = kept(name, theirs(backend, boxes, per_class))
    seconds = median_seconds(programs, repeats)
    rows = {name: {"seconds": value, "ratio": value / seconds[OURS]} for name, value in seconds.items()}
    for name in rows:
        if name.startswith("torchmetrics"):
            rows[name]["difference"] = largest_difference(found[OURS], found[name])
    return rows


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
    parser.add_argument("--output", type=Path, help="JSON file for the rows")
    options = parser.parse_args()
    main(
        images=options.images,
        detections=options.detections,
        classes=options.classes,
        repeats=options.repeats,
        per_class=options.per_class,
        json_file=options.output,
    )
