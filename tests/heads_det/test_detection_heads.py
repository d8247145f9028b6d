"""What every registered detection head must do, on the neck that it names."""

import pytest
import torch

from contract_detection import (
    DetectionModel,
    check_any_targets,
    check_detection_head,
    check_maps,
    check_prior,
    detection_task,
)
from families import FAMILIES, ONE_STRIDE, SIZE, features_behind_neck, features_of_family
from mtvision.errors import ConfigError
from mtvision.heads.detection.base import DetectionHead
from mtvision.registries import BOX_LOSSES, CLASSIFICATION_LOSSES, DETECTION_HEADS
from mtvision.registry import Component
from mtvision.types import FeatureInfo, SupportsPrior

CLASSES = 3
INFO = [FeatureInfo(16, 8), FeatureInfo(16, 16), FeatureInfo(16, 32)]
HEADS = pytest.mark.parametrize("name", DETECTION_HEADS.names())


def features_of():
    torch.manual_seed(0)
    return [torch.randn(2, i.channels, 64 // i.stride, 64 // i.stride) for i in INFO]


@HEADS
def test_contract(name):
    check_detection_head(name)


def test_contract_of_options():
    check_detection_head("fpn", channels=8, num_convs=2, dropout_rate=0.5)
    check_detection_head("fpn", num_convs=0)
    check_detection_head("fcos", channels=24, num_convs=1, point_offset=0.5)
    check_detection_head("retinanet", norm="group", anchor_scale=2.5, num_convs=2, point_offset=0.5)
    check_detection_head("single_scale", stride=8, channels=12, num_convs=2)


@HEADS
def test_every_class_starts_at_its_prior(name):
    assert isinstance(DETECTION_HEADS.build(name, INFO, CLASSES), DetectionHead)
    assert isinstance(DETECTION_HEADS.build(name, INFO, CLASSES), SupportsPrior)
    check_prior(name)
    check_prior(name, prior_probability=0.2)


@HEADS
@pytest.mark.parametrize("losses", [("l1", "bce"), ("giou", "quality_focal")])
def test_finite_with_losses_of_coordinates_and_of_quality(name, losses):
    box_loss, class_loss = BOX_LOSSES.build(losses[0]), CLASSIFICATION_LOSSES.build(losses[1])
    check_any_targets(lambda: DetectionModel(Component(name), losses=(box_loss, class_loss)))


@HEADS
@pytest.mark.parametrize("backbone", FAMILIES)
def test_every_family_of_backbones(name, backbone):
    neck = DETECTION_HEADS.get(name).recipe.neck
    info, features = features_of_family(backbone) if neck is None else features_behind_neck(backbone, neck.name)
    task = detection_task(Component(name), info).eval()
    check_maps(task, info, features, SIZE)
    if backbone == ONE_STRIDE and neck is not None:
        info, features = features_behind_neck(backbone, "simple_fpn")
        task = detection_task(Component(name), info).eval()
        check_maps(task, info, features, SIZE)
        assert len(task(features, SIZE).points[:, 2].unique()) > 1


@pytest.mark.parametrize("name", ["fpn", "retinanet", "fcos"])
def test_levels_of_different_widths_are_an_error_that_names_a_neck(name):
    info = [FeatureInfo(64, 8), FeatureInfo(128, 16), FeatureInfo(256, 32)]
    with pytest.raises(ConfigError) as caught:
        DETECTION_HEADS.build(name, info, CLASSES)
    assert str(caught.value) == (
        f"detection head '{name}' shares its towers between levels and needs features of one width, got 64, 128, 256: "
        "choose a neck such as 'fpn'"
    )


@pytest.mark.parametrize("name", ["fpn", "retinanet", "fcos"])
def test_channels_without_convolutions_are_an_error(name):
    with pytest.raises(ConfigError, match=r"predictors take the features' 16 channels, not 8: leave 'channels' out"):
        DETECTION_HEADS.build(Component(name, {"channels": 8, "num_convs": 0}), INFO, CLASSES)
    DETECTION_HEADS.build(Component(name, {"channels": 16, "num_convs": 0}), INFO, CLASSES)


@HEADS
def test_dropout_acts_in_training_only_and_not_on_boxes(name):
    head = DETECTION_HEADS.build(Component(name, {"dropout_rate": 0.5}), INFO, CLASSES)
    features = features_of()
    one, other = head(features), head(features)
    assert not torch.equal(one.class_logits, other.class_logits)
    assert torch.equal(one.box_regression, other.box_regression)
    head.eval()
    assert torch.equal(head(features).class_logits, head(features).class_logits)


@HEADS
def test_decoding_a_half_precision_regression_is_finite(name):
    head = DETECTION_HEADS.build(name, INFO, CLASSES)
    points = head(features_of()).points[:2]
    regression = torch.tensor([[[100.0] * 4, [-100.0] * 4]], dtype=torch.float16, requires_grad=True)
    boxes = head.decode(regression, points)
    assert boxes.dtype == torch.float32
    assert boxes.isfinite().all()
    boxes.sum().backward()
    assert regression.grad.isfinite().all()
