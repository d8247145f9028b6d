"""What every component of a role must satisfy: a new one costs its author one line of test."""

import io
import itertools
from typing import Any

import torch
from torch import Tensor, nn

import mtvision.backbones
import mtvision.heads.segmentation
import mtvision.losses.segmentation  # noqa: F401 - the three fill their registries
from mtvision.backbones import Backbone
from mtvision.registries import BACKBONES, SEGMENTATION_HEADS, SEGMENTATION_LOSSES
from mtvision.registry import Component
from mtvision.tasks.segmentation import SegmentationTask
from mtvision.types import VOID, FeatureInfo

NUM_CLASSES = 5
ODD_SIZE = (65, 97)


class Pyramid(Backbone):
    """Five convolutions: the smallest backbone with every usual stride, so that a test's time goes to the head."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 8, 12, 16, 20, 24)
        self.levels = nn.ModuleList(nn.Conv2d(k, out, 3, 2, 1) for k, out in itertools.pairwise(widths))
        self.feature_info = tuple(FeatureInfo(k, 2**level) for level, k in enumerate(widths[1:], start=1))

    def forward(self, images: Tensor) -> list[Tensor]:
        features = [images]
        for level in self.levels:
            features.append(level(features[-1]))
        return features[1:]


class SegmentationModel(nn.Module):
    """A backbone and a task, which is all that a head needs around it."""

    def __init__(self, head: Component, backbone: str | None = None, loss: str = "cross_entropy") -> None:
        super().__init__()
        self.backbone: Any = Pyramid() if backbone is None else BACKBONES.build(backbone, False)
        built = SEGMENTATION_HEADS.build(head, self.backbone.feature_info, NUM_CLASSES)
        self.task = SegmentationTask(built, NUM_CLASSES, SEGMENTATION_LOSSES.build(loss))

    def forward(self, images: Tensor) -> Any:
        return self.task(self.backbone(images), (images.shape[-2], images.shape[-1]))


def check_segmentation_head(name: str, **options: Any) -> None:
    """Check all but compilation, which takes its time: see `check_compiles`."""
    torch.manual_seed(0)
    model = SegmentationModel(Component(name, options))
    images = torch.randn(2, 3, *ODD_SIZE)
    check_gradients(model, images)
    check_void_target(model, images)
    model.eval()
    check_state_dict(model, SegmentationModel(Component(name, options)).eval(), images)
    check_export(model)


def check_gradients(model: SegmentationModel, images: Tensor) -> None:
    output = model(images)
    assert output.logits.shape == (2, NUM_CLASSES, *ODD_SIZE)
    mask = torch.randint(0, NUM_CLASSES, (2, *ODD_SIZE))
    sum(model.task.loss(output, mask).values()).backward()
    unreached = [key for key, p in model.task.named_parameters() if p.grad is None or not p.grad.any()]
    assert not unreached


def check_void_target(model: SegmentationModel, images: Tensor) -> None:
    loss = sum(model.task.loss(model(images), torch.full((2, *ODD_SIZE), VOID)).values())
    assert loss.item() == 0
    assert loss.requires_grad


def check_state_dict(model: nn.Module, twin: nn.Module, images: Tensor) -> None:
    stored = io.BytesIO()
    torch.save(model.state_dict(), stored)
    stored.seek(0)
    twin.load_state_dict(torch.load(stored, weights_only=True))
    with torch.no_grad():
        torch.testing.assert_close(twin(images), model(images), rtol=0, atol=0)


def check_export(model: nn.Module, smallest: int = 33) -> None:
    """Export at dynamic batch, height and width, and compare with the model at other sizes.

    Args:
        model: images to tensors.
        smallest: side in pixels from which on the coarsest feature has two rows or columns: the least that is promised,
            since `torch.export` takes a size of 1 for a constant.
    """
    exported = export_dynamic(model, (64, 80))
    check_exported(model, exported, ((3, 65, 97), (1, 96, 64), (2, smallest, smallest)))
    check_refused_or_equal(model, exported, smallest)


def export_dynamic(model: nn.Module, example: tuple[int, int]) -> nn.Module:
    dynamic = ({0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC},)
    return torch.export.export(model, (torch.randn(2, 3, *example),), dynamic_shapes=dynamic).module()


def check_exported(model: nn.Module, exported: nn.Module, sizes: tuple[tuple[int, int, int], ...]) -> None:
    """Compare at sizes (N, H, W)."""
    for batch, height, width in sizes:
        images = torch.randn(batch, 3, height, width)
        with torch.no_grad():
            torch.testing.assert_close(exported(images), model(images), rtol=1e-4, atol=1e-5)


def check_refused_or_equal(model: nn.Module, exported: nn.Module, smallest: int) -> None:
    """Check that the program gives no wrong numbers where the coarsest feature has one row, one column or one cell."""
    below = smallest - 1
    for size in ((below, smallest), (smallest, below), (below, below), (below // 2, smallest)):
        images = torch.randn(2, 3, *size)
        with torch.no_grad():
            try:
                found = exported(images)
            except (AssertionError, RuntimeError):  # torch's guards, of its newer and older releases
                continue
            torch.testing.assert_close(found, model(images), rtol=1e-4, atol=1e-5)


def check_compiles(model: nn.Module) -> None:
    """Trace into one graph, without generating code."""
    torch.compiler.reset()  # every model is a recompilation of the same forward, whose number is limited
    images = torch.randn(2, 3, 64, 64)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(images), model(images))
