"""A comparison with single tasks: which runs it makes, what it makes of them, and that it can be taken up again."""

import json
import math
from dataclasses import replace

import pytest
import torch

import mtvision as mtv
from mtvision.training.cost import Cost, ModelCost
from mtvision.training.gradient_similarity import gradient_similarity
from mtvision.training.single_task import _initial_model, compare_single_task, plan_runs, single_task_config

CONFIG = {
    "system": {"epochs": 1, "device": "cpu", "seed": 3},
    "model": {"backbone": "test_resnet", "dropout_rate": 0.2},
    "training": {"batch_size": 4, "lr": 0.002},
    "data": {"dataset": {"name": "shapes", "num_images": 12, "image_size": 64}, "image_size": 64},
}
TAGS = {"tags": {"name": "classification", "num_classes": 5}}


def configured(**values):
    return mtv.Config(**CONFIG).replace({key.replace("__", "."): value for key, value in values.items()})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs") / "comparison"


@pytest.fixture(scope="module")
def comparison(folder):
    return compare_single_task(CONFIG, folder, seeds=[0, 1], progress=False)


def summary(folder, name):
    return json.loads((folder / name / "summary.json").read_text())


def test_each_seed_has_a_run_of_all_tasks_and_of_each_alone(comparison, folder):
    names = ["joint-seed0", "seg-seed0", "det-seed0", "joint-seed1", "seg-seed1", "det-seed1"]
    assert [run.name for run in comparison.runs] == names
    for run in comparison.runs:
        stored = summary(folder, run.name)
        assert stored["config"]["system"]["seed"] == run.seed
        assert (stored["config"]["system"]["epochs"], run.epochs, run.best_epoch) == (1, 1, 1)
        assert run.seconds == stored["seconds"]
        tasks = {key.partition("/")[0] for key in stored["metrics"] if "/" in key}
        assert tasks == ({run.task} if run.task else {"seg", "det"})


def test_gains_are_those_of_the_runs_own_summaries(comparison, folder):
    for row in comparison.rows:
        joint = summary(folder, f"joint-seed{row.seed}")["metrics"][row.metric]
        single = summary(folder, f"{row.task}-seed{row.seed}")["metrics"][row.metric]
        assert (row.joint, row.single, row.higher_is_better) == (joint, single, True)
        expected = (joint - single) / single if single else math.nan
        assert row.gain == pytest.approx(expected, nan_ok=True)
    assert [(row.seed, row.metric) for row in comparison.rows] == [
        (0, "seg/miou"),
        (1, "seg/miou"),
        (0, "det/map50"),
        (1, "det/map50"),
    ]
    by_seed = [[row.gain for row in comparison.rows if row.seed == seed] for seed in (0, 1)]
    assert comparison.delta_m.values == pytest.approx([sum(gains) / 2 for gains in by_seed], nan_ok=True)


def test_a_second_call_trains_nothing_and_finds_the_same(comparison, folder):
    def written():
        runs = [folder / run.name for run in comparison.runs]
        return {path: path.stat().st_mtime_ns for run in runs for path in run.rglob("*")}

    before = written()
    again = compare_single_task(CONFIG, folder, seeds=[0, 1], progress=False)
    assert len(before) > 30
    assert written() == before
    assert [replace(row, gain=0.0) for row in again.rows] == [replace(row, gain=0.0) for row in comparison.rows]
    assert again.gradient_similarity == comparison.gradient_similarity


def test_what_is_written_can_be_read(comparison, folder):
    content = json.loads((folder / "comparison.json").read_text())
    assert [row["metric"] for row in content["rows"]] == [row.metric for row in comparison.rows]
    assert content["cost"]["parts"]["backbone"]["parameters"] == 372688
    assert set(content["cost"]["single"]) == {"seg", "det"}
    assert set(content["gradient_similarity"]) == {"initialization", "best epoch"}
    assert set(content["delta_m"]) == {"mean", "standard_deviation", "interval", "values"}
    assert (folder / "plots" / "gradient_similarity.png").read_bytes().startswith(b"\x89PNG")


def test_the_text_says_what_was_found_and_how_sure_it_is(comparison):
    text = str(comparison)
    for part in ("seg/miou", "det/map50", "Δm", "2 seeds", "best epoch", "backbone", "all alone / joint", "layer4"):
        assert part in text, part
    assert set(comparison.seconds) == {"joint", "seg", "det"}


def test_similarities_are_those_of_the_models_before_and_after_training(comparison, folder):
    found = {"initialization": [], "best epoch": []}
    for seed in (0, 1):
        cfg = configured(system__seed=seed)
        data = mtv.build_dataset(cfg)
        initial, best = mtv.build_model(cfg, classes=data.classes), mtv.load_model(folder / f"joint-seed{seed}")
        for state, model in (("initialization", initial), ("best epoch", best)):
            loader = mtv.build_loader(cfg, data, training=True)
            found[state] += gradient_similarity(model, loader, seed=seed)["seg and det"]["layer3"]
    for state, values in found.items():
        assert comparison.gradient_similarity[state]["seg and det"]["layer3"] == pytest.approx(values, abs=1e-5)


def test_an_initial_model_knows_what_training_took_from_the_data():
    cfg = configured(
        data__preprocessing="normalize", training__seg_loss={"name": "cross_entropy", "class_weights": "balanced"}
    )
    data = mtv.build_dataset(cfg)
    trained, fresh = (mtv.build_model(cfg, classes=data.classes) for _ in range(2))
    trained.normalization.set_statistics((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(1)
    initial = _initial_model(cfg, trained)
    assert not initial.normalization.pending
    assert initial.normalization.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert all(torch.equal(a, b) for a, b in zip(initial.parameters(), fresh.parameters(), strict=True))


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"model__detection_head": None}, "needs at least two tasks, and there is only 'seg'"),
        ({"training__loss_weights": {"seg": 1.0, "det": 0.0}}, r"training\.loss_weights\.det: 0, so that the task"),
        ({"training__batch_size": "auto"}, r"training\.batch_size: 'auto' may choose another size for each run"),
        ({"model__tasks": {"joint": TAGS["tags"]}}, r"model\.tasks\.joint: is the name of the joint run"),
    ],
)
def test_what_cannot_be_compared_is_a_sentence_before_anything_is_trained(values, problem, tmp_path):
    with pytest.raises(mtv.ConfigError, match=problem):
        compare_single_task(configured(**values), tmp_path / "c", progress=False)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(("seeds", "problem"), [([], "an empty list"), ([1, 2, 1], "1 is given twice")])
def test_seeds_that_say_nothing_new_are_refused(seeds, problem):
    with pytest.raises(mtv.ConfigError, match=f"seeds: {problem}"):
        plan_runs(configured(), seeds)


def test_without_seeds_the_configs_own_is_taken():
    assert [run.name for run in plan_runs(configured())] == ["joint-seed3", "seg-seed3", "det-seed3"]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"model__neck": "pan"},
        {"model__neck": "pan", "model__share_neck": True},
        {"model__share_neck": True},
        {"model__auxiliary_heads": ["fcn"]},
        {"model__tasks": TAGS, "training__loss_weights": {"seg": 1.0, "tags": 0.5}},
        {"training__monitor": "seg/pixel_accuracy"},
        {"training__monitor": "loss"},
        {"training__balancer": "uncertainty"},
    ],
)
def test_a_single_task_is_the_same_network_without_the_others(values):
    cfg = configured(**values)
    classes = mtv.build_dataset(cfg).classes
    joint = mtv.build_model(cfg, classes=classes)
    for task in joint.tasks:
        alone = mtv.build_model(single_task_config(cfg, task), classes=classes)
        mtv.Trainer(alone, single_task_config(cfg, task), progress=False)  # which checks monitor and weights
        assert list(alone.tasks) == [task]
        needed = ("normalization.", "backbone.", f"tasks.{task}.", *(("neck.",) if task in joint.neck_tasks else ()))
        assert [name for name in joint.state_dict() if name.startswith(needed)] == list(alone.state_dict())


def test_only_what_belongs_to_the_others_changes():
    weights = {"seg": 0.5, "det": 2.0}
    joint = configured(
        training__monitor="det/map50_95", training__loss_weights=weights, training__balancer="uncertainty"
    )
    cfg = joint.replace({"training.balancer": "fixed"})
    changed = {
        "seg": {"model.detection_head": None, "training.monitor": "score", "training.loss_weights": {"seg": 0.5}},
        "det": {"model.segmentation_head": None, "training.loss_weights": {"det": 2.0}},
    }
    for task, values in changed.items():
        assert single_task_config(joint, task) == cfg.replace(values)


def test_a_task_that_scores_nothing_alone_makes_delta_m_undefined_and_no_crash(comparison, tmp_path):
    rows = [replace(row, single=0.0, gain=math.nan) if row.task == "det" else row for row in comparison.rows]
    cost = ModelCost({"backbone": Cost(1, 1, 1.0)}, Cost(1, 1, 1.0), {"seg": ("backbone",)}, (8, 8), "cpu")
    poor = replace(
        comparison, rows=tuple(rows), cost=replace(cost, used_by={"seg": ("backbone",), "det": ("backbone",)})
    )
    assert math.isnan(poor.delta_m.mean)
    assert "Δm             not defined (2 seeds" in str(poor)
    content = json.loads(poor.save(tmp_path / "new").read_text())
    assert content["delta_m"]["mean"] is None
    assert content["rows"][-1]["gain"] is None


def test_another_config_in_the_same_folder_is_refused(comparison, folder):
    with pytest.raises(mtv.CheckpointError, match=r"joint-seed0: holds a run of another config \(training\.lr"):
        compare_single_task(configured(training__lr=0.1), folder, seeds=[0, 1], progress=False)
