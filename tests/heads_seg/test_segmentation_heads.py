import pytest
import torch
from pydantic import ValidationError
from torch import nn

from contract import SegmentationModel, check_compiles, check_segmentation_head
from mtvision.errors import ConfigError
from mtvision.registries import BACKBONES, SEGMENTATION_HEADS
from mtvision.registry import Component
from mtvision.types import FeatureInfo

FAMILIES = [
    "test_resnet",
    "test_efficientnet",
    "mobilenetv3_small_050",
    "test_convnext",
    "swin_tiny_patch4_window7_224",
]
INFO = [FeatureInfo(4, 2), FeatureInfo(6, 4), FeatureInfo(8, 8), FeatureInfo(12, 16), FeatureInfo(16, 32)]


def features(height=64, width=96, info=INFO):
    torch.manual_seed(0)
    return [torch.randn(2, i.channels, -(-height // i.stride), -(-width // i.stride)) for i in info]


@pytest.mark.parametrize("name", SEGMENTATION_HEADS.names())
def test_contract(name):
    check_segmentation_head(name)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fcn", {"variant": "16s", "dropout_rate": 0.5, "channels": 8}),
        ("unet", {"strides": [2, 32], "decoder_channels": [7]}),
    ],
)
def test_contract_of_variants(name, options):
    check_segmentation_head(name, **options)


@pytest.mark.parametrize("name", SEGMENTATION_HEADS.names())
def test_compiles(name):
    check_compiles(SegmentationModel(Component(name)).eval())


@pytest.mark.parametrize("backbone", FAMILIES)
@pytest.mark.parametrize("name", SEGMENTATION_HEADS.names())
def test_every_backbone_family(name, backbone):
    model = SegmentationModel(Component(name), backbone).eval()
    with torch.no_grad():
        logits = model(torch.randn(1, 3, 65, 97)).logits
    assert logits.shape == (1, 5, 65, 97)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", SEGMENTATION_HEADS.names())
def test_backbone_of_one_stride_is_refused_by_name(name):
    with pytest.raises(ConfigError, match=rf"segmentation head '{name}'.* 16"):
        SegmentationModel(Component(name), "test_vit")


@pytest.mark.parametrize(("variant", "stride"), [("32s", 32), ("16s", 16), ("8s", 8)])
def test_fcn_works_at_the_stride_of_its_variant(variant, stride):
    head = SEGMENTATION_HEADS.build(Component("fcn", {"variant": variant}), INFO, 3)
    assert head(features()).shape == (2, 3, 64 // stride, 96 // stride)


def test_fcn_sums_the_scores_of_its_strides():
    head = SEGMENTATION_HEADS.build("fcn", INFO, 3).eval()
    maps = features()
    score_32, score_16, score_8 = head.scores
    with torch.no_grad():
        up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        expected = up(up(score_32(head.context(maps[4]))) + score_16(maps[3])) + score_8(maps[2])
        torch.testing.assert_close(head(maps), expected)


def test_fcn_selects_by_stride_and_takes_the_deepest_of_equals():
    info = [FeatureInfo(3, 8), FeatureInfo(8, 8), FeatureInfo(12, 16), FeatureInfo(16, 32)]
    maps = features(info=info)
    head = SEGMENTATION_HEADS.build("fcn", info, 3).eval()
    before = head(maps)
    maps[0] += 1
    torch.testing.assert_close(head(maps), before, rtol=0, atol=0)
    maps[1] += 1
    assert not torch.equal(head(maps), before)


def test_unet_uses_every_stride_from_four_on():
    head = SEGMENTATION_HEADS.build("unet", INFO, 3).eval()
    before = head(features())
    assert before.shape == (2, 3, 16, 24)
    changed = []
    for index in range(len(INFO)):
        maps = features()
        maps[index] += 1
        changed.append(not torch.equal(head(maps), before))
    assert changed == [False, True, True, True, True]


def test_unet_stage_is_skip_then_two_convolutions():
    head = SEGMENTATION_HEADS.build(Component("unet", {"strides": [8, 16], "decoder_channels": [10]}), INFO, 3).eval()
    maps = features()
    with torch.no_grad():
        joined = torch.cat([nn.Upsample(scale_factor=2, mode="bilinear")(maps[3]), maps[2]], dim=1)
        torch.testing.assert_close(head(maps), head.score(head.stages[0][1](head.stages[0][0](joined))))


def test_unet_starts_from_what_there_is():
    head = SEGMENTATION_HEADS.build("unet", INFO[:2], 3)
    assert head(features()[:2]).shape == (2, 3, 32, 48)


@pytest.mark.parametrize("name", SEGMENTATION_HEADS.names())
def test_dropout_acts_in_training_only(name):
    head = SEGMENTATION_HEADS.build(Component(name, {"dropout_rate": 0.5}), INFO, 3)
    maps = features()
    assert not torch.equal(head(maps), head(maps))
    head.eval()
    torch.testing.assert_close(head(maps), head(maps), rtol=0, atol=0)


def test_unet_refuses_a_wrong_number_of_channels():
    with pytest.raises(ConfigError, match=r"decoder_channels must have 3 entries, coarsest first, got \[8\]"):
        SEGMENTATION_HEADS.build(Component("unet", {"decoder_channels": [8]}), INFO, 3)


def test_missing_stride_names_head_and_strides():
    with pytest.raises(ConfigError, match=r"'fcn' \(8s\) needs .* 32, 16, 8, but .* none of stride 32.* 2, 4, 8, 16"):
        SEGMENTATION_HEADS.build("fcn", INFO[:4], 3)
    with pytest.raises(ConfigError, match="none of stride 64"):
        SEGMENTATION_HEADS.build(Component("unet", {"strides": [8, 64]}), INFO, 3)


@pytest.mark.parametrize("option", [{"variant": "4s"}, {"dropout_rate": 1.0}, {"channels": 0}, {"chanels": 8}])
def test_wrong_options_are_refused(option):
    with pytest.raises(ValidationError):
        SEGMENTATION_HEADS.build(Component("fcn", option), INFO, 3)


def test_heads_are_light():
    info = BACKBONES.build("resnet18", False).feature_info
    sizes = {n: sum(p.numel() for p in SEGMENTATION_HEADS.build(n, info, 21).parameters()) for n in ("fcn", "unet")}
    assert max(sizes.values()) < 0.15 * 11.2e6, sizes
