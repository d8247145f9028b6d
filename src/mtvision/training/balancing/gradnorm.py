"""GradNorm: task weights learned from the lengths of the tasks' gradients."""

import torch
from torch import Tensor

from mtvision.registries import BALANCERS
from mtvision.training.balancing.adam_vector import AdamVector
from mtvision.training.balancing.base import Balancer, NonNegative, Positive, needed, refuse_negative

_SMALLEST_WEIGHT = 1e-3


@BALANCERS.register("gradnorm")
class GradNorm(Balancer):
    """Learns weights by which the tasks that lag behind have the longer gradients (Chen et al. 2018, arXiv 1711.02257).

    The length of each weighted gradient is drawn to their mean length times ``r^alpha``; ``r`` is the loss over the
    task's first one, divided by the mean of that over the tasks. The weights start at 1, sum to T and act on all
    parameters. Unlike in the paper, lengths are those of all shared parameters (there: of the last shared layer) and a
    weight moves by Adam and not below 0.001 (there: nothing keeps it above 0). Losses must not be negative. An absent
    task has weight 0, keeps its own for later and is in no mean. Cost: T backward passes through the shared part and T
    times its gradient.

    Args:
        num_tasks: T.
        alpha: how much longer; 0: all are equally long; the paper's for NYU-v2 is 1.5.
        lr: of the weights.
    """

    on_gradients = True
    initial: Tensor

    def __init__(self, num_tasks: int, *, alpha: NonNegative = 1.5, lr: Positive = 0.025) -> None:
        super().__init__(num_tasks)
        self.alpha = alpha
        self.weights = AdamVector(torch.ones(num_tasks), lr)
        self.register_buffer("initial", torch.zeros(num_tasks))  # 0: the task was not there yet

    def weigh(self, losses: Tensor, gradients: Tensor | None = None) -> Tensor:
        """Return the weights of this step, and learn those of the next.

        Raises:
            TrainingError: if a loss is negative.
        """
        norms = torch.linalg.vector_norm(needed(gradients), dim=1)
        refuse_negative("gradnorm", losses)
        there = losses != 0
        self.initial = torch.where(self.initial == 0, losses.to(self.initial.dtype), self.initial)
        weights = torch.where(there, self.weights.value, 0).to(losses.dtype)
        self._learn(losses, norms, there)
        return weights

    def _learn(self, losses: Tensor, norms: Tensor, there: Tensor) -> None:
        count = there.sum().clamp(min=1)
        left = torch.where(there, losses / self.initial, 0)  # \tilde L_i(t) of the paper
        rates = torch.where(there, left * count / left.sum(), 0)  # r_i(t)
        weights = torch.where(there, self.weights.value, 0)
        lengths = weights * norms  # G_i(t)
        targets = lengths.sum() / count * rates**self.alpha  # held constant, as in the paper
        slopes = (lengths - targets).sign() * norms  # of the L1 distance, by w_i
        self.weights.step(slopes.to(weights.dtype), there)
        moved = torch.where(there, self.weights.value.clamp(min=_SMALLEST_WEIGHT), 0)
        self.weights.value = torch.where(there, moved * (weights.sum() / moved.sum()), self.weights.value)
