"""Depth metrics: of each image, then the mean over the images. Imported only when metrics are made."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from mtvision.errors import DataError

_DELTA = 1.25


def depth_errors(prediction: Tensor, truth: Tensor, min_depth: float, max_depth: float) -> Tensor | None:
    """Return absolute relative error, RMSE, SILog and δ < 1.25 of one image, ``(4,)``; None if no pixel is known.

    With p predicted and t true: mean(|p - t| / t), √mean((p - t)²), √(mean(d²) - mean(d)²) of d = log p - log t, and
    the share of pixels in which max(p / t, t / p) < 1.25 (Eigen et al. 2014, arXiv 1406.2283, section 4). SILog is as
    in KITTI's benchmark, which writes 100 times it.

    Args:
        prediction: ``(H, W)``, above 0.
        truth: ``(H, W)``; what is NaN or outside ``[min_depth, max_depth]`` does not count.
        min_depth: in the unit of the depths.
        max_depth: likewise.

    Raises:
        DataError: if the sizes differ.

    Example:
        >>> depth_errors(torch.tensor([[2.0, 4.0]]), torch.tensor([[2.0, torch.nan]]), 0.1, 10.0)
        tensor([0., 0., 0., 1.])
    """
    if prediction.shape != truth.shape:
        raise DataError(f"the true depth is {tuple(truth.shape)}, but the predicted one is {tuple(prediction.shape)}")
    truth = truth.to(prediction.device)
    known = (truth >= min_depth) & (truth <= max_depth)
    if not known.any():
        return None
    p, t = prediction[known].float(), truth[known].float()
    d = p.log() - t.log()
    values = ((p - t).abs() / t).mean(), (p - t).square().mean().sqrt(), d.std(correction=0)
    return torch.stack([*values, (torch.maximum(p / t, t / p) < _DELTA).float().mean()])


class DepthMetric(Metric):
    """Base of the metrics: sums the `depth_errors` of each image over all images and processes.

    The mean over images of what each image has, as the programs of the papers count (monodepth, BTS, AdaBins): an image
    with few known pixels weighs as much as one with many.

    Args:
        min_depth: as in `depth_errors`.
        max_depth: likewise.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    position: int
    sums: Tensor
    images: Tensor

    def __init__(self, min_depth: float, max_depth: float) -> None:
        super().__init__()
        self.min_depth = min_depth
        self.max_depth = max_depth
        self.add_state("sums", default=torch.zeros(4, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("images", default=torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predictions: Sequence[Tensor], truths: Sequence[Tensor | None]) -> None:
        """Add the images of a batch; an image whose truth is None, or in which no pixel is known, is left out.

        Args:
            predictions: float ``(H, W)`` each, above 0.
            truths: likewise, or None.

        Raises:
            DataError: as in `depth_errors`.
        """
        for prediction, truth in zip(predictions, truths, strict=True):
            if truth is None:
                continue
            errors = depth_errors(prediction.detach(), truth, self.min_depth, self.max_depth)
            if errors is not None:
                self.sums += errors.cpu().to(self.sums)
                self.images += 1

    def compute(self) -> Tensor:
        """Return a scalar, NaN if nothing is annotated."""
        return (self.sums[self.position] / self.images).float()


class AbsoluteRelativeError(DepthMetric):
    """Mean of |predicted - true| / true.

    Example:
        >>> metric = AbsoluteRelativeError(0.1, 10.0)
        >>> metric.update([torch.tensor([[3.0, 1.0]])], [torch.tensor([[2.0, 1.0]])])
        >>> metric.compute()
        tensor(0.2500)
    """

    position = 0


class RootMeanSquaredError(DepthMetric):
    """Root of the mean squared error, in the unit of the depths."""

    position = 1


class ScaleInvariantLogError(DepthMetric):
    """Standard deviation of the error of the logarithm: 0 for a prediction that is right but for its scale."""

    position = 2


class WithinDelta(DepthMetric):
    """Share of the pixels whose depth is right within a factor of 1.25."""

    higher_is_better = True
    position = 3


def depth_metrics(min_depth: float, max_depth: float) -> MetricCollection:
    """Return ``abs_rel``, ``rmse``, ``silog`` and ``delta1``; they share one state, which is counted once.

    Example:
        >>> metrics = depth_metrics(0.1, 10.0)
        >>> metrics.update([torch.ones(2, 2)], [torch.ones(2, 2)])
        >>> {name: float(value) for name, value in metrics.compute().items()}
        {'abs_rel': 0.0, 'delta1': 1.0, 'rmse': 0.0, 'silog': 0.0}
    """
    limits = (min_depth, max_depth)
    metrics: dict[str, Metric | MetricCollection] = {
        "abs_rel": AbsoluteRelativeError(*limits),
        "rmse": RootMeanSquaredError(*limits),
        "silog": ScaleInvariantLogError(*limits),
        "delta1": WithinDelta(*limits),
    }
    return MetricCollection(metrics, compute_groups=[list(metrics)])
