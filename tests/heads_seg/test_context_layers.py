"""The blocks under the heads, against torch's own operators."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mtvision.layers.context import ASPP, DilatedConvNormAct, PyramidPooling, SeparableConvNormAct, mean_grid
from mtvision.registries import SEGMENTATION_HEADS
from mtvision.types import FeatureInfo


@given(height=st.integers(1, 40), width=st.integers(1, 40), bins=st.integers(1, 9))
@settings(max_examples=100, deadline=None)
def test_mean_grid_is_adaptive_average_pooling(height, width, bins):
    x = torch.randn(2, 3, height, width, dtype=torch.float64, requires_grad=True)
    ours, theirs = mean_grid(x, bins), F.adaptive_avg_pool2d(x, bins)
    torch.testing.assert_close(ours, theirs)
    weight = torch.randn_like(ours)
    gradients = [torch.autograd.grad((y * weight).sum(), x)[0] for y in (ours, theirs)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_mean_grid_keeps_the_type_of_its_input(dtype):
    x = torch.randn(1, 2, 32, 48).to(dtype)
    grid = mean_grid(x, 3)
    assert grid.dtype == dtype
    torch.testing.assert_close(grid.float(), F.adaptive_avg_pool2d(x.float(), 3), rtol=0.02, atol=0.02)


def test_pyramid_pooling_exports_without_adaptive_pooling():
    """ONNX has no adaptive pooling, and its exporter none but for one bin."""
    head = SEGMENTATION_HEADS.build("pspnet", [FeatureInfo(8, 32)], 3).eval()
    sides = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    exported = torch.export.export(head, ([torch.randn(1, 8, 7, 9)],), dynamic_shapes=([sides],))
    targets = {str(node.target) for node in exported.graph.nodes if node.op == "call_function"}
    assert "aten.matmul.default" in targets
    assert not [target for target in targets if "pool" in target]


def test_dilated_convolution_is_a_convolution_with_holes():
    block = DilatedConvNormAct(4, 6, dilation=2).eval()
    dense = torch.zeros(6, 4, 5, 5)
    dense[..., ::2, ::2] = block[0].weight.detach()
    x = torch.randn(2, 4, 9, 7)
    with torch.no_grad():
        torch.testing.assert_close(block(x), F.relu(block[1](F.conv2d(x, dense, padding=2))))


def test_separable_convolution_is_a_dense_one_of_rank_one_a_channel():
    block = SeparableConvNormAct(4, 6).eval()
    block[0][1] = block[0][2] = nn.Identity()  # without what lies between, the two are one convolution
    depthwise, pointwise = block[0][0].weight.detach(), block[1][0].weight.detach()
    dense = pointwise * depthwise.transpose(0, 1)  # (out, in, 1, 1) * (1, in, 3, 3)
    x = torch.randn(2, 4, 9, 7)
    with torch.no_grad():
        torch.testing.assert_close(block(x), F.relu(block[1][1](F.conv2d(x, dense, padding=1))))


def test_separable_convolution_has_norm_and_activation_twice():
    kinds = [type(module) for module in SeparableConvNormAct(4, 6, dilation=3).modules()]
    assert kinds.count(nn.BatchNorm2d) == kinds.count(nn.ReLU) == kinds.count(nn.Conv2d) == 2
    assert SeparableConvNormAct(4, 6, dilation=3)[0][0].dilation == (3, 3)


@pytest.mark.parametrize("module", [ASPP(4, 8, (2, 3)), PyramidPooling(4, 8)], ids=["aspp", "pyramid"])
def test_one_image_is_enough_to_evaluate_but_not_for_batch_norm_in_training(module):
    assert module.eval()(torch.randn(1, 4, 5, 7)).isfinite().all()
    with pytest.raises(ValueError, match="more than 1 value per channel"):  # the Trainer makes a sentence of it
        module.train()(torch.randn(1, 4, 5, 7))
