"""Numbers that are counted image by image: losses, the tasks' metrics, protocols."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from mtvision.errors import DataError
from mtvision.model import MultiTaskModel
from mtvision.training import processes
from mtvision.training.evaluation_result import EvaluationResult, by_class
from mtvision.training.loss_meter import LossMeter, flatten, weighted_sum
from mtvision.training.protocol_scores import ProtocolScores
from mtvision.training.skipped_images import SkippedImages
from mtvision.types import Classes


class Scores:
    """Counts what a model says of annotated images.

    Args:
        model: whose tasks are scored.
        protocol: one or several, whose numbers are added; None: no protocol.
        weights: of the tasks in the total loss.
        skipped: takes note of the images that could not be read.

    Raises:
        ConfigError: if a protocol scores none of the model's tasks.
    """

    def __init__(
        self,
        model: MultiTaskModel,
        protocol: str | Sequence[str] | None,
        weights: Mapping[str, float],
        skipped: SkippedImages,
    ) -> None:
        self.skipped = skipped
        self._model = model
        self._weights = weights
        self._metrics = {name: model.task(name).metrics() for name in model.tasks}
        self._protocols = ProtocolScores(model, protocol)
        self._losses: list[tuple[dict[str, Tensor], int]] = []
        self._num_images = 0

    def add_losses(self, losses: Mapping[str, Mapping[str, Tensor]], num_images: int) -> None:
        """Add the losses of a batch, by task and part."""
        self._losses.append((flatten(losses, weighted_sum(losses, self._weights)), num_images))

    def add(self, predictions: Mapping[str, Sequence[Any]], annotations: Mapping[str, Any]) -> None:
        """Score the images of a batch.

        Args:
            predictions: by task, one an image.
            annotations: ``truths`` of a `Batch`.
        """
        for name, found in predictions.items():
            truths = self._model.task(name).select(annotations, name)
            self._num_images += len(found)
            self._metrics[name].update(found, truths)
            for evaluator in self._protocols.of(name):
                evaluator.update(found, truths)

    def result(self, classes: Classes | None, shared: bool) -> EvaluationResult:
        """Return the numbers so far.

        Args:
            classes: names of the tables' rows; numbers where there are none.
            shared: whether the images of several processes belong together; all of them must ask.

        Raises:
            DataError: if all images could not be read.
        """
        for collection in self._metrics.values():
            _gather_if(shared, collection)
        means = _mean_losses(self._losses, shared)
        left_out = self.skipped.of_all(shared)
        if left_out and not self._has_images(shared):
            raise DataError(f"not one of the {len(left_out)} images can be read; the last: {left_out[-1]}")
        result = self._own_metrics(means, classes)
        scalars, tables = self._protocols.compute(classes, shared)
        return replace(result, metrics=result.metrics | scalars, per_class=result.per_class | tables, skipped=left_out)

    def _has_images(self, shared: bool) -> bool:
        several = shared and processes.number() > 1
        return any(processes.gather(self._num_images)) if several else self._num_images > 0

    def _own_metrics(self, losses: dict[str, float], classes: Classes | None) -> EvaluationResult:
        scalars: dict[str, float] = {}
        tables: dict[str, dict[str, float]] = {}
        for task, collection in self._metrics.items():
            for key, value in compute(collection).items():
                if key in self._model.task(task).class_metrics:
                    values = value.reshape(-1).tolist()  # torchmetrics makes a scalar of a single class
                    tables[f"{task}/{key}"] = by_class(values, task, classes)
                else:
                    scalars[f"{task}/{key}"] = float(value)
        return EvaluationResult(scalars, losses, tables)


def compute(metric: Any) -> Any:
    """Return what a metric or collection computes, NaN where it saw nothing."""
    with warnings.catch_warnings():  # metrics of nothing are NaN here, which is what is wanted
        warnings.filterwarnings("ignore", message="The ``compute`` method of metric")
        return metric.compute()


def ignore_other_processes(collection: Any) -> None:
    """Let metrics count what this process saw, and nothing else."""
    _gather_if(False, collection)


def _gather_if(shared: bool, collection: Any) -> None:
    """Let metrics gather from all processes where they shared the images, and only there: else all would hang."""
    for metric in collection.values(copy_state=False):
        metric.distributed_available_fn = lambda: shared and processes.number() > 1


def _mean_losses(losses_of_batches: list[tuple[dict[str, Tensor], int]], shared: bool) -> dict[str, float]:
    """Return the means over the batches of all processes, summed in the order in which a single one has them."""
    if shared and processes.number() > 1:
        own = [({name: loss.cpu() for name, loss in losses.items()}, size) for losses, size in losses_of_batches]
        losses_of_batches = [entry for entries in processes.gather(own) for entry in entries]
    meter = LossMeter()
    for losses, size in losses_of_batches:
        meter.update(losses, size)
    return meter.means()
