"""Costs of parts, against the formulas."""

import pytest
import torch
from toy_tasks import ToyHead, ToyNeck, toy_model

import mtvision as mtv
from mtvision.training.cost import Cost, measure_cost


@pytest.fixture(scope="module")
def toy():
    model = toy_model(ToyNeck(), ["b"], a=ToyHead(8), b=ToyHead(4))
    return measure_cost(model, (32, 64), repeats=1)


def test_parameters_and_multiply_adds_are_those_of_the_formulas(toy):
    positions = 8 * 16  # of the backbone's feature
    assert {name: (cost.parameters, cost.multiply_adds) for name, cost in toy.parts.items()} == {
        "backbone": (8 * 3 * 16 + 8, 8 * 3 * 16 * positions),
        "neck": (4 * 8, 4 * 8 * positions),
        "tasks.a": (2 * 8 * 9 + 2, 2 * 8 * 9 * positions),
        "tasks.b": (2 * 4 * 9 + 2, 2 * 4 * 9 * positions),
    }


def test_the_whole_is_the_sum_of_its_parts_and_a_task_alone_of_those_that_it_needs(toy):
    total = sum(toy.parts.values(), start=Cost(0, 0, 0.0))
    assert (toy.whole.parameters, toy.whole.multiply_adds) == (total.parameters, total.multiply_adds)
    assert toy.used_by == {"a": ("backbone", "tasks.a"), "b": ("backbone", "neck", "tasks.b")}
    assert toy.single("a") == toy.parts["backbone"] + toy.parts["tasks.a"]
    assert toy.single("b") == toy.parts["backbone"] + toy.parts["neck"] + toy.parts["tasks.b"]


def test_the_table_has_a_line_for_each_part_and_tells_size_and_device(toy):
    lines = str(toy).splitlines()
    assert lines[0].startswith("cost of one image of 32 x 64 pixels, cpu, ")
    names = [line.split("  ")[0] for line in lines[2:]]
    assert names == [*toy.parts, "joint model", "a alone", "b alone", "all alone / joint"]
    both = toy.single("a").multiply_adds + toy.single("b").multiply_adds
    assert f"{both / toy.whole.multiply_adds:.2f} x" in lines[-1]


def test_a_real_model_is_left_as_it_was_and_its_own_size_is_taken():
    model = mtv.build_model({"model": {"backbone": "test_resnet"}, "data": {"image_size": 64}}).train()
    model.backbone.eval()
    modes = [part.training for part in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    cost = measure_cost(model, repeats=1)
    assert cost.image_size == (64, 64)
    assert [part.training for part in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(part.milliseconds > 0 and part.parameters > 0 for part in cost.parts.values())
    assert sum(part.multiply_adds for part in cost.parts.values()) == cost.whole.multiply_adds


def test_a_model_without_a_size_needs_one():
    model = toy_model(a=ToyHead(8))
    model.image_size = None
    with pytest.raises(mtv.ConfigError, match="image_size: the model has none"):
        measure_cost(model)
    assert "all alone / joint" not in str(measure_cost(model, (16, 16), repeats=1))
