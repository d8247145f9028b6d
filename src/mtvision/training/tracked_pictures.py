"""What trackers show of a validation beside numbers: a panel of predictions, and curves of precision and recall."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtvision.model import MultiTaskModel
from mtvision.tasks.detection_scoring import DetectionProtocol
from mtvision.tasks.protocols import protocols_of
from mtvision.training import processes
from mtvision.training.observing import Seen
from mtvision.training.tracked_curves import ScoreCurve, curves_by_class
from mtvision.types import Prediction, Sample

if TYPE_CHECKING:
    from accelerate import Accelerator

NUM_PICTURES = 4
PANEL = "val/predictions"
CURVES = "precision_recall"
_PROTOCOL = "lrp"
_PARTS = ("boxes", "labels", "difficult")


class TrackedPictures:
    """Looks on while images are scored, and shows some of them, and how well boxes are found, where trackers can.

    Nothing is computed or read again: predictions are those that are scored, and the pictures are the images as the
    network got them, stretched back to their own size. They are the same in each epoch.

    Args:
        model: whose predictions are scored.
        num_batches: of this process's part of the validation.
    """

    wants_confidence = False

    def __init__(self, model: MultiTaskModel, num_batches: int) -> None:
        self._model = model
        self._num_batches = num_batches
        self.clear()

    def clear(self) -> None:
        """Forget what was seen, before a validation."""
        self._num_seen = 0
        self._spacing = 0
        self._shown: list[tuple[Sample, Prediction]] = []
        made = {name: protocols_of(self._model.task(name)).get(_PROTOCOL) for name in self._model.tasks}
        evaluators = {name: make() for name, make in made.items() if make is not None}
        self._evaluators = {name: each for name, each in evaluators.items() if isinstance(each, DetectionProtocol)}

    def add(self, seen: Seen) -> None:
        """Take note of a batch."""
        for name, evaluator in self._evaluators.items():
            evaluator.update(seen.predictions[name], self._model.task(name).select(seen.truths, name))
        if not processes.is_main():
            return
        number = len(seen.image_ids)
        self._spacing = self._spacing or max(self._num_batches * number // NUM_PICTURES, 1)
        for index in range(-self._num_seen % self._spacing, number, self._spacing):
            if len(self._shown) < NUM_PICTURES:
                self._shown.append((_sample(seen, index), _on_cpu(_of(seen.predictions, index))))
        self._num_seen += number

    def show(self, accelerator: "Accelerator", step: int) -> None:
        """Give the panel and the curves to the trackers; every process takes part, the main one draws.

        Args:
            accelerator: with its trackers.
            step: optimizer steps of the run so far.
        """
        states = {name: processes.gather(evaluator.state()) for name, evaluator in self._evaluators.items()}
        if not processes.is_main():
            return
        if self._shown:
            panel = self._panel()[None]  # (1, H, W, 3): trackers take several images
            for tracker in accelerator.trackers:
                _show_images(tracker, {PANEL: panel}, step)
        writers = [tracker.tracker for tracker in accelerator.trackers if tracker.name == "tensorboard"]
        for task, parts in states.items() if writers else ():
            self._evaluators[task].merge(parts)
            for label, curve in curves_by_class(self._evaluators[task].state()):
                for writer in writers:
                    _write_curve(writer, f"val/{task}/{CURVES}/{self._name(task, label)}", curve, step)

    def _panel(self) -> NDArray[np.uint8]:
        from mtvision.visualize.panel import draw_panel

        samples, predictions = zip(*self._shown, strict=True)
        return np.asarray(draw_panel(samples, predictions, self._model.classes))

    def _name(self, task: str, label: int | None) -> str:
        names = self._model.classes.names(task) if self._model.classes is not None else None
        return "all" if label is None else names[label] if names else str(label)


def _show_images(tracker: Any, images: Mapping[str, NDArray[np.uint8]], step: int) -> None:
    """Log images by a tracker that can: those of accelerate's trackers that cannot have no such method."""
    options = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
    if hasattr(tracker, "log_images"):
        tracker.log_images(images, step=step, **options)


def _write_curve(writer: Any, tag: str, curve: ScoreCurve, step: int) -> None:
    nothing = np.zeros_like(curve.true)  # no number of things that are rightly not detected exists
    counts = (curve.true, curve.false, nothing, curve.missed)
    writer.add_pr_curve_raw(tag, *counts, curve.precision, curve.recall, step, num_thresholds=len(curve.true))


def _sample(seen: Seen, index: int) -> Sample:
    """Return an image, at its own size, and what is true of it."""
    from PIL import Image

    height, width = seen.image_sizes[index]
    picture = Image.fromarray(seen.images[index].permute(1, 2, 0).cpu().numpy())
    truth = _on_cpu(_of(seen.truths, index))
    mask, objects = truth.get("seg"), truth.get("det") or {}
    boxes, labels, difficult = (objects[name].numpy() if objects else None for name in _PARTS)
    return Sample(
        image=np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR)),
        mask=None if mask is None else mask.to(torch.uint8).numpy(),
        boxes=boxes,
        labels=labels,
        difficult=difficult,
        image_id=seen.image_ids[index],
        original_size=(height, width),
    )


def _of(values: Mapping[str, Sequence[Any]], index: int) -> dict[str, Any]:
    return {name: entries[index] for name, entries in values.items()}


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _on_cpu(item) for key, item in value.items()}
    return value.detach().cpu() if isinstance(value, Tensor) else value
