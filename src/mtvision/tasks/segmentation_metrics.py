"""Segmentation metrics over a whole data set, all from one confusion matrix."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from mtvision.errors import DataError
from mtvision.types import VOID

_NUM_VALUES = 256
"""Values that a pixel of a mask can have, void included."""


def count_pairs(prediction: Tensor, truth: Tensor, num_classes: int) -> Tensor:
    """Return the confusion matrix ``(C, C)`` int64 of one image: rows are true classes, columns predicted ones.

    Args:
        prediction: ``(H, W)``, integer, in [0, C).
        truth: ``(H, W)``, integer, in [0, C) or 255, which is left out.
        num_classes: C.

    Raises:
        DataError: if the sizes differ or a true class is outside [0, C).

    Example:
        >>> count_pairs(torch.tensor([[0, 1]]), torch.tensor([[0, 255]]), 2)
        tensor([[1, 0],
                [0, 0]])
    """
    if prediction.shape != truth.shape:
        raise DataError(f"the true mask is {tuple(truth.shape)}, but the predicted one is {tuple(prediction.shape)}")
    pairs = truth.to(prediction.device, torch.int64) * num_classes + prediction
    counts = torch.bincount(pairs.flatten(), minlength=_NUM_VALUES * num_classes).view(-1, num_classes)  # (256, C)
    outside = counts[num_classes:VOID].sum(dim=1)
    if outside.any():
        value = num_classes + int(outside.nonzero()[0])
        raise DataError(f"a true mask has the class id {value}, expected 0 to {num_classes - 1} or {VOID} (void)")
    return counts[:num_classes]


class ConfusionMatrixMetric(Metric):
    """Base of the metrics: counts pairs of true and predicted classes over all images and processes.

    Args:
        num_classes: C.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    confusion: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        counts = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self.add_state("confusion", default=counts, dist_reduce_fx="sum")

    def update(self, predictions: Sequence[Tensor], truths: Sequence[Tensor | None]) -> None:
        """Count the images of a batch; an image whose truth is None is left out.

        Args:
            predictions: int64 ``(H, W)`` each.
            truths: integer ``(H, W)`` each, 255 = void, or None.

        Raises:
            DataError: as in `count_pairs`.
        """
        for prediction, truth in zip(predictions, truths, strict=True):
            if truth is not None:
                counts = count_pairs(prediction, truth, self.num_classes)
                self.confusion += counts.to(self.confusion.device)

    def class_iou(self) -> Tensor:
        """Return intersection over union of each class, ``(C,)``; NaN for a class in neither truth nor prediction."""
        confusion = self.confusion.double()
        intersection = confusion.diagonal()
        union = confusion.sum(dim=0) + confusion.sum(dim=1) - intersection
        return (intersection / union).float()


class ClassIoU(ConfusionMatrixMetric):
    """Intersection over union of each class, ``(C,)``, over all pixels of the data set.

    A class in neither truth nor prediction is NaN; one that is predicted but never true is 0.

    Example:
        >>> metric = ClassIoU(3)
        >>> metric.update([torch.tensor([[0, 1]])], [torch.tensor([[0, 0]])])
        >>> metric.compute()
        tensor([0.5000, 0.0000,    nan])
    """

    def compute(self) -> Tensor:
        """Return ``(C,)``."""
        return self.class_iou()


class MeanIoU(ConfusionMatrixMetric):
    """Mean of `ClassIoU` over the classes that are in the truth or the predictions; NaN if nothing is annotated.

    The definition of PASCAL VOC (Everingham et al. 2010): over the data set, not image by image.

    Example:
        >>> metric = MeanIoU(3)
        >>> metric.update([torch.tensor([[0, 1]])], [torch.tensor([[0, 0]])])
        >>> metric.compute()
        tensor(0.2500)
    """

    def compute(self) -> Tensor:
        """Return a scalar."""
        return self.class_iou().nanmean()


class PixelAccuracy(ConfusionMatrixMetric):
    """Share of the pixels, void left out, whose class is right; NaN if nothing is annotated.

    Example:
        >>> metric = PixelAccuracy(2)
        >>> metric.update([torch.tensor([[0, 1]])], [torch.tensor([[0, 0]])])
        >>> metric.compute()
        tensor(0.5000)
    """

    def compute(self) -> Tensor:
        """Return a scalar."""
        confusion = self.confusion.double()
        return (confusion.diagonal().sum() / confusion.sum()).float()


def segmentation_metrics(num_classes: int) -> MetricCollection:
    """Return ``miou``, ``pixel_accuracy`` and ``iou``; they share one state, which is counted once.

    Example:
        >>> metrics = segmentation_metrics(2)
        >>> metrics.update([torch.tensor([[0, 1]])], [torch.tensor([[0, 1]])])
        >>> float(metrics.compute()["miou"])
        1.0
    """
    metrics: dict[str, Metric | MetricCollection] = {
        "miou": MeanIoU(num_classes),
        "pixel_accuracy": PixelAccuracy(num_classes),
        "iou": ClassIoU(num_classes),
    }
    return MetricCollection(metrics, compute_groups=[list(metrics)])
