"""Image classification: which classes are in an image."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, TypedDict

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from mtvision.errors import ConfigError, DataError
from mtvision.heads.classification import PRIOR, PooledClassifier
from mtvision.ops.processes import divisor
from mtvision.registries import TASKS
from mtvision.tasks.base import Task
from mtvision.types import DetectionTarget, FeatureInfo

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


class ClassificationOutput(NamedTuple):
    """What the network says about an image: ``logits`` ``(N, C)``, independent classes."""

    logits: Tensor


class ClassificationPrediction(TypedDict):
    """All classes, the likeliest first: scores ``(C,)`` in [0, 1] and labels ``(C,)`` int64."""

    scores: Tensor
    labels: Tensor


class ClassificationTask(Task):
    """Image classification with any number of classes an image: independent binary decisions.

    Its targets are those of its own name, ``(C,)`` in [0, 1] an image with NaN where a class is unknown; where a batch
    has none of that name, they are derived from the boxes, see `classes_of_boxes`.

    Args:
        head: features to logits ``(N, C)``.
        num_classes: C.

    Example:
        >>> task = ClassificationTask(PooledClassifier([FeatureInfo(8, 32)], 3), 3)
        >>> output = task([torch.zeros(1, 8, 2, 2)], (64, 64))
        >>> task.loss(output, [torch.tensor([1.0, 0.0, torch.nan])])["classification"].shape
        torch.Size([])
    """

    main_metric: ClassVar[str] = "map"
    class_metrics: ClassVar[frozenset[str]] = frozenset({"ap"})

    def __init__(self, head: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.head = head
        self.num_classes = num_classes

    def forward(self, features: Sequence[Tensor], image_size: tuple[int, int]) -> ClassificationOutput:  # noqa: ARG002
        """Return logits ``(N, C)``; the size of the images does not matter.

        Raises:
            ConfigError: if the head gives another number of logits.
        """
        logits: Tensor = self.head(features)
        if logits.ndim != 2 or logits.shape[1] != self.num_classes:
            shape = " x ".join(map(str, logits.shape[1:]))
            raise ConfigError([f"the classification head must give {self.num_classes} logits an image, got {shape}"])
        return ClassificationOutput(logits)

    def select(self, annotations: Mapping[str, Any], name: str) -> list[Tensor | None]:
        """Return the entry of its name, else the classes of the boxes in ``det``.

        Raises:
            DataError: if there is neither, or a box has a label that is no class of the task.
        """
        if name not in annotations and "det" in annotations:
            return classes_of_boxes(annotations["det"], self.num_classes)
        targets: list[Tensor | None] = super().select(annotations, name)
        return targets

    def loss(self, output: ClassificationOutput, target: Sequence[Tensor | None]) -> dict[str, Tensor]:
        """Return ``{"classification"}``: binary cross-entropy, the mean over what is known in the batch.

        Args:
            output: of `forward`.
            target: an image ``(C,)`` in [0, 1], NaN where a class is unknown, or None.

        Raises:
            DataError: if there are not as many targets as images, or one has another shape.
        """
        logits = output.logits.float()
        truth = _stacked(target, logits)
        known = ~truth.isnan()
        losses = F.binary_cross_entropy_with_logits(logits, truth.nan_to_num(), reduction="none")
        return {"classification": (losses * known).sum() / divisor(known.sum())}

    def postprocess(
        self,
        output: ClassificationOutput,
        image_sizes: Sequence[tuple[int, int]] | None = None,  # noqa: ARG002 - a class has no size
    ) -> list[ClassificationPrediction]:
        """Return all classes of each image, the likeliest first."""
        return [ranked(scores) for scores in output.logits.float().sigmoid()]

    def metrics(self) -> "MetricCollection":
        """Return ``map``, mean average precision over the classes, and ``ap`` (one value a class), in [0, 1] or NaN."""
        from torchmetrics import MetricCollection

        from mtvision.tasks.classification_metrics import MultilabelAveragePrecision

        metrics: dict[str, Any] = {"average_precision": MultilabelAveragePrecision(self.num_classes)}
        return MetricCollection(metrics)


def ranked(scores: Tensor) -> ClassificationPrediction:
    """Return all classes by their scores ``(C,)``, the likeliest first.

    Example:
        >>> ranked(torch.tensor([0.25, 0.5, 0.5]))["labels"]
        tensor([1, 2, 0])
    """
    best, labels = scores.sort(descending=True, stable=True)
    return ClassificationPrediction(scores=best, labels=labels)


def classes_of_boxes(targets: Sequence[DetectionTarget | None], num_classes: int) -> list[Tensor | None]:
    """Return which classes are in each image: 1 with an object, 0 without, NaN where all objects are difficult.

    So VOC's classification task reads its annotations (Everingham et al. 2010).

    Args:
        targets: objects of each image; None where nobody looked, which stays None.
        num_classes: C.

    Raises:
        DataError: if a label is not in [0, C).

    Example:
        >>> boxes, labels = torch.zeros(2, 4), torch.tensor([1, 2])
        >>> classes_of_boxes([{"boxes": boxes, "labels": labels, "difficult": torch.tensor([False, True])}], 4)
        [tensor([0., 1., nan, 0.])]
    """
    labels = [target["labels"] for target in targets if target is not None]
    largest = int(torch.cat(labels).max()) if any(map(len, labels)) else -1  # all images at once: a GPU waits once
    if largest >= num_classes:
        raise DataError(
            f"a box has the label {largest}, but the classification task that learns from the boxes has "
            f"{num_classes} classes: give it num_classes as the data set's classes of boxes"
        )
    return [None if target is None else _classes_of_image(target, num_classes) for target in targets]


def _classes_of_image(target: DetectionTarget, num_classes: int) -> Tensor:
    labels, difficult = target["labels"], target["difficult"]
    present = torch.zeros(num_classes, device=labels.device)
    present = present.index_fill(0, labels[difficult], torch.nan)
    return present.index_fill(0, labels[~difficult], 1.0)


def _stacked(target: Sequence[Tensor | None], logits: Tensor) -> Tensor:
    """Return the targets ``(N, C)`` float32; an image without is all NaN."""
    if len(target) != len(logits):
        raise DataError(f"classification targets: expected one an image ({len(logits)}), got {len(target)}")
    wrong = next((each for each in target if each is not None and each.shape != logits.shape[1:]), None)
    if wrong is not None:
        raise DataError(f"a classification target: expected ({logits.shape[1]},), got {tuple(wrong.shape)}")
    unknown = torch.full_like(logits[0], torch.nan) if len(logits) else logits
    rows = [unknown if each is None else each.to(unknown) for each in target]
    return torch.stack(rows) if rows else torch.zeros_like(logits)


@TASKS.register("classification")
def classification(
    feature_info: Sequence[FeatureInfo],
    *,
    num_classes: Annotated[int, Field(ge=1)] | None = None,
    dropout_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    stride: Annotated[int, Field(ge=1)] | None = None,
    prior_probability: Annotated[float, Field(gt=0, lt=1)] = PRIOR,
) -> ClassificationTask:
    """Image classification, several classes an image, on a globally pooled feature (Lin et al. 2013, arXiv 1312.4400).

    Args:
        feature_info: of the backbone, or of the neck where it is shared.
        num_classes: None: those that the data set names for the task.
        dropout_rate: probability of zeroing a channel of the pooled feature.
        stride: of the feature; None: the coarsest.
        prior_probability: of every class before training.

    Raises:
        ConfigError: if neither the options nor the data set say how many classes there are, or there is no feature of
            ``stride``.
    """
    if num_classes is None:
        raise ConfigError(
            [
                "task 'classification': num_classes is missing, and the data set names no classes for the task in "
                "Classes.others; to learn from boxes, give the number of their classes"
            ]
        )
    head = PooledClassifier(
        feature_info, num_classes, dropout_rate=dropout_rate, stride=stride, prior_probability=prior_probability
    )
    return ClassificationTask(head, num_classes)
