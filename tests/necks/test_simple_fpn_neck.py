import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.convnext import LayerNorm2d

from mtvision.errors import ConfigError
from mtvision.necks import SimpleFPN
from mtvision.necks.simple_fpn import ChannelNorm
from mtvision.registries import NECKS
from mtvision.types import FeatureInfo

VIT = [FeatureInfo(12, 16)] * 3


def randomized(neck):
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in neck.parameters():
            parameter.uniform_(-1, 1)
    return neck


def layer_norm(x, norm):
    return LayerNorm2d.forward(norm, x)


def doubled(x, deconvolution):
    """Each pixel becomes a square of 2 x 2 by a matrix for each corner."""
    squares = torch.einsum("nihw,ioab->nohawb", x, deconvolution.weight)
    return squares.flatten(4, 5).flatten(2, 3) + deconvolution.bias[:, None, None]


def by_hand(level, x, stride):
    *scaling, reduce, norm1, smooth, norm2 = level
    if stride == 4:
        first, norm, _, second = scaling
        x = doubled(F.gelu(layer_norm(doubled(x, first), norm)), second)
    elif stride == 8:
        x = doubled(x, *scaling)
    elif stride > 16:
        ratio = stride // 16
        rows, columns = (-side % ratio for side in x.shape[-2:])
        padded = F.pad(x, (0, columns, 0, rows), value=-torch.inf)
        x = padded.unflatten(3, (-1, ratio)).unflatten(2, (-1, ratio)).amax((3, 5))
    x = layer_norm(torch.einsum("nihw,oi->nohw", x, reduce.weight[..., 0, 0]), norm1)
    return layer_norm(F.conv2d(x, smooth.weight, padding=1), norm2)


@pytest.mark.parametrize("size", [(4, 4), (5, 7), (1, 1)])
@torch.no_grad()
def test_equals_vitdets_layers_one_by_one(size):
    strides = (4, 8, 16, 32, 64)
    neck = randomized(SimpleFPN(VIT, channels=10, strides=strides))
    features = [torch.randn(2, 12, *size) for _ in VIT]
    assert [info.stride for info in neck.feature_info] == list(strides)
    for ours, level, stride in zip(neck(features), neck.levels, strides, strict=True):
        torch.testing.assert_close(ours, by_hand(level, features[-1], stride), rtol=1e-4, atol=1e-4)
        assert ours.shape[-2:] == tuple(-(-side * 16 // stride) for side in size)


@torch.no_grad()
def test_norm_equals_torchvisions():
    ours, theirs = ChannelNorm(6), LayerNorm2d(6, eps=1e-6)
    theirs.load_state_dict(randomized(ours).state_dict())
    x = torch.randn(2, 6, 5, 7)
    torch.testing.assert_close(ours(x), theirs(x))
    assert isinstance(ours, nn.LayerNorm)  # the init schemes know it by its class


def test_only_the_deepest_feature_of_the_stride_counts():
    info = [FeatureInfo(6, 8), FeatureInfo(8, 16), FeatureInfo(12, 16), FeatureInfo(20, 32)]
    neck = SimpleFPN(info, channels=4)
    level = neck([None, None, torch.randn(1, 12, 3, 3), None])
    assert [tuple(part.shape) for part in level] == [(1, 4, 6, 6), (1, 4, 3, 3), (1, 4, 2, 2)]


def test_channels_halve_as_maps_double():
    quarter, half, _, _ = SimpleFPN(VIT, channels=10, strides=(4, 8, 16, 32)).levels
    shapes = [tuple(layer.weight.shape[:2]) for layer in (quarter[0], quarter[3], half[0])]
    assert shapes == [(12, 6), (6, 3), (12, 6)]


@pytest.mark.parametrize(("stride", "expected"), [(16, [8, 16, 32]), (14, [7, 14, 28]), (8, [4, 8, 16]), (1, [1, 2])])
def test_default_levels_lie_around_the_feature(stride, expected):
    neck = SimpleFPN([FeatureInfo(12, stride)], stride=stride)
    assert [tuple(info) for info in neck.feature_info] == [(128, level) for level in expected]


def test_what_cannot_be_made_is_a_sentence():
    with pytest.raises(
        ConfigError, match="makes levels of stride 4, 8, 16, 32, 64 from the feature of stride 16, not 2"
    ):
        SimpleFPN(VIT, strides=(2, 8))
    with pytest.raises(
        ConfigError, match="makes levels of stride 7, 14, 28, 56 from the feature of stride 14, not 8, 16"
    ):
        SimpleFPN([FeatureInfo(12, 14)], stride=14, strides=(8, 16))
    with pytest.raises(ConfigError, match=r"neck 'simple_fpn' needs features of stride 16, .* the features have 14"):
        NECKS.build("simple_fpn", [FeatureInfo(12, 14)])
