"""EfficientDet's bidirectional feature pyramid."""

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from mtvision.errors import ConfigError
from mtvision.necks.base import Neck
from mtvision.necks.levels import (
    Channels,
    Strides,
    choose_strides,
    extend_strides,
    level_ratios,
    resize_like,
    select_levels,
)
from mtvision.registries import NECKS
from mtvision.types import FeatureInfo

_WHO = "neck 'bifpn'"
_EPSILON = 1e-4
_NORM_EPSILON = 1e-3


class FastFusion(nn.Module):
    """Fast normalized fusion: a mean with learned weights (Tan et al. 2020, arXiv 1911.09070, section 3.3).

    ``sum_i(w_i x_i) / (sum_i(w_i) + 0.0001)`` with ``w = relu(weights)``, which start at 1.

    Args:
        num_inputs: how many maps of one shape are fused.

    Example:
        >>> FastFusion(2)([torch.tensor([0.0, 2.0]), torch.tensor([2.0, 4.0])]).round(decimals=3)
        tensor([1., 3.], grad_fn=<RoundBackward1>)
    """

    def __init__(self, num_inputs: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(num_inputs))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Fuse maps ``(N, K, H, W)`` into one."""
        # Not a module: the model's activation takes the place of modules, and a weight must not be negative.
        weights = F.relu(self.weights)
        shares = weights / (weights.sum() + _EPSILON)
        fused = shares[0] * maps[0]
        for share, other in zip(shares[1:], maps[1:], strict=True):
            fused = fused + share * other
        return fused


class BiFPNLayer(nn.Module):
    """One pass from coarse to fine and back (Tan et al. 2020, arXiv 1911.09070, figure 2d).

    A node fuses its level with what the neighbour sends, followed by activation, separable 3 x 3 convolution and batch
    norm. Coming from below, inner levels also fuse what they were on the way down.

    Args:
        channels: K of every level.
        ratios: how many times coarser each level is than the one before it; one fewer than levels.

    Example:
        >>> levels = [torch.zeros(1, 16, size, size) for size in (9, 5, 3)]
        >>> [level.shape[-1] for level in BiFPNLayer(16, [2, 2])(levels, levels[1:])]
        [9, 5, 3]
    """

    def __init__(self, channels: int, ratios: Sequence[int]) -> None:
        super().__init__()
        self.top_down = nn.ModuleList(_Node(channels, 2) for _ in ratios)
        inner = len(ratios) - 1
        self.bottom_up = nn.ModuleList(_Node(channels, 3 if level < inner else 2) for level in range(inner + 1))
        self.pools = nn.ModuleList(_max_pool(ratio) for ratio in ratios)

    def forward(self, levels: Sequence[Tensor], skips: Sequence[Tensor]) -> list[Tensor]:
        """Return new levels of the same shapes.

        Args:
            levels: ``(N, channels, H, W)``, finest first.
            skips: what the way up fuses of each level but the finest: ``levels[1:]``, or other maps of their sizes.
        """
        down = list(levels)
        for i in range(len(down) - 2, -1, -1):
            down[i] = self.top_down[i]([levels[i], resize_like(down[i + 1], levels[i])])
        up = [down[0]]
        for i, (node, pool, skip) in enumerate(zip(self.bottom_up, self.pools, skips, strict=True), start=1):
            on_the_way_down = down[i : i + 1] if i < len(down) - 1 else []
            up.append(node([skip, *on_the_way_down, resize_like(pool(up[-1]), skip)]))
        return up


@NECKS.register("bifpn")
class BiFPN(Neck):
    """Bidirectional feature pyramid with weighted fusion (Tan et al. 2020, arXiv 1911.09070).

    The first layer takes each feature through a 1 x 1 convolution and batch norm for each node that it goes to, as the
    authors' code does. Maps grow by nearest neighbour and shrink by max pooling. The defaults are those of
    EfficientDet-D0 but for the extra levels. Batch norms follow with PyTorch's momentum of 0.1: the paper's 0.01 is for
    300 epochs. Pooling pads both sides alike, where TensorFlow's pads maps of even size on one.

    Args:
        feature_info: of the backbone.
        channels: K of every level.
        num_layers: how many times features flow down and up.
        strides: of the levels; None: those of 8, 16 and 32 that the backbone has.
        extra_levels: levels of twice, 4 and 8 times the coarsest stride by max pooling; 2 make the paper's P6 and P7,
            3 those of D7x. In training a level must have more than one cell in the whole batch.

    Raises:
        ConfigError: if there are fewer than two levels, if the backbone lacks a stride that was asked for, or has none
            of 8, 16 and 32, or if a stride is asked for twice.

    Example:
        >>> BiFPN([FeatureInfo(64, 8), FeatureInfo(128, 16)], extra_levels=1).feature_info[-1]
        FeatureInfo(channels=64, stride=32)
    """

    def __init__(
        self,
        feature_info: Sequence[FeatureInfo],
        *,
        channels: Channels = 64,
        num_layers: Annotated[int, Field(ge=1)] = 3,
        strides: Strides | None = None,
        extra_levels: Annotated[int, Field(ge=0, le=3)] = 0,
    ) -> None:
        super().__init__()
        chosen = choose_strides(feature_info, strides, _WHO)
        levels = select_levels(feature_info, chosen, _WHO)
        all_strides = extend_strides(chosen, extra_levels)
        if len(all_strides) < 2:
            present = ", ".join(str(stride) for stride in sorted({info.stride for info in feature_info}))
            raise ConfigError(
                [
                    f"{_WHO} needs at least 2 levels, but has only that of stride {chosen[0]}: the backbone has "
                    f"{present}; ask for more strides or extra_levels"
                ]
            )
        widths = [info.channels for info in levels.values()]
        self.indices = list(levels)
        self.laterals = nn.ModuleList(_projection(width, channels) for width in widths)
        self.skips = nn.ModuleList(_projection(width, channels) for width in widths[1:])
        self.extra = nn.ModuleList(_max_pool(2) for _ in range(extra_levels))
        if extra_levels:
            self.extra[0] = nn.Sequential(_projection(widths[-1], channels), _max_pool(2))
        self.layers = nn.ModuleList(BiFPNLayer(channels, level_ratios(all_strides)) for _ in range(num_layers))
        self.feature_info = tuple(FeatureInfo(channels, stride) for stride in all_strides)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return the levels ``(N, channels, H, W)``, finest first."""
        selected = [features[index] for index in self.indices]
        extra: list[Tensor] = []
        for layer in self.extra:
            extra.append(layer(extra[-1] if extra else selected[-1]))
        levels = [lateral(feature) for lateral, feature in zip(self.laterals, selected, strict=True)] + extra
        skips = [skip(feature) for skip, feature in zip(self.skips, selected[1:], strict=True)] + extra
        for layer in self.layers:
            levels = layer(levels, skips)
            skips = levels[1:]
        return levels


class _Node(nn.Sequential):
    """Fusion, activation, separable convolution and batch norm; a bias before the norm would have no effect."""

    def __init__(self, channels: int, num_inputs: int) -> None:
        super().__init__(
            FastFusion(num_inputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels, eps=_NORM_EPSILON),
        )


def _projection(in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, channels, 1, bias=False), nn.BatchNorm2d(channels, eps=_NORM_EPSILON))


def _max_pool(ratio: int) -> nn.MaxPool2d:
    return nn.MaxPool2d(ratio + 1, ratio, padding=ratio // 2)
