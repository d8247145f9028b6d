"""Blocks that let a pixel see its surroundings: dilated convolutions and pooled maps."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtvision.layers.blocks import ConvNormAct, make_norm
from mtvision.layers.resize import resize_to


class DilatedConvNormAct(nn.Sequential):
    """A 3 x 3 `ConvNormAct` with holes (Chen et al. 2017, arXiv 1706.05587).

    ``(N, K, H, W)`` to ``(N, out_channels, H, W)``.

    Args:
        in_channels: K of the input.
        out_channels: K of the output.
        dilation: distance of neighbouring weights, in cells of the map.
        groups: of the convolution; ``in_channels`` makes it depthwise.

    Example:
        >>> DilatedConvNormAct(3, 8, dilation=12)(torch.zeros(1, 3, 5, 7)).shape
        torch.Size([1, 8, 5, 7])
    """

    def __init__(self, in_channels: int, out_channels: int, dilation: int, *, groups: int = 1) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation, groups=groups, bias=False),
            make_norm("batch", out_channels),
            nn.ReLU(inplace=True),
        )


class SeparableConvNormAct(nn.Sequential):
    """A separable 3 x 3 convolution (Chen et al. 2018, arXiv 1802.02611).

    One 3 x 3 convolution a channel, then a 1 x 1 convolution, each with norm and ReLU, as the authors' code has it.
    ``(N, K, H, W)`` to ``(N, out_channels, H, W)``.

    Args:
        in_channels: K of the input.
        out_channels: K of the output.
        dilation: of the 3 x 3 convolution, in cells of the map.

    Example:
        >>> SeparableConvNormAct(3, 8)(torch.zeros(1, 3, 5, 7)).shape
        torch.Size([1, 8, 5, 7])
    """

    def __init__(self, in_channels: int, out_channels: int, dilation: int = 1) -> None:
        super().__init__(
            DilatedConvNormAct(in_channels, in_channels, dilation, groups=in_channels),
            ConvNormAct(in_channels, out_channels, 1),
        )


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling with the image's mean (Chen et al. 2017, arXiv 1706.05587).

    A 1 x 1 convolution, one 3 x 3 convolution a dilation and a 1 x 1 convolution of the image's mean, side by side; a
    1 x 1 convolution joins them. ``(N, K, H, W)`` to ``(N, channels, H, W)``. The mean is one value a channel and
    image: in training its batch norm needs two images at least, as in the paper's and torchvision's implementations.

    Args:
        in_channels: K of the input.
        channels: of each branch and of the output.
        dilations: of the 3 x 3 convolutions, in cells of the map.
        separable: whether the 3 x 3 convolutions are separable (Chen et al. 2018, arXiv 1802.02611).

    Example:
        >>> ASPP(3, 8, dilations=(6, 12, 18)).eval()(torch.zeros(1, 3, 5, 7)).shape
        torch.Size([1, 8, 5, 7])
    """

    def __init__(self, in_channels: int, channels: int, dilations: Sequence[int], *, separable: bool = False) -> None:
        super().__init__()
        block = SeparableConvNormAct if separable else DilatedConvNormAct
        self.branches = nn.ModuleList([ConvNormAct(in_channels, channels, 1)])
        self.branches.extend(block(in_channels, channels, dilation) for dilation in dilations)
        self.image = ConvNormAct(in_channels, channels, 1)
        self.project = ConvNormAct((len(dilations) + 2) * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, K, H, W)`` to ``(N, channels, H, W)``."""
        image = self.image(x.mean(dim=(2, 3), keepdim=True)).expand(-1, -1, *x.shape[-2:])
        joined: Tensor = self.project(torch.cat([*(branch(x) for branch in self.branches), image], dim=1))
        return joined


class PyramidPooling(nn.Module):
    """The map beside its means over coarser and coarser grids (Zhao et al. 2017, arXiv 1612.01105).

    ``(N, K, H, W)`` to ``(N, K + len(bins) * channels, H, W)``. A grid of one bin is one value a channel and image: in
    training its batch norm needs two images at least, as in the paper's implementation.

    Args:
        in_channels: K of the input.
        channels: to which a 1 x 1 convolution takes each grid.
        bins: rows, and columns, of each grid.

    Example:
        >>> PyramidPooling(3, 2, bins=(1, 2)).eval()(torch.zeros(1, 3, 5, 7)).shape
        torch.Size([1, 7, 5, 7])
    """

    def __init__(self, in_channels: int, channels: int, bins: Sequence[int] = (1, 2, 3, 6)) -> None:
        super().__init__()
        self.bins = tuple(bins)
        self.branches = nn.ModuleList(ConvNormAct(in_channels, channels, 1) for _ in self.bins)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, K, H, W)`` to ``(N, K + len(bins) * channels, H, W)``."""
        grids = [branch(mean_grid(x, bins)) for branch, bins in zip(self.branches, self.bins, strict=True)]
        return torch.cat([x, *(resize_to(grid, x.shape[-2:]) for grid in grids)], dim=1)


def mean_grid(x: Tensor, bins: int) -> Tensor:
    """Return the means of ``(N, K, H, W)`` over a grid, ``(N, K, bins, bins)``; neighbours share a row that both cut.

    The same as ``torch.nn.functional.adaptive_avg_pool2d``, as two matrix products: those export to ONNX at any height
    and width, where adaptive pooling does so for one bin only, and their gradient on a GPU is deterministic.

    Example:
        >>> mean_grid(torch.arange(6.0).view(1, 1, 2, 3), 2)
        tensor([[[[0.5000, 1.5000],
                  [3.5000, 4.5000]]]])
    """
    rows, columns = (_bin_weights(size, bins, x) for size in x.shape[-2:])
    return rows @ (x @ columns.mT)


def _bin_weights(size: int, bins: int, like: Tensor) -> Tensor:
    """Return ``(bins, size)``: bin b is the mean of cells floor(b size / bins) to ceil((b + 1) size / bins) - 1."""
    bin_index = torch.arange(bins, device=like.device)[:, None]
    cell = torch.arange(size, device=like.device)
    first = bin_index * size // bins
    end = ((bin_index + 1) * size + bins - 1) // bins
    inside = (cell >= first) & (cell < end)
    return inside.to(like.dtype) / (end - first).to(like.dtype)
