"""What every detection head must satisfy, on the neck that it names: a new one costs its author one line of test."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import mtvision.assigners
import mtvision.backbones
import mtvision.heads.detection
import mtvision.necks  # noqa: F401 - the four fill their registries
from contract import (
    Pyramid,
    check_compiles,
    check_exported,
    check_refused_or_equal,
    check_state_dict,
    export_dynamic,
)
from families import CHANNELS
from mtvision.losses.boxes import complete_iou_loss
from mtvision.losses.classification import sigmoid_focal_loss
from mtvision.registries import ASSIGNERS, BACKBONES, DETECTION_HEADS, NECKS
from mtvision.registry import Component
from mtvision.tasks.detection import DetectionTask
from mtvision.types import FeatureInfo

NUM_CLASSES = 3
LOSSES = (complete_iou_loss, sigmoid_focal_loss)


class DetectionModel(nn.Module):
    """A backbone, the head's neck and a detection task with the head's recipe.

    Args:
        head: its name and options.
        backbone: of the registry; None: the smallest one that has every usual stride.
        neck: None: the recipe's, with ``CHANNELS`` channels.
        losses: the box loss and the class loss.
    """

    def __init__(
        self,
        head: Component,
        backbone: str | None = None,
        neck: Component | None = None,
        losses: tuple[Any, Any] = LOSSES,
    ) -> None:
        super().__init__()
        self.backbone: Any = Pyramid() if backbone is None else BACKBONES.build(backbone, False)
        recipe: Any = getattr(DETECTION_HEADS.get(head.name), "recipe", None)
        chosen = neck or _narrow(recipe.neck)
        self.neck: Any = None if chosen is None else NECKS.build(chosen, self.backbone.feature_info)
        self.task = detection_task(head, self.neighbour.feature_info, losses)

    @property
    def neighbour(self) -> Any:
        """What stands before the head."""
        return self.backbone if self.neck is None else self.neck

    def features(self, images: Tensor) -> Any:
        features = self.backbone(images)
        return features if self.neck is None else self.neck(features)

    def forward(self, images: Tensor) -> Any:
        return self.task(self.features(images), (images.shape[-2], images.shape[-1]))


def detection_task(
    head: Component, feature_info: Sequence[FeatureInfo], losses: tuple[Any, Any] = LOSSES
) -> DetectionTask:
    """Return a task with the head's recipe."""
    recipe: Any = getattr(DETECTION_HEADS.get(head.name), "recipe", None)
    built = DETECTION_HEADS.build(head, feature_info, NUM_CLASSES)
    return DetectionTask(built, NUM_CLASSES, *losses, ASSIGNERS.build(recipe.assigner))


def _narrow(neck: Component | None) -> Component | None:
    return neck and Component(neck.name, {**neck.options, "channels": CHANNELS})


def detection_model(name: str, backbone: str | None = None, **options: Any) -> DetectionModel:
    torch.manual_seed(0)
    return DetectionModel(Component(name, options), backbone).eval()


def target_of(boxes: Tensor) -> dict[str, Tensor]:
    count = len(boxes)
    labels = torch.arange(count) % NUM_CLASSES
    return {"boxes": boxes, "labels": labels, "difficult": torch.zeros(count, dtype=torch.bool)}


def check_detection_head(name: str, **options: Any) -> None:
    """Check all but compilation and export, which take their time: see the last two functions."""
    for size in ((64, 64), (65, 97), (33, 40)):
        model = detection_model(name, **options)
        check_maps(model.task, model.neighbour.feature_info, model.features(torch.rand(2, 3, *size)), size)
    check_gradients(detection_model(name, **options).train())
    check_any_targets(lambda: detection_model(name, **options))
    images = torch.randn(2, 3, 65, 97)
    check_state_dict(detection_model(name, **options), DetectionModel(Component(name, options)).eval(), images)


def check_maps(
    task: DetectionTask, info: Sequence[FeatureInfo], features: Sequence[Tensor], size: tuple[int, int]
) -> None:
    """Check shapes; that points are of the strides of the features; and that boxes are decoded in float32."""
    output = task(features, size)
    count = len(output.points)
    assert output.class_logits.shape == (2, count, NUM_CLASSES)
    assert output.box_regression.shape == (2, count, 4)
    assert output.points.shape in ((count, 3), (count, 5))
    assert output.image_size.tolist() == list(size)
    maps = task.head(features)
    assert maps.centerness is None or maps.centerness.shape == (2, count)
    strides = output.points[:, 2]
    assert set(strides.tolist()) <= {each.stride for each in info}
    assert torch.equal(strides, strides.sort().values), "levels finest first"
    boxes = task.head.decode(output.box_regression.half(), output.points)
    assert boxes.shape == (2, count, 4)
    assert boxes.dtype == torch.float32


def check_gradients(model: DetectionModel) -> None:
    """Check that the loss of two images, one of them without objects, has a gradient everywhere."""
    boxes = torch.tensor([[4.0, 4.0, 20.0, 24.0], [10.0, 10.0, 60.0, 60.0], [33.0, 1.0, 62.0, 25.0]])
    # 128 pixels and an object of them: one on each level, the coarsest too.
    boxes = torch.cat([boxes, torch.tensor([[0.0, 0.0, 128.0, 128.0], [40.0, 40.0, 100.0, 110.0]])])
    parts = model.task.loss(model(torch.rand(2, 3, 128, 128)), [target_of(boxes), target_of(boxes[:0])])
    sum(parts.values()).backward()
    parameters = [*model.task.named_parameters(), *([] if model.neck is None else model.neck.named_parameters())]
    missing = [key for key, p in parameters if p.grad is None or not p.grad.isfinite().all() or p.grad.abs().sum() == 0]
    assert missing == []


def check_any_targets(make_model: Callable[[], DetectionModel]) -> None:
    """Check that loss and gradient are finite whatever there is to learn, and 0 where nobody looked."""
    corners = torch.rand(300, 2, generator=torch.Generator().manual_seed(0)) * 60
    targets: dict[str, Any] = {
        "empty": target_of(torch.zeros(0, 4)),
        "none": None,
        "crowded": target_of(torch.cat([corners, corners + 4], dim=1)),
        "degenerate": target_of(torch.tensor([[5.0, 5.0, 5.0, 5.0], [9.0, 9.0, 40.0, 9.0]])),
    }
    for kind, target in targets.items():
        model = make_model()
        total = sum(model.task.loss(model(torch.rand(2, 3, 64, 64)), [target, target]).values())
        total.backward()
        assert total.isfinite(), kind
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None), kind
        assert (total.item() == 0) == (kind == "none"), kind


def check_prior(name: str, **options: Any) -> None:
    """Check that `reset_prior` alone decides the scores of a head whose class predictor has no weights."""
    model = detection_model(name, **options)
    head: Any = model.task.head
    for module in head.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.zeros_(module.bias)
    head.reset_prior()
    nn.init.zeros_(head.class_predictor.weight)
    scores = model(torch.rand(1, 3, 64, 64)).class_logits.sigmoid()
    torch.testing.assert_close(scores, torch.full_like(scores, options.get("prior_probability", 0.01)))


def check_detection_compiles(name: str, **options: Any) -> None:
    check_compiles(detection_model(name, **options))


def check_detection_export(name: str, **options: Any) -> None:
    """Export at dynamic batch, height and width, and compare with the model at other sizes.

    `torch.export` takes a size of 1 for a constant: its example, and the images of the program, have more than one cell
    on the coarsest level.
    """
    model = detection_model(name, **options)
    coarsest = max(info.stride for info in model.neighbour.feature_info)
    exported = export_dynamic(model, (coarsest + 32, coarsest + 64))
    smallest = coarsest + 1
    sizes = ((1, smallest, coarsest + 129), (3, coarsest + 160, coarsest + 31), (2, smallest, smallest))
    check_exported(model, exported, sizes)
    check_refused_or_equal(model, exported, smallest)
