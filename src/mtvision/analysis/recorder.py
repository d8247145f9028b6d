"""Takes note of what a model says while it is scored; of each image a few hundred numbers and a small PNG stay."""

from collections.abc import Mapping, Sequence
from functools import singledispatch
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mtvision.analysis.agreement import judge_boxes, judge_regions, mask_partners
from mtvision.analysis.calibration import Reliability, judge_pixels
from mtvision.analysis.detections import Detections, Objects
from mtvision.analysis.image_reasons import ImageFacts, facts_table, measure
from mtvision.analysis.mask_counts import count_masks, join_counts
from mtvision.analysis.observations import Agreement, BoxObservations, MaskObservations, Observations
from mtvision.model import MultiTaskModel
from mtvision.tasks.detection import DetectionTask
from mtvision.tasks.segmentation import SegmentationTask
from mtvision.training.observing import Seen
from mtvision.types import Classes, Sample


class Recorder:
    """An `Observer` that keeps what an analysis needs.

    Args:
        model: whose tasks are looked at: those that predict masks of classes, and those that predict boxes.
        classes: names; None: of the model.
    """

    wants_confidence = True

    def __init__(self, model: MultiTaskModel, classes: Classes | None = None) -> None:
        self.classes = classes or model.classes
        self._model = model
        parts = {name: recorder_of(model.task(name)) for name in model.tasks}
        self._parts = {name: part for name, part in parts.items() if part is not None}
        self._ids: list[str] = []
        self._sizes: list[tuple[int, int]] = []
        self._facts: list[ImageFacts] = []
        self._agreement = _AgreementRecorder(mask_partners(self.classes) if self.classes else {})

    def add(self, seen: Seen) -> None:
        """Take note of a batch."""
        first = len(self._ids)
        self._ids += seen.image_ids
        self._sizes += [(int(height), int(width)) for height, width in seen.image_sizes]
        truths = {name: self._model.task(name).select(seen.truths, name) for name in self._parts}
        for name, part in self._parts.items():
            part.add(seen.predictions[name], truths[name], seen.confidence.get(name))
        for index, image in enumerate(seen.images):
            size, image_id = self._sizes[first + index], seen.image_ids[index]
            mask, boxes = ((truths[name][index] if name in truths else None) for name in ("seg", "det"))
            self._facts.append(measure(_annotated(image, mask, boxes, image_id, size), self.classes))
            if "seg" in self._parts and "det" in self._parts:
                said = (seen.predictions["seg"][index], seen.predictions["det"][index])
                self._agreement.add(first + index, *said, mask, boxes)

    def observations(self) -> Observations:
        """Return what was kept."""
        parts = {name: part.observations() for name, part in self._parts.items()}
        return Observations(
            tuple(self._ids),
            np.array(self._sizes, dtype=np.int64).reshape(-1, 2),
            facts_table(self._facts),
            {name: part for name, part in parts.items() if isinstance(part, MaskObservations)},
            {name: part for name, part in parts.items() if isinstance(part, BoxObservations)},
            self._agreement.agreement(),
        )


class MaskRecorder:
    """Keeps counts, confidences and small pictures of masks.

    Args:
        num_classes: C, the background included.
    """

    def __init__(self, num_classes: int) -> None:
        self._num_classes = num_classes
        self._counts = [count_masks([], [], num_classes)]
        self._reliability = Reliability(num_classes)
        self._predicted: list[bytes] = []

    def add(
        self,
        predictions: Sequence[Tensor],
        truths: Sequence[Tensor | None],
        confidence: Sequence[Tensor] | None,
    ) -> None:
        """Take note of a batch."""
        self._counts.append(count_masks(predictions, truths, self._num_classes))
        self._predicted += [_as_png(mask) for mask in predictions]
        for mask, truth, sure in zip(predictions, truths, confidence or (), strict=False):
            if truth is not None:
                self._reliability.add(*judge_pixels(mask, sure.clamp(0, 1), truth))

    def observations(self) -> MaskObservations:
        """Return what was kept."""
        return MaskObservations(join_counts(self._counts), self._reliability, tuple(self._predicted))


class BoxRecorder:
    """Keeps a row a detection and a row an object.

    Args:
        num_classes: C.
    """

    def __init__(self, num_classes: int) -> None:
        self._num_classes = num_classes
        self._detections = [Detections(*box_rows(0, None, "scores"))]
        self._objects = [Objects(*box_rows(0, None, "difficult"))]
        self._annotated: list[bool] = []

    def add(
        self,
        predictions: Sequence[Mapping[str, Tensor]],
        truths: Sequence[Mapping[str, Tensor] | None],
        confidence: Sequence[Tensor] | None = None,
    ) -> None:
        """Take note of a batch."""
        del confidence  # a detection's is its score
        for index, (found, truth) in enumerate(zip(predictions, truths, strict=True), start=len(self._annotated)):
            self._detections.append(Detections(*box_rows(index, found, "scores")))
            self._objects.append(Objects(*box_rows(index, truth, "difficult")))
            self._annotated.append(truth is not None)

    def observations(self) -> BoxObservations:
        """Return what was kept."""
        detections = Detections(*map(np.concatenate, zip(*self._detections, strict=True)))
        objects = Objects(*map(np.concatenate, zip(*self._objects, strict=True)))
        return BoxObservations(detections, objects, np.array(self._annotated, dtype=np.bool_), self._num_classes)


@singledispatch
def recorder_of(task: nn.Module) -> MaskRecorder | BoxRecorder | None:
    """Return what keeps what a kind of task says; None for a task that an analysis cannot look at."""
    del task
    return None


@recorder_of.register
def _of_segmentation(task: SegmentationTask) -> MaskRecorder:
    return MaskRecorder(task.num_classes)


@recorder_of.register
def _of_detection(task: DetectionTask) -> BoxRecorder:
    return BoxRecorder(task.num_classes)


class _AgreementRecorder:
    """Keeps what masks and boxes say about each other.

    Args:
        partners: of `mask_partners`.
    """

    def __init__(self, partners: Mapping[int, int]) -> None:
        self._partners = partners
        nothing = np.zeros((0, 4)), np.zeros(0, dtype=np.int64), np.zeros(0)
        self._frames: list[tuple[pd.DataFrame, ...]] = [self._judged(0, np.zeros((1, 1), dtype=np.uint8), *nothing) * 2]

    def add(
        self,
        index: int,
        mask: Tensor,
        found: Mapping[str, Tensor],
        true_mask: Tensor | None,
        objects: Mapping[str, Tensor] | None,
    ) -> None:
        """Take note of an image."""
        if not self._partners:
            return
        _, boxes, labels, scores = box_rows(index, found, "scores")
        said = self._judged(index, _array(mask), boxes, labels, scores)
        true = self._frames[0][2:]
        if true_mask is not None and objects is not None:
            _, boxes, labels, _ = box_rows(index, objects, "difficult")
            true = self._judged(index, _array(true_mask), boxes, labels, np.ones(len(labels)))
        self._frames.append((*said, *true))

    def _judged(
        self,
        index: int,
        mask: NDArray[Any],
        boxes: NDArray[np.float64],
        labels: NDArray[np.int64],
        scores: NDArray[np.float64],
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        frames = (judge(mask, boxes, labels, scores, self._partners) for judge in (judge_boxes, judge_regions))
        first, second = (frame.assign(image=index) for frame in frames)
        return first, second

    def agreement(self) -> Agreement | None:
        """Return what was kept."""
        if not self._partners or len(self._frames) == 1:
            return None
        columns = zip(*self._frames, strict=True)
        return Agreement(*(_joined(frames) for frames in columns))


def _joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of all frames, with the columns and types of the first where there is none."""
    filled = [frame for frame in frames if len(frame)]
    return pd.concat(filled, ignore_index=True) if filled else frames[0]


def box_rows(index: int, boxes: Mapping[str, Tensor] | None, last: str) -> tuple[NDArray[Any], ...]:
    """Return image, boxes, labels and one more column of an image, of no rows for None.

    Args:
        index: of the image.
        boxes: of a prediction or a truth.
        last: ``scores`` or ``difficult``.
    """
    kind: Any = np.float64 if last == "scores" else np.bool_
    if boxes is None:
        return np.zeros(0, dtype=np.int64), np.zeros((0, 4)), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=kind)
    labels = _array(boxes["labels"]).astype(np.int64)
    corners = _array(boxes["boxes"].reshape(-1, 4)).astype(np.float64)
    return np.full(len(labels), index, dtype=np.int64), corners, labels, _array(boxes[last]).astype(kind)


def _array(values: Tensor) -> NDArray[Any]:
    return np.asarray(values.detach().cpu())


def _annotated(
    image: Tensor, mask: Tensor | None, boxes: Mapping[str, Tensor] | None, image_id: str, size: tuple[int, int]
) -> Sample:
    """Return an image with its truth as a sample; the image may be smaller than its annotations."""
    _, corners, labels, difficult = box_rows(0, boxes, "difficult")
    looked = boxes is not None
    return Sample(
        image=_array(image.permute(1, 2, 0)),
        mask=None if mask is None else _array(mask.to(torch.uint8)),
        boxes=corners.astype(np.float32) if looked else None,
        labels=labels if looked else None,
        difficult=difficult if looked else None,
        image_id=image_id,
        original_size=size,
    )


def _as_png(mask: Tensor) -> bytes:
    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(_array(mask.to(torch.uint8))).save(buffer, format="PNG")
    return buffer.getvalue()
