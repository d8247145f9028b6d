"""Several views of an image, and how what a task says of each becomes one prediction.

A view is what the network got to see at once: the image or a window of it, at some scale, maybe mirrored. A task of
one's own adds how its views are merged with ``view_merger.register``.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import singledispatch
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mtvision.errors import ConfigError
from mtvision.tasks.blending import PixelMean, Region, Size
from mtvision.tasks.box_fusion import Fusion, fuse_weighted, require_fusion, suppress, without_cut
from mtvision.tasks.classification import ClassificationOutput, ClassificationPrediction, ClassificationTask, ranked
from mtvision.tasks.depth import DepthOutput, DepthTask
from mtvision.tasks.detection import DetectionOutput, DetectionTask
from mtvision.tasks.segmentation import SegmentationOutput, SegmentationTask
from mtvision.types import DetectionPrediction


class View(NamedTuple):
    """How the network saw an image.

    Attributes:
        image: which of the images that are merged together, from 0.
        region: of the image as stored, that was stretched to the network's input.
        scale: of the network's input, relative to the model's own size.
        flipped: whether left and right were swapped, so the output has them swapped too.
    """

    image: int
    region: Region
    scale: float = 1.0
    flipped: bool = False

    @property
    def way(self) -> tuple[float, bool]:
        """Scale and flip; the windows of an image that were seen in one way show all of it together."""
        return self.scale, self.flipped


class ViewMerger(ABC):
    """Merges what a task says of views, which come in batches and are not kept as a whole."""

    @abstractmethod
    def add(self, output: Any, views: Sequence[View]) -> None:
        """Take the task's output for a batch; ``views`` has one entry a row of it."""

    @abstractmethod
    def predictions(self) -> list[Any]:
        """Return one prediction an image, such as the task's own ``postprocess`` returns."""

    def confidence(self) -> list[Tensor] | None:
        """Return the confidence of each pixel as `Task.confidence` does; None for a task without."""
        return None


@singledispatch
def view_merger(task: nn.Module, image_sizes: Sequence[Size], fusion: Fusion) -> ViewMerger:
    """Return what merges the views of a task.

    Args:
        task: of a model.
        image_sizes: ``(H, W)`` of each image as stored.
        fusion: how lists of boxes become one; tasks without boxes have no use for it.

    Raises:
        ConfigError: if the kind of task has no way to merge views.
        MtvisionError: if ``fusion`` needs a library that is missing.
    """
    del image_sizes, fusion
    kind = type(task).__name__
    raise ConfigError(
        f"{kind}: its predictions of several views cannot be merged; write a ViewMerger and register it with "
        "mtvision.tasks.views.view_merger.register, or predict without flip, further scales and window"
    )


@view_merger.register
def _of_segmentation(task: SegmentationTask, image_sizes: Sequence[Size], fusion: Fusion) -> ViewMerger:
    del fusion
    return SegmentationMerger(task, image_sizes)


@view_merger.register
def _of_depth(task: DepthTask, image_sizes: Sequence[Size], fusion: Fusion) -> ViewMerger:
    del fusion
    return DepthMerger(task, image_sizes)


@view_merger.register
def _of_classification(task: ClassificationTask, image_sizes: Sequence[Size], fusion: Fusion) -> ViewMerger:
    del task, fusion
    return ClassificationMerger(len(image_sizes))


@view_merger.register
def _of_detection(task: DetectionTask, image_sizes: Sequence[Size], fusion: Fusion) -> ViewMerger:
    require_fusion(fusion)
    return DetectionMerger(task, image_sizes, fusion)


class SegmentationMerger(ViewMerger):
    """The class of the highest mean probability at each pixel.

    Logits are resized to the pixels of the image first, as in the task's own ``postprocess``.

    Args:
        task: whose outputs are merged.
        image_sizes: ``(H, W)`` of each image.
    """

    def __init__(self, task: SegmentationTask, image_sizes: Sequence[Size]) -> None:
        self._task = task
        self._means = [PixelMean(size) for size in image_sizes]

    def add(self, output: SegmentationOutput, views: Sequence[View]) -> None:
        """Add the probabilities of a batch."""
        sizes = [view.region.size for view in views]
        for probabilities, view in zip(self._task.probabilities(output, sizes), views, strict=True):
            self._means[view.image].add(_upright(probabilities, view), view.region)

    def predictions(self) -> list[Tensor]:
        """Return int64 ``(H, W)`` an image."""
        return [mean.index_of_largest() for mean in self._means]

    def confidence(self) -> list[Tensor]:
        """Return the mean probability of the class that is predicted, ``(H, W)`` an image."""
        return [mean.largest() for mean in self._means]


class DepthMerger(ViewMerger):
    """The mean depth at each pixel.

    Args:
        task: whose outputs are merged.
        image_sizes: ``(H, W)`` of each image.
    """

    def __init__(self, task: DepthTask, image_sizes: Sequence[Size]) -> None:
        self._task = task
        self._means = [PixelMean(size) for size in image_sizes]

    def add(self, output: DepthOutput, views: Sequence[View]) -> None:
        """Add the depths of a batch."""
        depths = self._task.postprocess(output, [view.region.size for view in views])
        for depth, view in zip(depths, views, strict=True):
            self._means[view.image].add(_upright(depth[None], view), view.region)

    def predictions(self) -> list[Tensor]:
        """Return float32 ``(H, W)`` an image."""
        return [mean.value()[0] for mean in self._means]


class ClassificationMerger(ViewMerger):
    """The mean probability of each class over scales and flips.

    Of several windows the highest counts: an image has what one of its windows has.

    Args:
        num_images: that are merged together.
    """

    def __init__(self, num_images: int) -> None:
        self._best: list[dict[tuple[float, bool], Tensor]] = [{} for _ in range(num_images)]

    def add(self, output: ClassificationOutput, views: Sequence[View]) -> None:
        """Add the probabilities of a batch."""
        for scores, view in zip(output.logits.float().sigmoid(), views, strict=True):
            best = self._best[view.image]
            best[view.way] = torch.maximum(best.get(view.way, scores), scores)

    def predictions(self) -> list[ClassificationPrediction]:
        """Return all classes of each image, the likeliest first."""
        return [ranked(torch.stack(list(best.values())).mean(dim=0)) for best in self._best]


class DetectionMerger(ViewMerger):
    """Detections of all views, fused.

    The windows of one scale and flip are joined first: boxes that a window cut give way (`without_cut`), the rest is
    fused with the highest score of each object. The lists of several scales and flips are then fused with the mean
    score. The IoU above which boxes are one object is the task's ``nms_threshold``; what scores below the task's
    ``score_threshold`` at the end is no detection.

    Args:
        task: whose outputs are merged.
        image_sizes: ``(H, W)`` of each image.
        fusion: "weighted_boxes" or "nms" (greedy, within each class; scores stay as they are).
    """

    def __init__(self, task: DetectionTask, image_sizes: Sequence[Size], fusion: Fusion) -> None:
        self._task = task
        self._sizes = image_sizes
        self._fusion = fusion
        self._found: list[list[tuple[DetectionPrediction, View]]] = [[] for _ in image_sizes]

    def add(self, output: DetectionOutput, views: Sequence[View]) -> None:
        """Add the detections of a batch, after the task's own suppression in each view."""
        predictions = self._task.postprocess(output, [view.region.size for view in views])
        for found, view in zip(predictions, views, strict=True):
            self._found[view.image].append((_in_image(found, view), view))

    def predictions(self) -> list[DetectionPrediction]:
        """Return the detections of each image, best first."""
        return [self._merged(found, size) for found, size in zip(self._found, self._sizes, strict=True)]

    def _merged(self, found: Sequence[tuple[DetectionPrediction, View]], size: Size) -> DetectionPrediction:
        ways: dict[tuple[float, bool], list[tuple[DetectionPrediction, View]]] = {}
        for each in found:
            ways.setdefault(each[1].way, []).append(each)
        merged = self._fused([self._joined(windows, size) for windows in ways.values()], size, complete=True)
        selection = self._task.selection
        usable = (merged["scores"] >= selection.score_threshold).nonzero()[: selection.max_detections, 0]
        return DetectionPrediction(
            boxes=merged["boxes"][usable], scores=merged["scores"][usable], labels=merged["labels"][usable]
        )

    def _joined(self, windows: Sequence[tuple[DetectionPrediction, View]], size: Size) -> DetectionPrediction:
        edges = [view.region.box for _, view in windows]
        return self._fused(without_cut([found for found, _ in windows], edges, size), size, complete=False)

    def _fused(self, found: Sequence[DetectionPrediction], size: Size, *, complete: bool) -> DetectionPrediction:
        if len(found) == 1:
            return found[0]
        threshold = self._task.selection.nms_threshold
        if self._fusion == "nms":
            return suppress(found, threshold)
        return fuse_weighted(found, size, threshold, complete=complete)


def _upright(values: Tensor, view: View) -> Tensor:
    return values.flip(-1) if view.flipped else values


def _in_image(found: DetectionPrediction, view: View) -> DetectionPrediction:
    """Return detections in pixels of the image, of those in pixels of its region."""
    x1, y1, x2, y2 = found["boxes"].unbind(dim=1)
    if view.flipped:
        x1, x2 = view.region.width - x2, view.region.width - x1
    boxes = torch.stack([x1 + view.region.left, y1 + view.region.top, x2 + view.region.left, y2 + view.region.top], 1)
    return DetectionPrediction(boxes=boxes, scores=found["scores"], labels=found["labels"])
