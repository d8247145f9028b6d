"""What the benchmarks share: a training step, targets, and timing in turns."""

import copy
import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

import mtvision as mtv


def median_seconds(steps: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the median CPU seconds of each step, after one step to warm up.

    The steps take turns, so that whatever else the machine does hits all of them.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    for _ in range(repeats):
        for name, step in steps.items():
            began = time.process_time()
            step()
            seconds[name].append(time.process_time() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


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
    """Return a training step of a bare backbone; its loss is the sum of the means of its features."""
    return training_step(network, lambda: torch.stack([feature.mean() for feature in network(images)]).sum())


def model_step(model: mtv.MultiTaskModel, images: Tensor) -> Callable[[], None]:
    """Return a training step of a model; its loss is the sum of all parts of all tasks."""
    targets = make_targets(len(images), images.shape[-1])

    def loss() -> Tensor:
        losses = model.loss(model(images), targets)
        return torch.stack([part for parts in losses.values() for part in parts.values()]).sum()

    return training_step(model, loss)


def make_targets(num_images: int, size: int, num_objects: int = 5) -> dict[str, object]:
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
