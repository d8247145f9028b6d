"""What a balancer is: it says how much each task's loss weighs in a step."""

from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from mtvision.errors import TrainingError

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Balancer(nn.Module, ABC):
    """Chooses the weight of each task's loss, anew in each step.

    A loss of exactly 0 is taken for that of a task without annotation in the batch, an *absent* one: it never enters
    the weights of the others. Everything that a balancer remembers is in its ``state_dict()``. What it learns by the
    loop's optimizer is in its ``parameters()`` and has ``own_loss`` to minimise.

    Args:
        num_tasks: T.

    Attributes:
        looks_at_losses: whether the weights depend on the losses, which must then be finite; reading them waits.
        on_gradients: whether `weigh` needs the gradients of the shared parameters.
        shared_only: whether the weights act on the shared parameters alone; those of one task then get the gradient of
            the plain sum.
        looks_after_step: whether `after_step` needs the losses of the same batch after the optimizer's step.
    """

    looks_at_losses: ClassVar[bool] = True
    on_gradients: ClassVar[bool] = False
    shared_only: ClassVar[bool] = False
    looks_after_step: ClassVar[bool] = False

    def __init__(self, num_tasks: int) -> None:
        super().__init__()
        self.num_tasks = num_tasks

    @abstractmethod
    def weigh(self, losses: Tensor, gradients: Tensor | None = None) -> Tensor:
        """Return the weights of the tasks, ``(T,)``, finite and without a graph.

        Args:
            losses: ``(T,)``, detached, the same in all processes.
            gradients: ``(T, P)`` of the shared parameters, one row a task, the same in all processes and finite; only
                where ``on_gradients``.
        """

    def own_loss(self, losses: Tensor) -> Tensor | None:  # noqa: ARG002 - the parameter is for those that have one
        """Return what the balancer's own parameters minimise, given detached losses; None: it has no parameters.

        A balancer on gradients is not asked.
        """
        return None

    def after_step(self, losses: Tensor) -> None:
        """Learn from the losses of the batch that was weighed last, computed again after the optimizer's step."""

    def end_epoch(self) -> None:
        """Close the statistics of an epoch."""


class LossBalancer(Balancer):
    """A balancer that looks at the losses alone."""

    def weigh(self, losses: Tensor, gradients: Tensor | None = None) -> Tensor:  # noqa: ARG002 - as for all balancers
        """Return the weights of the tasks, ``(T,)``; gradients are not needed."""
        return self.weigh_losses(losses)

    @abstractmethod
    def weigh_losses(self, losses: Tensor) -> Tensor:
        """Return the weights of the tasks, ``(T,)``, finite and without a graph.

        Args:
            losses: ``(T,)``, detached, the same in all processes.
        """


class DrawingBalancer(Balancer):
    """A balancer that draws at random, by a generator of its own: no other draw shifts it, and processes draw alike.

    Args:
        num_tasks: T.
        seed: of the draws; None: that of ``torch.manual_seed``, which must be the same in all processes.
    """

    def __init__(self, num_tasks: int, *, seed: Seed | None = None) -> None:
        super().__init__(num_tasks)
        self.generator = torch.Generator().manual_seed(torch.initial_seed() if seed is None else seed)

    def get_extra_state(self) -> dict[str, Any]:
        """Return the state of the generator."""
        return {"generator": self.generator.get_state()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on from a state of the generator."""
        self.generator.set_state(state["generator"].cpu())


def refuse_negative(name: str, losses: Tensor) -> None:
    """Refuse losses below 0, of which a method has no logarithm, root or rate.

    Raises:
        TrainingError: if there is one.
    """
    if bool((losses < 0).any()):
        values = ", ".join(f"{value:.4g}" for value in losses.tolist())
        raise TrainingError(f"training.balancer '{name}' needs losses of 0 or more, but the tasks' losses are {values}")


def needed(gradients: Tensor | None) -> Tensor:
    """Return the gradients.

    Raises:
        ValueError: if there are none.
    """
    if gradients is None:
        raise ValueError("this balancer needs the gradients of the shared parameters")
    return gradients
