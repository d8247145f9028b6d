"""The benchmark of what grows with pixels, objects and classes, on a small network and small images."""

import io
import json
import math
from contextlib import redirect_stdout

import pytest
import torch

import mtvision as mtv


@pytest.fixture(scope="module")
def module(load_benchmark_once):
    return load_benchmark_once("scaling")


@pytest.fixture(scope="module")
def found(module, tmp_path_factory):
    """The tables of small input, what was printed, and what was written."""
    small = {"backbone": "test_resnet", "size": 64, "batch": 1, "repeats": 1, "sizes": (64, 96), "batches": (1, 3)}
    settings = module.Settings(**small, objects=(1, 30), det_classes=(20, 40), seg_classes=(21, 30))
    output = tmp_path_factory.mktemp("scaling") / "scaling.json"
    with redirect_stdout(io.StringIO()) as printed:
        tables = module.main(settings, output)
    return tables, printed.getvalue(), json.loads(output.read_text())


def test_a_table_for_each_number_that_changes(found):
    tables, printed, written = found
    columns = ["pixels a side", "images a batch", "objects an image", "classes", "classes"]
    assert [next(iter(table.rows[0])) for table in tables] == columns
    values = [[row[column] for row in table.rows] for table, column in zip(tables, columns, strict=True)]
    alone = "backbone alone"
    assert values == [[64, 96], [1, 3], [1, 30], [alone, "20", "40"], [alone, "21", "30"]]
    assert [table["rows"] for table in written["tables"]] == [table.rows for table in tables]
    assert printed.count("Exponents, CPU and wall: train step") == 2
    assert "Wanted: from the first row to the last at most 1.15 x; found" in printed
    assert printed.count("Wanted: the loss alone below 1 x the backbone's training step; found") == 1


def test_seconds_are_told_a_megapixel(found):
    sizes, batches = (table.rows for table in found[0][:2])
    assert [row["megapixels"] for row in sizes] == [64 * 64 / 1e6, 96 * 96 / 1e6]
    assert [row["megapixels"] for row in batches] == [64 * 64 / 1e6, 3 * 64 * 64 / 1e6]
    for row in [*sizes, *batches]:
        for what in ("train step", "inference"):
            assert row[f"{what}, CPU s a megapixel"] == row[f"{what}, CPU s"] / row["megapixels"]
            assert row[f"{what}, wall s a megapixel"] > 0


def test_ratios_are_those_of_the_seconds_and_1_of_the_first_row(found):
    first, last = found[0][2].rows
    assert (first["x first row (CPU)"], first["x first row (wall)"]) == (1, 1)
    assert last["x first row (CPU)"] == last["train step, CPU s"] / first["train step, CPU s"]
    for table in found[0][3:]:
        alone, *models = table.rows
        assert (alone["x backbone (CPU)"], alone["loss alone, CPU s"], alone["inference, CPU s"]) == (1, None, None)
        for row in models:
            assert row["x backbone (wall)"] == row["train step, wall s"] / alone["train step, wall s"]
            assert row["loss alone, x backbone (CPU)"] == row["loss alone, CPU s"] / alone["train step, CPU s"]
            assert row["loss alone, MB"] >= 0


def test_the_exponent_is_the_power(module):
    amounts = [0.5, 1.0, 3.0, 8.0]
    for power in (0.0, 1.0, 1.7):
        assert module.exponent(amounts, [4 * amount**power for amount in amounts]) == pytest.approx(power, abs=1e-12)
    assert math.isnan(module.exponent([1.0], [2.0]))


@pytest.mark.parametrize("task", ["seg", "det"])
def test_the_loss_alone_is_that_of_the_model_down_to_its_outputs(module, task):
    model = module.build("test_resnet", {"det": 40, "seg": 30})
    case = module.make_case(model.eval(), 64, 2, num_objects=30)  # dropout would draw anew
    output = model(case.images)[task]
    found = [part for part in output if isinstance(part, torch.Tensor) and part.requires_grad]
    loss = sum(model.task(task).loss(output, case.targets[task]).values())
    expected = torch.autograd.grad(loss, found)
    step = module.loss_step(case, task)
    for _ in range(2):  # nothing adds up from one pass to the next
        gradients = step()
        assert len(gradients) == len(expected) >= 1
        for gradient, wanted in zip(gradients, expected, strict=True):
            torch.testing.assert_close(gradient, wanted)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_targets_have_the_wanted_objects_of_all_classes_in_turn(module):
    case = module.make_case(module.build("test_resnet"), 64, 2, num_objects=45)
    for target in case.targets["det"]:
        assert len(target["boxes"]) == len(target["difficult"]) == 45
        assert target["labels"].bincount().tolist() == [3] * 5 + [2] * 15
    few = module.make_case(case.model, 64, 2)
    assert [len(target["boxes"]) for target in few.targets["det"]] == [5, 5]


def test_the_model_has_the_heads_of_the_defaults_and_the_wanted_classes(module):
    model, default = module.build("test_resnet", {"det": 365}), mtv.build_model({"backbone": "test_resnet"})
    assert (model.task("det").num_classes, model.task("det").selection.score_threshold) == (365, 0)
    for name in ("seg", "det"):
        assert type(model.task(name).head) is type(default.task(name).head)
    assert {key: value.shape for key, value in module.build("test_resnet").state_dict().items()} == {
        key: value.shape for key, value in default.state_dict().items()
    }


def test_options_of_the_command_line(module, tmp_path):
    assert module.parsed([]) == (module.Settings(), None)
    arguments = ["--sizes", "64", "96", "--repeats", "2", "--det-classes", "3", "--output", str(tmp_path / "x.json")]
    changed = module.Settings(sizes=(64, 96), repeats=2, det_classes=(3,))
    assert module.parsed(arguments) == (changed, tmp_path / "x.json")
