"""The published ways to score detections, by name: COCO, Pascal VOC (both rules) and LRP."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from mtvision.ops.average_precision import (
    area_under_curve,
    eleven_point,
    hundred_one_point,
    optimal_f1,
    optimal_lrp,
    precision_at_true,
    threshold_table,
)
from mtvision.ops.detection_matching import (
    box_areas,
    match_best,
    match_greedily,
    overlapping_pairs,
    paired_overlap,
)
from mtvision.tasks.detection_scoring import DetectionProtocol, Rows, State

COCO_THRESHOLDS = np.linspace(0.5, 0.95, 10)
COCO_SIZES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"": (0.0, 1e10), "_small": (0.0, 32.0**2), "_medium": (32.0**2, 96.0**2), "_large": (96.0**2, 1e10)}
)
"""Least and greatest area in square pixels, by the ending of the metric's name; a bound belongs to both sides."""
COCO_MAX_DETECTIONS = 100
"""Of one class in one image."""
LEAST_OVERLAP = 0.5
"""IoU of a true detection, in VOC's protocols and in LRP."""


class CocoProtocol(DetectionProtocol):
    """COCO's protocol (Lin et al. 2014, arXiv 1405.0312), fractions in [0, 1].

    ``ap`` is the mean over IoU 0.50, 0.55, ..., 0.95, ``ap50`` and ``ap75`` are those at one IoU; ``ap_small``,
    ``ap_medium`` and ``ap_large`` count objects of at most 32 x 32, at most 96 x 96 and larger boxes. ``ar1``,
    ``ar10`` and ``ar100`` are the recall with so many detections of a class in an image, mean over the IoUs;
    ``ar_small`` and so on those with 100. The area of an object is that of its box.

    ``difficult`` objects are COCO's crowds: finding them is neither right nor wrong, and any number of detections that
    lie within one is forgiven.

    Example:
        >>> import torch
        >>> box = {"boxes": torch.tensor([[0.0, 0.0, 9.0, 9.0]]), "labels": torch.tensor([1])}
        >>> evaluator = CocoProtocol(num_classes=2)
        >>> evaluator.update([{**box, "scores": torch.tensor([0.8])}], [{**box, "difficult": torch.tensor([False])}])
        >>> round(evaluator.compute().metrics["ap"], 6), evaluator.compute().per_class["ar1"]
        (1.0, [nan, 1.0])
    """

    def _judge(self, found: Rows, truth: Rows) -> State:
        found = found.best(COCO_MAX_DETECTIONS)
        crowd = truth.values > 0
        ignored = crowd[:, None] | _outside_sizes(truth.boxes)  # (M, 4)
        pairs = overlapping_pairs(found.boxes, found.cells, truth.boxes, truth.cells, crowd, COCO_THRESHOLDS[0])
        matched = match_greedily(pairs, found.cells, COCO_THRESHOLDS, ignored, crowd)  # (B, 4, 10)
        nothing = np.ones((1, len(COCO_SIZES)), dtype=np.bool_)  # what row -1 says: matched to nothing that counts
        true = ~np.concatenate([ignored, nothing])[matched, np.arange(len(COCO_SIZES))[:, None]]
        false = (matched < 0) & ~_outside_sizes(found.boxes)[:, :, None]
        return {
            "scores": found.values,
            "labels": found.labels.astype(np.int32),
            "rank": found.rank.astype(np.uint8),
            "true": _packed(true),
            "false": _packed(false),
            "objects": np.stack([_counts(truth.labels[~column], self.num_classes) for column in ignored.T]),
        }

    def _score_class(self, found: State, objects: NDArray[np.int64]) -> dict[str, float]:
        true, false = _unpacked(found["true"]), _unpacked(found["false"])
        numbers: dict[str, float] = {}
        for size, (ending, count) in enumerate(zip(COCO_SIZES, objects.tolist(), strict=True)):
            flags = zip(true[size], false[size], strict=True)
            at = [hundred_one_point(precision_at_true(*both), count) for both in flags]
            numbers[f"ap{ending}"] = float(np.mean(at))
            if not ending:
                numbers |= {"ap50": at[0], "ap75": at[5]}
        for most in (1, 10, 100):
            numbers[f"ar{most}"] = _recall(true[0][:, found["rank"] < most], objects[0])
        for size, ending in enumerate(COCO_SIZES):
            if ending:
                numbers[f"ar{ending}"] = _recall(true[size], objects[size])
        return numbers


class VocProtocol(DetectionProtocol):
    """Pascal VOC's protocol since 2010 (Everingham et al. 2015): ``ap50``, a fraction in [0, 1].

    The area under the monotone precision-recall curve, a detection being true at an IoU of at least 0.5. Each
    detection claims the object of its class that it overlaps most; a second claim to the same object is false, even
    where another object would be free. What claims a ``difficult`` object is neither true nor false, and such objects
    are not among those to be found.

    The challenge's own tool counts pixels, so a box there is wider by 1 than the difference of its coordinates. Boxes
    here have continuous edges (``xmin - 1`` of the tool's numbers), so the areas are the same without that 1.

    Example:
        >>> import torch
        >>> box = {"boxes": torch.tensor([[0.0, 0.0, 9.0, 9.0]]), "labels": torch.tensor([1])}
        >>> evaluator = VocProtocol(num_classes=2)
        >>> evaluator.update([{**box, "scores": torch.tensor([0.8])}], [{**box, "difficult": torch.tensor([False])}])
        >>> evaluator.compute()
        ProtocolResult(metrics={'ap50': 1.0}, per_class={'ap50': [nan, 1.0]})
    """

    def _judge(self, found: Rows, truth: Rows) -> State:
        difficult = truth.values > 0
        no_crowd = np.zeros_like(difficult)
        pairs = overlapping_pairs(found.boxes, found.cells, truth.boxes, truth.cells, no_crowd, LEAST_OVERLAP)
        claimed, first = match_best(pairs, len(found.cells))
        ignored = np.zeros_like(first)
        ignored[claimed >= 0] = difficult[claimed[claimed >= 0]]
        return {
            "scores": found.values,
            "labels": found.labels.astype(np.int32),
            "true": first & ~ignored,
            "false": ~first & ~ignored,
            "objects": _counts(truth.labels[~difficult], self.num_classes)[None],
        }

    def _score_class(self, found: State, objects: NDArray[np.int64]) -> dict[str, float]:
        return {"ap50": self._average(precision_at_true(found["true"], found["false"]), int(objects[0]))}

    def _average(self, precision: NDArray[np.float64], num_objects: int) -> float:
        return area_under_curve(precision, num_objects)


class Voc2007Protocol(VocProtocol):
    """Pascal VOC's protocol until 2009 (Everingham et al. 2010): ``ap50``, a fraction in [0, 1].

    As `VocProtocol`, but with the mean of the monotone precision at the recalls 0, 0.1, ..., 1.
    """

    def _average(self, precision: NDArray[np.float64], num_objects: int) -> float:
        return eleven_point(precision, num_objects)


class LrpProtocol(DetectionProtocol):
    """Localisation recall precision error, and the best score thresholds (Oksuz et al. 2018, arXiv 1807.01696).

    Detections are matched as in COCO's protocol at an IoU of 0.5. For each class the score threshold of the least error
    is found among all scores that occur:

    * ``olrp`` is that error: the mean of ``(1 - IoU) / 0.5`` of true detections, 1 for each false one and 1 for each
      missed object; in [0, 1], 0 is best; ``lrp_threshold`` its threshold.
    * ``olrp_localisation``, ``olrp_false_positive`` and ``olrp_false_negative`` are its parts there: the mean of ``1 -
      IoU`` of true detections, the share of detections that are false, and the share of objects that are missed.
    * ``f1`` is the highest harmonic mean of precision and recall at any threshold, and ``f1_threshold`` that threshold.

    A threshold is kept to: a detection of exactly that score counts. Where nothing is found, no threshold is better
    than another: both are NaN, ``olrp`` and ``olrp_false_negative`` are 1, ``f1`` is 0, and the parts that speak of
    detections are NaN. Thresholds have no mean over classes.

    Example:
        >>> import torch
        >>> box = {"boxes": torch.tensor([[0.0, 0.0, 9.0, 9.0]]), "labels": torch.tensor([0])}
        >>> evaluator = LrpProtocol(num_classes=1)
        >>> evaluator.update([{**box, "scores": torch.tensor([0.5])}], [{**box, "difficult": torch.tensor([False])}])
        >>> evaluator.compute().metrics["olrp"], evaluator.compute().per_class["lrp_threshold"]
        (0.0, [0.5])
    """

    def _judge(self, found: Rows, truth: Rows) -> State:
        found = found.best(COCO_MAX_DETECTIONS)
        crowd = truth.values > 0
        pairs = overlapping_pairs(found.boxes, found.cells, truth.boxes, truth.cells, crowd, LEAST_OVERLAP)
        matched = match_greedily(pairs, found.cells, np.array([LEAST_OVERLAP]), crowd[:, None], crowd)[:, 0, 0]
        true = ~np.append(crowd, True)[matched]
        overlap = np.zeros(len(matched))
        overlap[true] = paired_overlap(found.boxes[true], truth.boxes[matched[true]], crowd[matched[true]])
        return {
            "scores": found.values,
            "labels": found.labels.astype(np.int32),
            "true": true,
            "false": matched < 0,
            "overlap": overlap,
            "objects": _counts(truth.labels[~crowd], self.num_classes)[None],
        }

    def _score_class(self, found: State, objects: NDArray[np.int64]) -> dict[str, float]:
        count = int(objects[0])
        table = threshold_table(found["scores"], found["true"], found["false"], found["overlap"])
        lrp, f1 = optimal_lrp(table, count, LEAST_OVERLAP), optimal_f1(table, count)
        parts = (float("nan"), float("nan"), 1.0 if count else float("nan"))
        if lrp.row >= 0:
            true, false = int(table.true[lrp.row]), int(table.false[lrp.row])
            parts = (float(table.error[lrp.row]) / true, false / (true + false), 1 - true / count)
        names = ("olrp_localisation", "olrp_false_positive", "olrp_false_negative")
        best = {"olrp": lrp.value, "lrp_threshold": lrp.threshold, "f1": f1.value, "f1_threshold": f1.threshold}
        return best | dict(zip(names, parts, strict=True))


DETECTION_PROTOCOLS: Mapping[str, Callable[[int], DetectionProtocol]] = MappingProxyType(
    {"coco": CocoProtocol, "voc": VocProtocol, "voc2007": Voc2007Protocol, "lrp": LrpProtocol}
)
"""What makes the evaluator of a protocol, given the number of classes."""


def _counts(labels: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    return np.bincount(labels, minlength=num_classes)


def _outside_sizes(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return whether each box is smaller or larger than each of COCO's sizes, ``(B, 4)``."""
    least, greatest = np.array(list(COCO_SIZES.values())).T
    areas = box_areas(boxes)[:, None]
    return np.asarray((areas < least) | (areas > greatest))


def _packed(flags: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return the flags ``(B, 4, 10)`` of sizes and thresholds as ``(B, 5)`` bytes."""
    return np.packbits(flags.reshape(-1, len(COCO_SIZES) * len(COCO_THRESHOLDS)), axis=1)


def _unpacked(packed: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return ``(4, 10, B)`` flags of `_packed`."""
    shape = (len(COCO_SIZES), len(COCO_THRESHOLDS))
    flags = np.unpackbits(packed, axis=1, count=shape[0] * shape[1]).view(np.bool_)
    return np.ascontiguousarray(flags.T).reshape(*shape, len(packed))


def _recall(true: NDArray[np.bool_], num_objects: int) -> float:
    """Return the recall, mean over thresholds, of the true detections ``(T, B)``; NaN without objects."""
    return float(true.sum(axis=1).mean() / num_objects) if num_objects else float("nan")
