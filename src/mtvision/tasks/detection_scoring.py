"""What the protocols for detections share: images in, a short row a detection kept, numbers of each class out."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtvision.ops.detection_matching import best_first
from mtvision.tasks.protocol_result import ProtocolResult
from mtvision.types import DetectionPrediction, DetectionTarget

State = dict[str, NDArray[Any]]
"""What an evaluator keeps: ``objects``, a sum, and one row a detection of everything else."""

NUM_WAITING = 20_000
"""Images, detections and objects that wait to be matched at once."""


class Rows(NamedTuple):
    """Boxes of many images, ordered by cell (one class in one image), detections best first within each.

    Attributes:
        boxes: ``(B, 4)`` xyxy pixels.
        labels: ``(B,)``.
        values: ``(B,)`` score of a detection; 1 for a difficult object, 0 for another.
        cells: ``(B,)``.
        rank: ``(B,)`` place within the cell, from 0.
    """

    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    values: NDArray[np.float64]
    cells: NDArray[np.int64]
    rank: NDArray[np.int64]

    def best(self, most: int) -> "Rows":
        """Return the ``most`` first rows of each cell."""
        kept = self.rank < most
        return Rows(self.boxes[kept], self.labels[kept], self.values[kept], self.cells[kept], self.rank[kept])


class DetectionProtocol(ABC):
    """A published way to score detections.

    Images are matched in blocks and forgotten: what stays is a short row a detection (score, label, and whether it is
    true, false or ignored), so memory grows by some 25 bytes a detection, whatever the images and objects are. A class
    without objects in the truth has NaN and is left out of means; a class that is never found has 0 (an LRP error of
    1). An image that nobody annotated (truth None) is skipped; detections in an annotated image without objects are
    false. Of equal scores, those of earlier images come first, so several processes give exactly what one gives that
    sees the images in the order of the merged states.

    Args:
        num_classes: C.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self._waiting: list[tuple[_Image, _Image]] = []
        self._num_waiting = 0
        self._blocks: list[State] = [self._nothing()]

    def update(self, predictions: Sequence[DetectionPrediction], truths: Sequence[DetectionTarget | None]) -> None:
        """Add images; boxes of prediction and truth are in the same pixels.

        Raises:
            ValueError: if there are not as many truths as predictions, a label is outside 0 to C - 1, or a score is
                NaN.
        """
        if len(predictions) != len(truths):
            raise ValueError(f"detection protocol: got {len(predictions)} predictions but {len(truths)} truths")
        for found, truth in zip(predictions, truths, strict=True):
            if truth is None:
                continue
            detections = _image(found["boxes"], found["labels"], found["scores"])
            objects = _image(truth["boxes"], truth["labels"], truth["difficult"])
            self._check(detections, objects)
            self._waiting.append((detections, objects))
            self._num_waiting += 1 + len(detections.labels) + len(objects.labels)
            if self._num_waiting >= NUM_WAITING:
                self._match()

    def _check(self, found: "_Image", truth: "_Image") -> None:
        for what, labels in (("a prediction", found.labels), ("the truth", truth.labels)):
            if len(labels) and not 0 <= labels.min() <= labels.max() < self.num_classes:
                raise ValueError(
                    f"detection protocol: expected labels from 0 to {self.num_classes - 1}, {what} has "
                    f"{labels.min()} to {labels.max()}"
                )
        if np.isnan(found.values).any():
            raise ValueError("detection protocol: a prediction has a score of NaN, which cannot be ranked")

    def _match(self) -> None:
        """Match the images that wait, and forget them."""
        found = _rows([image for image, _ in self._waiting], self.num_classes)
        truth = _rows([image for _, image in self._waiting], self.num_classes, ranked=False)
        self._blocks.append(self._judge(found, truth))
        self._waiting, self._num_waiting = [], 0

    def state(self) -> State:
        """Return what was found so far, arrays that can travel between processes."""
        if self._waiting:
            self._match()
        self._blocks = [_joined(self._blocks)]
        return dict(self._blocks[0])

    def merge(self, states: Sequence[State]) -> None:
        """Take the states of several evaluators, in this order, in place of what was found so far."""
        self._waiting, self._num_waiting = [], 0
        self._blocks = [self._nothing(), *states]

    def _nothing(self) -> State:
        return self._judge(_rows([], self.num_classes), _rows([], self.num_classes))

    def compute(self) -> ProtocolResult:
        """Return the numbers so far: those of each class, and the means of all but thresholds under the same names."""
        state = self.state()
        order = np.argsort(-state["scores"], kind="stable")
        order = order[np.argsort(state["labels"][order], kind="stable")]  # by class, best first
        ends = np.cumsum(np.bincount(state["labels"], minlength=self.num_classes))[:-1]
        of_class = {name: np.split(column[order], ends) for name, column in state.items() if name != "objects"}
        rows = [
            self._score_class({name: columns[label] for name, columns in of_class.items()}, state["objects"][:, label])
            for label in range(self.num_classes)
        ]
        per_class = {name: [row[name] for row in rows] for name in rows[0]}
        means = {name: _mean(values) for name, values in per_class.items() if not name.endswith("threshold")}
        return ProtocolResult(means, per_class)

    @abstractmethod
    def _judge(self, found: Rows, truth: Rows) -> State:
        """Return the state of a block: ``scores``, ``labels``, ``objects`` ``(R, C)`` and what else is needed."""

    @abstractmethod
    def _score_class(self, found: State, objects: NDArray[np.int64]) -> dict[str, float]:
        """Return the numbers of one class: its rows, best first, and its numbers of objects ``(R,)``."""


class _Image(NamedTuple):
    """Boxes of one image, in float64: ``(B, 4)`` xyxy, label, and score or difficult."""

    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    values: NDArray[np.float64]


_NO_BOXES = _Image(np.zeros((0, 4)), np.zeros(0, dtype=np.int64), np.zeros(0))


def _image(boxes: Tensor, labels: Tensor, values: Tensor) -> _Image:
    """Return copies in NumPy, so that nothing on a device or of the caller is kept."""
    types = (torch.float64, torch.int64, torch.float64)
    columns = zip((boxes.reshape(-1, 4), labels, values), types, strict=True)
    return _Image(*(column.detach().to("cpu", dtype, copy=True).numpy() for column, dtype in columns))


def _rows(entries: Sequence[_Image], num_classes: int, *, ranked: bool = True) -> Rows:
    """Return the boxes, labels and values of images as rows ordered by cell, and best first where ``ranked``."""
    boxes, labels, values = (np.concatenate(columns) for columns in zip(_NO_BOXES, *entries, strict=True))
    counts = np.array([len(entry.labels) for entry in entries], dtype=np.int64)
    cells = np.repeat(np.arange(len(entries)), counts) * num_classes + labels
    order, rank = best_first(cells, values if ranked else np.zeros_like(values))
    return Rows(boxes[order], labels[order], values[order], cells[order], rank)


def _joined(states: Sequence[State]) -> State:
    joined = {name: np.concatenate([state[name] for state in states]) for name in states[0] if name != "objects"}
    return joined | {"objects": np.sum([state["objects"] for state in states], axis=0)}


def _mean(values: Sequence[float]) -> float:
    """Return the mean of what is not NaN, NaN where nothing is left."""
    numbers = [value for value in values if not math.isnan(value)]
    return math.fsum(numbers) / len(numbers) if numbers else float("nan")
