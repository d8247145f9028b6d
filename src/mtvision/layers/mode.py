"""Switching a module to evaluation for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Switch a module to evaluation without gradients, and leave each of its modules in the mode it was in.

    A frozen batch norm inside a model in training stays frozen afterwards, also after an exception.

    Example:
        >>> module = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
        >>> with evaluation_mode(module):
        ...     module[0].training
        False
        >>> [child.training for child in module]
        [True, False]
    """
    was_training = module.training
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(was_training)  # for a module whose own train() undoes what its eval() did
        for part, training in modes:
            part.training = training
