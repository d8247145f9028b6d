"""Semantic segmentation: one class a pixel."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from mtvision.errors import ConfigError
from mtvision.layers.resize import resize_to
from mtvision.registries import Loss
from mtvision.tasks.base import Task
from mtvision.types import VOID

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


class SegmentationOutput(NamedTuple):
    """``logits (N, C, H, W)`` at the size of the network's input."""

    logits: Tensor


class SegmentationTask(Task):
    """Semantic segmentation.

    Args:
        head: features to logits ``(N, C, h, w)`` at any stride.
        num_classes: C, the background included.
        loss: ``loss(logits (N, C, H, W), mask (N, H, W)) -> scalar`` in which 255 does not count.

    Raises:
        ConfigError: if what the loss was given for each class does not fit ``num_classes``, or it returns no scalar.

    Example:
        >>> from mtvision.heads.segmentation.fcn import FCNHead
        >>> from mtvision.losses.segmentation import CrossEntropy
        >>> from mtvision.types import FeatureInfo
        >>> task = SegmentationTask(FCNHead([FeatureInfo(8, 32)], 3, variant="32s"), 3, CrossEntropy())
        >>> task([torch.zeros(2, 8, 2, 2)], (64, 64)).logits.shape
        torch.Size([2, 3, 64, 64])
    """

    main_metric: ClassVar[str] = "miou"
    class_metrics: ClassVar[frozenset[str]] = frozenset({"iou"})

    def __init__(self, head: nn.Module, num_classes: int, loss: Loss) -> None:
        super().__init__()
        self.head = head
        self.num_classes = num_classes
        self.criterion = loss
        # one void pixel: a loss whose options do not fit the classes says so now, not when training has begun
        probe = loss(torch.zeros(1, num_classes, 1, 1), torch.full((1, 1, 1), VOID))
        if probe.ndim != 0:
            raise ConfigError([f"a segmentation loss must return a scalar, got {tuple(probe.shape)}"])

    def forward(self, features: Sequence[Tensor], image_size: tuple[int, int]) -> SegmentationOutput:
        """Return logits ``(N, C, *image_size)``, resized bilinearly from the head's stride."""
        logits = self.head(features)
        given, wanted = logits.shape[1], self.num_classes
        if given != wanted:
            raise ConfigError([f"the segmentation head must give {wanted} logits a pixel, got {given}"])
        return SegmentationOutput(resize_to(logits, image_size))

    def loss(self, output: SegmentationOutput, target: Tensor) -> dict[str, Tensor]:
        """Return ``{"segmentation": scalar}``.

        Args:
            output: of `forward`.
            target: int64 ``(N, H, W)`` in [0, C) or 255; an image that is not annotated is all 255. The range is
                checked where masks are read, since a check here would make a GPU wait.
        """
        return {"segmentation": self.criterion(output.logits, target)}

    def postprocess(
        self, output: SegmentationOutput, image_sizes: Sequence[tuple[int, int]] | None = None
    ) -> list[Tensor]:
        """Return the most likely class of each pixel, int64 ``(H, W)`` an image, of the size asked for.

        Logits are resized, not classes, so that borders stay smooth.
        """
        if image_sizes is None:
            return list(output.logits.argmax(dim=1))
        sized = zip(torch.split(output.logits, 1), image_sizes, strict=True)
        return [_resized(logits, size).argmax(dim=1)[0] for logits, size in sized]

    def metrics(self) -> "MetricCollection":
        """Return ``miou``, ``pixel_accuracy`` and ``iou`` (one value a class), each in [0, 1] or NaN if undefined."""
        from mtvision.tasks.segmentation_metrics import segmentation_metrics

        return segmentation_metrics(self.num_classes)


def _resized(logits: Tensor, size: tuple[int, int]) -> Tensor:
    return logits if logits.shape[-2:] == size else resize_to(logits, size)
