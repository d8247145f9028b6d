"""What necks share: the choice of levels, and steps from one level to another."""

import itertools
from collections.abc import Sequence
from typing import Annotated, TypeAlias

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from mtvision.errors import ConfigError
from mtvision.layers.features import select_strides
from mtvision.types import FeatureInfo

Channels: TypeAlias = Annotated[int, Field(ge=1)]
Strides: TypeAlias = Annotated[tuple[int, ...], Field(min_length=1)]

_STRIDES = (8, 16, 32)


def choose_strides(feature_info: Sequence[FeatureInfo], strides: Sequence[int] | None, who: str) -> list[int]:
    """Return the strides of a neck's levels, finest first.

    Args:
        feature_info: of the backbone.
        strides: those asked for, in any order; None: those of 8, 16 and 32 that the backbone has.
        who: what needs them, for messages: ``"neck 'fpn'"``.

    Raises:
        ConfigError: if a stride is asked for twice, or if none is and the backbone has none of 8, 16 and 32.

    Example:
        >>> choose_strides([FeatureInfo(64, 4), FeatureInfo(128, 8), FeatureInfo(256, 16)], None, "the example")
        [8, 16]
    """
    if strides is not None:
        if len(set(strides)) < len(strides):
            raise ConfigError([f"{who}: a stride is asked for twice in {', '.join(map(str, strides))}"])
        return sorted(strides)
    present = {info.stride for info in feature_info}
    chosen = [stride for stride in _STRIDES if stride in present]
    if not chosen:
        listed = ", ".join(map(str, sorted(present))) or "none"
        raise ConfigError([f"{who} needs features of stride 8, 16 or 32: the backbone has {listed}"])
    return chosen


def select_levels(feature_info: Sequence[FeatureInfo], strides: Sequence[int], who: str) -> dict[int, FeatureInfo]:
    """Return the features of some strides by their index, in the order of the strides.

    Args:
        feature_info: of the backbone.
        strides: those wanted.
        who: what needs them, for messages.

    Raises:
        ConfigError: if the backbone lacks one; see `select_strides`.

    Example:
        >>> select_levels([FeatureInfo(64, 4), FeatureInfo(128, 8)], [8], "the example")
        {1: FeatureInfo(channels=128, stride=8)}
    """
    return {index: feature_info[index] for index in select_strides(feature_info, strides, who)}


def extend_strides(strides: Sequence[int], extra_levels: int) -> list[int]:
    """Return the strides followed by those of extra levels, each twice the one before it.

    Example:
        >>> extend_strides([8, 16], 2)
        [8, 16, 32, 64]
    """
    return [*strides, *(strides[-1] * 2**level for level in range(1, extra_levels + 1))]


def level_ratios(strides: Sequence[int]) -> list[int]:
    """Return how many times coarser each level is than the one before it: 2 each, where no stride is left out.

    Example:
        >>> level_ratios([4, 8, 32])
        [2, 4]
    """
    return [-(-coarser // finer) for finer, coarser in itertools.pairwise(strides)]


def resize_like(x: Tensor, partner: Tensor) -> Tensor:
    """Resize ``(N, K, h, w)`` to the height and width of ``partner``, nearest neighbour.

    Between neighbouring levels it doubles, or drops the last row or column where a backbone rounds sizes down and the
    convolution up; it does nothing where the sizes agree.

    Example:
        >>> import torch
        >>> resize_like(torch.tensor([[[[1.0, 2.0]]]]), torch.zeros(1, 1, 1, 3))
        tensor([[[[1., 1., 2.]]]])
    """
    return F.interpolate(x, size=partner.shape[-2:], mode="nearest")
