"""What every task must satisfy: a new one costs its author one call."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from contract import Pyramid, check_compiles, check_export, check_state_dict
from mtvision.registries import TASKS
from mtvision.registry import Component
from mtvision.tasks.base import Task

ODD_SIZE = (65, 97)

Targets = Callable[[tuple[int, int]], Tensor]


class TaskModel(nn.Module):
    """The smallest backbone with every usual stride, and a task."""

    def __init__(self, task: Component) -> None:
        super().__init__()
        self.backbone = Pyramid()
        built = TASKS.build(task, self.backbone.feature_info)
        assert isinstance(built, Task)
        self.task = built

    def forward(self, images: Tensor) -> Any:
        return self.task(self.backbone(images), (images.shape[-2], images.shape[-1]))

    def total(self, images: Tensor, target: Sequence[Tensor | None]) -> Tensor:
        parts = self.task.loss(self(images), target)
        assert all(part.ndim == 0 for part in parts.values())
        return torch.stack(list(parts.values())).sum()


def check_task(name: str, target: Targets, **options: Any) -> None:
    """Check all that a task promises; ``target(image_size)`` makes the annotation of one image."""
    torch.manual_seed(0)
    model = TaskModel(Component(name, options))
    images = torch.rand(3, 3, *ODD_SIZE)
    truth = [target(ODD_SIZE) for _ in images]
    check_learns(model, images, truth)
    check_nothing_annotated(model, images)
    model.eval()
    check_mixed_batch(model, images, truth)
    check_predictions(model, images, target)
    check_state_dict(model, TaskModel(Component(name, options)).eval(), images)
    check_export(model)
    check_compiles(model)


def check_learns(model: TaskModel, images: Tensor, truth: list[Tensor]) -> None:
    model.total(images, truth).backward()
    unreached = [key for key, p in model.task.named_parameters() if p.grad is None or not p.grad.any()]
    assert not unreached
    before = model.total(images, truth).item()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(8):
        optimizer.zero_grad()
        loss = model.total(images, truth)
        loss.backward()
        optimizer.step()
    assert loss.item() < before
    model.zero_grad(set_to_none=True)


def check_nothing_annotated(model: TaskModel, images: Tensor) -> None:
    loss = model.total(images, [None] * len(images))
    loss.backward()
    assert loss.item() == 0
    reached = [p.grad for p in model.task.parameters() if p.grad is not None]
    assert reached
    assert all(torch.equal(gradient, torch.zeros_like(gradient)) for gradient in reached)
    model.zero_grad(set_to_none=True)


@torch.no_grad()
def check_mixed_batch(model: TaskModel, images: Tensor, truth: list[Tensor]) -> None:
    """An image in which nobody looked counts in no loss and in no metric."""
    mixed: list[Tensor | None] = [None, *truth[1:]]
    torch.testing.assert_close(model.total(images, mixed), model.total(images[1:], truth[1:]))
    predictions = model.task.postprocess(model(images))
    scored = []
    for chosen in ((predictions, mixed), (predictions[1:], truth[1:])):
        metrics = model.task.metrics()
        metrics.update(*chosen)
        scored.append(metrics.compute())
    torch.testing.assert_close(*scored, equal_nan=True)
    assert set(model.task.class_metrics) <= set(scored[0])
    main = scored[0][model.task.main_metric]
    assert 0 <= main <= 1


@torch.no_grad()
def check_predictions(model: TaskModel, images: Tensor, target: Targets) -> None:
    """One prediction an image, at the size asked for, which the task's own metrics take."""
    sizes = [(40, 50), ODD_SIZE, (129, 64)]
    predictions = model.task.postprocess(model(images), sizes)
    assert len(predictions) == len(images)
    metrics = model.task.metrics()
    metrics.update(predictions, [target(size) for size in sizes])
    assert metrics.compute()[model.task.main_metric].isfinite()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchmetrics warns of what is meant here: nothing was scored
        assert all(value.isnan().all() for value in model.task.metrics().compute().values())
