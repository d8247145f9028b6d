"""Assignment by the overlap of objects with anchors."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from mtvision.assigners.base import (
    Assignment,
    BestObject,
    PaddedTargets,
    anchor_boxes,
    hard_assignment,
    object_blocks,
)
from mtvision.errors import ConfigError
from mtvision.ops.boxes import pairwise_iou
from mtvision.registries import ASSIGNERS

_NOT_LEARNABLE = -1.0
"""In place of an IoU: below any."""


@ASSIGNERS.register("max_iou")
@dataclass(frozen=True, kw_only=True)
class MaxIoUAssigner:
    """Anchors that overlap an object enough learn it (Lin et al. 2017, RetinaNet, arXiv 1708.02002).

    An anchor learns the object of its largest IoU if that is at least ``foreground_iou``; it is background below
    ``background_iou`` and ignored between the two. Of equal overlaps the first object counts.

    With ``low_quality`` (Ren et al. 2015, Faster R-CNN, arXiv 1506.01497, section 3.1.2, rule i) an object's best
    anchors, all of equal IoU, are positives too, however small that IoU; each of them learns its own best object, which
    may be another. As in torchvision's ``Matcher``, with one difference: an object that overlaps no anchor claims
    none, where torchvision makes each anchor that it does not touch its positive.

    A difficult object is no object here; an anchor that overlaps it by ``foreground_iou`` is ignored unless positive.

    A point without an anchor stands for one square. Its 8 strides are what Zhang et al. 2020 (ATSS, arXiv 1912.02424,
    section 3.1) give a RetinaNet with one anchor a point; RetinaNet's own nine have sides of 4 to 6.3 strides.

    Args:
        foreground_iou: least IoU of a positive.
        background_iou: IoU below which an anchor is background.
        low_quality: an object's best anchors are positives whatever their IoU.
        anchor_scale: side in strides of the square about a point without an anchor.

    Raises:
        ConfigError: if ``background_iou`` is above ``foreground_iou``.

    Example:
        >>> from mtvision.assigners.base import pad_targets
        >>> points = torch.tensor([[8.0, 8.0, 8.0, 16.0, 16.0], [24.0, 8.0, 8.0, 16.0, 16.0]])  # two anchors
        >>> target = {"boxes": torch.tensor([[0.0, 0.0, 16.0, 12.0]]), "labels": torch.tensor([0])}
        >>> targets = pad_targets([{**target, "difficult": torch.tensor([False])}], torch.device("cpu"))
        >>> MaxIoUAssigner()(torch.zeros(1, 2, 3), torch.zeros(1, 2, 4), points, targets).foreground
        tensor([[ True, False]])
    """

    foreground_iou: Annotated[float, Field(gt=0, le=1)] = 0.5
    background_iou: Annotated[float, Field(ge=0, le=1)] = 0.4
    low_quality: bool = True
    anchor_scale: Annotated[float, Field(gt=0)] = 8.0

    soft: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Compare the thresholds."""
        if self.background_iou > self.foreground_iou:
            thresholds = f"background_iou {self.background_iou} is above foreground_iou {self.foreground_iou}"
            raise ConfigError([f"assigner 'max_iou': {thresholds}"])

    @torch.no_grad()
    def __call__(
        self,
        class_logits: Tensor,  # noqa: ARG002 - part of the contract
        boxes: Tensor,
        points: Tensor,
        targets: PaddedTargets,
    ) -> Assignment:
        """Assign the points of a batch; see `Assigner`."""
        anchors = anchor_boxes(points, self.anchor_scale)
        best = BestObject.none(len(boxes), anchors)
        claimed = torch.zeros_like(best.object_index, dtype=torch.bool)  # (N, A)
        covered = claimed
        for first, block in object_blocks(targets, len(points)):
            iou = pairwise_iou(block.boxes, anchors)  # (N, M, A)
            covered = covered | ((iou >= self.foreground_iou) & block.difficult[..., None]).any(dim=1)
            iou = torch.where(block.learnable[..., None], iou, _NOT_LEARNABLE)
            best = best.update(iou, first)
            if self.low_quality:
                claimed = claimed | _best_anchors(iou).any(dim=1)
        foreground = (best.quality >= self.foreground_iou) | claimed
        return hard_assignment(foreground, best.object_index, (best.quality >= self.background_iou) | covered)


def _best_anchors(iou: Tensor) -> Tensor:
    """Tell which anchors have an object's largest IoU, if they touch it at all; ``(N, M, A)`` to the same in bool."""
    largest = iou.amax(dim=2, keepdim=True)
    return (iou == largest) & (largest > 0)
