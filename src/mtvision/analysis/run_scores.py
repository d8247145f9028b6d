"""The numbers of one run on the images of a comparison: over all of them, and over each resample."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtvision.analysis.evidence import gatherer_of
from mtvision.model import MultiTaskModel
from mtvision.training.evaluate import Reading, SamplePredictor, observe
from mtvision.training.kept_predictions import KeptPredictions
from mtvision.training.observing import Seen
from mtvision.types import Prediction, Sample

Floats = NDArray[np.float64]

_DRAWN_FROM = 0.3  # score of drawn boxes where no threshold was chosen


class _Mask(NamedTuple):
    packed: bytes
    shape: tuple[int, ...]


class PackedPredictions(KeptPredictions):
    """An observer that keeps all predictions, masks compressed: some 3 KB for one of 500 x 375 pixels."""

    @property
    def image_ids(self) -> list[str]:
        """The images, in the order of the data."""
        return list(self.by_image)

    def add(self, seen: Seen) -> None:
        """Keep those of a batch.

        Raises:
            DataError: if an id was there before.
        """
        super().add(seen)
        for image_id in seen.image_ids:
            self.by_image[image_id] = _packed(self.by_image[image_id])

    def of(self, image_id: str) -> Prediction:
        """Return what was said of an image; a mask is uint8."""
        return {task: _unpacked(value) for task, value in self.by_image[image_id].items()}


def _packed(value: Any) -> Any:
    """Return kept predictions with the masks, which are uint8 there, compressed."""
    if isinstance(value, Mapping):
        return {key: _packed(item) for key, item in value.items()}
    if isinstance(value, Tensor) and value.dtype == torch.uint8 and value.ndim == 2 and value.numel():
        return _Mask(zlib.compress(value.numpy().tobytes(), 1), tuple(value.shape))
    return value


def _unpacked(value: Any) -> Any:
    if isinstance(value, _Mask):
        return torch.frombuffer(bytearray(zlib.decompress(value.packed)), dtype=torch.uint8).reshape(value.shape)
    return {key: _unpacked(item) for key, item in value.items()} if isinstance(value, Mapping) else value


class _Gathering:
    """An observer that hands the predictions of each task on."""

    wants_confidence = False

    def __init__(self, model: MultiTaskModel, tasks: Sequence[str]) -> None:
        self._model = model
        found = {task: gatherer_of(model.task(task)) for task in tasks}
        self.parts = {task: part for task, part in found.items() if part is not None}

    def add(self, seen: Seen) -> None:
        for name, part in self.parts.items():
            part.add(seen.predictions[name], self._model.task(name).select(seen.truths, name))


class Resampled(NamedTuple):
    """One number, or one of each class.

    Attributes:
        values: ``(1 + B,)`` or ``(1 + B, C)``: over all images, then in each resample; NaN where it does not exist.
        images: ``()`` or ``(C,)``, how many there are behind it.
    """

    values: Floats
    images: NDArray[Any]


@dataclass(frozen=True)
class RunScores:
    """What is kept of a run.

    Attributes:
        predictions: of all images.
        metrics: by full name, such as ``seg/miou``.
        per_class: by full name.
        images: score of each image ``(N,)``, by task.
        score_threshold: from which on detections count in it.
    """

    predictions: "PackedPredictions"
    metrics: Mapping[str, Resampled]
    per_class: Mapping[str, Resampled]
    images: Mapping[str, Floats]
    score_threshold: float


def score_run(
    scored: MultiTaskModel | SamplePredictor,
    tasks: Sequence[str],
    samples: Sequence[Sample],
    weights: NDArray[np.int32],
    reading: Reading,
) -> RunScores:
    """Score a run on all images and on each resample.

    Args:
        scored: a model, or a predictor around one.
        tasks: of the model, those to be scored.
        samples: annotated images.
        weights: ``(1 + B, N)``: 1 in the first row, then how often each image is drawn in each resample.
        reading: how images are read.
    """
    model = scored if isinstance(scored, MultiTaskModel) else scored.model
    packed, gathering = PackedPredictions(), _Gathering(model, tasks)
    result = observe(scored, samples, [packed, gathering], reading=reading)
    metrics: dict[str, Resampled] = {}
    per_class: dict[str, Resampled] = {}
    images: dict[str, Floats] = {}
    threshold = _DRAWN_FROM
    for task in tasks:
        if task not in gathering.parts:
            own = {name: value for name, value in result.metrics.items() if name.startswith(f"{task}/")}
            metrics |= {name: _only_once(value, len(weights), len(samples)) for name, value in own.items()}
            continue
        found = gathering.parts[task].evidence()
        numbers, looked = found.numbers(weights), np.count_nonzero(found.annotated)
        metrics |= {f"{task}/{key}": Resampled(values, np.array(looked)) for key, values in numbers.metrics.items()}
        for key, values in numbers.per_class.items():
            per_class[f"{task}/{key}"] = Resampled(values, found.class_images)
        images[task] = found.image_scores()
        threshold = threshold if found.score_threshold is None else found.score_threshold
    return RunScores(packed, metrics, per_class, images, threshold)


def _only_once(value: float, rows: int, num_images: int) -> Resampled:
    """Return a number that no resample has."""
    return Resampled(np.array([value] + [np.nan] * (rows - 1)), np.array(num_images))
