"""From a config to a model."""

import itertools
import logging

import pytest
import torch
from torch import nn

import mtvision as mtv
from mtvision import ConfigError
from mtvision.factory import resolve_classes
from tests.core.test_config import BEST_RUN, OPTIMAL_CONFIG

SMALL = {"backbone": "test_resnet", "dropout_rate": 0.0}


def synthetic_targets(num_images=2, size=64):
    mask = torch.zeros(num_images, size, size, dtype=torch.int64)
    mask[:, 16:48, 8:40] = 1
    objects = {
        "boxes": torch.tensor([[8.0, 16.0, 40.0, 48.0]]),
        "labels": torch.tensor([0]),
        "difficult": torch.tensor([False]),
    }
    return {"seg": mask, "det": [objects for _ in range(num_images)]}


@pytest.mark.parametrize("config", [OPTIMAL_CONFIG, BEST_RUN])
def test_the_reports_configurations_build_and_go_into_a_trainer_verbatim(config):
    model = mtv.build_model(config)
    outputs = model(torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8))
    assert outputs["seg"].logits.shape == (1, 21, 64, 64)
    assert outputs["det"].class_logits.shape[-1] == 20
    assert mtv.Trainer(model, config, progress=False).config.training.batch_size == 32


def test_the_model_section_alone_builds():
    assert set(mtv.build_model(OPTIMAL_CONFIG["model"]).tasks) == {"seg", "det"}


GRID = {
    "model.backbone": ["resnet18", "resnet34"],
    "model.segmentation_head": ["fcn", "unet"],
    "model.activation": ["relu", "leaky_relu", "gelu"],
    "model.init_scheme": ["kaiming", "xavier", "normal"],
    "training.seg_loss": ["cross_entropy", "focal"],
    "training.det_loss": ["smooth_l1", "ciou"],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in GRID.items() for value in values])
def test_every_value_of_every_model_factor_takes_a_training_step(key, value):
    cfg = mtv.Config(**OPTIMAL_CONFIG).replace({key: value})
    model = mtv.build_model(cfg)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    losses = model.loss(model(torch.rand(2, 3, 64, 64)), synthetic_targets())
    total = sum(part for parts in losses.values() for part in parts.values())
    total.backward()
    optimizer.step()
    assert torch.isfinite(total)
    changed = [name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])]
    assert len(changed) > 0.9 * len(before)


def test_the_same_config_gives_the_same_weights_and_another_seed_others():
    one, two = mtv.build_model(SMALL), mtv.build_model(SMALL)
    other = mtv.build_model({"system": {"seed": 7}, "model": SMALL})
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    weights = [next(p for p in m.parameters() if p.ndim == 4) for m in (one, other)]
    assert not torch.equal(*weights)


def test_building_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    mtv.build_model(SMALL)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize(("absent", "present"), [("segmentation_head", "det"), ("detection_head", "seg")])
def test_a_null_head_gives_a_single_task_model(absent, present):
    model = mtv.build_model({**SMALL, absent: None})
    assert list(model.tasks) == [present]
    outputs = model(torch.rand(2, 3, 64, 64))
    losses = model.loss(outputs, synthetic_targets())
    assert list(outputs) == list(losses) == [present]
    assert set(model.predict(torch.rand(3, 50, 70))[0]) == {present}


@pytest.mark.parametrize(("name", "kind"), [("gelu", nn.GELU), ("leaky_relu", nn.LeakyReLU), ("relu", nn.ReLU)])
def test_the_activation_is_replaced_everywhere(name, kind):
    model = mtv.build_model({"backbone": "resnet18", "activation": name})
    found = {type(m) for m in model.modules() if isinstance(m, nn.ReLU | nn.GELU | nn.LeakyReLU | nn.SiLU)}
    assert found == {kind}


def test_norms_start_at_one_the_residual_ones_too_unless_asked_otherwise():
    def norm_weights(**options):
        model = mtv.build_model({"backbone": "resnet18", **options})
        return [m.weight for m in model.backbone.modules() if isinstance(m, nn.BatchNorm2d)]

    for options in ({}, {"init_backbone": False}):
        assert all(torch.equal(w, torch.ones_like(w)) for w in norm_weights(**options))
        zeros = [w for w in norm_weights(zero_init_residual=True, **options) if torch.equal(w, torch.zeros_like(w))]
        assert len(zeros) == 8  # one a residual block of ResNet-18


def test_the_scheme_reaches_the_backbone_only_where_asked():
    def first_convolution(**options):
        model = mtv.build_model({"backbone": "resnet18", "init_scheme": {"name": "normal", "std": 0.5}, **options})
        return next(m.weight for m in model.backbone.modules() if isinstance(m, nn.Conv2d))

    assert first_convolution().std().item() == pytest.approx(0.5, rel=0.05)
    assert first_convolution(init_backbone=False).std().item() < 0.2


def test_prior_bias_comes_after_the_scheme():
    model = mtv.build_model({**SMALL, "init_scheme": "normal"}).eval()
    scores = model(torch.rand(1, 3, 64, 64))["det"].class_logits.sigmoid()
    assert scores.mean().item() == pytest.approx(0.01, rel=0.5)


def test_local_pretrained_weights_are_loaded_and_not_overwritten(tmp_path):
    from safetensors.torch import save_file

    donor = mtv.build_model({"system": {"seed": 5}, "model": {**SMALL, "init_scheme": "normal"}})
    path = tmp_path / "backbone.safetensors"
    save_file({k: v.clone() for k, v in donor.backbone.state_dict().items()}, path)
    model = mtv.build_model({**SMALL, "pretrained": str(path)})
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.backbone.state_dict().values(), donor.backbone.state_dict().values(), strict=True)
    )


def test_dropout_acts_in_the_heads_and_a_head_without_it_is_named(caplog):
    def rates(**options):
        model = mtv.build_model({"backbone": "test_resnet", **options})
        return {m.p for m in model.tasks.modules() if isinstance(m, nn.Dropout | nn.Dropout2d)}

    assert rates(dropout_rate=0.25) == {0.25}
    assert rates(dropout_rate=0.25, segmentation_head={"name": "fcn", "dropout_rate": 0.5}) == {0.25, 0.5}

    @mtv.SEGMENTATION_HEADS.register("bare")
    def bare(feature_info, num_classes):
        """Classify the finest feature."""
        return _First(feature_info[0].channels, num_classes)

    with caplog.at_level(logging.WARNING, logger="mtvision"):
        mtv.build_model({"backbone": "test_resnet", "segmentation_head": "bare"})
    assert "segmentation head 'bare' has no option 'dropout_rate'" in caplog.text


class _First(nn.Module):
    def __init__(self, channels, num_classes):
        super().__init__()
        self.classify = nn.Conv2d(channels, num_classes, 1)

    def forward(self, features):
        return self.classify(features[0])


def test_number_of_classes_comes_from_the_data_set_the_config_or_voc():
    def counts(model):
        outputs = model.eval()(torch.rand(1, 3, 64, 64))
        return outputs["seg"].logits.shape[1], outputs["det"].class_logits.shape[-1]

    assert counts(mtv.build_model(SMALL)) == (21, 20)
    assert counts(mtv.build_model({**SMALL, "num_classes": {"seg": 4, "det": 7}})) == (4, 7)
    assert counts(mtv.build_model({**SMALL, "num_classes": {"seg": 4}})) == (4, 20)
    classes = mtv.Classes(("background", "cat"), ("cat",))
    assert counts(mtv.build_model(SMALL, classes=classes)) == (2, 1)


@pytest.mark.parametrize(
    ("classes", "head", "left"),
    [
        (mtv.Classes(("background", "sky"), ()), "detection_head", {"seg": 2, "det": None}),
        (mtv.Classes(("background",), ("cat",)), "segmentation_head", {"seg": None, "det": 1}),
    ],
)
def test_a_data_set_of_one_task_makes_a_model_of_one_task(classes, head, left):
    cfg = mtv.Config(model={**SMALL, head: None})
    assert resolve_classes(cfg, classes).dump()["model"]["num_classes"] == left
    assert len(mtv.build_model(cfg, classes=classes).tasks) == 1
    with pytest.raises(ConfigError, match=rf"model\.{head}: the data set has no classes for it; set it to null"):
        mtv.build_model(SMALL, classes=classes)


def test_one_number_of_classes_may_be_left_to_the_data_set():
    classes = mtv.Classes(("background", "cat"), ("cat",))
    cfg = mtv.Config(model={"num_classes": {"det": 1}})
    assert resolve_classes(cfg, classes).dump()["model"]["num_classes"] == {"seg": 2, "det": 1}
    with pytest.raises(ConfigError, match=r"model\.num_classes\.det: 4, but the data set has 1 \(cat\)"):
        resolve_classes(mtv.Config(model={"num_classes": {"det": 4}}), classes)


def test_replacing_what_pretrained_weights_were_learned_with_is_said(tmp_path, caplog):
    from safetensors.torch import save_file

    donor = mtv.build_model({"backbone": "test_efficientnet", "activation": None, "dropout_rate": 0.0})
    assert any(isinstance(m, nn.SiLU) for m in donor.backbone.modules())
    path = tmp_path / "w.safetensors"
    save_file({k: v.clone() for k, v in donor.backbone.state_dict().items()}, path)
    base = {"backbone": "test_efficientnet", "dropout_rate": 0.0, "pretrained": str(path)}
    with caplog.at_level(logging.WARNING, logger="mtvision"):
        mtv.build_model({**base, "activation": None})
        mtv.build_model({**base, "activation": "silu"})
        assert caplog.text == ""
        mtv.build_model(base)
    assert "model.activation 'relu' replaces SiLU of the pretrained backbone 'test_efficientnet'" in caplog.text


def test_preprocessing_is_part_of_the_model():
    images = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    for name in ("standardize", "none"):
        model = mtv.build_model({"model": SMALL, "data": {"preprocessing": name}})
        assert torch.allclose(model.normalization(images), model.normalization(images / 255), atol=1e-6)
    assert torch.allclose(model.normalization(images), images / 255)
    given = {"name": "normalize", "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5]}
    model = mtv.build_model({"model": SMALL, "data": {"preprocessing": given}})
    assert not model.normalization.pending
    assert model.normalization(images)[0, 2].mean().item() == pytest.approx(
        (images[0, 2] / 255).mean().item() * 2 - 0.6, abs=1e-4
    )
    assert mtv.build_model({"model": SMALL, "data": {"preprocessing": "normalize"}}).normalization.pending


def test_a_model_from_parts_needs_no_config():
    built = mtv.build_model(SMALL)
    model = mtv.MultiTaskModel(built.backbone, {"masks": built.tasks["seg"]})
    assert list(model(torch.rand(1, 3, 64, 64))) == ["masks"]
    for name in ("train", "keys", "a.b", "type"):
        with pytest.raises(ConfigError, match=f"tasks.{name}: not a usable task name"):
            mtv.MultiTaskModel(built.backbone, {name: built.tasks["seg"]})
    with pytest.raises(ConfigError, match="at least one"):
        mtv.MultiTaskModel(built.backbone, {})


def test_the_grid_of_the_report_is_complete():
    assert len(list(itertools.product(*GRID.values()))) == 2 * 2 * 3 * 3 * 2 * 2
