"""Predicting with several views of each image: mirrored, at further scales, in windows."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mtvision.data.augmentation.presets import resize_only
from mtvision.data.images import ImageSource, as_sample
from mtvision.data.loading.collating import collate
from mtvision.errors import DataError
from mtvision.inference.thresholds import Thresholds
from mtvision.inference.viewing import Viewing
from mtvision.layers.mode import evaluation_mode
from mtvision.model import MultiTaskModel, above_score, chunks, each_source
from mtvision.tasks.blending import Region, Size
from mtvision.tasks.box_fusion import Fusion
from mtvision.tasks.views import View, ViewMerger, view_merger
from mtvision.training.checkpoint import load_model
from mtvision.training.evaluate import Said
from mtvision.types import Prediction, Sample


class Predictor:
    """Predicts as a model does, from several views of each image.

    How the views of a task are merged is the task's matter, see `mtvision.tasks.views`: probabilities of pixels and
    depths are averaged, detections are fused, probabilities of classes are averaged over flips and scales, and of
    windows the highest counts. With one view it is the model's own `predict`.

    Args:
        model_or_run: a model, or the folder of a run, whose best checkpoint is loaded onto the CPU.
        flip: whether each image is also shown mirrored.
        scales: of the network's input, relative to the model's ``image_size`` (to the image, where the model has none).
        window: ``(height, width)`` in pixels of the image: it is shown in windows of this size, each stretched to the
            model's ``image_size``; None: as a whole.
        overlap: share of a window's side that it has in common with its neighbour at least, in [0, 1). Objects that are
            smaller than the overlap are whole in one window.
        fusion: of detections: "weighted_boxes" (Solovyev et al. 2021, arXiv 1910.13302; needs the extra ``inference``),
            or "nms", the best of each object.
        thresholds: what scores below that of its class is dropped; see `tune_thresholds`.
        batch_size: views that go through the network together. With windows, or a model without ``image_size``, images
            are taken one by one, and only the windows of an image together.

    Raises:
        ConfigError: if a value cannot be used, a task of the model cannot merge views, or ``thresholds`` names a task
            or class that the model has not.
        CheckpointError: if ``model_or_run`` is a folder without a checkpoint that can be loaded.
        MtvisionError: if detections of several views are to be fused by a library that is missing.

    Example:
        >>> import torch
        >>> import mtvision as mtv
        >>> model = mtv.build_model({"backbone": "test_resnet"})
        >>> predictor = Predictor(model, flip=True, window=(64, 64), fusion="nms")
        >>> predictor.predict(torch.zeros(3, 80, 100))[0]["seg"].shape
        torch.Size([80, 100])
    """

    def __init__(
        self,
        model_or_run: MultiTaskModel | str | Path,
        *,
        flip: bool = False,
        scales: Sequence[float] = (1.0,),
        window: Size | None = None,
        overlap: float = 0.25,
        fusion: Fusion = "weighted_boxes",
        thresholds: Thresholds | None = None,
        batch_size: int = 8,
    ) -> None:
        self._viewing = Viewing(flip, tuple(scales), window, overlap, fusion)
        self._model = load_model(model_or_run) if isinstance(model_or_run, str | Path) else model_or_run
        self._batch_size = _checked_batch_size(batch_size)
        self._limits = thresholds.by_label(self._model) if thresholds is not None else {}
        if self._viewing.ways > 1 or window is not None:
            self._mergers(())  # what cannot be merged is told now

    @property
    def model(self) -> MultiTaskModel:
        """The model whose tasks predict."""
        return self._model

    @property
    def batch_size(self) -> int:
        """Number of views that go through the network together."""
        return self._batch_size

    @property
    def has_thresholds(self) -> bool:
        """Whether detections are dropped by thresholds of their classes."""
        return bool(self._limits)

    def predict(
        self,
        images: ImageSource | Iterable[ImageSource],
        *,
        batch_size: int | None = None,
        score_threshold: float | None = None,
    ) -> list[Prediction]:
        """Predict as `MultiTaskModel.predict` does; images are read a batch at a time.

        Args:
            images: one image or an iterable of them, in any form that the model takes.
            batch_size: None: that of the predictor.
            score_threshold: in [0, 1]; what scores below it is dropped, besides what the thresholds of the classes
                drop.

        Returns:
            Always a list, one entry an image, at the image's own size.

        Raises:
            DataError: if a file is missing or no image, or a value has no image's shape.
            ValueError: if ``batch_size`` is below 1 or ``score_threshold`` outside [0, 1].
        """
        if score_threshold is not None and not 0 <= score_threshold <= 1:
            raise ValueError(f"score_threshold: expected a number in [0, 1], got {score_threshold}")
        size = self._batch_size if batch_size is None else _checked_batch_size(batch_size)
        self._model.warn_if_pending()
        predictions: list[Prediction] = []
        for sources in chunks(each_source(images), self._images_at_once(size)):
            said = self._said([as_sample(source) for source in sources], size, with_confidence=False)
            predictions += [each.prediction for each in said]
        if score_threshold is None:
            return predictions
        return [above_score(prediction, score_threshold) for prediction in predictions]

    def predict_samples(self, samples: Sequence[Sample]) -> list[Said]:
        """Return what is said of each sample, and how sure; annotations are not looked at.

        Args:
            samples: in pixels as they are stored, where windows are wanted.

        Raises:
            DataError: if windows are wanted of a sample that is not of its original size.
        """
        return self._said(samples, self._batch_size, with_confidence=True)

    def _images_at_once(self, batch_size: int) -> int:
        by_itself = self._viewing.window is not None or self._model.image_size is None
        return 1 if by_itself else batch_size

    def _said(self, samples: Sequence[Sample], batch_size: int, *, with_confidence: bool) -> list[Said]:
        said: list[Said] = []
        with evaluation_mode(self._model):
            for chunk in chunks(samples, self._images_at_once(batch_size)):
                said += self._of_chunk(chunk, batch_size, with_confidence)
        return [each._replace(prediction=_above_limits(each.prediction, self._limits)) for each in said]

    def _of_chunk(self, samples: Sequence[Sample], batch_size: int, with_confidence: bool) -> list[Said]:
        sizes = [_stored_size(sample, self._viewing.window) for sample in samples]
        views = [view for index, size in enumerate(sizes) for view in self._viewing.of(index, size)]
        if self._viewing.ways == 1 and len(views) == len(samples):
            return self._of_single_views(samples, with_confidence)
        mergers = self._mergers(sizes)
        for batch in chunks(views, batch_size):
            self._add(mergers, samples, batch)
        found = {name: merger.predictions() for name, merger in mergers.items()}
        sure = {name: merger.confidence() for name, merger in mergers.items()} if with_confidence else {}
        return _said_of_each(len(samples), found, sure)

    def _of_single_views(self, samples: Sequence[Sample], with_confidence: bool) -> list[Said]:
        """Predict as the model itself does, bit for bit."""
        sizes = [sample.original_size for sample in samples]
        outputs = self._model(self._images([sample.image for sample in samples], self._viewing.scales[0]))
        tasks = {name: self._model.task(name) for name in outputs}
        found = {name: task.postprocess(outputs[name], sizes) for name, task in tasks.items()}
        sure = {name: task.confidence(outputs[name], sizes) for name, task in tasks.items()} if with_confidence else {}
        return _said_of_each(len(samples), found, sure)

    def _add(self, mergers: Mapping[str, ViewMerger], samples: Sequence[Sample], views: Sequence[View]) -> None:
        """Show a batch of regions to the network in every way."""
        crops = [_cropped(samples[view.image], view.region) for view in views]
        for scale in self._viewing.scales:
            images = self._images(crops, scale)
            for flipped in self._viewing.flips:
                outputs = self._model(images.flip(-1) if flipped else images)
                seen = [view._replace(scale=scale, flipped=flipped) for view in views]
                for name, merger in mergers.items():
                    merger.add(outputs[name], seen)

    def _images(self, images: Sequence[NDArray[np.uint8]], scale: float) -> Tensor:
        """Return images as the network gets them, uint8 ``(N, 3, h, w)``."""
        height, width = self._model.image_size or images[0].shape[:2]
        resize = resize_only((max(round(height * scale), 1), max(round(width * scale), 1)))
        resized = collate([resize(as_sample(image), 0) for image in images]).images
        return resized.to(self._model.normalization.mean.device)

    def _mergers(self, sizes: Sequence[Size]) -> dict[str, ViewMerger]:
        fusion = self._viewing.fusion
        return {name: view_merger(self._model.task(name), sizes, fusion) for name in self._model.tasks}


def _checked_batch_size(batch_size: int) -> int:
    if batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
    return batch_size


def _stored_size(sample: Sample, window: Size | None) -> Size:
    """Return the original size of a sample, whose pixels must be there for windows."""
    if window is not None and sample.image.shape[:2] != sample.original_size:
        (height, width), given = sample.original_size, " x ".join(map(str, sample.image.shape[:2]))
        raise DataError(
            f"image '{sample.image_id}': windows need the image as it is stored, {height} x {width}, got {given}"
        )
    return sample.original_size


def _cropped(sample: Sample, region: Region) -> NDArray[np.uint8]:
    if region.size == sample.original_size:
        return sample.image
    left, top, right, bottom = region.box
    return sample.image[top:bottom, left:right]


def _said_of_each(
    number: int, predictions: Mapping[str, Sequence[Any]], confidence: Mapping[str, Sequence[Tensor] | None]
) -> list[Said]:
    """Return for each image what was said by task."""
    known = {name: maps for name, maps in confidence.items() if maps is not None}
    return [
        Said(
            {name: parts[index] for name, parts in predictions.items()},
            {name: maps[index] for name, maps in known.items()},
        )
        for index in range(number)
    ]


def _above_limits(prediction: Prediction, limits: Mapping[str, Tensor]) -> Prediction:
    """Drop what scores below the threshold of its class."""
    kept = dict(prediction)
    for name, of_label in limits.items():
        part = prediction[name]
        rows = part["scores"] >= of_label.to(part["scores"])[part["labels"]]
        kept[name] = {key: value[rows] for key, value in part.items()}
    return kept
