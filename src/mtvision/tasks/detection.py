"""Object detection: boxes with a class and a score."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from mtvision.assigners.base import Assigner, Assignment, PaddedTargets, pad_targets
from mtvision.assigners.task_aligned import TaskAlignedAssigner
from mtvision.errors import ConfigError
from mtvision.heads.detection.base import DetectionHead
from mtvision.ops.boxes import box_area, clip_boxes, scale_boxes
from mtvision.ops.nms import class_wise_nms
from mtvision.registries import Loss
from mtvision.tasks.base import Task
from mtvision.types import DetectionPrediction, DetectionTarget

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


class DetectionOutput(NamedTuple):
    """What the network says about objects.

    Attributes:
        class_logits: ``(N, A, C)``, independent classes without background.
        box_regression: ``(N, A, 4)``, decoded by the head.
        points: ``(A, 3)`` x, y and stride in pixels of the input.
        image_size: ``(2,)`` float32 H, W of the input.
    """

    class_logits: Tensor
    box_regression: Tensor
    points: Tensor
    image_size: Tensor


class DetectionTask(Task):
    """Detection head + losses + decoding with class-wise NMS + mean average precision.

    Args:
        head: a `DetectionHead`.
        num_classes: without background.
        box_loss: ``loss(predicted (M, 4), target (M, 4)) -> (M,)`` in units of the stride; see `BOX_LOSSES`.
        class_loss: ``loss(logits, targets) ->`` elementwise; see `CLASSIFICATION_LOSSES`.
        assigner: which point learns which object; None: `TaskAlignedAssigner`.
        box_weight: of the box loss against the class loss.
        score_threshold: what scores below it is no detection.
        nms_threshold: IoU above which a detection suppresses a worse one of its class.
        max_detections: an image.
        candidates: detections an image that enter the suppression, the best ones.

    Raises:
        ConfigError: if ``head`` is no `DetectionHead`.
    """

    main_metric: ClassVar[str] = "map50"
    class_metrics: ClassVar[frozenset[str]] = frozenset({"ap50", "ap50_95"})

    def __init__(
        self,
        head: nn.Module,
        num_classes: int,
        box_loss: Loss,
        class_loss: Loss,
        assigner: Assigner | None = None,
        *,
        box_weight: float = 2.0,
        score_threshold: float = 0.05,
        nms_threshold: float = 0.6,
        max_detections: int = 100,
        candidates: int = 1000,
    ) -> None:
        super().__init__()
        if not isinstance(head, DetectionHead):
            raise ConfigError(
                [f"a detection task needs a DetectionHead (with forward and decode), got {type(head).__name__}"]
            )
        self.head: DetectionHead = head
        self.num_classes = num_classes
        self.box_loss = box_loss
        self.class_loss = class_loss
        self.assigner = assigner or TaskAlignedAssigner()
        self.box_weight = box_weight
        self.score_threshold = score_threshold
        self.nms_threshold = nms_threshold
        self.max_detections = max_detections
        self.candidates = candidates

    def forward(self, features: Sequence[Tensor], image_size: tuple[int, int]) -> DetectionOutput:
        """Return the head's maps; ``image_size`` is (H, W) of the network's input."""
        maps = self.head(features)
        # scalar_tensor, unlike tensor, keeps a dynamic size symbolic in an exported program
        size = torch.stack([torch.scalar_tensor(length, device=maps.points.device) for length in image_size])
        return DetectionOutput(maps.class_logits, maps.box_regression, maps.points, size)

    def loss(self, output: DetectionOutput, target: Sequence[DetectionTarget | None]) -> dict[str, Tensor]:
        """Return ``{"box", "class"}``: summed over positives and points, divided by the sum of their soft scores.

        The divisor is at least 1, so images without objects are true negatives of finite loss. ``box`` is already times
        ``box_weight``. An image whose target is None counts in neither.

        Args:
            output: of `forward`.
            target: one entry an image, boxes in pixels of the network's input.

        Raises:
            ValueError: if there are not as many targets as images.
        """
        if len(target) != len(output.class_logits):
            raise ValueError(
                f"detection targets: expected one an image ({len(output.class_logits)}), got {len(target)}"
            )
        targets = pad_targets(target, output.class_logits.device)
        boxes = self.head.decode(output.box_regression, output.points)
        assignment = self.assigner(output.class_logits, boxes, output.points, targets)
        normalizer = assignment.scores.sum().clamp(min=1)
        return {
            "box": self.box_weight * self._box_loss(boxes, output.points, assignment, targets) / normalizer,
            "class": self._class_loss(output.class_logits, assignment, targets) / normalizer,
        }

    def _box_loss(self, boxes: Tensor, points: Tensor, assignment: Assignment, targets: PaddedTargets) -> Tensor:
        foreground = assignment.foreground
        index = assignment.object_index[..., None].expand(-1, -1, 4)
        truth = targets.boxes.gather(1, index)  # (N, A, 4)
        strides = points[:, 2:].float()  # (A, 1)
        losses = self.box_loss((boxes / strides)[foreground], (truth / strides)[foreground])
        _check_shape("the box loss must return one value a box", losses, boxes[foreground].shape[:1])
        return (losses * assignment.scores[foreground]).sum()

    def _class_loss(self, class_logits: Tensor, assignment: Assignment, targets: PaddedTargets) -> Tensor:
        logits = class_logits.float()
        labels = targets.labels.gather(1, assignment.object_index)  # (N, A)
        truth = torch.zeros_like(logits).scatter_(2, labels[..., None], assignment.scores[..., None])
        counts = targets.annotated[:, None] & ~assignment.ignored
        losses = self.class_loss(logits, truth)
        _check_shape("the class loss must return one value a logit", losses, logits.shape)
        return (losses * counts[..., None]).sum()

    @torch.no_grad()
    def postprocess(
        self, output: DetectionOutput, image_sizes: Sequence[tuple[int, int]] | None = None
    ) -> list[DetectionPrediction]:
        """Return the detections of each image, best first, in pixels of ``image_sizes`` (H, W; None: of the input)."""
        scores = output.class_logits.float().sigmoid()
        boxes = self.head.decode(output.box_regression, output.points)
        boxes = clip_boxes(boxes, output.image_size)
        sizes = (
            [output.image_size] * len(boxes) if image_sizes is None else map(output.image_size.new_tensor, image_sizes)
        )
        return [
            self._detect(image_boxes, image_scores, output.image_size, size)
            for image_boxes, image_scores, size in zip(boxes, scores, sizes, strict=True)
        ]

    def _detect(self, boxes: Tensor, scores: Tensor, from_size: Tensor, to_size: Tensor) -> DetectionPrediction:
        """Return the detections of one image from boxes ``(A, 4)`` and scores ``(A, C)``."""
        usable = (scores >= self.score_threshold) & (box_area(boxes) > 0)[:, None]
        point, label = usable.nonzero(as_tuple=True)
        best, order = scores[point, label].topk(min(self.candidates, len(point)))
        point, label = point[order], label[order]
        kept = class_wise_nms(boxes[point], best, label, self.nms_threshold)[: self.max_detections]
        return DetectionPrediction(
            boxes=scale_boxes(boxes[point[kept]], from_size, to_size), scores=best[kept], labels=label[kept]
        )

    def metrics(self) -> "MetricCollection":
        """Return mean average precision: ``map50`` and ``map50_95``, and ``ap50`` and ``ap50_95`` of each class."""
        from torchmetrics import MetricCollection

        from mtvision.tasks.detection_metrics import MeanAveragePrecision

        metrics: dict[str, Any] = {"average_precision": MeanAveragePrecision(self.num_classes)}
        return MetricCollection(metrics)


def _check_shape(rule: str, losses: Tensor, expected: Sequence[int]) -> None:
    """Refuse what would broadcast in silence: a loss that has taken the mean already."""
    if losses.shape != torch.Size(expected):
        raise ConfigError([f"{rule}, {tuple(expected)}, got {tuple(losses.shape)}"])
