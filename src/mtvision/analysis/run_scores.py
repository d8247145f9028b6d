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
from mtvision.errors import DataError
from mtvision.model import MultiTaskModel
from mtvision.training.evaluate import Reading, SamplePredictor, observe
from mtvision.training.observing import Seen
from mtvision.types import Prediction, Sample

Floats = NDArray[np.float64]

_DRAWN_FROM = 0.3  # score of drawn boxes where no threshold was chosen
_LARGEST = 255


class _Mask(NamedTuple):
    packed: bytes
    shape: tuple[int, ...]


class PackedPredictions:
    """An observer that keeps all predictions, masks compressed: some 3 KB for one of 500 x 375 pixels."""

    wants_confidence = False

    def __init__(self) -> None:
        self._by_image: dict[str, dict[str, Any]] = {}

    @property
    def image_ids(self) -> list[str]:
        """The images, in the order of the data."""
        return list(self._by_image)

    def add(self, seen: Seen) -> None:
        """Keep those of a batch.

        Raises:
            DataError: if an id was there before.
        """
        for index, image_id in enumerate(seen.image_ids):
            if image_id in self._by_image:
                raise DataError(f"the image id {image_id!r} occurs twice; images are compared by it, so it must not")
            self._by_image[image_id] = {task: _packed(said[index]) for task, said in seen.predictions.items()}

    def of(self, image_id: str) -> Prediction:
        """Return what was said of an image; a mask is uint8."""
        return {task: _unpacked(value) for task, value in self._by_image[image_id].items()}


def _packed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _packed(item) for key, item in value.items()}
    if not isinstance(value, Tensor):
        return value
    value = value.detach().cpu()
    is_mask = value.ndim == 2 and value.dtype in (torch.int64, torch.uint8) and value.numel() > 0
    if is_mask and int(value.min()) >= 0 and int(value.max()) <= _LARGEST:
        return _Mask(zlib.compress(value.to(torch.uint8).numpy().tobytes(), 1), tuple(value.shape))
    return value.clone()


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
