"""Heads against the same architecture by others, with the same weights."""

from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.segmentation.deeplabv3 import DeepLabHead
from torchvision.models.segmentation.fcn import FCNHead
from torchvision.ops import FeaturePyramidNetwork

from mtvision.layers.blocks import make_norm
from mtvision.registries import SEGMENTATION_HEADS
from mtvision.registry import Component
from mtvision.types import FeatureInfo

INFO = [FeatureInfo(6, 4), FeatureInfo(8, 8), FeatureInfo(12, 16), FeatureInfo(16, 32)]
SIZES = [(64, 96), (65, 97)]


def build(name, info=INFO, **options):
    torch.manual_seed(0)
    head = SEGMENTATION_HEADS.build(Component(name, options), info, 5)
    for norm in head.modules():
        if isinstance(norm, nn.BatchNorm2d | nn.GroupNorm):  # fresh norms would hide a wrong order
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias)
    return head


def features(size=SIZES[0], info=INFO):
    torch.manual_seed(1)
    return [torch.randn(2, i.channels, -(-size[0] // i.stride), -(-size[1] // i.stride)) for i in info]


def copy_in_order(source, target):
    """Copy all weights where both modules declare the same ones in the same order."""
    values, keys = list(source.state_dict().values()), list(target.state_dict())
    assert len(values) == len(keys)
    target.load_state_dict(dict(zip(keys, values, strict=True)))


def assert_same_outputs_and_gradients(ours, theirs, maps):
    """In training and in evaluation; afterwards also the batch norms' statistics are the same."""
    outputs = [head(maps) for head in (ours, theirs)]
    torch.testing.assert_close(*outputs)
    weight = torch.randn_like(outputs[0])
    for output in outputs:
        (output * weight).sum().backward()
    for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(own.grad.view_as(other.grad), other.grad, rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(maps), theirs.eval()(maps))


class OnLast(nn.Module):
    """torchvision's heads take the last feature alone."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, maps):
        return self.head(maps[-1])


@pytest.mark.parametrize("size", [(256, 288), (257, 385)])
@pytest.mark.parametrize("dilations", [None, [1, 2, 3], [12, 24, 36]])
def test_deeplabv3_is_torchvisions(dilations, size):
    ours = build("deeplabv3", dilations=dilations)
    theirs = DeepLabHead(16, 5, dilations or (3, 6, 9))
    copy_in_order(ours, theirs)
    next(m for m in theirs.modules() if isinstance(m, nn.Dropout)).p = 0.0  # ours is before the scores, and 0 here
    assert_same_outputs_and_gradients(ours, OnLast(theirs), features(size))


@pytest.mark.parametrize(("stride", "dilations"), [(8, [12, 24, 36]), (16, [6, 12, 18]), (32, [3, 6, 9])])
@pytest.mark.parametrize("name", ["deeplabv3", "deeplabv3plus"])
def test_deeplabs_dilations_follow_the_stride(name, stride, dilations):
    head = build(name, stride=stride)
    convolutions = [m for m in head.aspp.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert [convolution.dilation for convolution in convolutions] == [(d, d) for d in dilations]


def test_single_scale_is_torchvisions_auxiliary_head():
    ours, theirs = build("single_scale", stride=32, channels=4), FCNHead(16, 5)
    copy_in_order(ours, theirs)
    theirs[3].p = 0.0
    assert_same_outputs_and_gradients(ours, OnLast(theirs), features())


def conv_norm_relu(x, block, dilation=1):
    convolution, norm, _ = block
    same = dilation * (convolution.kernel_size[0] // 2)
    x = F.conv2d(x, convolution.weight, padding=same, dilation=dilation, groups=convolution.groups)
    return F.relu(F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias))


def separable(x, block, dilation=1):
    assert block[0][0].groups == x.shape[1]
    return conv_norm_relu(conv_norm_relu(x, block[0], dilation), block[1])


@pytest.mark.parametrize("size", SIZES)
def test_deeplabv3plus_step_by_step(size):
    head, maps = build("deeplabv3plus", channels=10).eval(), features(size)
    low, high = maps[0], maps[-1]
    one, *dilated = head.aspp.branches
    branches = [conv_norm_relu(high, one), *(separable(high, b, d) for b, d in zip(dilated, (3, 6, 9), strict=True))]
    image = conv_norm_relu(F.adaptive_avg_pool2d(high, 1), head.aspp.image)
    branches.append(F.interpolate(image, high.shape[2:], mode="bilinear"))
    encoded = conv_norm_relu(torch.cat(branches, 1), head.aspp.project)
    reduced = conv_norm_relu(low, head.low_level)
    assert reduced.shape[1] == 48
    joined = torch.cat([F.interpolate(encoded, low.shape[2:], mode="bilinear"), reduced], 1)
    expected = head.score(separable(separable(joined, head.refine[0]), head.refine[1]))
    with torch.no_grad():
        torch.testing.assert_close(head(maps), expected)


@pytest.mark.parametrize("size", SIZES)
def test_pspnet_step_by_step(size):
    head, maps = build("pspnet", channels=10).eval(), features(size)
    x = maps[-1]
    grids = [
        F.interpolate(conv_norm_relu(F.adaptive_avg_pool2d(x, bins), branch), x.shape[2:], mode="bilinear")
        for bins, branch in zip((1, 2, 3, 6), head.pooling.branches, strict=True)
    ]
    assert {grid.shape[1] for grid in grids} == {16 // 4}
    expected = head.score(conv_norm_relu(torch.cat([x, *grids], 1), head.refine))
    with torch.no_grad():
        torch.testing.assert_close(head(maps), expected)


def test_fpn_is_a_pyramid_and_one_stage_a_doubling():
    """The pyramid by torchvision; the stages as the paper's figure 3 draws them, at sizes that halve evenly."""
    head, maps = build("fpn", channels=16, branch_channels=32).eval(), features()
    pyramid = FeaturePyramidNetwork([i.channels for i in INFO], 16)
    for level in range(4):
        pyramid.inner_blocks[level][0].load_state_dict(head.pyramid.laterals[level].state_dict())
        pyramid.layer_blocks[level][0].load_state_dict(head.pyramid.outputs[level].state_dict())
    levels = list(pyramid(OrderedDict((str(i), m) for i, m in enumerate(maps))).values())
    branches = [nn.Sequential(head.finest)]
    for ascent in head.coarser:
        doublings = [nn.Upsample(scale_factor=2, mode="bilinear") for _ in ascent.stages]
        branches.append(nn.Sequential(*(part for pair in zip(ascent.stages, doublings, strict=True) for part in pair)))
    assert [sum(isinstance(m, nn.GroupNorm) for m in branch.modules()) for branch in branches] == [1, 1, 2, 3]
    assert not [m for m in head.modules() if isinstance(m, nn.BatchNorm2d)]
    expected = head.score(torch.stack([branch(level) for branch, level in zip(branches, levels, strict=True)]).sum(0))
    with torch.no_grad():
        torch.testing.assert_close(head(maps), expected)


def test_fpn_stage_is_convolution_group_norm_relu():
    stage = build("fpn").finest
    x = torch.randn(2, 128, 5, 7)
    groups = make_norm("group", 128).num_groups
    expected = F.group_norm(F.conv2d(x, stage[0].weight, padding=1), groups, stage[1].weight, stage[1].bias)
    torch.testing.assert_close(stage(x), F.relu(expected))


class SmpHead(nn.Module):
    """A decoder of segmentation_models_pytorch, which wants finer features too, and our class scores."""

    def __init__(self, decoder, score):
        super().__init__()
        self.decoder, self.score = decoder, score

    def forward(self, maps):
        height, width = maps[0].shape[2:]
        finer = [torch.empty(2, 3, 4 * height, 4 * width), torch.empty(2, 3, 2 * height, 2 * width)]
        return self.score(self.decoder([*finer, *maps]))


def smp_decoder(name):
    module = pytest.importorskip(f"segmentation_models_pytorch.decoders.{name}.decoder")
    return module.UPerNetDecoder if name == "upernet" else module.SegformerDecoder


@pytest.mark.parametrize("size", SIZES)
def test_upernet_is_that_of_segmentation_models(size):
    ours = build("upernet", channels=10)
    theirs = smp_decoder("upernet")([3, 3, 6, 8, 12, 16], decoder_channels=10)
    theirs.feature_norms = nn.ModuleList(nn.Identity() for _ in INFO)  # not in the paper
    pooling, refine = ours.context
    for own, other in [
        *zip(pooling.branches, (block[1] for block in theirs.psp.blocks), strict=True),
        (refine, theirs.psp.out_conv),
        *zip(ours.laterals, (b.conv_norm_relu for b in reversed(theirs.fpn_lateral_blocks)), strict=True),
        *zip(ours.outputs, reversed(theirs.fpn_conv_blocks), strict=True),
        (ours.fuse, theirs.fusion_block),
    ]:
        other.load_state_dict(own.state_dict())
    assert sum(p.numel() for p in theirs.parameters()) + 5 * 11 == sum(p.numel() for p in ours.parameters())
    maps = features(size)
    with torch.no_grad():
        for mode in (True, False):
            torch.testing.assert_close(ours.train(mode)(maps), SmpHead(theirs.train(mode), ours.score)(maps))


def test_segformer_is_that_of_segmentation_models():
    ours = build("segformer", channels=10)
    theirs = smp_decoder("segformer")([3, 3, 6, 8, 12, 16][1:], segmentation_channels=10)
    for own, other in zip(ours.linears, theirs.mlp_stage, strict=True):
        other.linear.load_state_dict({"weight": own.weight.detach()[..., 0, 0], "bias": own.bias.detach()})
    theirs.fuse_stage.load_state_dict(ours.fuse.state_dict())
    maps = features()
    with torch.no_grad():
        for mode in (True, False):
            torch.testing.assert_close(ours.train(mode)(maps), SmpSegFormer(theirs.train(mode), ours.score)(maps))


class SmpSegFormer(SmpHead):
    def forward(self, maps):
        height, width = maps[0].shape[2:]
        return self.score(self.decoder([torch.empty(2, 3, 4 * height, 4 * width), *maps]))
