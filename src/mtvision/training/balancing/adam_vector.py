"""Adam for a few numbers that are no parameters of the network."""

import math

import torch
from torch import Tensor, nn

_DECAYS = (0.9, 0.999)
_SMALLEST = 1e-8


class AdamVector(nn.Module):
    """A vector that Adam moves, with all state in buffers (Kingma and Ba 2015, arXiv 1412.6980).

    It is no parameter, so the loop's optimizer leaves it alone. ``torch.optim.Adam`` does the same, but its state is
    not part of a module's, does not follow it to another device, and counting there waits for the GPU.

    Args:
        value: the first value, ``(T,)``.
        lr: learning rate.
        weight_decay: is added, times the value, to the gradient.

    Example:
        >>> vector = AdamVector(torch.zeros(2), lr=0.1)
        >>> vector.step(torch.tensor([5.0, -1.0]), torch.tensor([True, True]))
        >>> vector.value
        tensor([-0.1000,  0.1000])
    """

    value: Tensor
    mean: Tensor
    square: Tensor
    steps: Tensor

    def __init__(self, value: Tensor, lr: float, weight_decay: float = 0.0) -> None:
        super().__init__()
        self.lr, self.weight_decay = lr, weight_decay
        self.register_buffer("value", value.clone())
        for name in ("mean", "square", "steps"):
            self.register_buffer(name, torch.zeros_like(value))

    def step(self, gradient: Tensor, moves: Tensor) -> None:
        """Take one step down the gradient in those entries that move; the others, with all of their state, stay.

        Args:
            gradient: ``(T,)``.
            moves: bool ``(T,)``.
        """
        gradient = gradient + self.weight_decay * self.value
        steps = self.steps + 1
        mean = self.mean.lerp(gradient, 1 - _DECAYS[0])
        square = self.square.lerp(gradient.square(), 1 - _DECAYS[1])
        unbiased = mean / _known_share(_DECAYS[0], steps)
        root = (square / _known_share(_DECAYS[1], steps)).sqrt() + _SMALLEST
        self.value = torch.where(moves, self.value - self.lr * unbiased / root, self.value)
        self.mean, self.square = torch.where(moves, mean, self.mean), torch.where(moves, square, self.square)
        self.steps = torch.where(moves, steps, self.steps)


def _known_share(decay: float, steps: Tensor) -> Tensor:
    """Return ``1 - decay^steps`` without the cancellation that float32 would bring."""
    return -torch.expm1(steps * math.log(decay))
