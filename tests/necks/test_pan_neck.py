from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.ops import FeaturePyramidNetwork

from mtvision.necks import FPN, PAN
from mtvision.types import FeatureInfo

INFO = [FeatureInfo(4, 4), FeatureInfo(6, 8), FeatureInfo(8, 16), FeatureInfo(10, 32)]


def features_of(height, width, ceil=True, info=INFO):
    torch.manual_seed(0)
    return [
        torch.randn(2, i.channels, *(-(-side // i.stride) if ceil else side // i.stride for side in (height, width)))
        for i in info
    ]


def levels_of_torchvision(neck, features):
    """The FPN part of a neck, by torchvision."""
    oracle = FeaturePyramidNetwork([convolution.in_channels for convolution in neck.laterals], 16)
    for level, (lateral, output) in enumerate(zip(neck.laterals, neck.outputs, strict=True)):
        oracle.inner_blocks[level][0].load_state_dict(lateral.state_dict())
        oracle.layer_blocks[level][0].load_state_dict(output.state_dict())
    selected = [features[index] for index in neck.indices]
    return list(oracle(OrderedDict((str(i), feature) for i, feature in enumerate(selected))).values())


@pytest.mark.parametrize("ceil", [True, False])
@pytest.mark.parametrize("size", [(64, 64), (65, 97), (120, 104)])
def test_equals_the_papers_equation_on_top_of_torchvisions_fpn(size, ceil):
    neck = PAN(INFO, channels=16, strides=(4, 8, 16, 32))
    features = features_of(*size, ceil=ceil)
    n = levels_of_torchvision(neck, features)
    for i in range(3):
        (down, _), (fuse, _) = neck.downsamplings[i], neck.fusions[i]
        height, width = n[i + 1].shape[-2:]
        halved = F.conv2d(F.pad(n[i], (1, 1, 1, 1)), down.weight, down.bias)[..., ::2, ::2].clamp(min=0)
        total = halved[..., :height, :width] + n[i + 1]  # convnext's features are rounded down, the convolution's up
        n[i + 1] = F.conv2d(total, fuse.weight, fuse.bias, padding=1).clamp(min=0)
    for ours, theirs in zip(neck(features), n, strict=True):
        torch.testing.assert_close(ours, theirs)


@torch.no_grad()
def test_is_an_fpn_where_the_second_path_is_cut():
    neck = PAN(INFO, channels=16)
    for downsampling, fusion in zip(neck.downsamplings, neck.fusions, strict=True):
        for parameter in downsampling.parameters():
            parameter.zero_()
        nn.init.dirac_(fusion[0].weight)
        fusion[0].bias.zero_()
    features = features_of(65, 97)
    finest, *coarser = levels_of_torchvision(neck, features)
    for ours, theirs in zip(neck(features), [finest, *(level.relu() for level in coarser)], strict=True):
        torch.testing.assert_close(ours, theirs)


def test_fine_features_reach_coarse_levels_by_the_second_path_only():
    fine, *coarse = features_of(64, 64, info=INFO[1:])
    for kind, reaches in ((FPN, False), (PAN, True)):
        neck = kind(INFO[1:], channels=16)
        before, after = neck([fine, *coarse]), neck([fine + 1, *coarse])
        assert [not a.equal(b) for a, b in zip(before, after, strict=True)] == [True, reaches, reaches]


def test_extra_levels_come_from_the_coarsest_output():
    neck = PAN(INFO, channels=16, extra_levels=2)
    *_, n5, p6, p7 = neck(features_of(65, 97))
    assert [info.stride for info in neck.feature_info] == [8, 16, 32, 64, 128]
    torch.testing.assert_close(p6, neck.extra[0](n5))
    torch.testing.assert_close(p7, neck.extra[1][1](p6.clamp(min=0)))


@settings(deadline=None, max_examples=20)
@given(
    size=st.tuples(st.integers(64, 200), st.integers(64, 200)),
    strides=st.sets(st.sampled_from([4, 8, 16, 32]), min_size=1),
    ceil=st.booleans(),
)
def test_levels_have_the_sizes_of_the_features_for_any_choice_of_strides(size, strides, ceil):
    features = features_of(*size, ceil=ceil)
    neck = PAN(INFO, channels=2, strides=tuple(strides))
    expected = [feature.shape[-2:] for feature, i in zip(features, INFO, strict=True) if i.stride in strides]
    assert [level.shape[-2:] for level in neck(features)] == expected
