"""Pixels of each class in each image: what mIoU of any part of a data set, or any weighting of it, is made of."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mtvision.errors import DataError
from mtvision.tasks.segmentation_metrics import count_pairs


class MaskCounts(NamedTuple):
    """What was counted of the masks of N images, void left out; rows of an image without a true mask are 0.

    Attributes:
        true: ``(N, C)`` pixels of each class in the truth.
        predicted: ``(N, C)`` in the prediction.
        common: ``(N, C)`` in both at the same place.
        annotated: ``(N,)`` whether the image has a true mask.
        confusion: ``(C, C)`` pixels of all images: rows are true classes, columns predicted ones.
    """

    true: NDArray[np.int64]
    predicted: NDArray[np.int64]
    common: NDArray[np.int64]
    annotated: NDArray[np.bool_]
    confusion: NDArray[np.int64]


def count_masks(predictions: Iterable[Tensor], truths: Iterable[Tensor | None], num_classes: int) -> MaskCounts:
    """Count images one by one; both may be generators, and of each image only 3 C numbers are kept.

    Args:
        predictions: integer ``(H, W)`` each, in [0, C).
        truths: integer ``(H, W)`` each, in [0, C) or 255 = void, or None where nobody looked.
        num_classes: C.

    Raises:
        DataError: if the sizes of an image differ or a true class is outside [0, C); the sentence has its place.
        ValueError: if there are not as many truths as predictions.

    Example:
        >>> counts = count_masks([torch.tensor([[0, 1]])], [torch.tensor([[0, 0]])], 3)
        >>> counts.true.tolist(), counts.predicted.tolist(), counts.common.tolist()
        ([[2, 0, 0]], [[1, 1, 0]], [[1, 0, 0]])
    """
    rows, annotated = [np.zeros((0, 3, num_classes), dtype=np.int64)], []
    total = np.zeros((num_classes, num_classes), dtype=np.int64)
    for place, (prediction, truth) in enumerate(zip(predictions, truths, strict=True)):
        confusion = _confusion(prediction, truth, num_classes, place)
        total += confusion
        rows.append(np.stack([confusion.sum(axis=1), confusion.sum(axis=0), confusion.diagonal()])[None])
        annotated.append(truth is not None)
    counts = np.concatenate(rows)  # (N, 3, C)
    return MaskCounts(counts[:, 0], counts[:, 1], counts[:, 2], np.array(annotated, dtype=np.bool_), total)


def join_counts(parts: Sequence[MaskCounts]) -> MaskCounts:
    """Return the counts of all images of several parts of a data set, in their order.

    Args:
        parts: at least one, all of the same classes.
    """
    true, predicted, common, annotated, confusions = zip(*parts, strict=True)
    rows = [np.concatenate(column) for column in (true, predicted, common)]
    return MaskCounts(rows[0], rows[1], rows[2], np.concatenate(annotated), np.sum(confusions, axis=0))


def _confusion(prediction: Tensor, truth: Tensor | None, num_classes: int, place: int) -> NDArray[np.int64]:
    if truth is None:
        return np.zeros((num_classes, num_classes), dtype=np.int64)
    try:
        return np.asarray(count_pairs(prediction, truth, num_classes).cpu())
    except DataError as error:
        raise DataError(f"image {place}: {error}") from error


def image_miou(counts: MaskCounts) -> NDArray[np.float64]:
    """Return the mean IoU over the classes in truth or prediction of each image, ``(N,)``.

    NaN for an image that has no true mask, or of which all is void.

    Example:
        >>> image_miou(count_masks([torch.tensor([[0, 1]])] * 2, [torch.tensor([[0, 0]]), None], 3)).tolist()
        [0.25, nan]
    """
    return _mean(_iou(counts.true, counts.predicted, counts.common))


def class_iou(counts: MaskCounts, rows: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
    """Return the IoU of each class over all pixels of some images, ``(C,)``; NaN for one in neither mask.

    Args:
        counts: of `count_masks`.
        rows: indices of images, one that stands twice counts twice; None for all.
    """
    tables = (counts.true, counts.predicted, counts.common)
    return _iou(*((table if rows is None else table[rows]).sum(axis=0) for table in tables))


def miou_of(counts: MaskCounts, rows: NDArray[np.int64] | None = None) -> float:
    """Return mIoU over all pixels of some images, as the protocol ``standard`` has it; NaN where nothing is annotated.

    Args:
        counts: of `count_masks`.
        rows: indices of images, one that stands twice counts twice; None for all.

    Example:
        >>> counts = count_masks([torch.tensor([[0, 1]])] * 2, [torch.tensor([[0, 0]]), torch.tensor([[0, 1]])], 2)
        >>> miou_of(counts), miou_of(counts, np.array([1])), miou_of(counts, np.array([1, 1, 0]))
        (0.5833333333333333, 1.0, 0.7083333333333333)
    """
    return float(_mean(class_iou(counts, rows)))


def weighted_miou(counts: MaskCounts, weights: ArrayLike) -> NDArray[np.float64]:
    """Return mIoU for each weighting of the images; a weight of 2 is the image twice, 0 is without it.

    Args:
        counts: of `count_masks`.
        weights: ``(..., N)``, not negative; with whole numbers the sums of pixels are exact.

    Returns:
        ``(...)``, NaN where nothing annotated has a weight.

    Raises:
        ValueError: if there is not one weight an image, or one is negative or NaN.

    Example:
        >>> counts = count_masks([torch.tensor([[0, 1]])] * 2, [torch.tensor([[0, 0]]), torch.tensor([[0, 1]])], 2)
        >>> weighted_miou(counts, [[1, 1], [0, 3]]).tolist()
        [0.5833333333333333, 1.0]
    """
    factors = np.asarray(weights, dtype=np.float64)
    if factors.shape[-1:] != counts.annotated.shape or not (factors >= 0).all():
        raise ValueError(
            f"weights of images: expected {len(counts.annotated)} in the last axis, none negative or NaN, "
            f"got the shape {factors.shape}" + (f" and a least of {factors.min()}" if factors.size else "")
        )
    # pixels below 2 ** 53 are exact in float64, whose matrix product is many times as fast as that of integers
    return _mean(
        _iou(*(factors @ table.astype(np.float64) for table in (counts.true, counts.predicted, counts.common)))
    )


def _iou(true: NDArray[np.generic], predicted: NDArray[np.generic], common: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return the IoU ``(..., C)``; NaN for a class in neither mask."""
    pixels = [np.asarray(table, dtype=np.float64) for table in (true, predicted, common)]
    union = pixels[0] + pixels[1] - pixels[2]
    return np.asarray(np.divide(pixels[2], union, out=np.full(union.shape, np.nan), where=union > 0))


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over the last axis of what is not NaN, NaN where nothing is left."""
    return np.asarray(torch.from_numpy(values).nanmean(dim=-1))  # the sum of the protocol, to the last bit
