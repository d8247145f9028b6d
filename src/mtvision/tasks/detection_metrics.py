"""Mean average precision, COCO protocol. Imported only when metrics are made: it needs torchmetrics."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from mtvision.types import DetectionPrediction, DetectionTarget

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
MAX_DETECTIONS = 100
"""Of one class in one image; the protocol's number."""


class MeanAveragePrecision(Metric):
    """Average precision over images and classes, COCO protocol (Lin et al. 2014, arXiv 1405.0312), fractions in [0, 1].

    A class that is nowhere in the truth has NaN and is left out of the mean; one that is never found has 0. An image
    that nobody annotated (truth None) is skipped; a detection in an annotated image without objects is wrong.
    ``difficult`` objects are COCO's crowds: finding them is neither right nor wrong, and any number of detections that
    lie within one is forgiven. (VOC's own protocol differs: there, only the detection of a difficult object by IoU is.)

    The state is what was detected and what is there, so several processes give exactly what one gives; of equal
    scores, those of earlier images come first, as in the reference.

    Args:
        num_classes: C.

    Example:
        >>> box = {"boxes": torch.tensor([[0.0, 0.0, 9.0, 9.0]]), "labels": torch.tensor([1])}
        >>> metric = MeanAveragePrecision(num_classes=2)
        >>> metric.update([{**box, "scores": torch.tensor([0.8])}], [{**box, "difficult": torch.tensor([False])}])
        >>> metric.compute()["map50"], metric.compute()["ap50"]
        (tensor(1.), tensor([nan, 1.]))
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    detections: list[Tensor]
    objects: list[Tensor]
    detection_counts: list[Tensor]
    object_counts: list[Tensor]

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        # Flat float32: torchmetrics lets a process that saw no image take part in the gathering with such a tensor.
        self.add_state("detections", [], dist_reduce_fx="cat")  # rows of x1, y1, x2, y2, label, score
        self.add_state("objects", [], dist_reduce_fx="cat")  # rows of x1, y1, x2, y2, label, difficult
        self.add_state("detection_counts", [], dist_reduce_fx="cat")  # of each image
        self.add_state("object_counts", [], dist_reduce_fx="cat")

    def update(self, predictions: Sequence[DetectionPrediction], truths: Sequence[DetectionTarget | None]) -> None:
        """Add images; boxes of prediction and truth are in the same pixels.

        Raises:
            ValueError: if there are not as many truths as predictions.
        """
        if len(predictions) != len(truths):
            raise ValueError(f"mean average precision: got {len(predictions)} predictions but {len(truths)} truths")
        pairs = [(found, truth) for found, truth in zip(predictions, truths, strict=True) if truth is not None]
        for found, truth in pairs:
            self._append("detection", _rows(found["boxes"], found["labels"], found["scores"]))
            self._append("object", _rows(truth["boxes"], truth["labels"], truth["difficult"]))

    def _append(self, what: str, rows: Tensor) -> None:
        getattr(self, f"{what}s").append(rows.to(self.device).flatten())
        getattr(self, f"{what}_counts").append(torch.tensor([len(rows)], dtype=torch.float32, device=self.device))

    def compute(self) -> dict[str, Tensor]:
        """Return ``map50`` and ``map50_95``, scalars, and ``ap50`` and ``ap50_95``, ``(C,)``."""
        found = _Boxes.from_rows(self.detections, self.detection_counts)
        truth = _Boxes.from_rows(self.objects, self.object_counts)
        table = coco_average_precision(found, truth, len(_joined(self.object_counts)), self.num_classes)
        by_class = {"ap50": table[0], "ap50_95": table.mean(axis=0)}
        values = {"map50": by_class["ap50"], "map50_95": by_class["ap50_95"]}
        means = {name: torch.as_tensor(column, dtype=torch.float32).nanmean() for name, column in values.items()}
        columns = {name: torch.as_tensor(column, dtype=torch.float32) for name, column in by_class.items()}
        return {name: value.to(self.device) for name, value in {**means, **columns}.items()}


class _Boxes(NamedTuple):
    """Boxes of all images: ``(B,)`` image index, ``(B, 4)`` xywh, ``(B,)`` label, ``(B,)`` score or difficult."""

    image: NDArray[np.int64]
    xywh: NDArray[np.float64]
    label: NDArray[np.int64]
    value: NDArray[np.float64]

    @classmethod
    def from_rows(cls, rows: list[Tensor] | Tensor, counts: list[Tensor] | Tensor) -> "_Boxes":
        values = _joined(rows).double().numpy().reshape(-1, 6)
        counts_of_images = _joined(counts).numpy().astype(np.int64)
        image = np.repeat(np.arange(len(counts_of_images)), counts_of_images)
        xywh = np.concatenate([values[:, :2], values[:, 2:4] - values[:, :2]], axis=1)
        return cls(image, xywh, values[:, 4].astype(np.int64), values[:, 5])


def _joined(state: list[Tensor] | Tensor) -> Tensor:
    """Return a state as one tensor on the CPU: a list before, a tensor after the gathering over processes."""
    pieces = [state] if isinstance(state, Tensor) else state
    return torch.cat([torch.zeros(0), *(piece.cpu() for piece in pieces)])


def coco_average_precision(found: _Boxes, truth: _Boxes, num_images: int, num_classes: int) -> NDArray[np.float64]:
    """Return average precision ``(10, C)`` by IoU threshold and class; NaN where nothing is to be found."""
    if not len(truth.image):
        return np.full((len(IOU_THRESHOLDS), num_classes), np.nan)
    from faster_coco_eval import COCO, COCOeval_faster

    images = [{"id": index} for index in range(num_images)]
    categories = [{"id": index} for index in range(num_classes)]
    truth_annotations = _annotations(truth, "iscrowd", truth.value.astype(np.int64).tolist())
    found_annotations = _annotations(found, "score", found.value.tolist())
    shared = {"images": images, "categories": categories}
    evaluation = COCOeval_faster(
        COCO({**shared, "annotations": truth_annotations}),
        COCO({**shared, "annotations": found_annotations}),
        "bbox",
        print_function=_say_nothing,
    )
    evaluation.params.maxDets = [MAX_DETECTIONS]
    evaluation.params.areaRng = evaluation.params.areaRng[:1]  # all sizes together
    evaluation.params.areaRngLbl = evaluation.params.areaRngLbl[:1]
    evaluation.params.iouThrs = IOU_THRESHOLDS
    evaluation.evaluate()
    evaluation.accumulate()
    precision = np.asarray(evaluation.eval["precision"])[..., 0, 0]  # (thresholds, recalls, C), -1: nothing to find
    return np.where(precision[:, 0] < 0, np.nan, precision.mean(axis=1))


def _annotations(boxes: _Boxes, key: str, values: list[Any]) -> list[dict[str, Any]]:
    columns = (boxes.image.tolist(), boxes.xywh.tolist(), boxes.label.tolist(), values)
    return [
        {
            "id": index,
            "image_id": image,
            "category_id": label,
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": 0,
            key: value,
        }
        for index, (image, box, label, value) in enumerate(zip(*columns, strict=True), start=1)
    ]


def _rows(boxes: Tensor, labels: Tensor, values: Tensor) -> Tensor:
    columns = (boxes, labels[:, None], values[:, None])
    return torch.cat([column.detach().float() for column in columns], dim=1)  # (B, 6)


def _say_nothing(*_: object) -> None:
    """Swallow the evaluator's progress report."""
