"""Scoring a model on annotated images."""

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from mtvision.errors import DataError
from mtvision.layers.mode import evaluation_mode
from mtvision.model import MultiTaskModel
from mtvision.training import processes
from mtvision.training.evaluation_result import EvaluationResult as EvaluationResult
from mtvision.training.evaluation_result import by_class
from mtvision.training.kept_predictions import KeptPredictions
from mtvision.training.protocol_scores import ProtocolScores
from mtvision.training.skipped_images import SkippedImages
from mtvision.types import Batch, Classes


class LossMeter:
    """Running means of named losses, weighted by the number of images."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._weight: float = 0

    def update(self, losses: Mapping[str, Tensor], num_images: int) -> None:
        """Add the losses of one batch."""
        for name, value in losses.items():
            addition = (
                value.detach().double() * num_images if value.device.type != "mps" else value.detach() * num_images
            )
            before = self._sums.get(name)
            self._sums[name] = addition if before is None else before.to(addition.device) + addition
        self._weight += num_images

    def means(self) -> dict[str, float]:
        """Return the means so far, empty before the first batch."""
        return {name: float(total / self._weight) for name, total in self._sums.items()}

    def means_over_processes(self) -> dict[str, float]:
        """Return the means over the processes, each of which had its part of every batch; all of them must ask."""
        weighed = {name: total / self._weight for name, total in self._sums.items()}
        return {name: float(value) for name, value in processes.means(weighed).items()}

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs: the sums, exactly."""
        return {"sums": {name: total.cpu() for name, total in self._sums.items()}, "weight": self._weight}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        self._sums, self._weight = dict(state["sums"]), state["weight"]

    @staticmethod
    def shared_state(states: Sequence[Mapping[str, Any]], number: int) -> dict[str, Any]:
        """Return what each of another number of processes goes on from: an equal part of what all had summed up."""
        sums = {name: sum(state["sums"][name] for state in states) / number for name in states[0]["sums"]}
        return {"sums": sums, "weight": sum(state["weight"] for state in states) / number}


def weighted_sum(losses: Mapping[str, Mapping[str, Tensor]], weights: Mapping[str, float]) -> Tensor:
    """Return the sum of all parts of all tasks, each task times its weight (1 where none is given)."""
    terms = [weights.get(task, 1.0) * part for task, parts in losses.items() for part in parts.values()]
    return torch.stack(terms).sum()


def flatten(losses: Mapping[str, Mapping[str, Tensor]], total: Tensor) -> dict[str, Tensor]:
    """Return ``{"loss": total, "<task>/<part>": ...}``."""
    named = {f"{task}/{part}": value for task, parts in losses.items() for part, value in parts.items()}
    return {"loss": total, **named}


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
    kept: KeptPredictions | None = None,
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
        kept: where the predictions of this process are added; None: they are forgotten.

    Raises:
        ConfigError: if a protocol scores none of the model's tasks.
        DataError: if the batches have no ``truths``, or all images could not be read.
    """
    metrics = {name: model.task(name).metrics() for name in model.tasks}
    protocols = ProtocolScores(model, protocol)
    losses_of_batches: list[tuple[dict[str, Tensor], int]] = []
    skipped = SkippedImages(named)
    call = forward or model
    with evaluation_mode(model):
        for batch in batches:
            skipped.add(getattr(batch, "skipped", ()))  # a batch of a user's own may have no such field
            if not len(batch.images):
                continue
            if not batch.truths:
                raise DataError("the loader has no truths to score against: build it with training=False")
            outputs = call(batch.images)
            losses = model.loss(outputs, batch.targets)
            losses_of_batches.append((flatten(losses, weighted_sum(losses, weights or {})), len(batch.images)))
            predictions = {}
            for name in model.tasks:
                task = model.task(name)
                predictions[name] = task.postprocess(outputs[name], batch.image_sizes)
                truths = task.select(batch.truths, name)
                metrics[name].update(predictions[name], truths)
                for evaluator in protocols.of(name):
                    evaluator.update(predictions[name], truths)
            if kept is not None:
                kept.add(batch.image_ids, predictions)
    for collection in metrics.values():
        _gather_if(shared, collection)
    means = _mean_losses(losses_of_batches, shared)
    left_out = skipped.of_all(shared)
    if left_out and not means:
        raise DataError(f"not one of the {len(left_out)} images can be read; the last: {left_out[-1]}")
    result = _result(model, metrics, means, classes or model.classes)
    scalars, tables = protocols.compute(classes or model.classes, shared)
    return replace(result, metrics=result.metrics | scalars, per_class=result.per_class | tables, skipped=left_out)


def _mean_losses(losses_of_batches: list[tuple[dict[str, Tensor], int]], shared: bool) -> dict[str, float]:
    """Return the means over the batches of all processes, summed in the order in which a single one has them."""
    if shared and processes.number() > 1:
        own = [({name: loss.cpu() for name, loss in losses.items()}, size) for losses, size in losses_of_batches]
        losses_of_batches = [entry for entries in processes.gather(own) for entry in entries]
    meter = LossMeter()
    for losses, size in losses_of_batches:
        meter.update(losses, size)
    return meter.means()


def _gather_if(shared: bool, collection: Any) -> None:
    """Let metrics gather from all processes where they shared the images, and only there: else all would hang."""
    for metric in collection.values(copy_state=False):
        metric.distributed_available_fn = lambda: shared and processes.number() > 1


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
        _gather_if(False, collection)
        for name, metric in collection.items():
            values = _compute(metric)
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


def _result(
    model: MultiTaskModel, metrics: Mapping[str, Any], losses: dict[str, float], classes: Classes | None
) -> EvaluationResult:
    scalars: dict[str, float] = {}
    tables: dict[str, dict[str, float]] = {}
    for task, collection in metrics.items():
        for key, value in _compute(collection).items():
            if key in model.task(task).class_metrics:
                values = value.reshape(-1).tolist()  # torchmetrics makes a scalar of a single class
                tables[f"{task}/{key}"] = by_class(values, task, classes)
            else:
                scalars[f"{task}/{key}"] = float(value)
    return EvaluationResult(scalars, losses, tables)


def _compute(metric: Any) -> Any:
    with warnings.catch_warnings():  # metrics of nothing are NaN here, which is what is wanted
        warnings.filterwarnings("ignore", message="The ``compute`` method of metric")
        return metric.compute()
