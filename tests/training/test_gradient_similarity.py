"""Cosines of gradients that one can work out, and that measuring them leaves no trace."""

import logging
import math

import pytest
import torch
from toy_tasks import ToyNeck, ToyTask, toy_batch, toy_model

import mtvision as mtv
from mtvision.training.gradient_similarity import gradient_similarity, layer_groups

CONFIG = {
    "system": {"device": "cpu"},
    "model": {"backbone": "test_resnet", "dropout_rate": 0.2},
    "training": {"batch_size": 4},
    "data": {"dataset": {"name": "shapes", "num_images": 12, "image_size": 64}, "image_size": 64},
}


def unit(*places):
    return [1.0 if place in places else 0.0 for place in range(8)]


def cosine(first, second, **options):
    model = toy_model(first=ToyTask(first), second=ToyTask(second))
    found = gradient_similarity(model, [toy_batch()], num_batches=1, **options)
    return found["first and second"]


def test_equal_losses_agree_opposed_ones_conflict_and_disjoint_ones_are_at_right_angles():
    for second, expected in ((unit(0, 1), 1.0), ([-x for x in unit(0, 1)], -1.0), (unit(2, 3), 0.0)):
        values = cosine(unit(0, 1), second)
        assert set(values) == {"convolution", "all shared"}
        assert values["convolution"] == [pytest.approx(expected, abs=1e-6)]
        assert values["all shared"] == values["convolution"]


def test_the_cosine_is_that_of_the_directions_and_no_scale_matters():
    # each channel's gradient is the same vector times the task's weight for it: the cosine is that of the weights
    values = cosine([3.0, 4.0, *[0.0] * 6], unit(0))
    assert values["all shared"] == [pytest.approx(0.6, abs=1e-6)]
    assert cosine([300.0, 400.0, *[0.0] * 6], unit(0))["all shared"] == [pytest.approx(0.6, abs=1e-6)]


def test_three_tasks_make_three_pairs():
    model = toy_model(a=ToyTask(unit(0)), b=ToyTask(unit(0)), c=ToyTask(unit(1)))
    found = gradient_similarity(model, [toy_batch()] * 3, num_batches=2)
    means = {pair: sum(values["all shared"]) / 2 for pair, values in found.items()}
    assert means == {"a and b": pytest.approx(1), "a and c": pytest.approx(0), "b and c": pytest.approx(0)}


def test_batches_in_which_nobody_looked_for_one_of_the_tasks_do_not_count(caplog):
    model = toy_model(a=ToyTask(unit(0)), b=ToyTask(unit(0)))
    batches = [toy_batch(a=False), toy_batch(), toy_batch(b=False), toy_batch()]
    assert gradient_similarity(model, batches, num_batches=2)["a and b"]["all shared"] == pytest.approx([1, 1])
    assert "batches" not in caplog.text
    with caplog.at_level(logging.WARNING, logger="mtvision"):
        found = gradient_similarity(model, batches[:1], num_batches=2)
    assert found == {"a and b": {}}
    assert "gradient similarity of a and b: only 0 batches have both" in caplog.text


def test_an_annotation_that_never_comes_is_not_looked_for_without_end():
    model = toy_model(a=ToyTask(unit(0)), b=ToyTask(unit(0)))
    endless = (toy_batch(a=False) for _ in iter(int, 1))
    assert gradient_similarity(model, endless, num_batches=1) == {"a and b": {}}


@pytest.mark.parametrize(("behind", "shared"), [(["a", "b"], True), (["b"], False)])
def test_the_neck_counts_only_where_both_tasks_stand_behind_it(behind, shared):
    channels = {name: 4 if name in behind else 8 for name in "ab"}
    model = toy_model(ToyNeck(), behind, **{name: ToyTask([1.0] * number) for name, number in channels.items()})
    values = gradient_similarity(model, [toy_batch()], num_batches=1)["a and b"]
    assert ("neck" in values) == shared
    assert "convolution" in values


def test_what_is_frozen_does_not_count():
    model = toy_model(a=ToyTask(unit(0)), b=ToyTask(unit(0)))
    model.backbone.convolution.weight.requires_grad_(False)
    assert gradient_similarity(model, [toy_batch()], num_batches=1)["a and b"]["convolution"] == pytest.approx([1])
    model.backbone.requires_grad_(False)
    assert gradient_similarity(model, [toy_batch()], num_batches=1) == {"a and b": {}}


def test_one_task_is_refused():
    with pytest.raises(mtv.ConfigError, match="the model has only one: 'a'"):
        gradient_similarity(toy_model(a=ToyTask(unit(0))), [])


@pytest.fixture(scope="module")
def loader():
    return mtv.build_loader(CONFIG, mtv.build_dataset(CONFIG), training=True)


@pytest.mark.parametrize("training", [True, False])
def test_a_real_model_is_left_as_it_was(loader, training):
    model = mtv.build_model(CONFIG, classes=mtv.build_dataset(CONFIG).classes).train(training)
    model.backbone.eval()
    modes = [part.training for part in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    loader.set_epoch(0)
    found = gradient_similarity(model, loader, num_batches=2)
    assert [part.training for part in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), random)
    values = found["seg and det"]
    assert list(values) == ["stem", "layer1", "layer2", "layer3", "layer4", "all shared"]
    assert all(len(cosines) == 2 and all(-1 <= cosine <= 1 for cosine in cosines) for cosines in values.values())
    loader.set_epoch(0)
    assert gradient_similarity(model, loader, num_batches=2) == found


def test_the_cosine_is_that_of_two_backward_passes(loader):
    cfg = mtv.Config(**CONFIG).replace({"model.dropout_rate": 0.0})
    model = mtv.build_model(cfg, classes=mtv.build_dataset(cfg).classes).train()
    loader.set_epoch(0)
    batch = next(iter(loader))
    found = gradient_similarity(model, [batch], num_batches=1)["seg and det"]
    layer = model.backbone.net.layer2
    gradients = []
    for task in ("seg", "det"):
        model.zero_grad()
        sum(model.loss(model(batch.images), batch.targets)[task].values()).backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in layer.parameters()]))
    expected = torch.nn.functional.cosine_similarity(*gradients, dim=0)
    assert found["layer2"] == [pytest.approx(float(expected), abs=1e-5)]
    assert not math.isclose(found["layer2"][0], 0, abs_tol=1e-4)


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("resnet18", ["stem", "layer1", "layer2", "layer3", "layer4"]),
        ("convnext_atto", ["stem", "stages_0", "stages_1", "stages_2", "stages_3"]),
        ("test_efficientnet", ["stem", *(f"blocks.{i}" for i in range(5))]),
        ("test_vit", ["stem", *(f"blocks.{i}" for i in range(6))]),
        ("regnetx_002", ["stem", "s1", "s2", "s3", "s4"]),
    ],
)
def test_groups_are_the_stages_of_timms_networks(name, groups):
    backbone = mtv.BACKBONES.build(name, False)
    names = [parameter for parameter, _ in backbone.named_parameters()]
    assert list(dict.fromkeys(layer_groups(names).values())) == groups


def test_a_network_without_stages_goes_by_its_first_components():
    names = ["first.weight", "first.bias", "second.inner.weight"]
    assert list(layer_groups(names).values()) == ["first", "first", "second"]
