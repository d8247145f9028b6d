"""Balancers that look at each task's gradient of the shared parameters.

For T tasks all of them cost T backward passes through the shared part in place of one, and T times the memory of its
gradient. They are torchjd's weightings of the Gramian; torchjd and its solvers are imported when one is built.
"""

import warnings
from abc import abstractmethod
from importlib.util import find_spec
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from mtvision.errors import ConfigError
from mtvision.registries import BALANCERS
from mtvision.training.balancing.base import Balancer, DrawingBalancer, NonNegative, Positive, Seed, needed

Count = Annotated[int, Field(ge=1)]

_ZERO = 1e-24
"""Of the longest gradient's square: what is shorter cannot be seen beside it in float32."""


def require(name: str, *modules: str) -> None:
    """Refuse a balancer of which a module is not installed.

    Raises:
        ConfigError: with what to install.
    """
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise ConfigError(
            [f"training.balancer: '{name}' needs {', '.join(missing)}; install it: pip install \"mtvision[balancing]\""]
        )


def gramian(gradients: Tensor | None) -> Tensor:
    """Return the inner products of the rows of ``(T, P)``, ``(T, T)`` on the CPU, where the solvers are.

    Example:
        >>> gramian(torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
        tensor([[25.,  4.],
                [ 4.,  1.]])
    """
    rows = needed(gradients)
    # one by one: a product of matrices may be rounded to TF32
    products = torch.stack([row.dot(other) for row in rows for other in rows])
    return products.view(len(rows), len(rows)).cpu()


class GramianBalancer(Balancer):
    """A balancer whose weights follow from the inner products of the tasks' gradients.

    A task whose gradient is zero beside the longest one, as that of an absent task is, has weight 0; the others are
    weighed as if it did not exist.
    """

    on_gradients = True
    shared_only = True

    def weigh(self, losses: Tensor, gradients: Tensor | None = None) -> Tensor:
        """Return the weights of the rows of ``gradients``."""
        products = gramian(gradients)
        squares = products.diagonal()
        there = squares > _ZERO * squares.max()
        weights = torch.zeros_like(squares)
        if there.any():
            weights[there] = self.weigh_present(products[there][:, there], there)
        return weights.to(losses)

    @abstractmethod
    def weigh_present(self, products: Tensor, there: Tensor) -> Tensor:
        """Return the weights ``(n,)`` of the tasks that are there.

        Args:
            products: their Gramian ``(n, n)``, on the CPU, with a diagonal above 0.
            there: which of the T they are, bool ``(T,)``.
        """


class ScaleFreeBalancer(GramianBalancer):
    """A weighting of torchjd that does not depend on the unit of the gradients; a task alone has weight 1.

    Attributes:
        weighting: torchjd's, set by the method.
    """

    weighting: Any

    def weigh_present(self, products: Tensor, there: Tensor) -> Tensor:  # noqa: ARG002 - for those with a state a task
        """Return torchjd's weights of the Gramian over its trace, so that its absolute thresholds are relative ones."""
        if len(products) == 1:
            return torch.ones_like(products[0])
        weights: Tensor = self.weighting(products / products.trace())
        return weights


@BALANCERS.register("pcgrad")
class PCGrad(DrawingBalancer, ScaleFreeBalancer):
    """Gradient surgery: takes from each gradient what opposes another one (Yu et al. 2020, arXiv 2001.06782).

    The weights are 1 without conflict. Cost: T backward passes through the shared part and T times its gradient.

    Args:
        num_tasks: T.
        seed: of the order in which a gradient meets the others (which matters from 3 tasks on); None: that of
            ``torch.manual_seed``, which must be the same in all processes.
    """

    def __init__(self, num_tasks: int, *, seed: Seed | None = None) -> None:
        super().__init__(num_tasks, seed=seed)
        require("pcgrad", "torchjd")
        from torchjd.aggregation import PCGradWeighting

        self.weighting = PCGradWeighting()

    def weigh_present(self, products: Tensor, there: Tensor) -> Tensor:
        """Return torchjd's weights; it draws from torch's global generator, which is lent to it."""
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self.generator.get_state())
            weights = super().weigh_present(products, there)
            self.generator.set_state(torch.get_rng_state())
        return weights


@BALANCERS.register("cagrad")
class CAGrad(ScaleFreeBalancer):
    """Conflict-averse: best for the task that is worst off, near the mean gradient (Liu et al. 2021, arXiv 2110.14048).

    The weights are ``1 / T`` and more; all are 0 where a convex combination of the gradients is 10,000 times shorter
    than they are. Cost: T backward passes through the shared part and T times its gradient, and a solver on the CPU
    (cvxpy with Clarabel).

    Args:
        num_tasks: T.
        c: how far from the mean, as a share of its length; 0 is the mean; the paper's for NYU-v2 is 0.4.
    """

    def __init__(self, num_tasks: int, *, c: NonNegative = 0.4) -> None:
        super().__init__(num_tasks)
        require("cagrad", "torchjd", "cvxpy", "clarabel")
        from torchjd.aggregation import CAGradWeighting

        self.weighting = CAGradWeighting(c)


@BALANCERS.register("mgda")
class MGDA(ScaleFreeBalancer):
    """The shortest convex combination of the gradients, which harms no task (Sener and Koltun 2018, arXiv 1810.04650).

    The weights sum to 1 and favour short gradients. Cost: T backward passes through the shared part and T times its
    gradient.

    Args:
        num_tasks: T.
        epsilon: ends the search when a step of it is shorter.
        max_iterations: of the search.
    """

    def __init__(self, num_tasks: int, *, epsilon: Positive = 1e-3, max_iterations: Count = 100) -> None:
        super().__init__(num_tasks)
        require("mgda", "torchjd")
        from torchjd.aggregation import MGDAWeighting

        self.weighting = MGDAWeighting(epsilon, max_iterations)


@BALANCERS.register("upgrad")
class UPGrad(ScaleFreeBalancer):
    """The mean of the gradients, each projected so that it opposes none (Quinton and Rey 2024, arXiv 2406.16232).

    The weights are ``1 / T`` without conflict, else more. Cost: T backward passes through the shared part and T times
    its gradient, and a solver on the CPU (quadprog).
    """

    def __init__(self, num_tasks: int) -> None:
        super().__init__(num_tasks)
        require("upgrad", "torchjd", "qpsolvers", "quadprog")
        from torchjd.aggregation import UPGradWeighting

        self.weighting = UPGradWeighting()


@BALANCERS.register("aligned_mtl")
class AlignedMTL(ScaleFreeBalancer):
    """The mean of the gradients after their principal components are made equally long (Senushkin et al. 2023, CVPR).

    Cost: T backward passes through the shared part and T times its gradient.

    Args:
        num_tasks: T.
        scale_mode: length of the components: of the shortest as in the paper, the median or the root mean square.
    """

    def __init__(self, num_tasks: int, *, scale_mode: Literal["min", "median", "rmse"] = "min") -> None:
        super().__init__(num_tasks)
        require("aligned_mtl", "torchjd")
        from torchjd.aggregation import AlignedMTLWeighting

        self.weighting = AlignedMTLWeighting(scale_mode=scale_mode)


@BALANCERS.register("nash_mtl")
class NashMTL(GramianBalancer):
    """The Nash bargaining solution between the tasks (Navon et al. 2022, arXiv 2202.01017).

    A task alone has weight 1. Cost: T backward passes through the shared part and T times its gradient, and tens of
    milliseconds for a solver on the CPU (cvxpy with ECOS).

    Args:
        num_tasks: T.
        max_norm: longest combined gradient of the shared parameters; 0: no limit.
        update_every: steps between two calls of the solver; the weights stay in between.
        max_iterations: of the solver in one step.
    """

    def __init__(
        self, num_tasks: int, *, max_norm: NonNegative = 1.0, update_every: Count = 1, max_iterations: Count = 20
    ) -> None:
        super().__init__(num_tasks)
        require("nash_mtl", "torchjd", "cvxpy", "ecos")
        self.max_norm, self.update_every, self.max_iterations = max_norm, update_every, max_iterations
        self.alpha = torch.ones(num_tasks, dtype=torch.float64)
        self.steps = 0
        self._solvers: dict[int, Any] = {}

    def weigh_present(self, products: Tensor, there: Tensor) -> Tensor:
        """Return torchjd's weights, which start from those of the step before."""
        if self.steps % self.update_every == 0:
            self.alpha[there] = self._solve(products.double(), self.alpha[there])
        self.steps += 1
        weights = self.alpha[there].to(products.dtype)
        norm = (weights @ products @ weights).clamp(min=0).sqrt()
        return weights * (self.max_norm / norm) if 0 < self.max_norm < norm else weights

    def _solve(self, products: Tensor, alpha: Tensor) -> Tensor:
        from torchjd.aggregation import NashMTL as Aggregator

        count = len(alpha)
        if count == 1:
            return torch.ones_like(alpha)
        if not (alpha > 0).all():  # the solver divides by its last solution, so it would stay there for good
            alpha = torch.ones_like(alpha)
        if count not in self._solvers:
            self._solvers[count] = Aggregator(count, max_norm=0, optim_niter=self.max_iterations).weighting
        solver = self._solvers[count]
        solver.prvs_alpha = alpha.numpy()
        values, vectors = torch.linalg.eigh(products)
        with warnings.catch_warnings():  # cvxpy's, of rough solutions on the way and of a slow form of the problem
            warnings.simplefilter("ignore")
            solver(vectors * values.clamp(min=0).sqrt())  # any matrix with these products has the same solution
        return torch.as_tensor(solver.prvs_alpha, dtype=torch.float64)

    def get_extra_state(self) -> dict[str, Any]:
        """Return the last solution and the number of steps."""
        return {"alpha": self.alpha.clone(), "steps": self.steps}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on from a last solution."""
        self.alpha, self.steps = state["alpha"].cpu().clone(), state["steps"]
