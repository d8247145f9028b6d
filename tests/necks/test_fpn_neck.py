from collections import OrderedDict

import pytest
import torch
from torch import nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from mtvision.activations import replace_activations
from mtvision.errors import ConfigError
from mtvision.necks.fpn import FPN
from mtvision.registries import NECKS
from mtvision.types import FeatureInfo

INFO = [FeatureInfo(4, 4), FeatureInfo(6, 8), FeatureInfo(8, 16), FeatureInfo(10, 32)]


def convolutions(modules):
    return [module for module in modules.modules() if isinstance(module, nn.Conv2d)]


def features_of(height, width, info=INFO):
    torch.manual_seed(0)
    return [torch.randn(2, i.channels, -(-height // i.stride), -(-width // i.stride)) for i in info]


@pytest.mark.parametrize("extra_levels", [0, 1, 2])
@pytest.mark.parametrize("size", [(64, 64), (65, 97)])
def test_equals_torchvisions_with_the_same_weights(size, extra_levels):
    neck = FPN(INFO, channels=16, extra_levels=extra_levels)
    oracle = FeaturePyramidNetwork([6, 8, 10], 16, LastLevelP6P7(16, 16))
    for level in range(3):
        oracle.inner_blocks[level][0].load_state_dict(neck.laterals[level].state_dict())
        oracle.layer_blocks[level][0].load_state_dict(neck.outputs[level].state_dict())
    for ours, theirs in zip(convolutions(neck.extra), (oracle.extra_blocks.p6, oracle.extra_blocks.p7), strict=False):
        theirs.load_state_dict(ours.state_dict())
    features = features_of(*size)
    expected = list(oracle(OrderedDict((str(i), feature) for i, feature in enumerate(features[1:]))).values())
    for ours, theirs in zip(neck(features), expected[: 3 + extra_levels], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_the_models_activation_takes_the_place_of_the_one_before_p7():
    neck = FPN(INFO, channels=16, extra_levels=2)
    features = features_of(64, 64)
    before = neck(features)
    assert replace_activations(neck, nn.Identity) == 1
    *same, linear = neck(features)
    assert all(ours.equal(theirs) for ours, theirs in zip(same, before[:-1], strict=True))
    torch.testing.assert_close(linear, convolutions(neck.extra)[1](before[-2]))
    assert not linear.equal(before[-1])


def test_extra_level_and_what_it_publishes():
    neck = NECKS.build("fpn", INFO)
    assert neck.feature_info == (FeatureInfo(128, 8), FeatureInfo(128, 16), FeatureInfo(128, 32))
    neck = FPN(INFO, channels=16, extra_levels=1)
    assert [info.stride for info in neck.feature_info] == [8, 16, 32, 64]
    for info, level in zip(neck.feature_info, neck(features_of(65, 97)), strict=True):
        assert level.shape == (2, 16, -(-65 // info.stride), -(-97 // info.stride))


def test_strides_are_selected_not_indexed():
    assert [info.stride for info in FPN([FeatureInfo(4, 16), FeatureInfo(6, 16)]).feature_info] == [16]
    assert [info.stride for info in FPN(INFO, strides=(16, 4)).feature_info] == [4, 16]


def test_missing_strides_are_an_error_that_says_what_there_is():
    with pytest.raises(ConfigError, match="needs features of stride 8, 16 or 32: the backbone has 2, 4"):
        FPN([FeatureInfo(4, 2), FeatureInfo(4, 4)])
    with pytest.raises(ConfigError, match="none of stride 64"):
        FPN(INFO, strides=(8, 64))
    with pytest.raises(ConfigError, match="neck 'fpn': a stride is asked for twice in 8, 16, 8"):
        FPN(INFO, strides=(8, 16, 8))
