import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from contract import ODD_SIZE, SegmentationModel, check_gradients
from mtvision.errors import ConfigError
from mtvision.necks.fpn import FPN
from mtvision.registries import SEGMENTATION_HEADS
from mtvision.registry import Component
from mtvision.types import FeatureInfo

USES = {
    "deeplabv3": [32],
    "deeplabv3plus": [4, 32],
    "fcn": [8, 16, 32],
    "fpn": [4, 8, 16, 32],
    "pspnet": [32],
    "segformer": [4, 8, 16, 32],
    "single_scale": [16],
    "unet": [4, 8, 16, 32],
    "upernet": [4, 8, 16, 32],
}
INFO = [FeatureInfo(4, 2), FeatureInfo(6, 4), FeatureInfo(8, 8), FeatureInfo(12, 16), FeatureInfo(16, 32)]


def features(height=64, width=96, info=INFO):
    torch.manual_seed(0)
    return [torch.randn(2, i.channels, -(-height // i.stride), -(-width // i.stride)) for i in info]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fpn", {"strides": [16, 2], "channels": 7, "branch_channels": 9, "dropout_rate": 0.5}),
        ("deeplabv3", {"stride": 16, "dilations": [2], "channels": 8, "dropout_rate": 0.5}),
        ("deeplabv3plus", {"stride": 16, "dilations": [1, 2], "channels": 8, "low_level_channels": 3}),
        ("pspnet", {"stride": 8, "bins": [1, 5], "channels": 8, "dropout_rate": 0.5}),
        ("upernet", {"strides": [8, 16], "bins": [2], "channels": 8, "dropout_rate": 0.5}),
        ("segformer", {"strides": [2, 8, 32], "channels": 8, "dropout_rate": 0.5}),
        ("single_scale", {"stride": 4, "channels": 8, "dropout_rate": 0.5}),
    ],
)
def test_gradients_of_variants(name, options):
    torch.manual_seed(0)
    check_gradients(SegmentationModel(Component(name, options)), torch.randn(2, 3, *ODD_SIZE))


@pytest.mark.parametrize("name", SEGMENTATION_HEADS.names())
def test_features_of_a_neck_are_as_good(name):
    neck = FPN(INFO, channels=16, strides=(4, 8, 16, 32))
    head = SEGMENTATION_HEADS.build(name, neck.feature_info, 3).eval()
    with torch.no_grad():
        logits = head(neck(features(*ODD_SIZE)))
    assert logits.shape[:2] == (2, 3)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", USES)
def test_which_strides_a_head_uses_and_which_its_logits_have(name):
    head = SEGMENTATION_HEADS.build(name, INFO, 3).eval()
    before = head(features())
    assert before.shape == (2, 3, 64 // USES[name][0], 96 // USES[name][0])
    changed = []
    for index, info in enumerate(INFO):
        maps = features()
        maps[index] += 1
        changed += [info.stride] * (not torch.equal(head(maps), before))
    assert changed == USES[name]


@pytest.mark.parametrize("name", SEGMENTATION_HEADS.names())
def test_a_smallest_image_works(name):
    head = SEGMENTATION_HEADS.build(name, INFO, 3).eval()
    assert head(features(5, 3)).isfinite().all()


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


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, {"strides": [8, 64]}) for name in ("unet", "fpn", "upernet", "segformer")]
    + [(name, {"stride": 64}) for name in ("deeplabv3", "deeplabv3plus", "pspnet", "single_scale")],
)
def test_a_chosen_stride_that_is_missing_is_named(name, options):
    with pytest.raises(ConfigError, match=rf"head '{name}' needs .*none of stride 64: the features have 2, 4, 8, 16"):
        SEGMENTATION_HEADS.build(Component(name, options), INFO, 3)


@pytest.mark.parametrize("name", ["fpn", "upernet", "segformer"])
def test_a_pyramid_of_no_usual_stride_is_refused(name):
    with pytest.raises(ConfigError, match="of two strides, got none of 4, 8, 16 and 32: the features have 2, 64"):
        SEGMENTATION_HEADS.build(name, [FeatureInfo(4, 2), FeatureInfo(4, 64)], 3)


def test_single_scale_takes_the_coarsest_where_there_is_no_sixteen():
    head = SEGMENTATION_HEADS.build("single_scale", INFO[:3], 3)
    assert head(features()[:3]).shape == (2, 3, 8, 12)


@pytest.mark.parametrize(
    ("name", "option"),
    [("fcn", {"variant": "4s"}), ("fcn", {"channels": 0}), ("fcn", {"chanels": 8})]
    + [(name, {"dropout_rate": 1.0}) for name in SEGMENTATION_HEADS.names()]
    + [("deeplabv3", {"dilations": []}), ("deeplabv3plus", {"dilations": [0]}), ("pspnet", {"bins": []})]
    + [("upernet", {"strides": [0, 8]}), ("single_scale", {"stride": 0}), ("fpn", {"branch_channels": 0})],
)
def test_wrong_options_are_refused(name, option):
    with pytest.raises(ValidationError):
        SEGMENTATION_HEADS.build(Component(name, option), INFO, 3)


RESNET18 = [FeatureInfo(64, 2), FeatureInfo(64, 4), FeatureInfo(128, 8), FeatureInfo(256, 16), FeatureInfo(512, 32)]
RESNET18_AT_8 = [*RESNET18[:2], *(FeatureInfo(k, 8) for k in (128, 256, 512))]


@pytest.mark.parametrize(
    ("name", "options", "info", "gigaflops", "millions"),
    [
        ("fcn", {}, RESNET18, 0.2, 1.2),
        ("unet", {}, RESNET18, 1.3, 1.3),
        ("single_scale", {}, RESNET18, 0.3, 0.6),
        ("deeplabv3", {}, RESNET18, 0.6, 4.7),
        ("deeplabv3", {}, RESNET18_AT_8, 9.4, 4.7),
        ("deeplabv3plus", {}, RESNET18, 1.4, 1.2),
        ("pspnet", {}, RESNET18, 0.3, 2.6),
        ("pspnet", {"channels": 512}, RESNET18, 0.6, 5.0),
        ("fpn", {}, RESNET18, 4.0, 1.7),
        ("fpn", {"channels": 256}, RESNET18, 10.6, 4.2),
        ("upernet", {}, RESNET18, 6.7, 2.5),
        ("upernet", {"channels": 512}, RESNET18, 104.8, 29.6),
        ("segformer", {}, RESNET18, 2.4, 0.5),
        ("segformer", {"channels": 768}, RESNET18, 20.2, 3.1),
    ],
)
def test_costs_are_those_that_the_documentation_names(name, options, info, gigaflops, millions):
    """For an image of 256 x 256 and VOC's classes; ResNet-18 itself has 4.7 GFLOP and 11.2 M parameters."""
    with torch.device("meta"):
        head = SEGMENTATION_HEADS.build(Component(name, options), info, 21).eval()
        maps = [torch.empty(1, i.channels, 256 // i.stride, 256 // i.stride) for i in info]
        with FlopCounterMode(display=False) as counter:
            head(maps)
    assert counter.get_total_flops() / 1e9 == pytest.approx(gigaflops, abs=0.06)
    assert sum(p.numel() for p in head.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)
