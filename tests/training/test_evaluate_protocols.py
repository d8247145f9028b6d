"""One call scores a model by protocols; what it says can be shown as tables, saved, and shared by processes."""

import csv
import json
import math
import sys
from dataclasses import replace

import pandas as pd
import pytest
import torch
from several_processes import PartlyAnnotated
from small_runs import configured, fitted
from torch import nn

import mtvision as mtv
from mtvision.errors import CheckpointError, ConfigError, DataError, MtvisionError
from mtvision.tasks.protocol_result import ProtocolResult
from mtvision.tasks.protocols import chosen_protocols, protocols_of
from mtvision.training.evaluation import EvaluationResult, score
from mtvision.training.history import without_nan
from quick_processes import together

ALL = ["standard", "boundary", "coco", "voc", "voc2007", "lrp"]


class Counted:
    """A data set that counts how often its samples are read."""

    def __init__(self, samples):
        self.samples, self.classes, self.reads = samples, samples.classes, []

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        self.reads.append(index)
        return self.samples[index]


def model_of(data, **values):
    """Return an untrained model that finds something: its detections have low scores, but they are there."""
    model = mtv.build_model(configured(data__image_size=64, **values), classes=data.classes)
    if "det" in model.tasks:
        model.task("det").selection = replace(model.task("det").selection, score_threshold=0.0)
    return model


@pytest.fixture(scope="module")
def data():
    return PartlyAnnotated("val")


@pytest.fixture(scope="module")
def model(data):
    return model_of(data)


@pytest.fixture(scope="module")
def result(model, data):
    return mtv.evaluate(model, data, protocol=ALL, batch_size=4)


def plain(result):
    """Return all numbers, None for NaN, so that they can be compared."""
    return without_nan({"metrics": result.metrics, "losses": result.losses, "per_class": result.per_class})


def test_the_protocols_agree_with_the_metrics_of_the_tasks(result):
    """These are counted by other code: torchmetrics' confusion matrix, and COCO's evaluation in C++."""
    metrics, tables = result.metrics, result.per_class
    assert metrics["seg/standard/miou"] == pytest.approx(metrics["seg/miou"], rel=1e-6)
    assert metrics["seg/standard/pixel_accuracy"] == pytest.approx(metrics["seg/pixel_accuracy"], rel=1e-6)
    assert tables["seg/standard/iou"] == pytest.approx(tables["seg/iou"], rel=1e-6, nan_ok=True)
    assert metrics["det/coco/ap"] == pytest.approx(metrics["det/map50_95"], abs=1e-6)
    assert metrics["det/coco/ap50"] == pytest.approx(metrics["det/map50"], abs=1e-6)
    assert tables["det/coco/ap50"] == pytest.approx(tables["det/ap50"], abs=1e-6, nan_ok=True)
    assert metrics["det/map50"] > 0
    assert metrics["seg/miou"] > 0


def test_each_number_has_task_and_protocol_in_its_name(result):
    names = {tuple(name.split("/")[:2]) for name in result.metrics if name.count("/") == 2}
    assert names == {("seg", "standard"), ("seg", "boundary")} | {("det", name) for name in ALL[2:]}
    assert {"seg/boundary/miou", "det/voc/ap50", "det/voc2007/ap50", "det/lrp/olrp"} <= result.metrics.keys()
    assert {"seg/standard/dice", "seg/boundary/iou", "det/voc/ap50"} <= result.per_class.keys()


def test_without_a_protocol_there_are_the_metrics_of_the_tasks_only(model, data, result):
    without = mtv.evaluate(model, data, batch_size=4)
    assert all(name.count("/") == 1 for name in [*without.metrics, *without.per_class])
    assert without.metrics.items() <= result.metrics.items()
    assert without.losses == result.losses


def test_all_protocols_are_counted_in_one_pass(model, data):
    counted = Counted(data)
    mtv.evaluate(model, counted, protocol=ALL, batch_size=4)
    assert sorted(counted.reads) == list(range(len(data)))


def test_a_name_alone_is_one_protocol(model, data, result):
    one = mtv.evaluate(model, data, protocol="boundary", batch_size=4)
    assert one.metrics["seg/boundary/miou"] == result.metrics["seg/boundary/miou"]
    assert not any(name.startswith(("seg/standard", "det/coco")) for name in one.metrics)


def test_a_run_folder_stands_for_its_best_model(tmp_path):
    cfg = configured(data__image_size=32)
    fitted(cfg, run_dir=tmp_path / "run", validate=True)
    val = mtv.build_dataset(cfg, "val")
    expected = mtv.evaluate(mtv.load_model(tmp_path / "run"), val, protocol="standard")
    assert plain(mtv.evaluate(str(tmp_path / "run"), val, protocol="standard")) == plain(expected)
    assert plain(mtv.evaluate(tmp_path / "run", val, protocol="standard")) == plain(expected)
    with pytest.raises(CheckpointError, match="nowhere"):
        mtv.evaluate(tmp_path / "nowhere", val)


def test_a_protocol_that_scores_no_task_is_a_sentence(model, data):
    with pytest.raises(ConfigError) as error:
        mtv.evaluate(model, data, protocol=["standard", "standart", "map"])
    assert error.value.problems == (
        "protocol: 'standart' scores none of the tasks 'seg', 'det'. Did you mean 'standard'? Known: "
        "standard, boundary, coco, voc, voc2007, lrp",
        "protocol: 'map' scores none of the tasks 'seg', 'det'. Known: standard, boundary, coco, voc, voc2007, lrp",
    )
    only = model_of(data, model__segmentation_head=None)
    with pytest.raises(ConfigError, match=r"'boundary' scores none of the tasks 'det'\. Known: coco, voc"):
        mtv.evaluate(only, data, protocol="boundary")


class Own(nn.Module):
    """A task of one's own."""


class Count:
    """Counts images."""

    def __init__(self):
        self.number = 0

    def update(self, predictions, truths):
        self.number += len(truths)

    def state(self):
        return self.number

    def merge(self, states):
        self.number = sum(states)

    def compute(self):
        return ProtocolResult({"images": float(self.number)}, {})


@protocols_of.register
def _of_own(task: Own):
    return {"count": Count}


def test_a_task_of_ones_own_has_protocols_of_its_own():
    tasks = {"own": Own(), "other": nn.Identity()}
    assert chosen_protocols(tasks, ["count", "count"]) == {("own", "count"): Count}
    with pytest.raises(ConfigError, match=r"Did you mean 'count'\?"):
        chosen_protocols(tasks, "counts")


def test_tables_have_a_row_a_class_and_a_column_a_number(result, data):
    tables = result.tables()
    assert list(tables) == ["seg", "det"]
    assert tuple(tables["seg"].index) == data.classes.segmentation
    assert tuple(tables["det"].index) == data.classes.detection
    assert {"iou", "standard/iou", "standard/dice", "boundary/iou"} <= set(tables["seg"].columns)
    for task, table in tables.items():
        for column in table:
            assert table[column].to_dict() == pytest.approx(result.per_class[f"{task}/{column}"], nan_ok=True)


def test_tables_without_pandas_are_a_sentence(result, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MtvisionError, match=r"tables need pandas: pip install 'mtvision\[report\]'"):
        result.tables()


def test_what_is_saved_says_the_same(result, tmp_path):
    folder = result.save(tmp_path / "new" / "scores")
    assert sorted(path.name for path in folder.iterdir()) == ["metrics.json", "per_class_det.csv", "per_class_seg.csv"]
    content = json.loads((folder / "metrics.json").read_text(), parse_constant=pytest.fail)  # no NaN: it is no JSON
    assert content["skipped"] == []
    assert content["metrics"] == plain(result)["metrics"]
    assert content["losses"] == result.losses
    for task, table in result.tables().items():
        read = pd.read_csv(folder / f"per_class_{task}.csv", index_col="class")
        pd.testing.assert_frame_equal(read, table, check_names=False, rtol=1e-12)


def test_names_and_numbers_survive_a_csv(tmp_path):
    values = {'a "b", c': 1 / 3, "none": math.nan, "0": 1.0}
    result = EvaluationResult({"x/y": math.nan}, per_class={"x/iou": values, "x/p/iou": {"0": 0.5}})
    (tmp_path / "per_class_x.csv").write_text("old")
    result.save(tmp_path)
    with (tmp_path / "per_class_x.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["class", "iou", "p/iou"],
        ['a "b", c', repr(1 / 3), ""],
        ["none", "", ""],
        ["0", "1.0", "0.5"],
    ]
    assert json.loads((tmp_path / "metrics.json").read_text())["metrics"] == {"x/y": None}


def test_predictions_are_kept_when_asked_for(model, data, result, tmp_path):
    kept = mtv.evaluate(model, data, batch_size=4, keep_predictions=True).predictions
    samples = {data[index].image_id: data[index] for index in range(len(data))}
    assert list(kept) == list(samples)
    assert result.predictions == {}
    evaluator = chosen_protocols({"seg": model.task("seg")}, "standard")["seg", "standard"]()
    for image_id, sample in samples.items():
        assert kept[image_id]["seg"].dtype == torch.uint8
        truth = None if sample.mask is None else torch.from_numpy(sample.mask)
        evaluator.update([kept[image_id]["seg"].long()], [truth])
    assert evaluator.compute().metrics["miou"] == result.metrics["seg/standard/miou"]
    numbers = range(1, len(kept) + 1)
    mtv.data.write_coco_results(kept.values(), numbers, tmp_path / "results.json")
    mtv.data.write_voc_results(kept.values(), (f"{number}" for number in numbers), tmp_path, data.classes)
    assert len(json.loads((tmp_path / "results.json").read_text())) == sum(
        len(p["det"]["boxes"]) for p in kept.values()
    )
    assert len(list((tmp_path / "results/VOC2012/Segmentation/comp6_test_cls").iterdir())) == len(kept)


def test_two_images_of_one_id_are_a_sentence(model, data):
    twice = [data[0], data[0]]
    with pytest.raises(DataError, match="occurs twice"):
        mtv.evaluate(model, twice, keep_predictions=True)
    mtv.evaluate(model, twice)


def score_a_share(rank, folder):
    """Score what a process has of 7 images in batches of 2: 4 of them the first, 3 the second."""
    data = PartlyAnnotated("val")
    loader = loader_of(data)
    loader.share(rank, 2)
    result = score(model_of(data), loader, classes=data.classes, shared=True, protocol=ALL)
    (folder / f"{rank}.json").write_text(json.dumps([plain(result), len(list(loader))]))


def loader_of(data):
    return mtv.build_loader(configured(data__image_size=64, training__batch_size=2), data, training=False)


def test_two_processes_score_exactly_as_one(tmp_path):
    together(score_a_share, 2, tmp_path, tmp_path)
    data = PartlyAnnotated("val")
    alone = plain(score(model_of(data), loader_of(data), classes=data.classes, protocol=ALL))
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert [batches for _, batches in found] == [2, 2]
    assert [numbers for numbers, _ in found] == [alone, alone]
