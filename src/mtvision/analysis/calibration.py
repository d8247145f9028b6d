"""Whether a confidence of 0.8 means right in 8 of 10 cases: reliability in bins, for pixels and for detections."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mtvision.analysis.detections import Detections, Objects, match_objects
from mtvision.errors import DataError
from mtvision.types import VOID

NUM_BINS = 15
"""Of equal width, as in the tables of Guo et al. 2017."""

_ROUNDING = 1e-6
"""Which a mean of probabilities can be above 1."""


class Judged(NamedTuple):
    """Decisions of a model: what `Reliability.add` takes.

    Attributes:
        confidence: ``(P,)`` in [0, 1].
        correct: bool ``(P,)``.
        labels: ``(P,)`` the class that was decided for.
    """

    confidence: NDArray[np.floating[Any]]
    correct: NDArray[np.bool_]
    labels: NDArray[np.int64]


def judge_pixels(prediction: Tensor, confidence: Tensor, truth: Tensor) -> Judged:
    """Return each pixel of an image as a decision; void pixels are left out.

    Args:
        prediction: integer ``(H, W)``, the class of each pixel.
        confidence: ``(H, W)``, the probability of that class.
        truth: integer ``(H, W)``, 255 = void.

    Raises:
        DataError: if the three have different sizes.

    Example:
        >>> import torch
        >>> said = judge_pixels(torch.tensor([[1, 1]]), torch.tensor([[0.5, 0.75]]), torch.tensor([[1, 255]]))
        >>> said.confidence.tolist(), said.correct.tolist()
        ([0.5], [True])
    """
    sizes = [tuple(each.shape) for each in (prediction, confidence, truth)]
    if len(set(sizes)) > 1:
        raise DataError("predicted classes are {}, their confidences {}, the true mask is {}".format(*sizes))
    truth = truth.to(prediction.device)
    known = truth != VOID
    labels = prediction[known]
    return Judged(_array(confidence[known].float()), _array(labels == truth[known]), _array(labels.long()))


def judge_detections(found: Detections, objects: Objects, least_overlap: float = 0.5) -> Judged:
    """Return each detection as a decision, correct where it finds an object of its class (Küppers et al. 2020).

    Detections are matched as in COCO's protocol: best first, each to the free object that it overlaps most. Those that
    find a difficult object only, or lie in one by at least ``least_overlap`` of their own area, are left out. An
    object that nobody found is no decision: it does not count (arXiv 2004.13546, with the confidence alone).

    Args:
        found: in images that somebody looked at.
        objects: in the same images, numbered alike.
        least_overlap: intersection over union of a true detection, above 0.

    Returns:
        By image and class, in each the best first.

    Example:
        >>> box, zero = np.array([[0.0, 0.0, 8.0, 8.0]]), np.array([0])
        >>> said = judge_detections(Detections(zero, box, zero, np.array([0.5])), Objects(zero, box, zero, zero > 0))
        >>> said.confidence.tolist(), said.correct.tolist()
        ([0.5], [True])
    """
    found = found.take(np.lexsort((-found.scores, found.labels, found.image)))
    matches = match_objects(found, objects, least_overlap)
    counted = matches.true | matches.false
    return Judged(found.scores[counted], matches.true[counted], found.labels[counted])


class ReliabilityBins(NamedTuple):
    """The rows of a reliability diagram, one a bin.

    Attributes:
        low: ``(M,)`` bounds; a bin holds ``low < confidence <= high``, the first one 0 too.
        high: ``(M,)``.
        decisions: ``(M,)`` number of them.
        confidence: ``(M,)`` mean, NaN in an empty bin.
        accuracy: ``(M,)`` share that is correct, NaN in an empty bin.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    decisions: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]


class Reliability:
    """How often decisions of each confidence are correct; counts and sums of a fixed size.

    The bins are ``((m - 1) / M, m / M]``, as in Guo et al. 2017, arXiv 1706.04599: a bound belongs to the bin below.
    (torchmetrics puts it into the bin above.) The expected calibration error, ECE, is the mean over all decisions of
    the difference of accuracy and mean confidence in their bin; the maximum calibration error, MCE, the largest such
    difference. Both are fractions in [0, 1], 0 is best, and NaN where there is no decision. Those of a class are over
    the decisions for that class.

    Args:
        num_classes: C; 1 where classes are not told apart.
        num_bins: M.

    Raises:
        ValueError: if either is below 1.

    Example:
        >>> reliability = Reliability(num_bins=2)
        >>> reliability.add(np.array([0.5, 0.75, 1.0]), np.array([False, True, True]))
        >>> reliability.ece, reliability.mce  # (0.5 + 2 * 0.125) / 3
        (0.25, 0.5)
    """

    def __init__(self, num_classes: int = 1, num_bins: int = NUM_BINS) -> None:
        if num_classes < 1 or num_bins < 1:
            raise ValueError(f"reliability: expected num_classes and num_bins from 1, got {num_classes} and {num_bins}")
        self.num_classes, self.num_bins = num_classes, num_bins
        self._edges = np.linspace(0, 1, num_bins + 1)
        self._count = np.zeros((num_classes, num_bins), dtype=np.int64)
        self._correct = np.zeros_like(self._count)
        self._confidence = np.zeros((num_classes, num_bins))

    def add(
        self,
        confidence: NDArray[np.floating[Any]],
        correct: NDArray[np.bool_],
        labels: NDArray[np.int64] | None = None,
    ) -> None:
        """Count decisions.

        Args:
            confidence: ``(P,)`` in [0, 1].
            correct: bool ``(P,)``.
            labels: ``(P,)`` in [0, C), the class decided for; None only with one class.

        Raises:
            ValueError: if a confidence is outside [0, 1] or NaN, a label outside [0, C), or the lengths differ.
        """
        labels = self._checked(confidence, correct, labels)
        values = confidence.astype(np.float64)
        row = labels * self.num_bins + np.searchsorted(self._edges[1:-1], values, side="left")
        shape, size = self._count.shape, self._count.size
        self._count += np.bincount(row, minlength=size).reshape(shape)
        self._correct += np.bincount(row[correct], minlength=size).reshape(shape)
        self._confidence += np.bincount(row, weights=values, minlength=size).reshape(shape)

    def _checked(
        self, confidence: NDArray[Any], correct: NDArray[Any], labels: NDArray[np.int64] | None
    ) -> NDArray[np.int64]:
        if labels is None:
            if self.num_classes > 1:
                raise ValueError(f"reliability: of {self.num_classes} classes, each decision needs its label, got none")
            labels = np.zeros(len(confidence), dtype=np.int64)
        if correct.dtype != np.bool_ or not len(confidence) == len(correct) == len(labels):
            raise ValueError(
                f"reliability: expected as many flags and labels as confidences, got {len(confidence)} confidences, "
                f"{len(correct)} of {correct.dtype} and {len(labels)} labels"
            )
        if not ((confidence >= 0) & (confidence <= 1 + _ROUNDING)).all():
            raise ValueError("reliability: expected confidences in [0, 1], got one outside or NaN")
        if len(labels) and not 0 <= labels.min() <= labels.max() < self.num_classes:
            raise ValueError(
                f"reliability: expected labels from 0 to {self.num_classes - 1}, got {labels.min()} to {labels.max()}"
            )
        return labels

    def merge(self, others: Sequence["Reliability"]) -> None:
        """Add what others have counted.

        Raises:
            ValueError: if one has other bins or classes.
        """
        for other in others:
            if other._count.shape != self._count.shape:
                raise ValueError(
                    f"reliability: expected {self.num_classes} classes and {self.num_bins} bins, "
                    f"got {other.num_classes} and {other.num_bins}"
                )
            self._count += other._count
            self._correct += other._correct
            self._confidence += other._confidence

    @property
    def ece(self) -> float:
        """Expected calibration error of all decisions, whatever their class."""
        return float(_expected(self._count.sum(axis=0), self._difference().sum(axis=0)))

    @property
    def mce(self) -> float:
        """Maximum calibration error of all decisions, whatever their class."""
        return float(_largest(self._count.sum(axis=0), self._difference().sum(axis=0)))

    def class_ece(self) -> NDArray[np.float64]:
        """Return the expected calibration error of each class, ``(C,)``; NaN for one that was never decided for."""
        return _expected(self._count, self._difference())

    def class_mce(self) -> NDArray[np.float64]:
        """Return the maximum calibration error of each class, ``(C,)``; NaN for one that was never decided for."""
        return _largest(self._count, self._difference())

    def bins(self, label: int | None = None) -> ReliabilityBins:
        """Return the rows of the diagram of all decisions, or of those for one class."""
        rows = slice(None) if label is None else [label]
        count, correct, confidence = (
            table[rows].sum(axis=0) for table in (self._count, self._correct, self._confidence)
        )
        accuracy, mean = _share(correct.astype(np.float64), count), _share(confidence, count)
        return ReliabilityBins(self._edges[:-1], self._edges[1:], count, mean, accuracy)

    def _difference(self) -> NDArray[np.float64]:
        """Return how many more decisions are correct than the confidences say, ``(C, M)``."""
        return self._correct - self._confidence


def _expected(count: NDArray[np.int64], difference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean difference ``(...)`` over the decisions in the bins ``(..., M)``, NaN without any."""
    return _share(np.abs(difference).sum(axis=-1), count.sum(axis=-1))


def _largest(count: NDArray[np.int64], difference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the largest mean difference ``(...)`` over the bins ``(..., M)`` that hold something, NaN for none."""
    gaps = _share(np.abs(difference), count)
    found = np.where(np.isnan(gaps), -np.inf, gaps).max(axis=-1)
    return np.asarray(np.where(np.isneginf(found), np.nan, found))


def _share(total: NDArray[np.float64], count: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(np.divide(total, count, out=np.full(np.shape(total), np.nan), where=np.asarray(count) > 0))


def _array(values: Tensor) -> NDArray[Any]:
    return np.asarray(values.detach().cpu())
