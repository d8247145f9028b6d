"""What a machine can do at best: products of matrices, and 3 x 3 convolutions forward and backward."""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

_SIDE = {"cpu": 2048, "cuda": 8192}
_MAPS = {"cpu": (8, 128, 64), "cuda": (64, 256, 64)}
"""Of the convolution: images, channels, and the side of the maps."""


def ceilings(device: torch.device, dtype: torch.dtype, repeats: int = 9) -> dict[str, float]:
    """Return operations a second, in 10⁹ (a multiply-add is two), of the two kinds of work that networks consist of."""
    side = _SIDE[device.type]
    matrix = torch.randn(side, side, device=device, dtype=dtype)
    images, channels, maps = _MAPS[device.type]
    convolution = nn.Conv2d(channels, channels, 3, padding=1, bias=False).to(device, dtype)
    convolution = convolution.to(memory_format=torch.channels_last)
    features = torch.randn(images, channels, maps, maps, device=device, dtype=dtype)
    features = features.to(memory_format=torch.channels_last).requires_grad_()
    return {
        "matrix product": _speed(lambda: matrix @ matrix, device, repeats),
        "3 x 3 convolution, forward and backward": _speed(
            lambda: _there_and_back(convolution, features), device, repeats
        ),
    }


def operations(work: Callable[[], object]) -> float:
    """Return the operations of convolutions and matrix products in some work, backward passes included, in 10⁹."""
    with FlopCounterMode(display=False) as counter:
        work()
    total: int = counter.get_total_flops()
    return total / 1e9


def _there_and_back(convolution: nn.Module, features: Tensor) -> None:
    maps: Tensor = convolution(features)
    maps.backward(torch.ones_like(maps))


def _speed(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    amount, seconds = operations(work), []
    for _ in range(repeats):
        _finish(device)
        began = time.perf_counter()
        work()
        _finish(device)
        seconds.append(time.perf_counter() - began)
    return amount / min(seconds)  # at best: what else the machine did meanwhile is no limit


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
