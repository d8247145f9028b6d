"""Norm layers and initialization as keys of the config, and the report of them."""

import logging

import pytest
import torch
from torch import nn

import mtvision as mtv
from tests.core.test_factory import SMALL, synthetic_targets


def build(**model):
    return mtv.build_model({**SMALL, **model})


def norms_of(module):
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d | nn.GroupNorm | nn.SyncBatchNorm)]


def test_null_keeps_the_norms_of_each_part():
    model = build()
    assert {type(norm) for norm in norms_of(model.backbone)} == {nn.BatchNorm2d}
    assert {type(norm) for norm in norms_of(model.task("det"))} == {nn.GroupNorm}


def test_group_norm_replaces_every_batch_norm_and_makes_images_independent():
    model = build(norm="group")
    assert {type(norm) for norm in norms_of(model)} == {nn.GroupNorm}
    images = torch.rand(3, 3, 64, 64)
    together, alone = model(images)["seg"].logits[:1], model(images[:1])["seg"].logits
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_options_of_the_norm_are_checked_and_used():
    model = build(norm={"name": "group", "num_groups": 4})
    assert {norm.num_groups for norm in norms_of(model.backbone)} == {4}
    with pytest.raises(mtv.ConfigError, match=r"model\.norm\.num_group.*Did you mean 'num_groups'\?"):
        mtv.Config(model={"norm": {"name": "group", "num_group": 4}})


def test_frozen_norms_stay_in_the_backbone_and_do_not_move(caplog):
    with caplog.at_level(logging.WARNING):
        model = build(norm="frozen")
    assert "keeps mean 0 and variance 1" in caplog.text
    assert norms_of(model.backbone) == []
    assert any(isinstance(norm, nn.BatchNorm2d) for norm in norms_of(model.task("seg")))
    before = {name: buffer.clone() for name, buffer in model.backbone.named_buffers()}
    model.train()
    losses = model.loss(model(torch.rand(2, 3, 64, 64)), synthetic_targets())
    sum(value for parts in losses.values() for value in parts.values()).backward()
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.backbone.named_buffers())


def test_frozen_norms_refuse_what_would_switch_blocks_off():
    with pytest.raises(mtv.ConfigError, match=r"model\.zero_init_residual: true would switch residual blocks off"):
        build(norm="frozen", zero_init_residual=True)


def test_the_description_tells_what_initialized_every_parameter():
    description = build(init_scheme={"name": "orthogonal", "gain": 2.0}).describe()
    rows = {row.part: row for row in description.rows}
    assert set(rows) == {"normalization", "backbone", "neck", "tasks.seg", "tasks.det"}
    for part in ("backbone", "neck", "tasks.seg", "tasks.det"):
        assert max(rows[part].initialized_by, key=rows[part].initialized_by.get) == "orthogonal(gain=2.0)"
        assert sum(rows[part].initialized_by.values()) == rows[part].parameters
    assert rows["tasks.det"].initialized_by["prior (p = 0.01)"] == 20
    assert description.parameters == sum(p.numel() for p in build().parameters())


def test_the_description_tells_pretrained_weights(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(build().backbone.state_dict(), path)
    model = build(pretrained=str(path))
    row = next(row for row in model.describe().rows if row.part == "backbone")
    assert row.initialized_by == {f"pretrained: {path}": row.parameters}


def test_a_backbone_that_the_scheme_leaves_alone_is_its_modules_own():
    row = next(row for row in build(init_backbone=False).describe().rows if row.part == "backbone")
    assert set(row.initialized_by) == {"its module's own", "norm: 1", "0"}


def test_drop_path_and_dropout_reach_their_modules():
    model = build(backbone={"name": "test_convnext", "drop_path_rate": 0.2}, dropout_rate=0.25)
    assert max(getattr(m, "drop_prob", 0.0) or 0.0 for m in model.backbone.modules()) == pytest.approx(0.2)
    assert {m.p for m in model.modules() if isinstance(m, nn.Dropout2d)} == {0.25}


@pytest.mark.parametrize("scheme", mtv.INITIALIZERS.own_names())
@pytest.mark.parametrize("head", mtv.DETECTION_HEADS.own_names())
def test_every_class_starts_near_its_prior_under_every_scheme(head, scheme):
    model = build(segmentation_head=None, detection_head=head, init_scheme=scheme).train()
    scores = model(torch.rand(4, 3, 128, 128))["det"].class_logits.sigmoid()
    assert 0.005 < scores.mean() < 0.03


@pytest.mark.parametrize("name", ["seg_loss", "det_loss", "det_assigner", "auxiliary_weight"])
def test_a_trainer_refuses_losses_that_the_model_was_not_built_with(name):
    other = {"seg_loss": "focal", "det_loss": "giou", "det_assigner": "atss", "auxiliary_weight": 0.1}[name]
    config = mtv.Config(model=SMALL)
    model = mtv.build_model(config)
    assert mtv.Trainer(model, config, progress=False)
    with pytest.raises(mtv.ConfigError, match=rf"training\.{name}: the model was built with .*, not with"):
        mtv.Trainer(model, config.replace({f"training.{name}": other}), progress=False)
    with pytest.raises(mtv.ConfigError, match=r"model\.activation: the model was built with 'relu', not with 'gelu'"):
        mtv.Trainer(model, config.replace({"model.activation": "gelu"}), progress=False)


def test_a_part_begins_alike_whatever_else_is_in_the_network():
    joint = build().state_dict()
    for absent in ("segmentation_head", "detection_head"):
        alone = build(**{absent: None}).state_dict()
        assert alone
        assert all(torch.equal(alone[name], joint[name]) for name in alone)
    other = build(segmentation_head="unet").state_dict()
    same = [name for name in joint if not name.startswith("tasks.seg")]
    assert all(torch.equal(other[name], joint[name]) for name in same)
