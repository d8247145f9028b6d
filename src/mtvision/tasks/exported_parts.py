"""How what a task says leaves in an exported file: tensors by name, before and after the choices of postprocessing.

A task of one's own adds its parts with ``exported_parts.register``.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from functools import singledispatch
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from mtvision.errors import ConfigError
from mtvision.ops.boxes import clip_boxes
from mtvision.tasks.batched_selection import RULES, BatchedSuppression, select_batch, suppress_flat
from mtvision.tasks.classification import ClassificationOutput, ClassificationTask
from mtvision.tasks.depth import DepthOutput, DepthTask
from mtvision.tasks.detection import DetectionOutput, DetectionTask
from mtvision.tasks.segmentation import SegmentationOutput, SegmentationTask
from mtvision.tasks.selection import level_index, object_scores

Tensors: TypeAlias = dict[str, Tensor]

_NEAR = 1e-6
"""How far an IoU in float32 may be from that in float64."""
_SAME = 1e-5
"""Relative difference of two numbers that are the same but for rounding."""


class ExportedParts(ABC):
    """The tensors of one task in an exported file, all with the batch first where they differ between images."""

    @abstractmethod
    def decoded(self, output: Any) -> Tensors:
        """Return what follows from a task's output by a formula: nothing is chosen or dropped yet."""

    @abstractmethod
    def predicted(self, decoded: Tensors) -> Tensors:
        """Return the predictions at the size of the network's input, of what `decoded` returned."""

    def settings(self) -> dict[str, Any]:
        """Return the choices that `predicted` makes, plain values for the file's metadata."""
        return {}

    def agrees(self, decoded: Tensors, predicted: Mapping[str, Tensor]) -> bool:
        """Tell whether predictions are those of what was decoded, but for rounding."""
        return same_tensors(self.predicted(decoded), predicted)


def same_tensors(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> bool:
    """Tell whether tensors are the same by name: whole numbers exactly, others but for rounding.

    Example:
        >>> same_tensors({"scores": torch.tensor([0.5])}, {"scores": torch.tensor([0.5000001])})
        True
    """
    return expected.keys() == found.keys() and all(
        each.shape == found[name].shape and torch.allclose(found[name].to(each), each, rtol=_SAME, atol=_SAME)
        for name, each in expected.items()
    )


@singledispatch
def exported_parts(task: nn.Module, output: Any, suppress: BatchedSuppression = suppress_flat) -> ExportedParts:
    """Return how a task leaves in an exported file.

    Args:
        task: of a model.
        output: of the task, for any images.
        suppress: suppression of boxes in the format of the file; tasks without boxes have no use for it.

    Raises:
        ConfigError: if the kind of task has no such parts, or its postprocessing cannot be in a file.
    """
    del output, suppress
    raise ConfigError(
        f"{type(task).__name__}: what it says cannot be exported by name; export with postprocess='raw', or write "
        "ExportedParts and register them with mtvision.tasks.exported_parts.exported_parts.register"
    )


class _Segmentation(ExportedParts):
    def decoded(self, output: SegmentationOutput) -> Tensors:
        return {"logits": output.logits}

    def predicted(self, decoded: Tensors) -> Tensors:
        return {"mask": decoded["logits"].argmax(dim=1)}


class _Depth(ExportedParts):
    def decoded(self, output: DepthOutput) -> Tensors:
        return {"map": output.depth}

    def predicted(self, decoded: Tensors) -> Tensors:
        return dict(decoded)


class _Classification(ExportedParts):
    def decoded(self, output: ClassificationOutput) -> Tensors:
        return {"class_scores": output.logits.float().sigmoid()}

    def predicted(self, decoded: Tensors) -> Tensors:
        scores, labels = decoded["class_scores"].sort(dim=1, descending=True, stable=True)
        return {"scores": scores, "labels": labels}


class _Detection(ExportedParts):
    def __init__(self, task: DetectionTask, num_levels: int, suppress: BatchedSuppression) -> None:
        self._decode = task.head.decode
        self._selection = task.selection
        self._num_levels = num_levels
        self._suppress = suppress

    def decoded(self, output: DetectionOutput) -> Tensors:
        """Return boxes ``(N, A, 4)`` clipped to the image, scores ``(N, A, C)`` and the level of each box ``(A,)``."""
        return {
            "boxes": clip_boxes(self._decode(output.box_regression, output.points), output.image_size),
            "scores": object_scores(output.class_logits, output.centerness),
            "levels": level_index(output.points),
        }

    def predicted(self, decoded: Tensors) -> Tensors:
        return self._selected(decoded, self._suppress)

    def settings(self) -> dict[str, Any]:
        chosen = self._selection
        return {
            "score_threshold": chosen.score_threshold,
            "nms": RULES.get(chosen.suppress),
            "nms_threshold": chosen.nms_threshold,
            "max_detections": chosen.max_detections,
            "candidates": chosen.candidates,
        }

    def agrees(self, decoded: Tensors, predicted: Mapping[str, Tensor]) -> bool:
        """Tell the same as for other tasks; an IoU may be on the other side of the threshold by rounding."""
        kept = self._selection
        near = [replace(kept, nms_threshold=kept.nms_threshold + shift) for shift in (0.0, -_NEAR, _NEAR)]
        parts = (decoded["boxes"], decoded["scores"], decoded["levels"], self._num_levels)
        return any(same_tensors(select_batch(*parts, each, suppress_flat), predicted) for each in near)

    def _selected(self, decoded: Tensors, suppress: BatchedSuppression) -> Tensors:
        boxes, scores, levels = decoded["boxes"], decoded["scores"], decoded["levels"]
        return select_batch(boxes, scores, levels, self._num_levels, self._selection, suppress)


@exported_parts.register
def _of_segmentation(
    task: SegmentationTask, output: Any, suppress: BatchedSuppression = suppress_flat
) -> ExportedParts:
    del task, output, suppress
    return _Segmentation()


@exported_parts.register
def _of_depth(task: DepthTask, output: Any, suppress: BatchedSuppression = suppress_flat) -> ExportedParts:
    del task, output, suppress
    return _Depth()


@exported_parts.register
def _of_classification(
    task: ClassificationTask, output: Any, suppress: BatchedSuppression = suppress_flat
) -> ExportedParts:
    del task, output, suppress
    return _Classification()


@exported_parts.register
def _of_detection(task: DetectionTask, output: Any, suppress: BatchedSuppression = suppress_flat) -> ExportedParts:
    return _Detection(task, int(level_index(output.points).amax()) + 1, suppress)
