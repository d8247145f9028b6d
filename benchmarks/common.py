"""What the benchmarks share: training steps, targets, and timing in turns."""

import copy
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import mtvision as mtv


class Seconds(NamedTuple):
    """Medians of one step: of the processor in all threads of this process, and of the clock."""

    cpu: float
    wall: float


def measured(steps: Mapping[str, Callable[[], object]], repeats: int, warm_up: int = 1) -> dict[str, Seconds]:
    """Return the medians of each step, after some to warm up.

    The steps take turns, so that whatever else the machine does hits all of them.
    """
    seconds: dict[str, list[Seconds]] = {name: [] for name in steps}
    for step in steps.values():
        for _ in range(warm_up):
            step()
    for _ in range(repeats):
        for name, step in steps.items():
            began, used = time.perf_counter(), time.process_time()
            step()
            seconds[name].append(Seconds(time.process_time() - used, time.perf_counter() - began))
    return {name: medians(each) for name, each in seconds.items()}


def medians(turns: Iterable[Seconds]) -> Seconds:
    """Return the median of each clock."""
    return Seconds(*map(statistics.median, zip(*turns, strict=True)))


def median_seconds(steps: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the median CPU seconds of each step; see `measured`."""
    return {name: seconds.cpu for name, seconds in measured(steps, repeats).items()}


def bare_backbone(model: mtv.MultiTaskModel) -> nn.Module:
    """Return a copy of what all heads share: input normalization and backbone."""
    return copy.deepcopy(nn.Sequential(model.normalization, model.backbone))


def training_step(network: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    """Return a step: forward and loss, backward, an SGD update. No gradient is kept between steps, to save memory."""
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4)

    def step() -> None:
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def backbone_step(network: nn.Module, images: Tensor) -> Callable[[], None]:
    """Return a training step of a bare backbone."""
    return training_step(network, lambda: feature_loss(network(images)))


def feature_loss(features: Iterable[Tensor]) -> Tensor:
    """Return the sum of the means of some features: a loss that costs next to nothing."""
    return torch.stack([feature.float().mean() for feature in features]).sum()


def model_step(model: mtv.MultiTaskModel, images: Tensor) -> Callable[[], None]:
    """Return a training step of a model; its loss is the sum of all parts of all tasks."""
    return training_step(model, total_loss(model, images, make_targets(len(images), images.shape[-1])))


def total_loss(
    model: mtv.MultiTaskModel,
    images: Tensor,
    targets: Mapping[str, Any],
    network: Callable[[Tensor], Any] | None = None,
) -> Callable[[], Tensor]:
    """Return the forward pass and the sum of all losses, by ``network`` where that is another form of the model."""
    called = model if network is None else network

    def loss() -> Tensor:
        return sum_of_parts(model.loss(called(images), targets))

    return loss


def sum_of_parts(losses: Mapping[str, Mapping[str, Tensor]]) -> Tensor:
    """Return the sum of all parts of all tasks."""
    return torch.stack([part for parts in losses.values() for part in parts.values()]).sum()


def make_targets(num_images: int, size: int, num_objects: int = 5) -> dict[str, Any]:
    """Return random masks of 21 classes and random boxes, the same at each call."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(num_images, num_objects, 2, generator=generator) * size * 0.6
    extents = torch.rand(num_images, num_objects, 2, generator=generator) * size * 0.3 + 8
    boxes = torch.cat([corners, corners + extents], dim=-1)
    labels, difficult = torch.arange(num_objects), torch.zeros(num_objects, dtype=torch.bool)
    return {
        "seg": torch.randint(0, 21, (num_images, size, size), generator=generator),
        "det": [{"boxes": of_image, "labels": labels, "difficult": difficult} for of_image in boxes],
    }


def sizes_of(texts: Sequence[str]) -> dict[int, int]:
    """Return batch by size of the square images from texts such as ``256x8``."""
    return {int(size): int(batch) for size, batch in (text.split("x") for text in texts)}
