"""The benchmark of heads runs as it stands, here on a small network and small images."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from torch import nn

import mtvision as mtv

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SMALL = {"size": 64, "batch": 2, "repeats": 1, "backbone": "test_resnet"}


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)

    def load_by_name(name):
        spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load_by_name


def test_heads_measures_every_head(load, tmp_path, capsys):
    rows = load("heads").main(**SMALL, json_file=tmp_path / "heads.json")
    wanted = [f"segmentation {name}" for name in mtv.SEGMENTATION_HEADS.names()]
    wanted += [f"detection {name}" for name in mtv.DETECTION_HEADS.names()]
    assert [row.name for row in rows] == ["backbone alone", *wanted]
    assert all(row.parameters > 0 and row.multiply_adds > 0 and row.inference_seconds > 0 for row in rows)
    assert (rows[0].train_ratio, rows[0].inference_ratio) == (1, 1)
    written = json.loads((tmp_path / "heads.json").read_text())
    assert [row["parameters"] for row in written["rows"]] == [row.parameters for row in rows]
    printed = capsys.readouterr().out
    assert all(name in printed for name in wanted)
    assert "left out" not in printed


def test_heads_takes_the_named_ones_and_says_which_cannot_stand_on_the_backbone(load, capsys):
    assert [row.name for row in load("heads").main(**SMALL, heads=["fcn"])] == ["backbone alone", "segmentation fcn"]
    vit = {**SMALL, "backbone": "test_vit"}  # one stride only
    assert "segmentation single_scale" in [row.name for row in load("heads").main(**vit, heads=["fcn", "single_scale"])]
    assert "left out: segmentation fcn: segmentation head 'fcn'" in capsys.readouterr().out
    with pytest.raises(mtv.ConfigError, match="segmentation head 'fcn'"):
        load("heads").main(**vit, heads=["fcn"])


def test_sizes_are_what_head_and_neck_add(load):
    model = mtv.build_model({"backbone": "test_resnet", "segmentation_head": None})
    row = load("heads").main(**SMALL, heads=["fpn"])[-1]
    of_backbone = sum(p.numel() for p in model.backbone.parameters())
    assert row.name == "detection fpn"
    assert row.parameters == sum(p.numel() for p in model.parameters()) - of_backbone


def test_multiply_adds_are_those_of_the_formula(load):
    convolution = nn.Conv2d(3, 8, kernel_size=3, padding=1)  # 8 x 3 x 3 x 3 products a pixel
    size = load("heads").count_size(convolution, torch.zeros(1, 3, 10, 12))
    assert size.tolist() == [8 * 27 + 8, 8 * 27 * 10 * 12]


def test_steps_take_turns_after_one_each_to_warm_up(load):
    order = []
    medians = load("common").median_seconds({name: lambda name=name: order.append(name) for name in "ab"}, repeats=2)
    assert order == ["a", "b"] * 3
    assert all(value >= 0 for value in medians.values())


def test_a_step_changes_the_weights_and_leaves_no_gradient(load):
    model = mtv.build_model({"backbone": "test_resnet"})
    before = {key: value.clone() for key, value in model.state_dict().items()}
    load("common").model_step(model, torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8))()
    changed = {key.split(".")[0] for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert {"backbone", "tasks"} <= changed
    assert all(parameter.grad is None for parameter in model.parameters())


def test_train_step_compares_one_task_with_both(load, capsys):
    medians = load("train_step").main(**SMALL, heads=["fcn"])
    assert list(medians) == ["backbone alone", "fcn + fpn", "fcn", "fpn"]
    assert "1.00 x" in capsys.readouterr().out
