import subprocess
import sys

import pytest
import timm
import torch
from pydantic import ValidationError
from torch import nn

import mtvision.backbones
from contract import check_compiles, check_export
from families import FAMILIES
from mtvision.backbones.timm import TimmBackbone
from mtvision.errors import ConfigError, RegistryError
from mtvision.layers.features import select_strides
from mtvision.registries import BACKBONES
from mtvision.registry import Component
from mtvision.types import FeatureInfo
from packaging import version

SWIN = "swin_tiny_patch4_window7_224"
NETWORKS = [*FAMILIES, "resnet34"]
EXPORTED = [name for name in FAMILIES if name != SWIN]
"""A program of swin for any size is not made within five minutes; of one size it is."""
SMALLEST = {"test_convnext": 64}
"""Pixels from which on there are two rows and columns of the coarsest stride, where it is not 33."""


def build(name, **options):
    torch.manual_seed(0)
    return BACKBONES.build(Component(name, options), False).eval()


@pytest.fixture(scope="module")
def built():
    """Each family once, in evaluation mode."""
    return {name: build(name) for name in NETWORKS}


@pytest.mark.parametrize("name", ["resnet18", "test_efficientnet", "test_convnext"])
def test_features_are_those_of_timm(name):
    backbone = build(name)
    twin = timm.create_model(name, pretrained=False, features_only=True).eval()
    twin.load_state_dict(backbone.net.state_dict())
    images = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        torch.testing.assert_close(backbone(images), twin(images), rtol=0, atol=0)
    assert [info.stride for info in backbone.feature_info] == twin.feature_info.reduction()
    assert [info.channels for info in backbone.feature_info] == twin.feature_info.channels()


def test_swin_is_timms_at_its_own_size_and_nchw():
    backbone = build(SWIN)
    twin = timm.create_model(SWIN, pretrained=False, features_only=True).eval()
    twin.load_state_dict(backbone.net.state_dict(), strict=False)
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        for ours, theirs in zip(backbone(images), twin(images), strict=True):
            torch.testing.assert_close(ours, theirs.permute(0, 3, 1, 2), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [(64, 64), (96, 160), (65, 97)])
def test_any_size(built, name, size):
    backbone = built[name]
    with torch.no_grad():
        features = backbone(torch.randn(1, 3, *size))
    assert len(features) == len(backbone.feature_info)
    for feature, info in zip(features, backbone.feature_info, strict=True):
        assert feature.shape[1] == info.channels
        for side, pixels in zip(feature.shape[2:], size, strict=True):
            assert side in (pixels // info.stride, -(-pixels // info.stride))


def test_strides_are_finest_first(built):
    for backbone in built.values():
        strides = [info.stride for info in backbone.feature_info]
        assert strides == sorted(strides)


@pytest.mark.parametrize("name", EXPORTED)
def test_exports_at_dynamic_sizes(built, name):
    check_export(built[name], SMALLEST.get(name, 33))


@pytest.mark.parametrize("name", FAMILIES)
def test_compiles_in_one_graph(built, name):
    check_compiles(built[name])


def test_gradient_reaches_the_stem():
    backbone = build("test_resnet").train()
    backbone(torch.randn(2, 3, 64, 64))[-1].square().mean().backward()
    assert next(backbone.parameters()).grad.any()


def test_building_leaves_the_network_in_training_mode():
    assert BACKBONES.build("test_resnet", False).net.training


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("test_maxvit", "backbone 'test_maxvit' takes images whose sides are multiples of 160 pixels, got 64 x 96"),
        ("test_coatnet", "backbone 'test_coatnet' takes images of exactly 160 x 160 pixels, got 64 x 96"),
    ],
)
def test_a_size_that_cannot_work_is_refused(name, sentence):
    if version.parse(timm.__version__) < version.parse("1.0.31"):
        pytest.skip("timm before 1.0.31 has no small network of this kind")
    backbone = build(name)
    with pytest.raises(ConfigError, match=sentence):
        backbone(torch.zeros(1, 3, 64, 96))
    with torch.no_grad():
        assert backbone(torch.zeros(1, 3, 160, 160))[-1].shape[-2:] == (5, 5)


def test_names_are_timms_and_tags_work():
    assert {"resnet18", "resnet34"} <= set(BACKBONES.names("resnet*"))
    assert "resnet18.a1_in1k" in BACKBONES
    assert "resnet18.no_such_tag" not in BACKBONES
    assert "" not in BACKBONES
    assert [info.stride for info in build("test_resnet.r160_in1k").feature_info] == [2, 4, 8, 16, 32]


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(RegistryError, match=r"unknown backbone 'resnet81'\. Did you mean 'resnet18'"):
        BACKBONES.get("resnet81")


DILATABLE = ["test_resnet", "test_efficientnet", "mobilenetv3_small_050", "test_convnext"]


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("name", DILATABLE)
def test_dilated_features_are_those_of_timm_and_have_the_published_strides(name, output_stride):
    backbone = build(name, output_stride=output_stride)
    plain = build(name)
    twin = timm.create_model(name, pretrained=False, features_only=True, output_stride=output_stride).eval()
    twin.load_state_dict(plain.net.state_dict())
    backbone.load_state_dict(plain.state_dict())
    assert [info.stride for info in backbone.feature_info] == [
        min(info.stride, output_stride) for info in plain.feature_info
    ]
    images = torch.randn(1, 3, 96, 64)
    with torch.no_grad():
        features = backbone(images)
        torch.testing.assert_close(features, twin(images), rtol=0, atol=0)
    for feature, info in zip(features, backbone.feature_info, strict=True):
        assert feature.shape == (1, info.channels, 96 // info.stride, 64 // info.stride)
    with torch.no_grad():
        odd = backbone(torch.randn(1, 3, 65, 97))
    for feature, info in zip(odd, backbone.feature_info, strict=True):
        assert feature.shape[2] in (65 // info.stride, -(-65 // info.stride))
        assert feature.shape[3] in (97 // info.stride, -(-97 // info.stride))


def test_dilated_backbones_deepest_feature_is_selected():
    info = build("test_resnet", output_stride=8).feature_info
    (index,) = select_strides(info, [8], "it")
    assert index == len(info) - 1


@pytest.mark.parametrize("name", ["test_vit", SWIN, "vgg11", "hrnet_w18_small", "ghostnet_050", "densenet121"])
def test_output_stride_without_dilation_is_an_error(name):
    sentence = f"model.backbone.output_stride: backbone '{name}' cannot be dilated in timm; leave the option out"
    with pytest.raises(ConfigError) as caught:
        build(name, output_stride=16)
    assert str(caught.value) == sentence


def test_output_stride_that_is_taken_but_does_nothing_is_an_error(monkeypatch):
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, output_stride, **options: create(name, **options))
    with pytest.raises(ConfigError, match="backbone 'test_resnet' cannot be dilated"):
        build("test_resnet", output_stride=16)


def test_drop_path_rate_acts():
    dropping, plain = build("test_resnet", drop_path_rate=0.5), build("test_resnet")
    rates = [getattr(module, "drop_prob", None) for module in dropping.modules()]
    assert max(rate for rate in rates if rate is not None) == pytest.approx(0.5)
    assert not any(getattr(module, "drop_prob", None) for module in plain.modules())


def test_drop_path_is_off_by_default_where_timm_has_it_on():
    assert not any(getattr(module, "drop_prob", None) for module in build(SWIN).modules())


@pytest.mark.parametrize("name", ["vgg11", "hrnet_w18_small", "densenet121"])
def test_drop_path_rate_without_drop_path_is_an_error(name):
    with pytest.raises(ConfigError, match=f"drop_path_rate: backbone '{name}' has no drop path"):
        build(name, drop_path_rate=0.1)


def test_options_are_checked():
    with pytest.raises(ValidationError):
        build("test_resnet", drop_path_rate=1.0)
    with pytest.raises(ValidationError):
        build("test_resnet", banana=1)
    with pytest.raises(ValidationError):
        build("test_resnet", output_stride=4)
    assert BACKBONES.option_names("resnet18") == ("drop_path_rate", "output_stride")


def test_pretrained_without_weights_says_so():
    without = next(name for name in timm.list_models() if not timm.is_model_pretrained(name))
    with pytest.raises(ConfigError, match=f"timm has no weights for backbone '{without}'"):
        TimmBackbone(without, pretrained=True)


def test_timm_is_imported_only_when_asked_for():
    code = f"import sys, {mtvision.backbones.__name__}; assert not {{'timm', 'torchvision'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_select_strides_takes_the_deepest_of_equals():
    info = [FeatureInfo(8, 4), FeatureInfo(16, 8), FeatureInfo(32, 8)]
    assert select_strides(info, [8, 4], "it") == [2, 0]
    with pytest.raises(ConfigError, match="the neck needs features of stride 4, 64, but there is none of stride 64"):
        select_strides(info, [4, 64], "the neck")


def test_a_users_backbone_needs_only_the_base():
    class Tiny(mtvision.backbones.Backbone):
        feature_info = (FeatureInfo(8, 4),)

        def __init__(self):
            super().__init__()
            self.convolution = nn.Conv2d(3, 8, 4, stride=4)

        def forward(self, images):
            return [self.convolution(images)]

    assert Tiny()(torch.zeros(1, 3, 8, 8))[0].shape == (1, 8, 2, 2)
