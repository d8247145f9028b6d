"""What the predictions of a run say of each image, in a form that a resample of the images can weigh."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from mtvision.analysis.image_scores import Matches, best_threshold, f1, match_boxes
from mtvision.analysis.mask_counts import MaskCounts, count_masks, image_miou, join_counts
from mtvision.analysis.recorder import BoxRecorder, box_rows
from mtvision.analysis.resampled_scores import (
    ClassDetections,
    judge_detections,
    mean_of_classes,
    resampled_accuracy,
    resampled_average_precision,
    resampled_iou,
)
from mtvision.tasks.detection import DetectionTask
from mtvision.tasks.segmentation import SegmentationTask

Floats = NDArray[np.float64]
Integers = NDArray[np.integer[Any]]


class Numbers(NamedTuple):
    """Numbers of B resamples, under the names that the task's own metrics have.

    Attributes:
        metrics: ``(B,)`` each.
        per_class: ``(B, C)`` each.
    """

    metrics: Mapping[str, Floats]
    per_class: Mapping[str, Floats]


class Evidence(Protocol):
    """What the predictions of one task say, image by image."""

    @property
    def annotated(self) -> NDArray[np.bool_]:
        """Whether somebody looked at each image, ``(N,)``."""

    @property
    def class_images(self) -> Integers:
        """In how many images each class is there, ``(C,)``."""

    @property
    def score_threshold(self) -> float | None:
        """The score from which on detections count in `image_scores`; None where there are no scores."""

    def numbers(self, weights: Integers) -> Numbers:
        """Return the numbers of resamples whose images have the weights ``(B, N)``."""

    def image_scores(self) -> Floats:
        """Return how well each image is predicted, ``(N,)`` in [0, 1]; NaN where nobody looked."""


class Gatherer(Protocol):
    """Takes the predictions of one task batch by batch, and keeps what is needed of them."""

    def add(self, predictions: Sequence[Any], truths: Sequence[Any]) -> None:
        """Take those of a batch; a truth is None where nobody looked."""

    def evidence(self) -> Evidence:
        """Return what all batches said."""


@singledispatch
def gatherer_of(task: nn.Module) -> Gatherer | None:
    """Return what gathers the evidence of a task; None for a kind of task whose numbers cannot be resampled.

    A task of one's own adds its kind with ``gatherer_of.register``.

    Args:
        task: of a model.

    Example:
        >>> gatherer_of(nn.Identity()) is None
        True
    """
    del task
    return None


@dataclass(frozen=True)
class MaskEvidence:
    """Pixels of each class in each image.

    Attributes:
        counts: of `count_masks`.
    """

    counts: MaskCounts
    score_threshold: float | None = field(default=None, init=False)

    @property
    def annotated(self) -> NDArray[np.bool_]:
        """Whether there is a true mask, ``(N,)``."""
        return self.counts.annotated

    @property
    def class_images(self) -> Integers:
        """In how many images each class is there, ``(C,)``."""
        return np.asarray(np.count_nonzero(self.counts.true, axis=0))

    def numbers(self, weights: Integers) -> Numbers:
        """Return ``miou``, ``pixel_accuracy`` and ``iou`` of resamples."""
        iou = resampled_iou(self.counts.common, self.counts.true, self.counts.predicted, weights)
        accuracy = resampled_accuracy(self.counts.common, self.counts.true, weights)
        return Numbers({"miou": mean_of_classes(iou), "pixel_accuracy": accuracy}, {"iou": iou})

    def image_scores(self) -> Floats:
        """Return the mean IoU of each image over the classes in its truth or prediction, ``(N,)``."""
        return image_miou(self.counts)


class MaskGatherer:
    """Counts the pixels of masks.

    Args:
        num_classes: C, the background included.
    """

    def __init__(self, num_classes: int) -> None:
        self._num_classes = num_classes
        self._counts = [count_masks([], [], num_classes)]

    def add(self, predictions: Sequence[Tensor], truths: Sequence[Tensor | None]) -> None:
        """Count those of a batch."""
        self._counts.append(count_masks(predictions, truths, self._num_classes))

    def evidence(self) -> MaskEvidence:
        """Return what was counted."""
        return MaskEvidence(join_counts(self._counts))


@gatherer_of.register
def _of_masks(task: SegmentationTask) -> MaskGatherer:
    return MaskGatherer(task.num_classes)


@dataclass(frozen=True)
class BoxEvidence:
    """Detections of each class, and those of each image.

    Attributes:
        annotated: whether somebody looked, ``(N,)``.
        classes: detections by class.
        images: detections by image, none where nobody looked.
        score_threshold: with the best F1 over all images.
    """

    annotated: NDArray[np.bool_]
    classes: list[ClassDetections]
    images: list[Matches]
    score_threshold: float

    @property
    def class_images(self) -> Integers:
        """In how many images each class has objects to be found, ``(C,)``."""
        return np.array([np.count_nonzero(found.objects) for found in self.classes])

    def numbers(self, weights: Integers) -> Numbers:
        """Return ``map50``, ``map50_95``, ``ap50`` and ``ap50_95`` of resamples, as the protocol ``coco`` has them."""
        at = resampled_average_precision(self.classes, weights)  # (B, T, C)
        tables = {"ap50": at[:, 0], "ap50_95": at.mean(axis=1)}
        return Numbers({f"m{name}": mean_of_classes(values) for name, values in tables.items()}, tables)

    def image_scores(self) -> Floats:
        """Return F1 of each image at IoU 0.5 and the score threshold, ``(N,)``."""
        scores = np.array([f1(image, self.score_threshold) for image in self.images], dtype=np.float64)
        return np.where(self.annotated, scores, np.nan)


class BoxGatherer:
    """Keeps a row a detection and a row an object, and what of each image belongs together.

    Args:
        num_classes: C.
    """

    def __init__(self, num_classes: int) -> None:
        self._rows = BoxRecorder(num_classes)
        self._matches: list[Matches] = []

    def add(self, predictions: Sequence[Mapping[str, Tensor]], truths: Sequence[Mapping[str, Tensor] | None]) -> None:
        """Match those of a batch."""
        self._rows.add(predictions, truths)
        self._matches += [_matches(found, truth) for found, truth in zip(predictions, truths, strict=True)]

    def evidence(self) -> BoxEvidence:
        """Return what was matched."""
        rows = self._rows.observations()
        classes = judge_detections(rows.judged, rows.objects, len(rows.annotated), rows.num_classes)
        return BoxEvidence(rows.annotated, classes, self._matches, best_threshold(self._matches))


_NO_MATCHES = Matches(np.zeros(0), np.zeros(0, dtype=np.bool_), 0)


@gatherer_of.register
def _of_boxes(task: DetectionTask) -> BoxGatherer:
    return BoxGatherer(task.num_classes)


def _matches(found: Mapping[str, Tensor], truth: Mapping[str, Tensor] | None) -> Matches:
    if truth is None:
        return _NO_MATCHES
    _, boxes, labels, difficult = box_rows(0, truth, "difficult")
    return match_boxes(found, boxes.astype(np.float32), labels, difficult)
