"""What training and inference cost against the sizes of image and batch and the numbers of objects and classes.

    python benchmarks/scaling.py [--backbone resnet18] [--size 256] [--batch 4] [--repeats 5] [--output FILE]
                                 [--sizes 128 192 ...] [--batches 1 2 ...] [--objects 1 10 ...]
                                 [--det-classes 20 80 ...] [--seg-classes 21 60 ...]

The model has the heads of the defaults. One number changes in each table; the others are those of ``--size`` and
``--batch``, 5 objects an image, 20 classes of boxes and 21 of masks. The rows of a table take turns; medians are told.

* **size, batch**: seconds a megapixel, and the exponent of a straight line through the logarithms: 1 is linear, and
  what a step costs beside its pixels makes it smaller.
* **objects, classes**: the loss of a task alone is its forward and backward pass on the outputs of the network,
  detached; its memory is what the process holds at most during one such pass, beyond what it held before.

A training step is forward, loss, backward and an SGD update; inference is forward and postprocess. The detector is
untrained, so what scores above its threshold means nothing. It is 0 here: suppression has as much to do as it can have,
however many objects there are.
"""

import argparse
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from common import Seconds, backbone_step, bare_backbone, make_targets, measured, total_loss, training_step
from heads import inference_step
from memory_meter import PeakMemory
from reporting import Row, Table, report
from torch import Tensor

import mtvision as mtv

ALONE = "backbone alone"
FEW_OBJECTS = 5
CLASSES = {"seg": 21, "det": 20}
TASKS = {"seg": "segmentation", "det": "detection"}
WANTED_EXPONENT = 1.1
WANTED_GROWTH = 1.15
WANTED_LOSS = 1.0


class Settings(NamedTuple):
    """What is measured; see ``--help``."""

    backbone: str = "resnet18"
    size: int = 256
    batch: int = 4
    repeats: int = 5
    sizes: tuple[int, ...] = (128, 192, 256, 384, 512)
    batches: tuple[int, ...] = (1, 2, 4, 8, 16)
    objects: tuple[int, ...] = (1, 10, 30, 100, 300)
    det_classes: tuple[int, ...] = (20, 80, 365, 1000)
    seg_classes: tuple[int, ...] = (21, 60, 150)


class Case(NamedTuple):
    """A model and a batch."""

    model: mtv.MultiTaskModel
    images: Tensor
    targets: Mapping[str, Any]


def main(settings: Settings, output: Path | None = None) -> list[Table]:
    """Print and return a table for each number that changes."""
    tables = [
        pixels_table("pixels a side", {size: (size, settings.batch) for size in settings.sizes}, settings),
        pixels_table("images a batch", {batch: (settings.size, batch) for batch in settings.batches}, settings),
        objects_table(settings),
        classes_table("det", settings.det_classes, settings),
        classes_table("seg", settings.seg_classes, settings),
    ]
    report("scaling", tables, output)
    return tables


def pixels_table(column: str, shapes: Mapping[int, tuple[int, int]], settings: Settings) -> Table:
    """Return what batches of other pixels cost; ``shapes`` gives size and batch for each value of the column."""
    model = build(settings.backbone)
    cases = {str(value): make_case(model, size, batch) for value, (size, batch) in shapes.items()}
    train = measured({name: train_step(case) for name, case in cases.items()}, settings.repeats)
    inference = measured({name: inference_of(case) for name, case in cases.items()}, settings.repeats)
    megapixels = {name: case.images[:, 0].numel() / 1e6 for name, case in cases.items()}
    rows: list[Row] = [
        {
            column: int(name),
            "megapixels": amount,
            **_a_megapixel("train step", train[name], amount),
            **_a_megapixel("inference", inference[name], amount),
        }
        for name, amount in megapixels.items()
    ]
    notes = [
        f"Exponents, CPU and wall: train step {_exponents(train, megapixels)}, inference "
        f"{_exponents(inference, megapixels)}. Wanted: linear, none above {WANTED_EXPONENT}."
    ]
    return Table(_title(column.capitalize(), settings), rows, notes)


def objects_table(settings: Settings) -> Table:
    """Return what training costs with more objects in the same images; none of it changes inference."""
    model = build(settings.backbone)
    cases = {str(number): make_case(model, settings.size, settings.batch, number) for number in settings.objects}
    steps = {name: train_step(case) for name, case in cases.items()}
    losses = {f"loss {name}": loss_step(case, "det") for name, case in cases.items()}
    seconds = measured({**steps, **losses}, settings.repeats)
    first = seconds[next(iter(cases))]
    rows: list[Row] = [
        {
            "objects an image": int(name),
            **_times("train step", seconds[name]),
            **_ratios("x first row", seconds[name], first),
            **_times("loss alone", seconds[f"loss {name}"]),
            "loss alone, MB": peak_of(losses[f"loss {name}"]),
        }
        for name in cases
    ]
    growth = f"found {rows[-1]['x first row (CPU)']:.3f} (CPU) and {rows[-1]['x first row (wall)']:.3f} (wall)"
    notes = [f"Wanted: from the first row to the last at most {WANTED_GROWTH} x; {growth}."]
    return Table(_title("Objects an image", settings), rows, notes)


def classes_table(task: str, numbers: Sequence[int], settings: Settings) -> Table:
    """Return what more classes of one task cost, in multiples of the bare backbone's training step too."""
    models = {str(number): build(settings.backbone, {task: number}) for number in numbers}
    cases = {name: make_case(model, settings.size, settings.batch) for name, model in models.items()}
    some = next(iter(cases.values()))
    steps = {ALONE: backbone_step(bare_backbone(some.model), some.images)}
    steps |= {name: train_step(case) for name, case in cases.items()}
    losses = {name: loss_step(case, task) for name, case in cases.items()}
    seconds = measured({**steps, **{f"loss {name}": step for name, step in losses.items()}}, settings.repeats)
    inference = measured({name: inference_of(case) for name, case in cases.items()}, settings.repeats)
    alone = seconds[ALONE]
    rows: list[Row] = [
        {
            "classes": name,
            **_times("train step", seconds[name]),
            **_ratios("x backbone", seconds[name], alone),
            **_times("loss alone", seconds.get(f"loss {name}")),
            **_ratios("loss alone, x backbone", seconds.get(f"loss {name}"), alone),
            "loss alone, MB": peak_of(losses[name]) if name in losses else None,
            **_times("inference", inference.get(name)),
        }
        for name in steps
    ]
    found = rows[-1]["loss alone, x backbone (CPU)"]
    wanted = f"Wanted: the loss alone below {WANTED_LOSS:g} x the backbone's training step; found {found:.3f} (CPU)."
    title = _title(f"Classes of {TASKS[task]}", settings)
    return Table(title, rows, [wanted] if task == "det" else [])


def build(backbone: str, num_classes: Mapping[str, int] | None = None) -> mtv.MultiTaskModel:
    """Return the model of the defaults that keeps as many detections as it can."""
    numbers = {**CLASSES, **(num_classes or {})}
    return mtv.build_model({"backbone": backbone, "num_classes": numbers, "detections": {"score_threshold": 0.0}})


def make_case(model: mtv.MultiTaskModel, size: int, batch: int, num_objects: int = FEW_OBJECTS) -> Case:
    """Return random images and targets, of boxes of all classes in turn."""
    targets = make_targets(batch, size, num_objects)
    labels = torch.arange(num_objects) % CLASSES["det"]
    images = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8)
    return Case(model, images, {**targets, "det": [{**of_image, "labels": labels} for of_image in targets["det"]]})


def train_step(case: Case) -> Callable[[], None]:
    return training_step(case.model, total_loss(*case))


def inference_of(case: Case) -> Callable[[], object]:
    return inference_step(case.model, case.images)


def loss_step(case: Case, name: str) -> Callable[[], object]:
    """Return the forward and backward pass of a task's loss, down to the outputs of the network."""
    task, target, output = case.model.task(name), case.targets[name], case.model(case.images)[name]
    found = {key: part for key, part in output._asdict().items() if isinstance(part, Tensor) and part.requires_grad}
    leaves = {key: part.detach().requires_grad_() for key, part in found.items()}
    detached = output._replace(**leaves)

    def step() -> tuple[Tensor, ...]:
        loss = torch.stack(list(task.loss(detached, target).values())).sum()
        return torch.autograd.grad(loss, list(leaves.values()))

    return step


def peak_of(step: Callable[[], object]) -> float:
    """Return the memory in 10⁶ bytes that a step holds at most, beyond what is held anyway."""
    with PeakMemory() as peak:
        step()
    return peak.bytes / 1e6


def exponent(amounts: Sequence[float], seconds: Sequence[float]) -> float:
    """Return the slope of the logarithms: 1 where seconds are proportional to amounts; NaN of one amount."""
    if len(set(amounts)) < 2:
        return math.nan
    return statistics.linear_regression([*map(math.log, amounts)], [*map(math.log, seconds)]).slope


def _exponents(seconds: Mapping[str, Seconds], amounts: Mapping[str, float]) -> str:
    cpu, wall = ([getattr(seconds[name], clock) for name in amounts] for clock in Seconds._fields)
    return " and ".join(f"{exponent([*amounts.values()], each):.2f}" for each in (cpu, wall))


def _a_megapixel(what: str, seconds: Seconds, megapixels: float) -> dict[str, float]:
    return {
        f"{what}, CPU s": seconds.cpu,
        f"{what}, CPU s a megapixel": seconds.cpu / megapixels,
        f"{what}, wall s a megapixel": seconds.wall / megapixels,
    }


def _times(what: str, seconds: Seconds | None) -> dict[str, float | None]:
    cpu, wall = seconds or (None, None)
    return {f"{what}, CPU s": cpu, f"{what}, wall s": wall}


def _ratios(what: str, seconds: Seconds | None, base: Seconds) -> dict[str, float | None]:
    cpu, wall = (seconds.cpu / base.cpu, seconds.wall / base.wall) if seconds else (None, None)
    return {f"{what} (CPU)": cpu, f"{what} (wall)": wall}


def _title(what: str, settings: Settings) -> str:
    shape = f"{settings.size} px, batch {settings.batch} where they do not change"
    return f"{what}: {settings.backbone}, {shape}, median of {settings.repeats}, {torch.get_num_threads()} threads"


def parsed(arguments: Sequence[str] | None = None) -> tuple[Settings, Path | None]:
    defaults = Settings()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default=defaults.backbone)
    parser.add_argument("--size", type=int, default=defaults.size)
    parser.add_argument("--batch", type=int, default=defaults.batch)
    parser.add_argument("--repeats", type=int, default=defaults.repeats)
    for name in ("sizes", "batches", "objects", "det_classes", "seg_classes"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, nargs="+", default=getattr(defaults, name))
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the tables here too, as JSON")
    given = vars(parser.parse_args(arguments))
    output = given.pop("output")
    options: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    return Settings(**options), output


if __name__ == "__main__":
    main(*parsed())
