import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mtvision.activations import replace_activations
from mtvision.errors import ConfigError
from mtvision.necks import BiFPN
from mtvision.necks.bifpn import BiFPNLayer, FastFusion
from mtvision.registries import NECKS
from mtvision.registry import Component
from mtvision.types import FeatureInfo

INFO = [FeatureInfo(4, 4), FeatureInfo(6, 8), FeatureInfo(8, 16), FeatureInfo(10, 32)]
K = 8


def features_of(height, width, ceil=True, info=INFO):
    torch.manual_seed(0)
    return [
        torch.randn(2, i.channels, *(-(-side // i.stride) if ceil else side // i.stride for side in (height, width)))
        for i in info
    ]


def randomized(module):
    """Give norms, statistics and fusion weights values that are not the neutral ones they start with."""
    torch.manual_seed(1)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                for tensor in (part.weight, part.bias, part.running_mean, part.running_var):
                    tensor.uniform_(0.5, 1.5)
            if isinstance(part, FastFusion):
                part.weights.uniform_(-0.5, 2)
    return module.eval()


def norm_by_hand(x, norm):
    scale = norm.weight / (norm.running_var + 1e-3).sqrt()
    return (x - norm.running_mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]


def projected(feature, projection):
    convolution, norm = projection
    return norm_by_hand(torch.einsum("nihw,oi->nohw", feature, convolution.weight[..., 0, 0]), norm)


def node_by_hand(node, inputs):
    fusion, _, depthwise, pointwise, norm = node
    weights = fusion.weights.clamp(min=0)
    fused = sum(weight * x for weight, x in zip(weights, inputs, strict=True)) / (weights.sum() + 1e-4)
    spread = F.conv2d(fused.clamp(min=0), depthwise.weight, padding=1, groups=K)
    return norm_by_hand(torch.einsum("nihw,oi->nohw", spread, pointwise.weight[..., 0, 0]), norm)


def up(x, partner):
    rows, columns = (torch.arange(n) * small // n for n, small in zip(partner.shape[-2:], x.shape[-2:], strict=True))
    return x[..., rows, :][..., columns]


def down(x, partner=None):
    """3 x 3 maxima around every second cell, as far as the partner goes."""
    windows = F.pad(x, (1, 1, 1, 1), value=-torch.inf).unfold(2, 3, 2).unfold(3, 3, 2)
    maxima = windows.amax((-2, -1))
    return maxima if partner is None else maxima[..., : partner.shape[-2], : partner.shape[-1]]


def layer_by_hand(layer, p, skips):
    """The graph of the paper's figure 2 (d) for P3 to P7, node by node (equations of its section 3.3)."""
    p3, p4, p5, p6, p7 = p
    s4, s5, s6, s7 = skips
    n3, n4, n5, n6 = layer.top_down
    o4, o5, o6, o7 = layer.bottom_up
    p6_td = node_by_hand(n6, [p6, up(p7, p6)])
    p5_td = node_by_hand(n5, [p5, up(p6_td, p5)])
    p4_td = node_by_hand(n4, [p4, up(p5_td, p4)])
    p3_out = node_by_hand(n3, [p3, up(p4_td, p3)])
    p4_out = node_by_hand(o4, [s4, p4_td, down(p3_out, s4)])
    p5_out = node_by_hand(o5, [s5, p5_td, down(p4_out, s5)])
    p6_out = node_by_hand(o6, [s6, p6_td, down(p5_out, s6)])
    p7_out = node_by_hand(o7, [s7, down(p6_out, s7)])
    return [p3_out, p4_out, p5_out, p6_out, p7_out]


@pytest.mark.parametrize("ceil", [True, False])
@pytest.mark.parametrize("size", [(64, 64), (65, 97), (120, 104)])
@torch.no_grad()
def test_equals_the_papers_graph_node_by_node(size, ceil):
    neck = randomized(BiFPN(INFO, channels=K, num_layers=2, extra_levels=2))
    _, c3, c4, c5 = features_of(*size, ceil=ceil)
    p6 = down(projected(c5, neck.extra[0][0]))
    extra = [p6, down(p6)]
    p = [projected(c, lateral) for c, lateral in zip((c3, c4, c5), neck.laterals, strict=True)] + extra
    skips = [projected(c, skip) for c, skip in zip((c4, c5), neck.skips, strict=True)] + extra
    for layer in neck.layers:
        p = layer_by_hand(layer, p, skips)
        skips = p[1:]
    for ours, theirs in zip(neck([None, c3, c4, c5]), p, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_two_levels_are_fused_with_each_other():
    layer = randomized(BiFPNLayer(K, [2]))
    fine, coarse, skip = torch.randn(1, K, 9, 13), torch.randn(1, K, 5, 7), torch.randn(1, K, 5, 7)
    [node], [last] = layer.top_down, layer.bottom_up
    fine_out = node_by_hand(node, [fine, up(coarse, fine)])
    ours = layer([fine, coarse], [skip])
    torch.testing.assert_close(ours[0], fine_out)
    torch.testing.assert_close(ours[1], node_by_hand(last, [skip, down(fine_out)]))


@pytest.mark.parametrize("weights", [[1.0, 0.0, 0.0], [1.0, -3.0, -0.1]])
@torch.no_grad()
def test_levels_are_alone_where_nothing_but_their_own_input_counts(weights):
    layer = randomized(BiFPNLayer(K, [2, 2]))
    for fusion in layer.modules():
        if isinstance(fusion, FastFusion):
            fusion.weights.copy_(torch.tensor(weights[: len(fusion.weights)]))
    levels = [torch.randn(1, K, size, size) for size in (9, 5, 3)]
    before = layer(levels, levels[1:])
    for changed in range(3):
        other = [level + (i == changed) for i, level in enumerate(levels)]
        after = layer(other, other[1:])
        assert [not a.equal(b) for a, b in zip(before, after, strict=True)] == [i == changed for i in range(3)]


def test_every_level_reaches_every_other_in_one_layer():
    neck = BiFPN(INFO, channels=K, num_layers=1, extra_levels=2).eval()
    features = [feature.requires_grad_() for feature in features_of(128, 128)[1:]]
    for level in neck([None, *features]):
        gradients = torch.autograd.grad((level * torch.randn_like(level)).sum(), features, retain_graph=True)
        assert all(gradient.any() for gradient in gradients)


values = st.floats(-100, 100, width=32)


@settings(deadline=None, max_examples=50)
@given(data=st.data(), count=st.integers(2, 3))
def test_fusion_is_a_mean_by_the_positive_weights(data, count):
    inputs = torch.tensor(data.draw(st.lists(st.lists(values, min_size=3, max_size=3), min_size=count, max_size=count)))
    weights = data.draw(st.lists(st.floats(-2, 2, width=32), min_size=count, max_size=count))
    fusion = FastFusion(count)
    with torch.no_grad():
        fusion.weights.copy_(torch.tensor(weights))
        fused = fusion(list(inputs)).double()
    positive = torch.tensor(weights).double().clamp(min=0)
    expected = (positive[:, None] * inputs.double()).sum(0) / (positive.sum() + 1e-4)
    torch.testing.assert_close(fused, expected, rtol=1e-5, atol=1e-4)
    kept = inputs[positive > 0] if (positive > 0).any() else torch.zeros(1, 3)
    assert (fused <= kept.amax(0).clamp(min=0) + 1e-4).all()  # towards 0 by the epsilon
    assert (fused >= kept.amin(0).clamp(max=0) - 1e-4).all()


def test_the_models_activation_takes_the_place_of_every_nodes_but_not_of_the_weights():
    neck = BiFPN(INFO, channels=K, num_layers=2)
    assert replace_activations(neck, nn.Identity) == 2 * 4  # 3 levels: two nodes down, two up
    fusion = neck.layers[0].top_down[0][0]
    with torch.no_grad():
        fusion.weights.copy_(torch.tensor([1.0, -5.0]))
    assert fusion([torch.tensor(3.0), torch.tensor(7.0)]).item() == pytest.approx(3 / 1.0001)


def test_defaults_are_d0s():
    neck = NECKS.build(Component("bifpn", {"extra_levels": 2}), INFO)
    assert neck.feature_info == tuple(FeatureInfo(64, stride) for stride in (8, 16, 32, 64, 128))
    assert len(neck.layers) == 3
    assert [len(layer.top_down) + len(layer.bottom_up) for layer in neck.layers] == [8, 8, 8]


@settings(deadline=None, max_examples=20)
@given(
    size=st.tuples(st.integers(64, 200), st.integers(64, 200)),
    strides=st.sets(st.sampled_from([4, 8, 16, 32]), min_size=2),
    extra_levels=st.integers(0, 3),
    ceil=st.booleans(),
)
def test_levels_have_the_sizes_of_the_features_for_any_choice_of_strides(size, strides, extra_levels, ceil):
    features = features_of(*size, ceil=ceil)
    neck = BiFPN(INFO, channels=2, num_layers=1, strides=tuple(strides), extra_levels=extra_levels).eval()
    expected = [tuple(feature.shape[-2:]) for feature, i in zip(features, INFO, strict=True) if i.stride in strides]
    for _ in range(extra_levels):
        expected.append(tuple(-(-side // 2) for side in expected[-1]))
    assert [tuple(level.shape[-2:]) for level in neck(features)] == expected
    assert [info.stride for info in neck.feature_info[len(strides) :]] == [
        max(strides) * 2**level for level in range(1, extra_levels + 1)
    ]


def test_one_level_is_a_sentence_and_one_with_an_extra_level_is_none():
    vit = [FeatureInfo(6, 16)] * 3
    with pytest.raises(
        ConfigError, match="needs at least 2 levels, but has only that of stride 16: the backbone has 16;"
    ):
        BiFPN(vit)
    with pytest.raises(ConfigError, match="only that of stride 8: the backbone has 4, 8, 16, 32; ask for more strides"):
        BiFPN(INFO, strides=(8,))
    neck = BiFPN(vit, channels=K, extra_levels=1)
    assert [level.shape[-1] for level in neck([torch.randn(2, 6, 5, 5)] * 3)] == [5, 3]
