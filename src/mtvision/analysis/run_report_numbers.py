"""The numbers of an analysis with 95 % intervals: what they could have been with other images."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtvision.analysis.analysis import Analysis
from mtvision.analysis.bootstrap import LEVEL, resample_weights
from mtvision.analysis.box_findings import BoxFindings
from mtvision.analysis.mask_counts import MaskCounts
from mtvision.analysis.resampled_scores import (
    judge_detections,
    mean_of_classes,
    resampled_accuracy,
    resampled_average_precision,
    resampled_iou,
)

RESAMPLES = 300
"""Of the images, from which intervals are taken."""

Floats = NDArray[np.float64]


class Intervals(NamedTuple):
    """Numbers with 95 % intervals; all attributes are of one shape, ``()`` or ``(C,)``.

    Attributes:
        value: of all images; NaN where it does not exist.
        low: end of the interval.
        high: its other end.
        images: how many are behind it.
    """

    value: Floats
    low: Floats
    high: Floats
    images: NDArray[np.int64]


class RunNumbers(NamedTuple):
    """The main numbers of a run.

    Attributes:
        metrics: by full name, such as ``seg/miou``.
        per_class: by task: IoU of masks, AP50 of boxes.
    """

    metrics: Mapping[str, Intervals]
    per_class: Mapping[str, Intervals]


def run_numbers(analysis: Analysis) -> RunNumbers:
    """Return the numbers that can be resampled, with percentile intervals over resamples of the images.

    Args:
        analysis: of the model.
    """
    number = len(analysis.observations.image_ids)
    drawn = resample_weights(max(number, 1), RESAMPLES, np.random.default_rng(0))[:, :number]
    weights = np.concatenate([np.ones((1, number), dtype=np.int32), drawn])
    metrics: dict[str, Intervals] = {}
    per_class: dict[str, Intervals] = {}
    for task, masks in analysis.observations.masks.items():
        found, per_class[task] = _of_masks(masks.counts, weights)
        metrics |= {f"{task}/{name}": values for name, values in found.items()}
    for task, boxes in analysis.boxes.items():
        found, per_class[task] = _of_boxes(boxes, weights)
        metrics |= {f"{task}/{name}": values for name, values in found.items()}
    return RunNumbers(metrics, per_class)


def _of_masks(counts: MaskCounts, weights: NDArray[np.int32]) -> tuple[dict[str, Intervals], Intervals]:
    iou = resampled_iou(counts.common, counts.true, counts.predicted, weights)
    accuracy = resampled_accuracy(counts.common, counts.true, weights)
    images, annotated = (counts.true > 0).sum(axis=0), counts.annotated.sum()
    found = {"miou": mean_of_classes(iou), "pixel_accuracy": accuracy}
    return {name: _intervals(values, annotated) for name, values in found.items()}, _intervals(iou, images)


def _of_boxes(found: BoxFindings, weights: NDArray[np.int32]) -> tuple[dict[str, Intervals], Intervals]:
    number = weights.shape[1]
    classes = judge_detections(found.detections, found.objects, number, found.num_classes)
    at = resampled_average_precision(classes, weights)  # (1 + B, T, C)
    images = np.array([np.count_nonzero(each.objects) for each in classes], dtype=np.int64)
    values = {"map50": mean_of_classes(at[:, 0]), "map50_95": mean_of_classes(at.mean(axis=1))}
    annotated = found.observed.annotated.sum()
    return {name: _intervals(each, annotated) for name, each in values.items()}, _intervals(at[:, 0], images)


def _intervals(values: Floats, images: NDArray[np.int64]) -> Intervals:
    """Return the first row with the quantiles of the others; NaN where no resample has the number."""
    drawn = values[1:].reshape(len(values) - 1, -1)
    ends = np.full((2, drawn.shape[1]), np.nan)
    known = ~np.isnan(drawn).all(axis=0) & ~np.isnan(values[0].ravel())
    if known.any():
        ends[:, known] = np.nanquantile(drawn[:, known], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    shape = values.shape[1:]
    return Intervals(values[0], ends[0].reshape(shape), ends[1].reshape(shape), np.asarray(images, dtype=np.int64))
