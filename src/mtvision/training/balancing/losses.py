"""Balancers that look at the losses alone: no backward pass more than without them.

Each is a few lines, tested against torchjd's, which leave no place for absent tasks and for a state to resume from.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from mtvision.registries import BALANCERS
from mtvision.training.balancing.adam_vector import AdamVector
from mtvision.training.balancing.base import DrawingBalancer, LossBalancer, NonNegative, Positive, refuse_negative

_SMALLEST_LOSS = 1e-8
"""Keeps logarithm and inverse of a loss finite; torchjd's FAMO adds the same."""


@BALANCERS.register("fixed")
class Fixed(LossBalancer):
    """The plain sum: every weight is 1 (mtvision). No extra cost.

    Example:
        >>> Fixed(2).weigh(torch.tensor([3.0, 0.5]))
        tensor([1., 1.])
    """

    looks_at_losses: ClassVar[bool] = False

    def weigh_losses(self, losses: Tensor) -> Tensor:
        """Return ones."""
        return torch.ones_like(losses)


@BALANCERS.register("uncertainty")
class Uncertainty(LossBalancer):
    """Learned uncertainty of each task, ``1 / 2σ²`` as its weight (Kendall et al. 2018, arXiv 1705.07115).

    ``log σ²`` is learned by the loop's optimizer with ``L / 2σ² + log σ² / 2``; it starts at 0, so the first weights
    are 1/2. Losses must not be negative. An absent task has weight 0 and its uncertainty is not learned. No extra cost.

    Example:
        >>> Uncertainty(2).weigh(torch.tensor([3.0, 0.5]))
        tensor([0.5000, 0.5000])
    """

    def __init__(self, num_tasks: int) -> None:
        super().__init__(num_tasks)
        self.log_variances = nn.Parameter(torch.zeros(num_tasks))

    def weigh_losses(self, losses: Tensor) -> Tensor:
        """Return ``exp(-s) / 2``, 0 where absent."""
        return torch.where(losses != 0, (-self.log_variances.detach()).exp() / 2, 0).to(losses.dtype)

    def own_loss(self, losses: Tensor) -> Tensor:
        """Return the sum of ``exp(-s) L / 2 + s / 2`` over the tasks that are there."""
        terms = ((-self.log_variances).exp() * losses + self.log_variances) / 2
        return torch.where(losses != 0, terms, 0).sum()


@BALANCERS.register("imtl_l")
class IMTLL(LossBalancer):
    """Learned scale of each task so that all scaled losses are alike, IMTL-L (Liu et al. 2021, ICLR).

    ``s`` is learned by the loop's optimizer with ``exp(s) L - s``, and ``exp(s)`` is the weight; it starts at 1. It
    is twice `uncertainty` with the sign of ``s`` changed. Losses must not be negative. An absent task has weight 0 and
    its scale is not learned. No extra cost.
    """

    def __init__(self, num_tasks: int) -> None:
        super().__init__(num_tasks)
        self.log_scales = nn.Parameter(torch.zeros(num_tasks))

    def weigh_losses(self, losses: Tensor) -> Tensor:
        """Return ``exp(s)``, 0 where absent."""
        return torch.where(losses != 0, self.log_scales.detach().exp(), 0).to(losses.dtype)

    def own_loss(self, losses: Tensor) -> Tensor:
        """Return the sum of ``exp(s) L - s`` over the tasks that are there."""
        return torch.where(losses != 0, self.log_scales.exp() * losses - self.log_scales, 0).sum()


@BALANCERS.register("dwa")
class DynamicWeightAverage(LossBalancer):
    """More weight for the tasks whose mean loss fell least between two epochs (Liu et al. 2019, arXiv 1803.10704).

    The weights are a softmax of ``L(t-1) / L(t-2)`` over ``temperature`` and sum to T; in the first two epochs they are
    1. An epoch's mean is over the batches in which a task is there; while a task lacks two of them its ratio counts as
    1. No extra cost.

    Args:
        num_tasks: T.
        temperature: the larger, the more equal the weights; the paper's is 2.
    """

    sums: Tensor
    counts: Tensor
    averages: Tensor

    def __init__(self, num_tasks: int, *, temperature: Positive = 2.0) -> None:
        super().__init__(num_tasks)
        self.temperature = temperature
        self.register_buffer("sums", torch.zeros(num_tasks))
        self.register_buffer("counts", torch.zeros(num_tasks))
        self.register_buffer("averages", torch.full((2, num_tasks), torch.nan))  # of the last epoch but one, the last

    def weigh_losses(self, losses: Tensor) -> Tensor:
        """Return the weights of this epoch, and add the losses to its means."""
        self.sums += losses
        self.counts += losses != 0
        rates = (self.averages[1] / self.averages[0]).nan_to_num(1.0, 1.0, 1.0)
        return (self.num_tasks * (rates / self.temperature).softmax(dim=0)).to(losses.dtype)

    def end_epoch(self) -> None:
        """Make the epoch's means the last ones, for each task that was there in it."""
        older, newer = self.averages
        seen = self.counts > 0
        latest = self.sums / self.counts.clamp(min=1)
        self.averages = torch.stack([torch.where(seen, newer, older), torch.where(seen, latest, newer)])
        self.sums, self.counts = torch.zeros_like(self.sums), torch.zeros_like(self.counts)


@BALANCERS.register("famo")
class FAMO(LossBalancer):
    """Lets the logarithms of all losses fall at one rate, by their values alone (Liu et al. 2023, arXiv 2306.03792).

    The weights are ``softmax(w) / L``, scaled to sum to 1; ``w`` follows, by Adam, how far each logarithm fell in the
    step. A factor on one loss acts on all tasks alike, so the ratios of ``loss_weights`` have no effect. An absent task
    has weight 0 and its ``w`` stays. Cost: one more forward pass a step, for the losses after it.

    Args:
        num_tasks: T.
        lr: of ``w``; the paper's is 0.025.
        weight_decay: of ``w``, towards equal shares; 0.001 as in the paper's algorithm.
    """

    looks_after_step = True
    before: Tensor

    def __init__(self, num_tasks: int, *, lr: Positive = 0.025, weight_decay: NonNegative = 1e-3) -> None:
        super().__init__(num_tasks)
        self.logits = AdamVector(torch.zeros(num_tasks), lr, weight_decay)
        self.register_buffer("before", torch.zeros(num_tasks))

    def weigh_losses(self, losses: Tensor) -> Tensor:
        """Return the weights, and remember the losses for `after_step`.

        Raises:
            TrainingError: if a loss is negative.
        """
        refuse_negative("famo", losses)
        self.before = losses.detach().to(self.before.dtype, copy=True)
        weights = self._shares(losses != 0) / (losses + _SMALLEST_LOSS)
        return (weights / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)).to(losses.dtype)

    def after_step(self, losses: Tensor) -> None:
        """Move the shares towards the tasks whose logarithm fell least."""
        there = (self.before != 0) & (losses != 0)
        shares = self._shares(there)
        fallen = (self.before + _SMALLEST_LOSS).log() - (losses + _SMALLEST_LOSS).log()
        slopes = shares * (fallen - (shares * fallen).sum())
        self.logits.step(slopes.to(self.logits.value.dtype), there)

    def _shares(self, there: Tensor) -> Tensor:
        """Return the softmax over the tasks that are there, 0 for the others."""
        shares = torch.where(there, self.logits.value.softmax(dim=0), 0)
        return shares / shares.sum().clamp(min=torch.finfo(shares.dtype).tiny)


@BALANCERS.register("random")
class Random(DrawingBalancer, LossBalancer):
    """Random weights that sum to 1, new ones for each batch: what others must beat (Lin et al. 2022, arXiv 2111.10603).

    The weights are a softmax of normal draws over the tasks that are there. No extra cost.

    Args:
        num_tasks: T.
        seed: of the draws; None: that of ``torch.manual_seed``, which must be the same in all processes.
    """

    def weigh_losses(self, losses: Tensor) -> Tensor:
        """Return the next weights."""
        draws = torch.randn(self.num_tasks, generator=self.generator).to(losses)
        weights = torch.where(losses != 0, draws.exp(), 0)
        return weights / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)


@BALANCERS.register("geometric_mean")
class GeometricMean(LossBalancer):
    """The geometric mean of the losses in place of their sum (Chennupati et al. 2019, arXiv 1904.08492).

    Its derivative by a loss L of n is ``mean / (n L)``, the weight. A factor on a loss acts on all tasks alike, so the
    ratios of ``loss_weights`` have no effect. Absent tasks are left out of the mean. No extra cost.

    Example:
        >>> GeometricMean(2).weigh(torch.tensor([4.0, 1.0]))
        tensor([0.2500, 1.0000])
    """

    def weigh_losses(self, losses: Tensor) -> Tensor:
        """Return the derivatives of the mean.

        Raises:
            TrainingError: if a loss is negative.
        """
        refuse_negative("geometric_mean", losses)
        there = losses != 0
        count = there.sum().clamp(min=1)
        logarithms = torch.where(there, losses.clamp(min=_SMALLEST_LOSS), 1).log()
        return torch.where(there, (logarithms.sum() / count - logarithms).exp() / count, 0)
