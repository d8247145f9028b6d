"""A shared layer with a head a task, small enough to follow by hand, and what is common to the tests of balancers."""

import torch
from torch import nn

import mtvision.training.balancing  # noqa: F401 - the import fills the registry
from mtvision.registries import BALANCERS
from mtvision.registry import Component
from mtvision.training.balanced_backward import BalancedBackward

OF_LOSSES = ["dwa", "famo", "fixed", "geometric_mean", "imtl_l", "random", "uncertainty"]
OF_GRAMIAN = ["aligned_mtl", "cagrad", "mgda", "nash_mtl", "pcgrad", "upgrad"]
OF_GRADIENTS = sorted([*OF_GRAMIAN, "gradnorm"])
ALL = sorted(OF_LOSSES + OF_GRADIENTS)
SCALES = (1.0, 0.3, 4.0)


class Toy(nn.Module):
    """``tanh(W x)`` and a linear head a task; the losses differ in scale, and their gradients conflict."""

    def __init__(self, num_tasks=3, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.trunk = nn.Linear(4, 6)
        self.heads = nn.ModuleList(nn.Linear(6, 2) for _ in range(num_tasks))

    def features(self, inputs):
        return self.trunk(inputs).tanh()

    def losses(self, inputs, targets, features=None):
        features = self.features(inputs) if features is None else features
        return [
            scale * (head(features) - target).square().mean()
            for head, target, scale in zip(self.heads, targets, SCALES, strict=False)
        ]

    @property
    def shared(self):
        return list(self.trunk.parameters())

    @property
    def own(self):
        return list(self.heads.parameters())


def data(step, num_tasks=3, size=8):
    generator = torch.Generator().manual_seed(step)
    inputs = torch.randn(size, 4, generator=generator)
    return inputs, [torch.randn(size, 2, generator=generator) for _ in range(num_tasks)]


def build(name, num_tasks=3, **options):
    return BALANCERS.build(Component(name, options), num_tasks)


def names(number):
    return [f"task{index}" for index in range(number)]


def balanced(model, balancer, **options):
    return BalancedBackward(
        balancer, names(len(model.heads)), {}, model.shared, model.own, **{"backward": torch.Tensor.backward} | options
    )


def named(losses):
    return dict(zip(names(len(losses)), losses, strict=True))


def gradients(model):
    return [None if p.grad is None else p.grad.clone() for p in model.parameters()]


def step(model, balancing, optimizer, number, batches=1):
    """Do one optimizer step over a batch, whole or in equal parts, as the loop does it."""
    inputs, targets = data(number, len(model.heads))
    optimizer.zero_grad()
    for part in range(batches):
        losses = model.losses(inputs[part::batches], [target[part::batches] for target in targets])
        balancing.backward(named(losses), 1 / batches)
    balancing.finish()
    optimizer.step()
    if balancing.balancer.looks_after_step:
        with torch.no_grad():
            balancing.after_step(named(model.losses(inputs, targets)))


def scripted(balancer, numbers):
    """Return the weights in scripted steps; in every fourth one task is absent, every third ends an epoch."""
    found = []
    for number in numbers:
        generator = torch.Generator().manual_seed(number)
        losses = torch.rand(balancer.num_tasks, generator=generator) + 0.1
        rows = torch.randn(balancer.num_tasks, 4, generator=generator)  # few dimensions: they conflict
        if number % 4 == 3:
            losses[0] = rows[0] = 0
        found.append(balancer.weigh(losses, rows if balancer.on_gradients else None).clone())
        if balancer.own_loss(losses) is not None:
            balancer.zero_grad()
            balancer.own_loss(losses).backward()
            with torch.no_grad():
                for parameter in balancer.parameters():
                    parameter -= 0.1 * parameter.grad
        balancer.after_step(losses * torch.rand(balancer.num_tasks, generator=generator))
        if number % 3 == 2:
            balancer.end_epoch()
    return torch.stack(found)
