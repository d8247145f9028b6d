"""ViTDet's simple feature pyramid: all levels from one feature."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from mtvision.errors import ConfigError
from mtvision.necks.base import Neck
from mtvision.necks.levels import Channels, Strides, choose_strides, select_levels
from mtvision.registries import NECKS
from mtvision.types import FeatureInfo

_WHO = "neck 'simple_fpn'"
_NORM_EPSILON = 1e-6


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel of ``(N, K, H, W)`` (Ba et al. 2016, arXiv 1607.06450).

    Args:
        channels: K.

    Example:
        >>> import torch
        >>> ChannelNorm(2)(torch.tensor([1.0, 3.0]).view(1, 2, 1, 1)).flatten().detach()
        tensor([-1.0000,  1.0000])
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=_NORM_EPSILON)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of nn.LayerNorm
        """Normalise ``(N, K, H, W)``."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@NECKS.register("simple_fpn")
class SimpleFPN(Neck):
    """Simple feature pyramid: all levels from one feature, for plain ViTs (Li et al. 2022, arXiv 2203.16527).

    Finer levels by one or two transposed 2 x 2 convolutions, coarser ones by max pooling; then a 1 x 1 and a 3 x 3
    convolution, each with a layer norm over the channels. A level has 2 or 4 times the rows and columns of the feature,
    or half or a quarter of them, rounded up: where a backbone pads images to multiples of its stride, finer levels
    cover the padding too.

    Args:
        feature_info: of the backbone.
        channels: K of every level.
        stride: of the feature that all is made from; the last (deepest) one where several have it.
        strides: of the levels: a quarter of, half, once, twice or 4 times ``stride``; None: half, once and twice, that
            is 8, 16 and 32.

    Raises:
        ConfigError: if the backbone has no feature of ``stride``, or if a level cannot be made from it or is asked for
            twice.

    Example:
        >>> import torch
        >>> neck = SimpleFPN([FeatureInfo(64, 16), FeatureInfo(64, 16), FeatureInfo(64, 16)], channels=32)
        >>> [level.shape[-1] for level in neck([torch.zeros(1, 64, 5, 5)] * 3)]
        [10, 5, 3]
    """

    def __init__(
        self,
        feature_info: Sequence[FeatureInfo],
        *,
        channels: Channels = 128,
        stride: Annotated[int, Field(ge=1)] = 16,
        strides: Strides | None = None,
    ) -> None:
        super().__init__()
        [(self.index, source)] = select_levels(feature_info, [stride], _WHO).items()
        chosen = _level_strides(feature_info, stride, strides)
        self.levels = nn.ModuleList(_level(source, level, channels) for level in chosen)
        self.feature_info = tuple(FeatureInfo(channels, level) for level in chosen)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return the levels ``(N, channels, H, W)``, finest first."""
        return [level(features[self.index]) for level in self.levels]


def _level_strides(feature_info: Sequence[FeatureInfo], stride: int, strides: Sequence[int] | None) -> list[int]:
    possible = [stride // part for part in (4, 2) if stride % part == 0] + [stride, 2 * stride, 4 * stride]
    if strides is None:
        return [level for level in possible if stride <= 2 * level <= 4 * stride]
    chosen = choose_strides(feature_info, strides, _WHO)
    impossible = [level for level in chosen if level not in possible]
    if impossible:
        listed, wrong = (", ".join(map(str, some)) for some in (possible, impossible))
        raise ConfigError([f"{_WHO} makes levels of stride {listed} from the feature of stride {stride}, not {wrong}"])
    return chosen


def _level(source: FeatureInfo, stride: int, channels: int) -> nn.Sequential:
    scaling, width = _scaling(source, stride)
    return nn.Sequential(
        *scaling,
        nn.Conv2d(width, channels, 1, bias=False),
        ChannelNorm(channels),
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        ChannelNorm(channels),
    )


def _scaling(source: FeatureInfo, stride: int) -> tuple[list[nn.Module], int]:
    """Return the layers from one stride to another, and the channels that come out."""
    channels, half, quarter = source.channels, max(source.channels // 2, 1), max(source.channels // 4, 1)
    if stride == source.stride:
        return [], channels
    if stride > source.stride:
        ratio = stride // source.stride
        return [nn.MaxPool2d(ratio, ratio, ceil_mode=True)], channels
    doubled = nn.ConvTranspose2d(channels, half, 2, 2)
    if 2 * stride == source.stride:
        return [doubled], half
    return [doubled, ChannelNorm(half), nn.GELU(), nn.ConvTranspose2d(half, quarter, 2, 2)], quarter
