"""Which neck stands before which task."""

import pytest
import torch

import mtvision as mtv
from mtvision.necks.fpn import FPN
from tests.core.test_factory import SMALL, synthetic_targets


def build(**model):
    return mtv.build_model({**SMALL, **model})


def test_the_detection_head_names_its_neck_and_only_detection_gets_it():
    model = build()
    assert isinstance(model.neck, FPN)
    assert model.neck_tasks == {"det"}
    features = model.backbone(torch.rand(1, 3, 64, 64))
    seen = {}
    for name in ("seg", "det"):
        model.task(name).head.register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[0]}))
    model(torch.rand(1, 3, 64, 64))
    assert [x.shape[1] for x in seen["det"]] == [64, 64, 64]
    assert [x.shape[1] for x in seen["seg"]] == [x.shape[1] for x in features]


def test_a_head_of_ones_own_gets_the_backbones_features_unless_it_names_a_neck():
    class Head(mtv.DetectionHead):
        def __init__(self, feature_info, num_classes):
            super().__init__()
            self.feature_info = tuple(feature_info)

        def forward(self, features):
            raise NotImplementedError

    mtv.DETECTION_HEADS.register("bare")(Head)
    model = build(detection_head="bare")
    assert model.neck is None
    assert model.task("det").head.feature_info == model.backbone.feature_info
    assert isinstance(build(detection_head="bare", neck="fpn").neck, FPN)


def test_the_config_chooses_another_neck_with_options():
    model = build(neck={"name": "fpn", "channels": 24, "strides": [16, 32]})
    assert [tuple(info) for info in model.neck.feature_info] == [(24, 16), (24, 32)]
    assert model(torch.rand(1, 3, 64, 64))["det"].class_logits.shape[1] == 16 + 4


def test_a_shared_neck_stands_before_every_task_and_learns_from_each():
    model = build(share_neck=True)
    assert model.neck_tasks == {"seg", "det"}
    losses = model.loss(model(torch.rand(2, 3, 64, 64)), synthetic_targets())
    for task in ("seg", "det"):
        gradients = torch.autograd.grad(sum(losses[task].values()), [*model.neck.parameters()], retain_graph=True)
        assert all(gradient.any() for gradient in gradients)


def test_a_shared_neck_serves_segmentation_alone():
    model = build(detection_head=None, neck="fpn", share_neck=True)
    assert model.neck_tasks == {"seg"}
    assert model(torch.rand(1, 3, 64, 64))["seg"].logits.shape == (1, 21, 64, 64)


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ({"detection_head": None, "neck": "fpn"}, r"model\.neck: stands before the detection head, which is null"),
        ({"detection_head": None, "share_neck": True}, r"model\.share_neck: true, but there is no neck to share"),
        ({"neck": "fpm"}, r"model\.neck: unknown neck 'fpm'\. Did you mean 'fpn'\?"),
        (
            {"segmentation_head": None, "auxiliary_heads": ["fcn"]},
            r"model\.auxiliary_heads: belong to the segmentation",
        ),
        ({"tasks": {"seg": "segmentation"}}, r"model\.tasks\.seg: 'seg' is made by segmentation_head"),
        (
            {"detections": {"nms": "sofd"}},
            r"model\.detections\.nms: unknown suppression 'sofd'\. Did you mean 'soft'\?",
        ),
        ({"detections": {"nms_treshold": 0.4}}, r"model\.detections\.nms_treshold.* Did you mean 'nms_threshold'\?"),
    ],
)
def test_what_cannot_act_is_a_sentence(model, sentence):
    with pytest.raises(mtv.ConfigError, match=sentence):
        mtv.Config(model=model)


def test_a_neck_that_nobody_names_cannot_be_shared():
    with pytest.raises(mtv.ConfigError, match=r"model\.share_neck: true, but detection head 'single_scale' names no"):
        build(detection_head="single_scale", share_neck=True)


def test_a_model_of_parts_says_which_task_the_neck_is_for():
    parts = build(segmentation_head=None)
    model = mtv.MultiTaskModel(parts.backbone, dict(parts.tasks.items()), neck=parts.neck)
    images = torch.rand(1, 3, 64, 64)
    parts.eval(), model.eval()
    torch.testing.assert_close(model(images)["det"].class_logits, parts(images)["det"].class_logits)
    with pytest.raises(mtv.ConfigError, match=r"neck_tasks: there is no task 'dett'\. Did you mean 'det'\?"):
        mtv.MultiTaskModel(parts.backbone, dict(parts.tasks.items()), neck=parts.neck, neck_tasks=["dett"])


def test_the_config_decides_what_becomes_a_detection():
    chosen = {"score_threshold": 0.2, "nms_threshold": 0.3, "max_detections": 7, "candidates": 50}
    selection = build(detections=chosen).task("det").selection
    assert {key: getattr(selection, key) for key in chosen} == chosen
    assert build().task("det").selection.nms_threshold == 0.6
    assert build(detection_head="retinanet").task("det").selection.nms_threshold == 0.5


def test_every_key_survives_a_dump():
    model = {
        "neck": {"name": "pan", "channels": 32},
        "share_neck": True,
        "auxiliary_heads": [{"name": "fcn", "variant": "16s"}, "unet"],
        "detections": {"nms": {"name": "soft", "sigma": 0.4}, "max_detections": 10},
    }
    config = mtv.Config(model=model, training={"det_assigner": {"name": "atss", "topk": 5}})
    assert mtv.Config(**config.dump()) == config
