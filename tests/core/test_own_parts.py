"""Parts that users write: what is accepted, and the sentence for what would go wrong in silence."""

import sys
import types

import pytest
import torch
from torch import nn

import mtvision as mtv
from mtvision.assigners.base import Assignment
from mtvision.ops.points import grid_points
from mtvision.registry import Component
from tests.core.test_factory import SMALL, synthetic_targets


def losses_of(**config):
    model = mtv.build_model({"model": SMALL, **config})
    return model.loss(model(torch.rand(2, 3, 64, 64)), synthetic_targets())


def test_a_module_without_a_constructor_is_a_part():
    @mtv.ACTIVATIONS.register("square")
    class Square(nn.Module):
        """Square what comes in."""

        def forward(self, x):
            return x * x

    model = mtv.build_model({**SMALL, "activation": "square"})
    assert any(isinstance(module, Square) for module in model.modules())


def test_annotations_that_only_a_type_checker_sees_are_left_alone_unless_they_are_options():
    code = """
from __future__ import annotations
from typing import TYPE_CHECKING
from torch import nn
if TYPE_CHECKING:
    from collections.abc import Sequence

class Head(nn.Module):
    def __init__(self, feature_info: Sequence, num_classes: int, *, kernel: int = 1) -> None:
        super().__init__()
        self.score = nn.Conv2d(feature_info[0].channels, num_classes, kernel)
    def forward(self, features):
        return self.score(features[0])

class Wrong(Head):
    def __init__(self, feature_info, num_classes, *, kernel: Sequence = ()) -> None: ...
"""
    module = types.ModuleType("own_parts_of_a_user")
    sys.modules[module.__name__] = module
    exec(code, module.__dict__)
    mtv.SEGMENTATION_HEADS.register("typed")(module.Head)
    mtv.SEGMENTATION_HEADS.register("wrong")(module.Wrong)
    assert mtv.build_model({**SMALL, "segmentation_head": {"name": "typed", "kernel": 1}})
    with pytest.raises(mtv.ConfigError, match=r"model\.segmentation_head\.kernel: must be an integer"):
        mtv.Config(model={"segmentation_head": {"name": "typed", "kernel": "x"}})
    with pytest.raises(mtv.MtvisionError, match=r"'wrong': the type of an option cannot be found .*Sequence"):
        mtv.Config(model={"segmentation_head": "wrong"})


def test_an_own_detection_head_derives_from_the_exported_base():
    @mtv.DETECTION_HEADS.register("points")
    class Points(mtv.DetectionHead):
        """One point a cell of the finest feature."""

        def __init__(self, feature_info, num_classes):
            super().__init__()
            self.stride = feature_info[0].stride
            self.predict = nn.Conv2d(feature_info[0].channels, num_classes + 4, 1)

        def forward(self, features):
            maps = self.predict(features[0]).flatten(2).transpose(1, 2)
            height, width = features[0].shape[-2:]
            y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
            points = torch.stack([x, y, torch.ones_like(x)], dim=-1).reshape(-1, 3) * self.stride
            return mtv.DetectionMaps(maps[..., 4:], maps[..., :4], points)

    losses = losses_of(model={**SMALL, "detection_head": "points"})
    assert all(torch.isfinite(part) for part in losses["det"].values())


class OneFeature(mtv.DetectionHead):
    """Maps of the finest feature, of which a test changes one."""

    def __init__(self, feature_info, num_classes):
        super().__init__()
        self.stride = feature_info[0].stride
        self.predict = nn.Conv2d(feature_info[0].channels, num_classes + 4, 1)

    def forward(self, features):
        maps = self.predict(features[0]).flatten(2).transpose(1, 2)
        points = grid_points(tuple(features[0].shape[-2:]), self.stride)
        return mtv.DetectionMaps(maps[..., 4:], maps[..., :4], points)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda maps: maps._replace(class_logits=torch.zeros(2, 64, 21)),
            r"must give class logits \(N, A, 20\), got \(2, 64, 21\)",
        ),
        (
            lambda maps: maps._replace(class_logits=torch.zeros(2, 64, 3)),
            r"must give class logits \(N, A, 20\), got \(2, 64, 3\)",
        ),
        (
            lambda maps: maps._replace(points=maps.points[:-1]),
            r"gives class logits \(2, 64, 20\) and must give points \(64, 3\), got \(63, 3\)",
        ),
        (
            lambda maps: maps._replace(box_regression=maps.box_regression[:, 1:]),
            r"must give box_regression \(2, 64, 4\), got \(2, 63, 4\)",
        ),
        (
            lambda maps: maps._replace(centerness=torch.zeros(2, 64, 1)),
            r"must give centerness \(2, 64\), got \(2, 64, 1\)",
        ),
        (tuple, "a detection head must return DetectionMaps, got tuple"),
    ],
)
def test_detection_maps_that_do_not_fit_are_named(change, sentence):
    @mtv.DETECTION_HEADS.register("changed")
    class Changed(OneFeature):
        """Give wrong maps."""

        def forward(self, features):
            return change(super().forward(features))

    losses = {"box_loss": Component("ciou"), "class_loss": Component("focal")}
    choice = Component("detection", {"head": Component("changed"), "num_classes": 20, **losses})
    task = mtv.TASKS.build(choice, [mtv.FeatureInfo(6, 8)])
    with pytest.raises(mtv.ConfigError, match=sentence):
        task([torch.zeros(2, 6, 8, 8)], (64, 64))


def test_an_assigner_that_returns_something_else_is_named():
    wrong = [
        (lambda n, a: (torch.zeros(n, a, dtype=torch.bool),) * 4, r"must return an Assignment .*, got tuple"),
        (
            lambda n, a: Assignment(
                torch.zeros(n, a, dtype=torch.bool),
                torch.zeros(n, a, dtype=torch.int64),
                torch.zeros(n, a, 1),
                torch.zeros(n, a, dtype=torch.bool),
            ),
            r"one value an image and point in 'scores', \(2, \d+\), got \(2, \d+, 1\)",
        ),
    ]
    for make, sentence in wrong:
        model = mtv.build_model(SMALL)
        model.task("det").assigner = lambda logits, boxes, points, targets, make=make: make(*boxes.shape[:2])
        with pytest.raises(mtv.ConfigError, match=sentence):
            model.loss(model(torch.rand(2, 3, 64, 64)), synthetic_targets())


def neck_of(feature_info, published):
    class Widen(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolutions = nn.ModuleList(nn.Conv2d(info.channels, 8, 1) for info in feature_info)
            if published is not None:
                self.feature_info = published

        def forward(self, features):
            return [layer(feature) for layer, feature in zip(self.convolutions, features, strict=True)]

    return Widen()


def test_a_neck_that_publishes_nothing_or_something_else_is_named():
    def publish(value):
        mtv.NECKS._factories.pop("own", None)
        mtv.NECKS.register("own")(lambda feature_info: neck_of(feature_info, value(feature_info)))

    config = {**SMALL, "neck": "own"}
    for value in (lambda info: None, lambda info: (), lambda info: [8, 8, 8, 8, 8]):
        publish(value)
        with pytest.raises(mtv.ConfigError, match=r"neck 'own' must have feature_info, one FeatureInfo\(channels, str"):
            mtv.build_model(config)
    publish(lambda info: tuple(mtv.FeatureInfo(8, each.stride) for each in info))
    assert mtv.build_model(config)(torch.rand(1, 3, 64, 64))
    publish(lambda info: tuple(mtv.FeatureInfo(16, each.stride) for each in info))
    model = mtv.build_model(config)
    with pytest.raises(mtv.ConfigError, match=r"the neck \(Widen\) must return features of 16, 16.* but returned 8, 8"):
        model(torch.rand(1, 3, 64, 64))
    publish(lambda info: tuple(mtv.FeatureInfo(8, each.stride) for each in info[1:]))
    model = mtv.build_model(config)
    with pytest.raises(mtv.ConfigError, match=r"must return features of 8, 8, 8, 8 channels.* returned 8, 8, 8, 8, 8"):
        model(torch.rand(1, 3, 64, 64))


def test_a_backbone_that_publishes_nothing_is_named():
    mtv.BACKBONES.register("plain")(lambda pretrained: nn.Conv2d(3, 8, 1))
    with pytest.raises(mtv.ConfigError, match="backbone 'plain' must have feature_info"):
        mtv.build_model({"backbone": "plain"})


def test_a_detection_head_of_another_kind_is_named():
    @mtv.DETECTION_HEADS.register("bare")
    def bare(feature_info, num_classes):
        """Return no detection head."""
        return nn.Conv2d(feature_info[0].channels, num_classes, 1)

    with pytest.raises(mtv.ConfigError, match=r"needs a DetectionHead .* got Conv2d"):
        mtv.build_model({**SMALL, "detection_head": "bare"})


def test_losses_that_would_broadcast_are_refused():
    mtv.BOX_LOSSES.register("mean")(lambda: lambda predicted, target: (predicted - target).abs().mean())
    mtv.CLASSIFICATION_LOSSES.register("mean")(lambda: lambda logits, targets: (logits - targets).abs().mean())
    mtv.SEGMENTATION_LOSSES.register("pixels")(lambda: lambda logits, mask: logits.mean(dim=1))
    with pytest.raises(mtv.ConfigError, match="the box loss must return one value a box"):
        losses_of(training={"det_loss": "mean"})
    with pytest.raises(mtv.ConfigError, match="the class loss must return one value a logit"):
        losses_of(training={"det_class_loss": "mean"})
    with pytest.raises(mtv.ConfigError, match="a segmentation loss must return a scalar"):
        mtv.build_model({"model": SMALL, "training": {"seg_loss": "pixels"}})


def test_a_head_with_another_number_of_classes_is_named():
    @mtv.SEGMENTATION_HEADS.register("one_more")
    def one_more(feature_info, num_classes):
        """Give one class too many."""
        return _Score(feature_info[0].channels, num_classes + 1)

    model = mtv.build_model({**SMALL, "segmentation_head": "one_more"})
    with pytest.raises(mtv.ConfigError, match="must give 21 logits a pixel, got 22"):
        model(torch.rand(1, 3, 64, 64))


class _Score(nn.Module):
    def __init__(self, channels, num_classes):
        super().__init__()
        self.score = nn.Conv2d(channels, num_classes, 1)

    def forward(self, features):
        return self.score(features[0])


def test_an_augmentation_that_changes_the_size_is_named():
    mtv.AUGMENTATIONS.register("untouched")(lambda image_size: lambda sample, seed: sample)
    cfg = mtv.Config(
        data={
            "dataset": {"name": "shapes", "num_images": 4, "image_size": 48},
            "image_size": 64,
            "augmentation_level": "untouched",
        }
    )
    with pytest.raises(mtv.DataError, match=r"is \(48, 48\) after augmentation, not \(64, 64\)"):
        next(iter(mtv.build_loader(cfg, mtv.build_dataset(cfg), training=True)))
