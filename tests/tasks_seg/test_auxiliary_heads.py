"""Deep supervision: heads that only add losses."""

import pytest
import torch

import mtvision as mtv
from tests.core.test_factory import SMALL, synthetic_targets

AUXILIARY = {"auxiliary_heads": [{"name": "fcn", "variant": "16s"}, {"name": "unet", "strides": [4, 8]}]}


def build(**config):
    return mtv.build_model({"model": {**SMALL, "detection_head": None, **AUXILIARY}, **config})


def test_the_auxiliary_part_is_the_weighted_sum_of_the_heads_losses():
    model = build(training={"auxiliary_weight": 0.25}).eval()
    output = model(torch.rand(2, 3, 64, 64))["seg"]
    assert [logits.shape for logits in output.auxiliary] == [output.logits.shape] * 2
    mask = synthetic_targets()["seg"]
    parts = model.task("seg").loss(output, mask)
    cross_entropy = torch.nn.functional.cross_entropy
    torch.testing.assert_close(parts["segmentation"], cross_entropy(output.logits, mask))
    expected = 0.25 * sum(cross_entropy(logits, mask) for logits in output.auxiliary)
    torch.testing.assert_close(parts["auxiliary"], expected)


def test_every_auxiliary_head_learns_and_the_prediction_does_not_know_of_it():
    model = build()
    output = model(torch.rand(2, 3, 64, 64))
    sum(model.loss(output, synthetic_targets())["seg"].values()).backward()
    heads = model.task("seg").auxiliary_heads
    assert len(heads) == 2
    assert all(p.grad is not None and p.grad.any() for head in heads for p in head.parameters())
    model.eval()
    image = torch.rand(1, 3, 64, 64)
    before = model.predict(image)[0]["seg"]
    for parameter in heads.parameters():
        torch.nn.init.normal_(parameter)
    assert torch.equal(model.predict(image)[0]["seg"], before)


def test_without_auxiliary_heads_there_is_no_such_part():
    model = mtv.build_model({**SMALL, "detection_head": None})
    output = model(torch.rand(2, 3, 64, 64))
    assert output["seg"].auxiliary == ()
    assert set(model.loss(output, synthetic_targets())["seg"]) == {"segmentation"}


def test_the_terms_of_a_sum_of_losses_are_told_apart():
    model = build(training={"seg_loss": ["cross_entropy", {"name": "dice", "weight": 0.5}]})
    parts = model.loss(model(torch.rand(2, 3, 64, 64)), synthetic_targets())["seg"]
    assert set(parts) == {"cross_entropy", "dice", "auxiliary"}


def test_a_wrong_auxiliary_head_is_named_by_its_place():
    with pytest.raises(mtv.ConfigError, match=r"model\.auxiliary_heads\.1: unknown segmentation head 'fnc'"):
        mtv.Config(model={"auxiliary_heads": ["fcn", "fnc"]})
