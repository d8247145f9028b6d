"""Compilation of what a training step computes: the network, and what the losses of its tasks are made of."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from mtvision.model import MultiTaskModel


class CompiledFunction:
    """A function that is compiled when it is first called, with the attributes of the plain one.

    Example:
        >>> def double(x):
        ...     return 2 * x
        >>> double.soft = True
        >>> CompiledFunction(double).soft
        True
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._plain = function
        self._compiled: Callable[..., Any] = torch.compile(lambda *arguments: function(*arguments))

    def __call__(self, *arguments: Any) -> Any:
        """Return what the plain one returns."""
        return self._compiled(*arguments)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the plain one."""
        return getattr(self.__dict__["_plain"], name)


@contextmanager
def compiled_losses(model: MultiTaskModel, enabled: bool) -> Iterator[None]:
    """Have the `compilable` functions of all tasks compiled, where ``enabled``; the plain ones come back.

    A network has few large kernels to launch, a detection loss hundreds of small ones: on a GPU it takes longer to
    launch them than to compute them.
    """
    plain: list[tuple[Any, str, Any]] = []
    if enabled:
        tasks = [model.task(name) for name in model.tasks]
        plain = [(task, name, getattr(task, name)) for task in tasks for name in task.compilable]
    for task, name, function in plain:
        setattr(task, name, CompiledFunction(function))
    try:
        yield
    finally:
        for task, name, function in plain:
            setattr(task, name, function)
