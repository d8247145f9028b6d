"""Protocols that score masks over a whole data set, by name: ``standard`` and ``boundary``.

Each is an evaluator that is given predictions and truths batch by batch and holds sums of a fixed size. Evaluators of
several processes add up exactly: their sums are whole numbers.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from mtvision.ops.boundary import boundary_band, boundary_width
from mtvision.tasks.protocol_result import ProtocolResult
from mtvision.tasks.segmentation_metrics import count_pairs
from mtvision.types import VOID

_DILATION_RATIO = 0.02
"""Width of a boundary as a share of the image's diagonal: of Cheng et al. 2021, for images of usual size."""


class _Sums:
    """Adds up whole numbers image by image.

    Args:
        num_classes: C, the background included.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self._sums = self._of_nothing()

    def update(self, predictions: Sequence[Tensor], truths: Sequence[Tensor | None]) -> None:
        """Count the images of a batch; an image whose truth is None is left out.

        Args:
            predictions: integer ``(H, W)`` each, in [0, C).
            truths: integer ``(H, W)`` each, in [0, C) or 255 = void, or None.

        Raises:
            DataError: if the sizes differ or a true class is outside [0, C).
        """
        for prediction, truth in zip(predictions, truths, strict=True):
            if truth is not None:
                self._sums += self._of_image(prediction, truth).cpu()

    def state(self) -> Tensor:
        """Return what was counted, int64: the confusion ``(C, C)``, or intersections and unions ``(2, C)``."""
        return self._sums.clone()

    def merge(self, states: Sequence[Tensor]) -> None:
        """Take the sum of the states of several evaluators in place of what was counted so far."""
        self._sums = torch.stack(list(states)).sum(dim=0)

    def _of_nothing(self) -> Tensor:
        raise NotImplementedError

    def _of_image(self, prediction: Tensor, truth: Tensor) -> Tensor:
        raise NotImplementedError


class StandardProtocol(_Sums):
    """The usual numbers of segmentation, all of one confusion matrix over the data set.

    Void pixels (255) of the truth are left out. With t the pixels of a class in the truth, p those in the predictions
    and i those in both:

    * ``iou`` i / (t + p - i) and ``dice`` 2 i / (t + p): NaN for a class in neither truth nor predictions, 0 for one
      that is predicted but never true;
    * ``accuracy`` i / t: NaN for a class that is not in the truth;
    * ``miou`` (PASCAL VOC, Everingham et al. 2010), ``mean_dice`` and ``mean_accuracy``: the means over the classes
      that are not NaN;
    * ``pixel_accuracy``: the sum of i over the sum of t;
    * ``frequency_weighted_iou``: the mean of ``iou`` weighted by t (Long et al. 2015, arXiv 1411.4038).

    All are fractions in [0, 1], and NaN where nothing is annotated.

    Args:
        num_classes: C, the background included.

    Example:
        >>> evaluator = StandardProtocol(3)
        >>> evaluator.update([torch.tensor([[0, 1, 1]])], [torch.tensor([[0, 0, 255]])])
        >>> evaluator.compute().per_class["iou"]
        [0.5, 0.0, nan]
    """

    def _of_nothing(self) -> Tensor:
        return torch.zeros(self.num_classes, self.num_classes, dtype=torch.int64)

    def _of_image(self, prediction: Tensor, truth: Tensor) -> Tensor:
        """Return the confusion of an image, ``(C, C)``; rows are true classes."""
        return count_pairs(prediction, truth, self.num_classes)

    def compute(self) -> ProtocolResult:
        """Return the numbers so far."""
        confusion = self._sums.double()
        common, true, predicted = confusion.diagonal(), confusion.sum(dim=1), confusion.sum(dim=0)
        iou, accuracy = common / (true + predicted - common), common / true
        dice = 2 * common / (true + predicted)
        return ProtocolResult(
            metrics={
                "miou": float(iou.nanmean()),
                "mean_accuracy": float(accuracy.nanmean()),
                "pixel_accuracy": float(common.sum() / true.sum()),
                "frequency_weighted_iou": float((true * iou).nansum() / true.sum()),
                "mean_dice": float(dice.nanmean()),
            },
            per_class={"iou": iou.tolist(), "accuracy": accuracy.tolist(), "dice": dice.tolist()},
        )


class BoundaryProtocol(_Sums):
    """Boundary IoU of each class over the data set (Cheng et al. 2021, arXiv 2103.16562).

    The boundary of a class are its pixels within a distance of its edge, that is 0.02 of the image's diagonal, rounded;
    see `boundary_band`. The edge of the image is an edge. ``iou`` of a class is the number of pixels in both its true
    and its predicted boundary over the number in either, each summed over all images: the paper has one number an
    object, this is its form for classes that are scored by the data set as in ``standard``. It is NaN for a class in
    neither truth nor predictions; ``miou`` is the mean over the others.

    Void pixels (255) of the truth belong to no class, in truth and prediction alike: they are not counted, and what
    lies beside them is a boundary in both. So a prediction that is right wherever the truth is known scores 1.

    Args:
        num_classes: C, the background included.

    Example:
        >>> truth = torch.zeros(64, 64, dtype=torch.int64)
        >>> truth[16:48, 16:48] = 1
        >>> evaluator = BoundaryProtocol(2)
        >>> evaluator.update([truth.roll(1, dims=1)], [truth])
        >>> evaluator.compute().per_class["iou"][1]  # the IoU of the whole squares is 0.94
        0.6
    """

    def _of_nothing(self) -> Tensor:
        return torch.zeros(2, self.num_classes, dtype=torch.int64)

    def _of_image(self, prediction: Tensor, truth: Tensor) -> Tensor:
        """Return the sizes of the intersections and the unions of an image, ``(2, C)``."""
        count_pairs(prediction, truth, self.num_classes)  # refuses what cannot be scored
        truth = truth.to(prediction.device)
        width = boundary_width((truth.shape[0], truth.shape[1]), _DILATION_RATIO)
        true, predicted = truth.to(torch.uint8), prediction.to(torch.uint8).masked_fill(truth == VOID, VOID)
        # what is no boundary is void from here on, and void pixels are no boundary: one value says both
        true, predicted = (labels.masked_fill(~boundary_band(labels, width), VOID) for labels in (true, predicted))
        common = self._count(true.masked_fill(true != predicted, VOID))
        return torch.stack([common, self._count(true) + self._count(predicted) - common])

    def _count(self, labels: Tensor) -> Tensor:
        return torch.bincount(labels.flatten(), minlength=VOID + 1)[: self.num_classes]

    def compute(self) -> ProtocolResult:
        """Return the numbers so far."""
        iou = self._sums[0].double() / self._sums[1]
        return ProtocolResult(metrics={"miou": float(iou.nanmean())}, per_class={"iou": iou.tolist()})


SEGMENTATION_PROTOCOLS: Mapping[str, Callable[[int], StandardProtocol | BoundaryProtocol]] = {
    "standard": StandardProtocol,
    "boundary": BoundaryProtocol,
}
"""What makes an evaluator of masks, given the number of classes, by the protocol's name."""
