"""One call that scores a model, or a predictor around one, on annotated images."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

from torch import Tensor
from torch.utils.data import DataLoader

from mtvision.config import Config
from mtvision.data.geometry import writable_tensor
from mtvision.data.loading.collating import truths_of
from mtvision.data.loading.loader import build_loader
from mtvision.data.loading.sampler import PairedDataset
from mtvision.data.reading import Item
from mtvision.errors import ConfigError, DataError
from mtvision.model import MultiTaskModel
from mtvision.training.checkpoint import load_model
from mtvision.training.evaluation import check_classes, score
from mtvision.training.evaluation_result import EvaluationResult
from mtvision.training.kept_predictions import KeptPredictions
from mtvision.training.observing import Observer, Seen
from mtvision.training.scoring import Scores
from mtvision.training.shared_evaluation import gather_predictions, take_own_block
from mtvision.training.skipped_images import SkippedImages
from mtvision.types import Classes, Prediction, Sample


class Said(NamedTuple):
    """What is said of one image.

    Attributes:
        prediction: by task, at the image's own size.
        confidence: by task, for those that have one: ``(H, W)``, the probability in [0, 1] of what is predicted.
    """

    prediction: Prediction
    confidence: dict[str, Tensor]


@runtime_checkable
class SamplePredictor(Protocol):
    """Predicts in a way of its own with a model, such as `mtvision.Predictor`."""

    @property
    def model(self) -> MultiTaskModel:
        """The model whose tasks predict."""

    def predict_samples(self, samples: Sequence[Sample]) -> Sequence[Said]:
        """Return what is said of each image, at the image's own size."""


Scored: TypeAlias = MultiTaskModel | SamplePredictor | str | Path
"""What can be scored: a model, a predictor, or the folder of a run."""


def evaluate(
    model: Scored,
    data: Sequence[Sample],
    *,
    protocol: str | Sequence[str] | None = None,
    batch_size: int = 8,
    num_workers: int = 0,
    on_error: Literal["raise", "skip"] = "raise",
    keep_predictions: bool = False,
) -> EvaluationResult:
    """Score a model on annotated images, at their original size; the model's mode and device stay as they are.

    The tasks' own metrics are always there. A protocol adds its numbers for each task that it scores, by the name
    ``<task>/<protocol>/<number>``. Those of masks are ``standard`` and ``boundary``, those of boxes ``coco``, ``voc``,
    ``voc2007`` and ``lrp``. All are counted in one pass over the data.

    Where a launcher (``torchrun``) has started several processes, all of them must call it: each scores a part of the
    images, and all return the same numbers. (A predictor scores all images in each.)

    Args:
        model: a model, a predictor around one (`mtvision.Predictor`; there are no losses then), or the folder of a run,
            whose best checkpoint is loaded as `load_model` does, onto the CPU.
        data: e.g. of `build_dataset`.
        protocol: one name or several; None: no protocol.
        batch_size: images that go through the network together.
        num_workers: processes that load images.
        on_error: ``skip``: images that cannot be read are left out, and named in ``skipped`` of the result.
        keep_predictions: whether ``predictions`` of the result holds what the model said of each image, for
            `mtvision.data.write_coco_results`, `mtvision.data.write_voc_results` or an analysis of one's own.

    Raises:
        ConfigError: if the model has no image size of its own to resize to, or a protocol scores none of its tasks.
        CheckpointError: if ``model`` is a folder without a checkpoint that can be loaded.
        DataError: if the data set's classes are not those that the model was trained with, a truth cannot be scored, or
            predictions are to be kept and two images have the same id.

    Example:
        >>> import mtvision as mtv
        >>> shapes = {"name": "shapes", "num_images": 8, "image_size": 32}
        >>> data = mtv.build_dataset({"data": {"dataset": shapes}}, "val")
        >>> config = {"model": {"backbone": "test_resnet"}, "data": {"image_size": 32}}
        >>> model = mtv.build_model(config, classes=data.classes)
        >>> result = evaluate(model, data, protocol=["standard", "boundary"])
        >>> sorted(name for name in result.metrics if name.startswith("seg/boundary"))
        ['seg/boundary/miou']
    """
    kept = KeptPredictions() if keep_predictions else None
    reading = Reading(batch_size, num_workers, on_error)
    observers = [kept] if kept else []
    result = observe(model, data, observers, protocol=protocol, reading=reading, share=True)
    if kept is None:
        return result
    scores_all = isinstance(model, SamplePredictor)  # in every process
    return replace(result, predictions=kept.by_image if scores_all else gather_predictions(kept.by_image))


class Reading(NamedTuple):
    """How images are read.

    Attributes:
        batch_size: images that go through the network together.
        num_workers: processes that load images.
        on_error: whether an image that cannot be read ends it all, or is left out and named.
    """

    batch_size: int = 8
    num_workers: int = 0
    on_error: Literal["raise", "skip"] = "raise"


def observe(
    model: Scored,
    data: Sequence[Sample],
    observers: Sequence[Observer],
    *,
    protocol: str | Sequence[str] | None = None,
    reading: Reading | None = None,
    share: bool = False,
) -> EvaluationResult:
    """Score as `evaluate` does, while others look on.

    Args:
        model: as in `evaluate`.
        data: as in `evaluate`.
        observers: get each batch.
        protocol: as in `evaluate`.
        reading: how images are read.
        share: whether each of several processes scores a part of the images; its observers see that part. A
            predictor's are not shared.

    Raises:
        ConfigError: as in `evaluate`.
        CheckpointError: as in `evaluate`.
        DataError: as in `evaluate`.
    """
    scored = load_model(model) if isinstance(model, str | Path) else model
    reading = reading or Reading()
    network = scored if isinstance(scored, MultiTaskModel) else scored.model
    if network.image_size is None:
        raise ConfigError(["image_size: the model has none; set model.image_size = (height, width)"])
    check_classes(network, data)
    network.warn_if_pending()
    settings = {"image_size": network.image_size, "num_workers": reading.num_workers, "on_error": reading.on_error}
    config = Config(training={"batch_size": reading.batch_size}, data=settings)
    classes = getattr(data, "classes", None)
    if isinstance(scored, MultiTaskModel):
        device = network.normalization.mean.device
        loader = build_loader(config, data, training=False)
        shared = share and take_own_block(loader)
        batches = (batch.to(device) for batch in loader)
        return score(scored, batches, classes=classes, protocol=protocol, observers=observers, shared=shared)
    return _score_predictor(scored, _originals(data, reading), classes, protocol, observers)


def _score_predictor(
    predictor: SamplePredictor,
    batches: Iterable[Sequence[Item]],
    classes: Classes | None,
    protocol: str | Sequence[str] | None,
    observers: Sequence[Observer],
) -> EvaluationResult:
    """Score what a predictor says; it has no losses."""
    scores = Scores(predictor.model, protocol, {}, SkippedImages())
    for items in batches:
        scores.skipped.add(problem for item in items for problem in item.skipped)
        samples = [item.original for item in items if item.original is not None]
        if not samples:
            continue
        said = predictor.predict_samples(samples)
        predictions = {name: [each.prediction[name] for each in said] for name in predictor.model.tasks}
        confidence = {name: [each.confidence[name] for each in said] for name in said[0].confidence}
        truths = truths_of(samples)
        scores.add(predictions, truths)
        images = [writable_tensor(sample.image).permute(2, 0, 1) for sample in samples]
        sizes, ids = [sample.original_size for sample in samples], [sample.image_id for sample in samples]
        for observer in observers:
            observer.add(Seen(ids, sizes, images, predictions, truths, confidence))
    return scores.result(classes or predictor.model.classes, shared=False)


def _originals(data: Sequence[Sample], reading: Reading) -> DataLoader[Any]:
    """Return batches of the items as they are stored."""
    if len(data) == 0:
        raise DataError("the data set is empty: there is nothing to score")
    pairs = PairedDataset(data, _unchanged, skip_bad=reading.on_error == "skip")
    return DataLoader(pairs, batch_size=reading.batch_size, num_workers=reading.num_workers, collate_fn=list)


def _unchanged(sample: Sample, seed: int) -> Sample:
    del seed
    return sample
