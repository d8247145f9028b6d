"""Scoring a model on annotated images."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from torch import Tensor

from mtvision.errors import DataError
from mtvision.layers.mode import evaluation_mode
from mtvision.model import MultiTaskModel
from mtvision.training.evaluation_result import EvaluationResult as EvaluationResult
from mtvision.training.observing import Observer, Seen
from mtvision.training.scoring import Scores, compute, ignore_other_processes
from mtvision.training.skipped_images import SkippedImages
from mtvision.types import Batch, Classes


def score(
    model: MultiTaskModel,
    batches: Iterable[Batch],
    *,
    forward: Callable[[Tensor], dict[str, Any]] | None = None,
    weights: Mapping[str, float] | None = None,
    classes: Classes | None = None,
    shared: bool = False,
    named: set[str] | None = None,
    protocol: str | Sequence[str] | None = None,
    observers: Sequence[Observer] = (),
) -> EvaluationResult:
    """Return losses and metrics over batches that carry ``truths``.

    Args:
        model: whose losses, postprocessing and metrics are used.
        batches: of a loader with ``training=False``, on the model's device.
        forward: what to call in place of ``model``, e.g. its compiled or wrapped form.
        weights: of the tasks in the total loss.
        classes: names of the tables' rows; numbers where there are none.
        shared: whether the batches of several processes belong together, each process's after those of the one before
            it; all of them then return the same.
        named: images that could not be read and were named in the log before; those of this pass are added.
        protocol: one or several, whose numbers are added; see `mtvision.evaluate`.
        observers: look on, at the images of this process.

    Raises:
        ConfigError: if a protocol scores none of the model's tasks.
        DataError: if the batches have no ``truths``, or all images could not be read.
    """
    scores = Scores(model, protocol, weights or {}, SkippedImages(named))
    with_confidence = any(observer.wants_confidence for observer in observers)
    call = forward or model
    with evaluation_mode(model):
        for batch in batches:
            scores.skipped.add(getattr(batch, "skipped", ()))  # a batch of a user's own may have no such field
            if not len(batch.images):
                continue
            if not batch.truths:
                raise DataError("the loader has no truths to score against: build it with training=False")
            outputs = call(batch.images)
            scores.add_losses(model.loss(outputs, batch.targets), len(batch.images))
            predictions, confidence = {}, {}
            for name in model.tasks:
                task = model.task(name)
                predictions[name] = task.postprocess(outputs[name], batch.image_sizes)
                if with_confidence and (found := task.confidence(outputs[name], batch.image_sizes)) is not None:
                    confidence[name] = found
            scores.add(predictions, batch.truths)
            seen = Seen(batch.image_ids, batch.image_sizes, list(batch.images), predictions, batch.truths, confidence)
            for observer in observers:
                observer.add(seen)
    return scores.result(classes or model.classes, shared)


def check_classes(model: MultiTaskModel, data: Any) -> None:
    """Refuse a data set whose classes are not the model's, for the tasks of the model; unknown classes pass.

    Raises:
        DataError: naming the first difference.
    """
    theirs, own = getattr(data, "classes", None), model.classes
    if theirs is None or own is None:
        return
    for task in model.tasks:
        pairs = zip_longest(own.names(task), theirs.names(task))
        index, (mine, other) = next(((i, p) for i, p in enumerate(pairs) if p[0] != p[1]), (0, ("", "")))
        if mine != other:
            raise DataError(f"class {index} of task '{task}' is {mine!r} in the model but {other!r} in the data set")


def metric_directions(model: MultiTaskModel) -> dict[str, bool]:
    """Return whether higher is better, for each scalar metric by its full name, without any data."""
    directions = {}
    for task in model.tasks:
        collection = model.task(task).metrics()
        ignore_other_processes(collection)
        for name, metric in collection.items():
            values = compute(metric)
            names = values if isinstance(values, Mapping) else [name]
            scalars = [key for key in names if key not in model.task(task).class_metrics]
            directions.update({f"{task}/{key}": metric.higher_is_better is not False for key in scalars})
    return directions


def monitor_directions(model: MultiTaskModel) -> dict[str, bool]:
    """Return what an epoch can be judged by, and whether more of it is better: ``score``, ``loss`` and the metrics."""
    return {"score": True, "loss": False, **metric_directions(model)}


def combined_score(model: MultiTaskModel, metrics: Mapping[str, float]) -> float:
    """Return the mean of the tasks' main metrics; a task that could not be scored is left out, NaN if none could."""
    main = [metrics[f"{name}/{model.task(name).main_metric}"] for name in model.tasks]
    scored = [value for value in main if not math.isnan(value)]
    return sum(scored) / len(scored) if scored else math.nan
