"""Semantic segmentation: one class a pixel."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from mtvision.config_fields import In, InSum
from mtvision.errors import ConfigError
from mtvision.layers.resize import resize_to
from mtvision.registries import SEGMENTATION_HEADS, SEGMENTATION_LOSSES, TASKS, Loss
from mtvision.registry import Component
from mtvision.tasks.base import Task, with_dropout
from mtvision.types import VOID, FeatureInfo

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


class SegmentationOutput(NamedTuple):
    """What the network says about pixels.

    Attributes:
        logits: ``(N, C, H, W)`` at the size of the network's input.
        auxiliary: the logits of each auxiliary head, likewise; they only matter to the loss.
    """

    logits: Tensor
    auxiliary: tuple[Tensor, ...] = ()


class SegmentationTask(Task):
    """Semantic segmentation.

    Args:
        head: features to logits ``(N, C, h, w)`` at any stride.
        num_classes: C, the background included.
        loss: ``loss(logits (N, C, H, W), mask (N, H, W)) -> scalar`` in which 255 does not count; if it has a method
            ``parts`` that returns its terms by name, they are told apart in logs.
        auxiliary_heads: heads like ``head`` whose losses train the features that they look at (deep supervision: Lee et
            al. 2015, arXiv 1409.5185). They are computed in evaluation too, so that losses mean the same there; to
            spare that in use, empty the task's ``auxiliary_heads`` after training.
        auxiliary_weight: of the loss of each auxiliary head (0.4: Zhao et al. 2017, PSPNet, arXiv 1612.01105).

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

    def __init__(
        self,
        head: nn.Module,
        num_classes: int,
        loss: Loss,
        *,
        auxiliary_heads: Sequence[nn.Module] = (),
        auxiliary_weight: float = 0.4,
    ) -> None:
        super().__init__()
        self.head = head
        self.auxiliary_heads = nn.ModuleList(auxiliary_heads)
        self.auxiliary_weight = auxiliary_weight
        self.num_classes = num_classes
        self.criterion = loss
        # one void pixel: a loss whose options do not fit the classes says so now, not when training has begun
        probe = loss(torch.zeros(1, num_classes, 1, 1), torch.full((1, 1, 1), VOID))
        if probe.ndim != 0:
            raise ConfigError([f"a segmentation loss must return a scalar, got {tuple(probe.shape)}"])

    def forward(self, features: Sequence[Tensor], image_size: tuple[int, int]) -> SegmentationOutput:
        """Return logits ``(N, C, *image_size)``, resized bilinearly from the heads' strides."""
        return SegmentationOutput(
            self._logits(self.head, features, image_size),
            tuple(self._logits(head, features, image_size) for head in self.auxiliary_heads),
        )

    def _logits(self, head: nn.Module, features: Sequence[Tensor], image_size: tuple[int, int]) -> Tensor:
        logits: Tensor = head(features)
        given, wanted = logits.shape[1], self.num_classes
        if given != wanted:
            raise ConfigError([f"the segmentation head must give {wanted} logits a pixel, got {given}"])
        return resize_to(logits, image_size)

    def loss(self, output: SegmentationOutput, target: Tensor) -> dict[str, Tensor]:
        """Return ``{"segmentation": scalar}``, or the terms of a sum of losses by name.

        With auxiliary heads also ``"auxiliary"``: the sum of their losses, times ``auxiliary_weight``.

        Args:
            output: of `forward`.
            target: int64 (or another integer type) ``(N, H, W)`` in [0, C) or 255; an image that is not annotated is
                all 255. The range is checked where masks are read, since a check here would make a GPU wait.
        """
        target = target.long()
        parts = getattr(self.criterion, "parts", None)
        losses = parts(output.logits, target) if parts else {"segmentation": self.criterion(output.logits, target)}
        if output.auxiliary:
            auxiliary = torch.stack([self.criterion(logits, target) for logits in output.auxiliary])
            losses = {**losses, "auxiliary": self.auxiliary_weight * auxiliary.sum()}
        return losses

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

    def probabilities(
        self, output: SegmentationOutput, image_sizes: Sequence[tuple[int, int]] | None = None
    ) -> Iterator[Tensor]:
        """Yield the probability of each class at each pixel, float32 ``(C, H, W)`` an image, of the size asked for.

        It is the softmax of the logits that `postprocess` compares. One image at a time is held.
        """
        sizes = image_sizes or [(output.logits.shape[-2], output.logits.shape[-1])] * len(output.logits)
        for logits, size in zip(torch.split(output.logits, 1), sizes, strict=True):
            yield _resized(logits, size).float().softmax(dim=1)[0]

    def confidence(
        self, output: SegmentationOutput, image_sizes: Sequence[tuple[int, int]] | None = None
    ) -> list[Tensor]:
        """Return the probability of the class that is predicted at each pixel, float32 ``(H, W)`` an image."""
        return [each.amax(dim=0) for each in self.probabilities(output, image_sizes)]

    def metrics(self) -> "MetricCollection":
        """Return ``miou``, ``pixel_accuracy`` and ``iou`` (one value a class), each in [0, 1] or NaN if undefined."""
        from mtvision.tasks.segmentation_metrics import segmentation_metrics

        return segmentation_metrics(self.num_classes)


def _resized(logits: Tensor, size: tuple[int, int]) -> Tensor:
    return logits if logits.shape[-2:] == size else resize_to(logits, size)


@TASKS.register("segmentation")
def segmentation(
    feature_info: Sequence[FeatureInfo],
    *,
    head: Annotated[Component, In(SEGMENTATION_HEADS)],
    loss: Annotated[Component, InSum(SEGMENTATION_LOSSES)],
    num_classes: Annotated[int, Field(ge=2, le=255)],
    auxiliary_heads: tuple[Annotated[Component, In(SEGMENTATION_HEADS)], ...] = (),
    auxiliary_weight: Annotated[float, Field(ge=0)] = 0.4,
    dropout_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0,
) -> SegmentationTask:
    """Semantic segmentation: one class a pixel (as in PASCAL VOC, Everingham et al. 2010).

    Args:
        feature_info: of the backbone, or of the neck where it is shared.
        head: of the registry `SEGMENTATION_HEADS`.
        loss: of the registry `SEGMENTATION_LOSSES`, or a list of them with weights.
        num_classes: the background included.
        auxiliary_heads: further heads of that registry, which only add losses.
        auxiliary_weight: of the loss of each of them.
        dropout_rate: of the heads that have such an option and were not given their own.
    """
    choices = [with_dropout(SEGMENTATION_HEADS, choice, dropout_rate) for choice in (head, *auxiliary_heads)]
    main, *others = [SEGMENTATION_HEADS.build(choice, feature_info, num_classes) for choice in choices]
    criterion = SEGMENTATION_LOSSES.build(loss)
    return SegmentationTask(main, num_classes, criterion, auxiliary_heads=others, auxiliary_weight=auxiliary_weight)
