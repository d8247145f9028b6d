"""Object detection: boxes with a class and a score."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from mtvision.assigners.base import Assigner, Assignment, PaddedTargets, checked_assignment, pad_targets
from mtvision.config_fields import In
from mtvision.errors import ConfigError
from mtvision.heads.detection.base import DetectionHead, check_maps
from mtvision.ops.boxes import boxes_to_distances, centerness, clip_boxes, paired_iou, scale_boxes
from mtvision.ops.processes import divisor
from mtvision.registries import (
    ASSIGNERS,
    BOX_LOSSES,
    CLASSIFICATION_LOSSES,
    DETECTION_HEADS,
    SUPPRESSIONS,
    TASKS,
    Loss,
)
from mtvision.registry import Component
from mtvision.suppression import Suppression
from mtvision.tasks.base import Task, with_dropout
from mtvision.tasks.selection import Selection, level_index, object_scores, select_detections
from mtvision.types import DetectionPrediction, DetectionTarget, FeatureInfo

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

_CLASS_WISE = Component("class_wise")
_LEAST_QUALITY = 1e-6
"""Of a positive, whose box may miss its object: a target of 0 is that of a negative."""


class DetectionOutput(NamedTuple):
    """What the network says about objects.

    Attributes:
        class_logits: ``(N, A, C)``, independent classes without background.
        box_regression: ``(N, A, 4)``, decoded by the head.
        points: ``(A, 3)`` x, y and stride in pixels of the input, or ``(A, 5)``, with an anchor's width and height.
        image_size: ``(2,)`` float32 H, W of the input.
        centerness: ``(N, A)`` logits, where the head has them.
    """

    class_logits: Tensor
    box_regression: Tensor
    points: Tensor
    image_size: Tensor
    centerness: Tensor | None = None


class DetectionTask(Task):
    """Detection head + losses + decoding with suppression + mean average precision.

    What is None is as ``head.recipe`` says.

    Args:
        head: a `DetectionHead`.
        num_classes: without background.
        box_loss: ``loss(predicted (M, 4), target (M, 4)) -> (M,)`` of boxes in units of the stride, or, where it has a
            true attribute ``on_coordinates``, of the head's own coordinates; see `BOX_LOSSES`. M counts all points;
            what is said of one that learns no object does not count, and its own box is not shown.
        class_loss: ``loss(logits, targets) ->`` elementwise; where it has a true attribute ``wants_quality``, the
            target of a positive is the IoU of its box, unless the assigner's scores are such already; see
            `CLASSIFICATION_LOSSES`.
        assigner: which point learns which object.
        box_weight: of the box loss against the class loss.
        normalize_by: "batch" or "image", as in `DetectionRecipe`.
        score_threshold: what scores below it is no detection.
        nms: which detections of an object stay; None: the best of each class, see `SUPPRESSIONS`.
        nms_threshold: IoU above which a detection suppresses a worse one.
        max_detections: an image.
        candidates: detections of one image and level that enter the suppression, the best ones.

    Raises:
        ConfigError: if ``head`` is no `DetectionHead`.
    """

    main_metric: ClassVar[str] = "map50"
    class_metrics: ClassVar[frozenset[str]] = frozenset({"ap50", "ap50_95"})
    compilable: ClassVar[tuple[str, ...]] = ("assigner", "box_loss", "class_loss")

    def __init__(
        self,
        head: nn.Module,
        num_classes: int,
        box_loss: Loss,
        class_loss: Loss,
        assigner: Assigner | None = None,
        *,
        box_weight: float | None = None,
        normalize_by: Literal["batch", "image"] | None = None,
        score_threshold: float | None = None,
        nms: Suppression | None = None,
        nms_threshold: float | None = None,
        max_detections: int = 100,
        candidates: int = 1000,
    ) -> None:
        super().__init__()
        if not isinstance(head, DetectionHead):
            raise ConfigError(
                [f"a detection task needs a DetectionHead (with forward and decode), got {type(head).__name__}"]
            )
        recipe = head.recipe
        self.head: DetectionHead = head
        self.num_classes = num_classes
        self.box_loss = box_loss
        self.class_loss = class_loss
        self.assigner: Assigner = assigner or ASSIGNERS.build(recipe.assigner)
        self.box_weight = recipe.box_weight if box_weight is None else box_weight
        self.normalize_by = normalize_by or recipe.normalize_by
        self.selection = Selection(
            score_threshold=recipe.score_threshold if score_threshold is None else score_threshold,
            suppress=nms or SUPPRESSIONS.build("class_wise"),
            nms_threshold=recipe.nms_threshold if nms_threshold is None else nms_threshold,
            max_detections=max_detections,
            candidates=candidates,
        )

    def forward(self, features: Sequence[Tensor], image_size: tuple[int, int]) -> DetectionOutput:
        """Return the head's maps; ``image_size`` is (H, W) of the network's input.

        Raises:
            ConfigError: if they are of other classes, or do not fit each other; see `check_maps`.
        """
        maps = self.head(features)
        check_maps(maps, self.num_classes)
        # scalar_tensor, unlike tensor, keeps a dynamic size symbolic in an exported program
        size = torch.stack([torch.scalar_tensor(length, device=maps.points.device) for length in image_size])
        return DetectionOutput(maps.class_logits, maps.box_regression, maps.points, size, maps.centerness)

    def loss(self, output: DetectionOutput, target: Sequence[DetectionTarget | None]) -> dict[str, Tensor]:
        """Return ``{"box", "class"}``, and ``"centerness"`` where the head says it.

        Each is summed over positives or points, weighted by the assignment's scores, and divided by the sum of those
        scores (the number of positives, where they are 1), 1 at least: images without objects are true negatives of
        finite loss. ``box`` is already times ``box_weight``. An image whose target is None counts in none of them.

        Args:
            output: of `forward`.
            target: one entry an image, boxes in pixels of the network's input.

        Raises:
            ValueError: if there are not as many targets as images.
            ConfigError: if the assigner or a loss returns something else than its contract says.
        """
        if len(target) != len(output.class_logits):
            raise ValueError(
                f"detection targets: expected one an image ({len(output.class_logits)}), got {len(target)}"
            )
        return self._losses(output, pad_targets(target, output.class_logits.device))

    def _losses(self, output: DetectionOutput, targets: PaddedTargets) -> dict[str, Tensor]:
        """Return the losses by part; all points are compared: picking the positives out would wait for the device."""
        boxes = self.head.decode(output.box_regression, output.points)
        assignment = checked_assignment(self.assigner(output.class_logits, boxes, output.points, targets), boxes)
        truth = targets.boxes.gather(1, assignment.object_index[..., None].expand(-1, -1, 4))  # (N, A, 4)
        share = 1 / self._divisors(assignment, targets)  # (N, 1)
        weights, foreground = assignment.scores * share, assignment.foreground  # (N, A)
        box_losses = self._box_losses(output, boxes, truth, foreground) * weights
        parts = {
            "box": self.box_weight * torch.where(foreground, box_losses, 0).sum(),
            "class": (self._class_losses(output, boxes, truth, assignment, targets) * share).sum(),
        }
        if output.centerness is not None:
            losses = _centerness_losses(output.centerness, truth, output.points) * weights
            parts["centerness"] = torch.where(foreground, losses, 0).sum()
        return parts

    def _divisors(self, assignment: Assignment, targets: PaddedTargets) -> Tensor:
        """Return what the losses of each image are divided by, ``(N, 1)``."""
        positives = assignment.scores.sum(dim=1, keepdim=True)
        if self.normalize_by == "batch":
            return divisor(positives.sum()).expand_as(positives)
        return positives.clamp(min=1) * divisor(targets.annotated.sum())

    def _box_losses(self, output: DetectionOutput, boxes: Tensor, truth: Tensor, foreground: Tensor) -> Tensor:
        """Return the box loss of each point, ``(N, A)``; it means nothing where the point learns no object."""
        if getattr(self.box_loss, "on_coordinates", False):
            predicted = self.head.coordinates(output.box_regression, output.points)
            wanted = self.head.target_coordinates(truth, output.points)
        else:
            strides = output.points[:, 2:3].float()  # (A, 1)
            predicted, wanted = boxes / strides, truth / strides
        # taken out on both sides of the loss: no gradient comes from a point without object, be it NaN
        predicted = torch.where(foreground[..., None], predicted, wanted)
        losses = self.box_loss(predicted.flatten(0, 1), wanted.flatten(0, 1))
        _check_shape("the box loss must return one value a box", losses, (foreground.numel(),))
        return losses.view_as(foreground)

    def _class_losses(
        self, output: DetectionOutput, boxes: Tensor, truth: Tensor, assignment: Assignment, targets: PaddedTargets
    ) -> Tensor:
        """Return the class loss of each point, ``(N, A)``, 0 where it does not count."""
        logits = output.class_logits.float()
        scores = assignment.scores
        if getattr(self.class_loss, "wants_quality", False) and not getattr(self.assigner, "soft", False):
            iou = paired_iou(boxes.detach(), truth)  # (N, A)
            scores = torch.where(assignment.foreground, iou.clamp(min=_LEAST_QUALITY), 0)
        labels = targets.labels.gather(1, assignment.object_index)  # (N, A)
        wanted = torch.zeros_like(logits).scatter_(2, labels[..., None], scores[..., None])
        losses = self.class_loss(logits, wanted)
        _check_shape("the class loss must return one value a logit", losses, logits.shape)
        return losses.sum(dim=2) * (targets.annotated[:, None] & ~assignment.ignored)

    @torch.no_grad()
    def postprocess(
        self, output: DetectionOutput, image_sizes: Sequence[tuple[int, int]] | None = None
    ) -> list[DetectionPrediction]:
        """Return the detections of each image, best first, in pixels of ``image_sizes`` (H, W; None: of the input).

        Boxes are clipped to the image. A score is that of `object_scores`.
        """
        scores = object_scores(output.class_logits, output.centerness)
        boxes = clip_boxes(self.head.decode(output.box_regression, output.points), output.image_size)
        own = [output.image_size] * len(boxes)
        sizes = own if image_sizes is None else map(output.image_size.new_tensor, image_sizes)
        levels = level_index(output.points)
        predictions = [select_detections(*image, levels, self.selection) for image in zip(boxes, scores, strict=True)]
        for found, size in zip(predictions, sizes, strict=True):
            found["boxes"] = scale_boxes(found["boxes"], output.image_size, size)
        return predictions

    def metrics(self) -> "MetricCollection":
        """Return mean average precision: ``map50`` and ``map50_95``, and ``ap50`` and ``ap50_95`` of each class."""
        from torchmetrics import MetricCollection

        from mtvision.tasks.detection_metrics import MeanAveragePrecision

        return MetricCollection({"average_precision": MeanAveragePrecision(self.num_classes)})


def _centerness_losses(logits: Tensor, truth: Tensor, points: Tensor) -> Tensor:
    """Return the binary cross-entropy ``(N, A)`` of the centerness of points in the objects that they learn."""
    wanted = centerness(boxes_to_distances(truth, points[:, :2].float()))
    return F.binary_cross_entropy_with_logits(logits.float(), wanted, reduction="none")


def _check_shape(rule: str, losses: Tensor, expected: Sequence[int]) -> None:
    """Refuse what would broadcast in silence: a loss that has taken the mean already."""
    if losses.shape != torch.Size(expected):
        raise ConfigError([f"{rule}, {tuple(expected)}, got {tuple(losses.shape)}"])


Threshold = Annotated[float, Field(ge=0, le=1)]


@TASKS.register("detection")
def detection(
    feature_info: Sequence[FeatureInfo],
    *,
    head: Annotated[Component, In(DETECTION_HEADS)],
    box_loss: Annotated[Component, In(BOX_LOSSES)],
    class_loss: Annotated[Component, In(CLASSIFICATION_LOSSES)],
    num_classes: Annotated[int, Field(ge=1)],
    assigner: Annotated[Component, In(ASSIGNERS)] | None = None,
    score_threshold: Threshold | None = None,
    nms: Annotated[Component, In(SUPPRESSIONS)] = _CLASS_WISE,
    nms_threshold: Threshold | None = None,
    max_detections: Annotated[int, Field(ge=1)] = 100,
    candidates: Annotated[int, Field(ge=1)] = 1000,
    dropout_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0,
) -> DetectionTask:
    """Object detection: boxes with a class and a score (as in PASCAL VOC, Everingham et al. 2010).

    Args:
        feature_info: of the neck that stands before the head, or of the backbone.
        head: of the registry `DETECTION_HEADS`.
        box_loss: of the registry `BOX_LOSSES`.
        class_loss: of the registry `CLASSIFICATION_LOSSES`.
        num_classes: without background.
        assigner: of the registry `ASSIGNERS`; None: the one that the head names.
        score_threshold: what scores below it is no detection; None: as the head's recipe says.
        nms: of the registry `SUPPRESSIONS`.
        nms_threshold: IoU above which a detection suppresses a worse one; None: as the head's recipe says.
        max_detections: an image.
        candidates: detections of one image and level that enter the suppression, the best ones.
        dropout_rate: of the head, where it has such an option and was not given its own.
    """
    return DetectionTask(
        DETECTION_HEADS.build(with_dropout(DETECTION_HEADS, head, dropout_rate), feature_info, num_classes),
        num_classes,
        BOX_LOSSES.build(box_loss),
        CLASSIFICATION_LOSSES.build(class_loss),
        ASSIGNERS.build(assigner) if assigner is not None else None,
        score_threshold=score_threshold,
        nms=SUPPRESSIONS.build(nms),
        nms_threshold=nms_threshold,
        max_detections=max_detections,
        candidates=candidates,
    )
