"""What is particular to each detection head, and to what they share."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mtvision.activations import replace_activations
from mtvision.errors import ConfigError
from mtvision.heads.detection import FCOSHead, FPNDetectionHead, RetinaNetHead, SingleScaleDetectionHead
from mtvision.heads.detection.base import decode_distances, encode_distances
from mtvision.heads.detection.towers import shared_levels
from mtvision.initializers import initialize, reset_priors
from mtvision.ops.points import grid_points
from mtvision.registries import DETECTION_HEADS, INITIALIZERS
from mtvision.types import FeatureInfo

CLASSES = 3
INFO = [FeatureInfo(16, 8), FeatureInfo(16, 16), FeatureInfo(16, 32)]
LIGHT = pytest.mark.parametrize("name", ["fpn", "single_scale"])


def features_of(size=64, info=INFO):
    torch.manual_seed(0)
    return [torch.randn(2, i.channels, size // i.stride, size // i.stride) for i in info]


def test_one_level_a_stride_the_deepest_finest_first():
    info = [FeatureInfo(8, 16), FeatureInfo(8, 16), FeatureInfo(8, 8)]
    assert shared_levels(info, "x") == ((2, 1), (8, 16), 8)
    points = FPNDetectionHead(info, CLASSES)([torch.zeros(1, 8, 2, 2)] * 2 + [torch.zeros(1, 8, 4, 4)]).points
    assert points[:, 2].tolist() == [8.0] * 16 + [16.0] * 4


@pytest.mark.parametrize(
    "head",
    [
        FPNDetectionHead(INFO, CLASSES),
        SingleScaleDetectionHead(INFO, CLASSES, channels=16),
        FCOSHead(INFO, CLASSES, point_offset=0.5),
    ],
    ids=lambda head: type(head).__name__,
)
def test_a_flipped_image_gives_flipped_boxes(head):
    """Exactly so for a head whose kernels are symmetric, on features that are flipped too."""
    with torch.no_grad():
        for module in head.eval().modules():
            if isinstance(module, nn.Conv2d):
                module.weight.copy_((module.weight + module.weight.flip(3)) / 2)
        head.box_predictor.weight[2] = head.box_predictor.weight[0]  # right = left
        head.box_predictor.bias[2] = head.box_predictor.bias[0]
        features = features_of()
        straight, flipped = head(features), head([feature.flip(3) for feature in features])
    boxes, points = head.decode(straight.box_regression, straight.points), straight.points
    mirrored = head.decode(flipped.box_regression, points)
    mirrored = torch.stack([64 - mirrored[..., 2], mirrored[..., 1], 64 - mirrored[..., 0], mirrored[..., 3]], dim=-1)
    partners = points * torch.tensor([-1.0, 1.0, 1.0]) + torch.tensor([64.0, 0.0, 0.0])
    order = (partners[:, None] == points).all(dim=2).float().argmax(dim=1)
    assert torch.equal(points[order], partners)
    torch.testing.assert_close(mirrored[:, order], boxes, atol=1e-3, rtol=1e-4)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_decoding_an_encoded_box_gives_the_box(seed):
    generator = torch.Generator().manual_seed(seed)
    points = torch.cat([grid_points((4, 4), 8), grid_points((2, 2), 16)])
    distances = torch.rand(3, len(points), 4, generator=generator) * 200 + 0.01
    boxes = torch.cat([points[:, :2] - distances[..., :2], points[:, :2] + distances[..., 2:]], dim=-1)
    decoded = decode_distances(encode_distances(boxes, points), points)
    torch.testing.assert_close(decoded, boxes, atol=1e-3, rtol=1e-4)


@LIGHT
def test_a_new_light_head_predicts_boxes_of_four_strides(name):
    head = DETECTION_HEADS.build(name, INFO, CLASSES)
    nn.init.zeros_(head.box_predictor.weight)
    nn.init.zeros_(head.box_predictor.bias)
    regression = head(features_of()).box_regression
    torch.testing.assert_close(F.softplus(regression), torch.full_like(regression, 2.0))


@pytest.mark.parametrize("scheme", ["kaiming", "xavier", "orthogonal"])
def test_a_new_retinanet_starts_at_its_anchors_under_every_scheme(scheme):
    """RetinaNet, section 4.1, and torchvision: N(0, 0.01²) in both predictors; the towers are the scheme's."""
    torch.manual_seed(0)
    info = [FeatureInfo(128, 8), FeatureInfo(128, 16)]
    head = RetinaNetHead(info, CLASSES)
    initialize(head, INITIALIZERS.build(scheme))
    of_scheme = head.box_tower[0][0].weight.clone()
    scattered = head(features_of(info=info)).box_regression.std()
    reset_priors(head)
    for predictor in (head.class_predictor, head.box_predictor):
        assert predictor.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert torch.equal(head.box_tower[0][0].weight, of_scheme)
    assert head(features_of(info=info)).box_regression.std() < min(0.25, scattered / 2)
    assert not head.box_predictor.bias.any()


def test_predictors_behind_norms_stay_as_the_scheme_filled_them():
    head = RetinaNetHead([FeatureInfo(128, 8)], CLASSES, norm="group")
    before = [head.class_predictor.weight.clone(), head.box_predictor.weight.clone()]
    reset_priors(head)
    assert torch.equal(head.class_predictor.weight, before[0])
    assert torch.equal(head.box_predictor.weight, before[1])


def test_single_scale_takes_stride_16_or_the_one_it_is_given():
    for info, stride, expected in (
        (INFO, None, 16),
        (INFO[::2], None, 32),
        (INFO[:1], None, 8),
        (INFO, 8, 8),
    ):
        head = SingleScaleDetectionHead(info, CLASSES, stride=stride)
        points = head(features_of(info=info)).points
        assert torch.equal(points, grid_points((64 // expected, 64 // expected), expected))
    with pytest.raises(
        ConfigError, match=r"'single_scale' needs features of stride 64, but there is none of stride 64"
    ):
        SingleScaleDetectionHead(INFO, CLASSES, stride=64)


def test_single_scale_is_fpns_towers_on_one_level():
    single, fpn = SingleScaleDetectionHead(INFO, CLASSES, channels=16), FPNDetectionHead(INFO[1:2], CLASSES)
    own = {key: value for key, value in single.state_dict().items() if not key.startswith("projection")}
    fpn.load_state_dict(own, strict=True)
    features = features_of()
    expected = fpn([single.projection(features[1])])
    torch.testing.assert_close(tuple(single(features)), tuple(expected), rtol=0, atol=0)


def test_no_activation_makes_a_distance_of_fcos_negative():
    head = FCOSHead(INFO, CLASSES)
    assert replace_activations(head, nn.Tanh) == 2 * 4
    regression = head(features_of()).box_regression
    assert regression.min() == 0
    assert regression.max() > 0


def test_anchors_stay_exact_in_half_precision():
    info = [FeatureInfo(8, 8), FeatureInfo(8, 128)]
    features = [torch.zeros(1, 8, 2, 2), torch.zeros(1, 8, 1, 1)]
    points = RetinaNetHead(info, CLASSES)(features).points
    halved = RetinaNetHead(info, CLASSES).bfloat16()([feature.bfloat16() for feature in features]).points
    assert points[:, 3:].max() > 1000
    assert torch.equal(halved, points)


def test_anchors_scale_with_the_stride_and_move_with_the_offset():
    narrow = RetinaNetHead([FeatureInfo(8, 16)], CLASSES, anchor_scale=4)
    wide = RetinaNetHead([FeatureInfo(8, 8)], CLASSES, anchor_scale=8, point_offset=0.5)
    feature = [torch.zeros(1, 8, 2, 2)]
    one, other = narrow(feature).points, wide(feature).points
    assert torch.equal(one[:, 3:], other[:, 3:])
    assert torch.equal(one[:, :2] / 2 + 4, other[:, :2])
    assert one[:9, 3:].prod(dim=1).sqrt().unique().numel() >= 3
    smallest = RetinaNetHead([FeatureInfo(8, 1)], CLASSES, anchor_scale=1)(feature).points
    assert smallest[:, 3:].min() == 2
