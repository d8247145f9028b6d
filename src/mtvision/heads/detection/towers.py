"""What heads with towers share: convolutions for classes and for boxes, with the same weights at all levels."""

import itertools
import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mtvision.errors import ConfigError
from mtvision.heads.detection.base import DetectionHead, DetectionMaps
from mtvision.layers.blocks import make_norm
from mtvision.layers.features import select_strides
from mtvision.ops.points import grid_points
from mtvision.types import FeatureInfo

_MOST_GROUPS, _CHANNELS_PER_GROUP = 32, 8
_PREDICTOR_STD = 0.01
_INITIAL_DISTANCE = 2.0
"""Strides from a point to each edge before training: boxes of 4 strides, 32 to 128 pixels, overlap usual objects."""


class Levels(NamedTuple):
    """The features that a head predicts at, finest first.

    Attributes:
        indices: of the features among those it is given.
        strides: of each, in pixels of the input.
        channels: K, of all of them.
    """

    indices: tuple[int, ...]
    strides: tuple[int, ...]
    channels: int


class TowerOptions(NamedTuple):
    """How the towers of a head are built.

    Attributes:
        channels: K of their convolutions; None: that of the features.
        num_convs: in each of the two.
        norm: of K channels, after each convolution; None: none.
        bias: whether the convolutions have one.
    """

    channels: int | None
    num_convs: int
    norm: Callable[[int], nn.Module] | None
    bias: bool


def shared_levels(feature_info: Sequence[FeatureInfo], who: str) -> Levels:
    """Return one level a stride, finest first: the last (deepest) feature where several share a stride.

    Args:
        feature_info: of the backbone or neck.
        who: what needs them, for the message: ``"detection head 'fpn'"``.

    Raises:
        ConfigError: if the levels have not all the same channels.

    Example:
        >>> shared_levels([FeatureInfo(64, 8), FeatureInfo(64, 16)], "the example")
        Levels(indices=(0, 1), strides=(8, 16), channels=64)
    """
    strides = sorted({info.stride for info in feature_info})
    indices = select_strides(feature_info, strides, who)
    widths = [feature_info[index].channels for index in indices]
    if len(set(widths)) > 1:
        raise ConfigError(
            [
                f"{who} shares its towers between levels and needs features of one width, got "
                f"{', '.join(map(str, widths))}: choose a neck such as 'fpn'"
            ]
        )
    return Levels(tuple(indices), tuple(strides), widths[0])


def group_norm(channels: int) -> nn.GroupNorm:
    """Return the group norm of RetinaNet's and FCOS's towers (Wu & He 2018, arXiv 1803.08494).

    It has 32 groups, as at the 256 channels of both papers; narrower towers have fewer, of 8 channels or more: a group
    of one channel would make a level of one cell all zeros.

    Example:
        >>> group_norm(256).num_groups, group_norm(128).num_groups, group_norm(10).num_groups
        (32, 16, 1)
    """
    most = min(_MOST_GROUPS, max(channels // _CHANNELS_PER_GROUP, 1))
    return nn.GroupNorm(math.gcd(channels, most), channels)


def flatten_level(maps: Tensor, width: int) -> Tensor:
    """Return the predictions of a level, cell by cell and then anchor by anchor.

    Args:
        maps: ``(N, B * width, H, W)`` for B anchors a cell.
        width: values of one prediction: C, or 4.

    Returns:
        ``(N, H * W * B, width)``.

    Example:
        >>> flatten_level(torch.arange(8.0).reshape(1, 4, 1, 2), 2)
        tensor([[[0., 2.],
                 [4., 6.],
                 [1., 3.],
                 [5., 7.]]])
    """
    by_anchor: Tensor = maps.unflatten(1, (-1, width))  # (N, B, width, H, W)
    return by_anchor.permute(0, 3, 4, 1, 2).flatten(1, 3)


class TowerHead(DetectionHead):
    """Base of heads with a tower for classes and one for boxes (Lin et al. 2017, arXiv 1708.02002).

    A tower is a row of 3 x 3 convolutions. All levels share the weights. A head of this kind defines `predict_level`.

    Args:
        levels: see `shared_levels`.
        num_classes: C, without background.
        who: the head, for messages: ``"detection head 'fpn'"``.
        towers: how they are built.
        num_anchors: B, predictions a cell.
        dropout_rate: share of channels dropped before the class predictor in training.
        prior_probability: of a class at a point before training.

    Raises:
        ConfigError: if there are channels of the towers' own, but no convolutions.
    """

    def __init__(
        self,
        levels: Levels,
        num_classes: int,
        who: str,
        *,
        towers: TowerOptions,
        num_anchors: int = 1,
        dropout_rate: float = 0.0,
        prior_probability: float = 0.01,
    ) -> None:
        super().__init__()
        width = levels.channels if towers.channels is None else towers.channels
        if width != levels.channels and towers.num_convs == 0:
            raise ConfigError(
                [
                    f"{who}: without convolutions its predictors take the features' {levels.channels} channels, not "
                    f"{width}: leave 'channels' out, or set 'num_convs' to 1 or more"
                ]
            )
        self.levels = levels
        self.num_classes = num_classes
        self.width = width
        self.unnormalized = towers.norm is None
        self.prior_probability = prior_probability
        self.class_tower = _tower(levels.channels, width, towers)
        self.box_tower = _tower(levels.channels, width, towers)
        self.dropout = nn.Dropout2d(dropout_rate)
        self.class_predictor = nn.Conv2d(width, num_anchors * num_classes, 3, padding=1)
        self.box_predictor = nn.Conv2d(width, num_anchors * 4, 3, padding=1)
        self.reset_prior()

    def reset_prior(self) -> None:
        """Let every class start at ``prior_probability``: the bias is -log((1 - p) / p).

        Behind towers without norm the weights of both predictors are drawn from N(0, 0.01²), as in RetinaNet (Lin et
        al. 2017, section 4.1): an init scheme's would be so large that logits are anything but the bias, and boxes
        anything but the anchors. The towers themselves stay as the init scheme filled them, where the paper has 0.01
        too.
        """
        if self.unnormalized:
            for predictor in (self.class_predictor, self.box_predictor):
                nn.init.normal_(predictor.weight, std=_PREDICTOR_STD)
        bias = self.class_predictor.bias
        if bias is not None:
            prior = self.prior_probability
            nn.init.constant_(bias, -math.log((1 - prior) / prior))

    def forward(self, features: Sequence[Tensor]) -> DetectionMaps:
        """Return logits, regression and points of features ``(N, K, H, W)``, finest first."""
        maps = [self.predict_level(level, features[index]) for level, index in enumerate(self.levels.indices)]
        centerness = [part.centerness for part in maps if part.centerness is not None]
        return DetectionMaps(
            torch.cat([part.class_logits for part in maps], dim=1),
            torch.cat([part.box_regression for part in maps], dim=1),
            torch.cat([part.points for part in maps]),
            torch.cat(centerness, dim=1) if centerness else None,
        )

    @abstractmethod
    def predict_level(self, level: int, feature: Tensor) -> DetectionMaps:
        """Return what the head says of one level, by its position and its feature ``(N, K, H, W)``."""

    def class_logits(self, feature: Tensor) -> Tensor:
        """Return the class logits ``(N, H * W * B, C)`` of a feature."""
        return flatten_level(self.class_predictor(self.dropout(self.class_tower(feature))), self.num_classes)

    def grid(self, level: int, feature: Tensor, offset: float = 0.5) -> Tensor:
        """Return the points ``(H * W, 3)`` of a feature; see `grid_points`."""
        size = (feature.shape[-2], feature.shape[-1])
        return grid_points(size, self.levels.strides[level], feature.device, offset=offset)


class LightTowerHead(TowerHead):
    """Base of `fpn` and `single_scale`: distances before a softplus at the centres of the cells, group norm.

    Args:
        levels: see `shared_levels`.
        num_classes: C, without background.
        who: the head, for messages.
        channels: of the towers; None: those of the levels.
        num_convs: convolutions in each of the two towers.
        dropout_rate: share of channels dropped before the class predictor in training.
        prior_probability: of a class at a point before training.
    """

    def __init__(
        self,
        levels: Levels,
        num_classes: int,
        who: str,
        *,
        channels: int | None,
        num_convs: int,
        dropout_rate: float,
        prior_probability: float,
    ) -> None:
        super().__init__(
            levels,
            num_classes,
            who,
            towers=TowerOptions(channels, num_convs, norm=partial(make_norm, "group"), bias=False),
            dropout_rate=dropout_rate,
            prior_probability=prior_probability,
        )
        # Learnable for each level, as FCOS's scales are: shared towers see objects of one size in strides, about.
        initial = math.log(math.expm1(_INITIAL_DISTANCE))  # before the softplus
        self.level_shifts = nn.Parameter(torch.full((len(levels.strides),), initial))

    def predict_level(self, level: int, feature: Tensor) -> DetectionMaps:
        """Return logits, regression and points of one level."""
        regression = flatten_level(self.box_predictor(self.box_tower(feature)), 4) + self.level_shifts[level]
        return DetectionMaps(self.class_logits(feature), regression, self.grid(level, feature))


def _tower(in_channels: int, channels: int, options: TowerOptions) -> nn.Sequential:
    widths = [in_channels] + [channels] * options.num_convs
    return nn.Sequential(*(_block(*pair, options) for pair in itertools.pairwise(widths)))


def _block(in_channels: int, channels: int, options: TowerOptions) -> nn.Sequential:
    norms = [] if options.norm is None else [options.norm(channels)]
    convolution = nn.Conv2d(in_channels, channels, 3, padding=1, bias=options.bias)
    return nn.Sequential(convolution, *norms, nn.ReLU(inplace=True))
