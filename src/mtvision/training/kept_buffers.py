"""Buffers of a model that can be put back."""

import torch
from torch import Tensor, nn


class KeptBuffers:
    """Copies of a model's buffers, such as the running statistics of batch norm, taken in a few launches.

    Args:
        model: whose buffers they are; ones that it gets or loses later are noticed.

    Example:
        >>> norm = nn.BatchNorm2d(2)
        >>> kept = KeptBuffers(norm)
        >>> kept.keep()
        >>> _ = norm(torch.rand(2, 2, 4, 4))
        >>> kept.put_back()
        >>> norm.running_mean
        tensor([0., 0.])
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._copies: list[Tensor] = []

    @torch.no_grad()
    def keep(self) -> None:
        """Copy the buffers as they are now."""
        buffers = list(self._model.buffers())
        alike = [(each.shape, each.dtype, each.device) for each in buffers]
        if alike != [(each.shape, each.dtype, each.device) for each in self._copies]:
            self._copies = [torch.empty_like(buffer) for buffer in buffers]
        _copy_all(self._copies, buffers)

    @torch.no_grad()
    def put_back(self) -> None:
        """Give the buffers the values that they had at the last `keep`."""
        _copy_all(list(self._model.buffers()), self._copies)


def _copy_all(targets: list[Tensor], sources: list[Tensor]) -> None:
    by_kind: dict[object, tuple[list[Tensor], list[Tensor]]] = {}
    for target, source in zip(targets, sources, strict=True):
        mine, theirs = by_kind.setdefault((target.dtype, target.device), ([], []))
        mine.append(target)
        theirs.append(source)
    for mine, theirs in by_kind.values():
        torch._foreach_copy_(mine, theirs)
