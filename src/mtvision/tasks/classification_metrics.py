"""Average precision of image classification. Imported only when metrics are made: it needs torchmetrics."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from mtvision.errors import DataError
from mtvision.tasks.classification import ClassificationPrediction

_POSITIVE = 0.5
"""A truth from here on counts as a positive."""


class MultilabelAveragePrecision(Metric):
    """Average precision of each class over all images and its mean: VOC's classification task (Everingham et al. 2010).

    The area under the steps of precision over recall, without interpolation, as scikit-learn has it (VOC's own program
    interpolates, which gives a little more). Images in which a class is unknown (NaN) do not count for it; a class
    without a positive has NaN and is left out of the mean.

    Args:
        num_classes: C.

    Example:
        >>> metric = MultilabelAveragePrecision(num_classes=2)
        >>> seen = [{"scores": torch.tensor([0.9, 0.2]), "labels": torch.tensor([1, 0])}]
        >>> metric.update(seen, [torch.tensor([0.0, 1.0])])
        >>> metric.compute()
        {'map': tensor(1.), 'ap': tensor([nan, 1.])}
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    scores: list[Tensor]
    truths: list[Tensor]

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        # Flat float32: torchmetrics lets a process that saw no image take part in the gathering with such a tensor.
        self.add_state("scores", [], dist_reduce_fx="cat")
        self.add_state("truths", [], dist_reduce_fx="cat")

    def update(self, predictions: Sequence[ClassificationPrediction], truths: Sequence[Tensor | None]) -> None:
        """Add the images of a batch; an image whose truth is None is left out.

        Args:
            predictions: all classes of each image, in any order.
            truths: ``(C,)`` in [0, 1] each, NaN where a class is unknown; 0.5 or more is a positive.

        Raises:
            DataError: if a truth has another shape or a value outside [0, 1].
        """
        for prediction, truth in zip(predictions, truths, strict=True):
            if truth is None:
                continue
            if truth.shape != (self.num_classes,):
                raise DataError(f"a classification truth: expected ({self.num_classes},), got {tuple(truth.shape)}")
            if ((truth < 0) | (truth > 1)).any():
                raise DataError(f"a classification truth: expected values in [0, 1] or NaN, got {truth.tolist()}")
            scores = torch.zeros(self.num_classes, device=prediction["scores"].device)
            scores[prediction["labels"]] = prediction["scores"].detach().float()
            self.scores.append(scores.to(self.device))
            self.truths.append(truth.to(self.device, torch.float32))

    def compute(self) -> dict[str, Tensor]:
        """Return ``map``, a scalar, and ``ap``, ``(C,)``."""
        scores, truths = (_joined(state).reshape(-1, self.num_classes) for state in (self.scores, self.truths))
        known = ~truths.isnan()
        columns = zip(scores.T, truths.T, known.T, strict=True)
        by_class = torch.stack([average_precision(s[k], t[k] >= _POSITIVE) for s, t, k in columns])
        return {name: value.to(self.device) for name, value in (("map", by_class.nanmean()), ("ap", by_class))}


def average_precision(scores: Tensor, truths: Tensor) -> Tensor:
    """Return the sum over thresholds of precision times the gain in recall, a scalar; NaN without a positive.

    Equal scores are one threshold, so the order of the images does not matter.

    Args:
        scores: ``(N,)``.
        truths: bool ``(N,)``.

    Example:
        >>> average_precision(torch.tensor([0.9, 0.8, 0.7]), torch.tensor([True, False, True]))
        tensor(0.8333)
    """
    order = scores.argsort(descending=True)
    found = truths[order].double().cumsum(0)  # true positives above each score, that one included
    ranked = scores[order]
    last = torch.ones_like(ranked, dtype=torch.bool)
    last[:-1] = ranked[1:] != ranked[:-1]
    found, taken = found[last], last.nonzero()[:, 0] + 1
    gains = found.diff(prepend=found.new_zeros(1))
    return (gains * found / taken).sum().div(truths.sum()).float()


def _joined(state: list[Tensor] | Tensor) -> Tensor:
    """Return a state as one tensor on the CPU: a list before, a tensor after the gathering over processes."""
    pieces = [state] if isinstance(state, Tensor) else state
    return torch.cat([torch.zeros(0), *(piece.cpu() for piece in pieces)])
