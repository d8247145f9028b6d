"""What each part of a model costs: parameters, multiply-adds, time."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mtvision.errors import ConfigError
from mtvision.layers.mode import evaluation_mode
from mtvision.model import MultiTaskModel
from mtvision.text_table import text_table

BACKBONE, NECK = "backbone", "neck"


@dataclass(frozen=True)
class Cost:
    """What one forward pass of one image costs.

    Attributes:
        parameters: how many numbers the parameters hold.
        multiply_adds: of convolutions and matrix products; all else is little and is not counted.
        milliseconds: median, of one image in evaluation mode.
    """

    parameters: int
    multiply_adds: int
    milliseconds: float

    def __add__(self, other: "Cost") -> "Cost":
        """Return the cost of doing both, one after the other."""
        return Cost(
            self.parameters + other.parameters,
            self.multiply_adds + other.multiply_adds,
            self.milliseconds + other.milliseconds,
        )


@dataclass(frozen=True)
class ModelCost:
    """What a model and its parts cost; ``str()`` of it is a table.

    Attributes:
        parts: ``backbone`` (with the input normalization), ``neck`` where there is one, and ``tasks.<name>``: each
            task's head, without its postprocessing.
        whole: the model, measured as a whole.
        used_by: the parts that each task needs, by its name.
        image_size: ``(H, W)`` in pixels.
        device: on which the times were taken.
    """

    parts: dict[str, Cost]
    whole: Cost
    used_by: dict[str, tuple[str, ...]]
    image_size: tuple[int, int]
    device: str

    def single(self, task: str) -> Cost:
        """Return what a model of one task alone costs: the sum of the parts that the task needs.

        Raises:
            KeyError: if the model has no such task.
        """
        return _total([self.parts[part] for part in self.used_by[task]])

    def __str__(self) -> str:
        """Return a line for each part, for the model, and for each task alone, as multiples of the model too."""
        singles = {f"{task} alone": self.single(task) for task in self.used_by}
        rows = [("part", "parameters", "multiply-adds", "ms"), *(_cells(*item) for item in self.parts.items())]
        rows += [_cells("joint model", self.whole), *(_cells(*item) for item in singles.items())]
        if len(singles) > 1:
            rows.append(_ratios("all alone / joint", _total(list(singles.values())), self.whole))
        height, width = self.image_size
        return f"cost of one image of {height} x {width} pixels, {self.device}\n{text_table(rows)}"


def measure_cost(model: MultiTaskModel, image_size: tuple[int, int] | None = None, *, repeats: int = 20) -> ModelCost:
    """Measure a model and its parts on the device that it is on, in evaluation mode, one image at a time.

    Each part gets what it gets in the model: the backbone the image, the neck its features, each task the features of
    the one or the other. The parts take turns, so that whatever else the machine does hits all of them; the median
    counts. The model's mode is left as it was found.

    Args:
        model: any.
        image_size: ``(H, W)`` in pixels; None: the model's own.
        repeats: how often each part is timed, at least 1.

    Raises:
        ConfigError: if the model has no image size and none is given.

    Example:
        >>> import mtvision as mtv
        >>> cost = measure_cost(mtv.build_model({"backbone": "test_resnet"}), (64, 64), repeats=1)
        >>> list(cost.parts), cost.used_by["det"]
        (['backbone', 'neck', 'tasks.seg', 'tasks.det'], ('backbone', 'neck', 'tasks.det'))
        >>> cost.parts["backbone"].parameters
        372688
    """
    size = image_size or model.image_size
    if size is None:
        raise ConfigError(["image_size: the model has none; give one, (height, width) in pixels"])
    with evaluation_mode(model):
        calls = {**_part_calls(model, size), "": _whole_call(model, size)}
        counts = {name: _multiply_adds(call) for name, call in calls.items()}
        times = _median_milliseconds(calls, repeats, model.normalization.mean.device)
    sizes = {name: _num_parameters(model if name == "" else model.get_submodule(name)) for name in calls}
    costs = {name: Cost(sizes[name], counts[name], times[name]) for name in calls}
    whole = costs.pop("")
    return ModelCost(costs, whole, _used_by(model), size, _device_text(model.normalization.mean.device))


def _part_calls(model: MultiTaskModel, size: tuple[int, int]) -> dict[str, Callable[[], Any]]:
    """Return a call for each part on the inputs that it gets in the model, computed once."""
    image = _image(model, size)
    features = model.backbone(model.normalization(image))
    neck = model.neck
    shared = features if neck is None else neck(features)
    calls: dict[str, Callable[[], Any]] = {BACKBONE: lambda: model.backbone(model.normalization(image))}
    if neck is not None:
        calls[NECK] = lambda: neck(features)
    for name in model.tasks:
        calls[f"tasks.{name}"] = _task_call(model.task(name), shared if name in model.neck_tasks else features, size)
    return calls


def _task_call(task: nn.Module, features: Any, size: tuple[int, int]) -> Callable[[], Any]:
    return lambda: task(features, size)


def _whole_call(model: MultiTaskModel, size: tuple[int, int]) -> Callable[[], Any]:
    image = _image(model, size)
    return lambda: model(image)


def _image(model: MultiTaskModel, size: tuple[int, int]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8, generator=generator)
    return image.to(model.normalization.mean.device)


def _used_by(model: MultiTaskModel) -> dict[str, tuple[str, ...]]:
    def parts(task: str) -> tuple[str, ...]:
        before = (BACKBONE, NECK) if model.neck is not None and task in model.neck_tasks else (BACKBONE,)
        return (*before, f"tasks.{task}")

    return {task: parts(task) for task in model.tasks}


def _num_parameters(part: nn.Module) -> int:
    return sum(parameter.numel() for parameter in part.parameters())


def _multiply_adds(call: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops()) // 2


def _median_milliseconds(
    calls: Mapping[str, Callable[[], Any]], repeats: int, device: torch.device
) -> dict[str, float]:
    """Return the median of each call, after two to warm up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(-2, repeats):
        for name, call in calls.items():
            _wait_for(device)
            began = time.perf_counter()
            call()
            _wait_for(device)
            if turn >= 0:
                times[name].append(1e3 * (time.perf_counter() - began))
    return {name: statistics.median(values) for name, values in times.items()}


def _wait_for(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _device_text(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{device.type}, {threads} thread{'s' if threads > 1 else ''}" if device.type == "cpu" else device.type


def _total(costs: list[Cost]) -> Cost:
    return sum(costs, start=Cost(0, 0, 0.0))


def _cells(name: str, cost: Cost) -> tuple[str, ...]:
    return name, f"{cost.parameters:,}", f"{cost.multiply_adds:,}", f"{cost.milliseconds:.2f}"


def _ratios(name: str, cost: Cost, of: Cost) -> tuple[str, ...]:
    pairs = (
        (cost.parameters, of.parameters),
        (cost.multiply_adds, of.multiply_adds),
        (cost.milliseconds, of.milliseconds),
    )
    return name, *(f"{value / whole:.2f} x" if whole else "-" for value, whole in pairs)
