"""Feature pyramid network."""

from collections.abc import Sequence
from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from mtvision.errors import ConfigError
from mtvision.layers.features import select_strides
from mtvision.necks.base import Neck
from mtvision.registries import NECKS
from mtvision.types import FeatureInfo

_STRIDES = (8, 16, 32)


@NECKS.register("fpn")
class FPN(Neck):
    """Feature pyramid: coarse features flow down into fine ones (Lin et al. 2017, arXiv 1612.03144).

    Features of any size that belong together go in; out come as many of the same sizes, with ``channels`` each.

    Args:
        feature_info: of the backbone.
        channels: K of every level.
        strides: of the levels, finest first; None: those of 8, 16 and 32 that the backbone has.
        extra_levels: 1 adds a level of twice the coarsest stride by a convolution, for large objects in large images.

    Raises:
        ConfigError: if the backbone lacks a stride that was asked for, or has none of 8, 16 and 32.

    Example:
        >>> FPN([FeatureInfo(64, 8), FeatureInfo(128, 16)], channels=32).feature_info
        (FeatureInfo(channels=32, stride=8), FeatureInfo(channels=32, stride=16))
    """

    def __init__(
        self,
        feature_info: Sequence[FeatureInfo],
        *,
        channels: Annotated[int, Field(ge=1)] = 128,
        strides: Annotated[tuple[int, ...], Field(min_length=1)] | None = None,
        extra_levels: Annotated[int, Field(ge=0, le=1)] = 0,
    ) -> None:
        super().__init__()
        chosen = sorted(strides) if strides is not None else _available_strides(feature_info)
        self.indices = select_strides(feature_info, chosen, "neck 'fpn'")
        self.laterals = nn.ModuleList(nn.Conv2d(feature_info[index].channels, channels, 1) for index in self.indices)
        self.outputs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in self.indices)
        self.extra = nn.ModuleList(nn.Conv2d(channels, channels, 3, 2, padding=1) for _ in range(extra_levels))
        extra_strides = [chosen[-1] * 2 ** (level + 1) for level in range(extra_levels)]
        self.feature_info = tuple(FeatureInfo(channels, stride) for stride in [*chosen, *extra_strides])

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return the levels ``(N, channels, H, W)``, finest first."""
        selected = [features[index] for index in self.indices]
        merged = [lateral(feature) for lateral, feature in zip(self.laterals, selected, strict=True)]
        for level in range(len(merged) - 1, 0, -1):
            finer = merged[level - 1]
            merged[level - 1] = finer + F.interpolate(merged[level], size=finer.shape[-2:], mode="nearest")
        levels = [output(level) for output, level in zip(self.outputs, merged, strict=True)]
        for convolution in self.extra:
            levels.append(convolution(levels[-1]))
        return levels


def _available_strides(feature_info: Sequence[FeatureInfo]) -> list[int]:
    present = {info.stride for info in feature_info}
    strides = [stride for stride in _STRIDES if stride in present]
    if not strides:
        listed = ", ".join(map(str, sorted(present))) or "none"
        raise ConfigError([f"neck 'fpn' needs features of stride 8, 16 or 32: the backbone has {listed}"])
    return strides
