"""The comparison of class-balanced with uniform sampling, on a small network and small images."""

import json
import math

import numpy as np
import pytest

import mtvision as mtv
from devkit_folder import write_item, write_lists, write_mask, write_xml

SMALL = {"size": 64, "batch": 2, "epochs": 1, "backbone": "test_resnet", "device": "cpu"}


@pytest.fixture(scope="module")
def module(load_benchmark_once):
    return load_benchmark_once("class_balance")


@pytest.fixture
def dogs(devkit):
    """Cats in all images, a dog in one of training and in the one of validation, birds in training alone."""
    for name, other in (("c", 12), ("d", 12), ("b", 3)):
        write_item(devkit, name)
        mask = np.zeros((20, 30), np.uint8)
        mask[2:8, 4:10], mask[10:18, 12:28] = 8, other
        write_mask(devkit / "SegmentationClass" / f"{name}.png", mask)
        own = {12: "dog", 3: "bird"}[other]
        write_xml(devkit / "Annotations" / f"{name}.xml", [("cat", (5, 3, 10, 8)), (own, (13, 11, 28, 18))])
    write_lists(devkit, Main_train="a b c", Segmentation_train="a b c", Main_val="d", Segmentation_val="d")
    return devkit


def test_two_samplers_are_trained_for_each_seed_and_compared(module, dogs, tmp_path, capsys):
    found = module.main(dogs, tmp_path / "runs", seeds=[3], threshold=0.5, **SMALL)
    folders = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert folders == ["class_balanced-3", "uniform-3"]
    samplers = {name: mtv.Config.load(tmp_path / "runs" / name / "config.yaml").data.sampler.name for name in folders}
    assert samplers == {name: name.rpartition("-")[0] for name in folders}
    assert [(row["metric"], row["name"]) for row in found["rows"]] == [
        (metric, name)
        for metric in ("det/ap50", "seg/iou")
        for name in ("dog", "mean of the rare", "mean of the frequent", "mean of all")
    ]
    assert all(0 <= value <= 1 for row in found["rows"] for name in module.SAMPLERS for value in row[name])
    dog, _, cat, both = found["rows"][:4]
    assert (dog["train_share"], dog["val_images"], cat["num_classes"], both["num_classes"]) == (1 / 3, 1, 1, 2)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    printed = capsys.readouterr().out
    assert "| seg/iou | dog | 33.3% | 1 |" in printed
    again = module.main(dogs, tmp_path / "runs", seeds=[3], threshold=0.5, **SMALL)  # reads the finished runs
    assert again == found


def test_rows_are_paired_by_seed(module):
    scores = {
        "uniform": [{"cow": 0.1, "cat": 0.5, "dog": 0.7}, {"cow": 0.2, "cat": 0.4, "dog": 0.6}],
        "class_balanced": [{"cow": 0.3, "cat": 0.4, "dog": 0.7}, {"cow": 0.6, "cat": 0.4, "dog": 0.4}],
    }
    about = {
        name: {"train_share": f, "is_rare": f < 0.1, "val_images": 3}
        for name, f in zip(scores["uniform"][0], (0.01, 0.2, 0.3), strict=True)
    }
    rows = {row["name"]: row for row in module.compare("det/ap50", scores, about)}
    assert list(rows) == ["cow", "mean of the rare", "mean of the frequent", "mean of all"]
    assert rows["cow"]["difference"] == rows["mean of the rare"]["difference"] == pytest.approx(0.3)
    assert rows["mean of the frequent"]["difference"] == pytest.approx(-0.075)
    assert rows["mean of all"]["uniform"] == pytest.approx([1.3 / 3, 0.4])
    half = 12.706 * 0.1  # t of 1 degree of freedom at 97.5 %, by a printed table; the standard error of 0.2 and 0.4
    assert (rows["cow"]["low"], rows["cow"]["high"]) == pytest.approx((0.3 - half, 0.3 + half), abs=1e-4)
    none = module.compare("det/ap50", scores, {name: {**of, "is_rare": False} for name, of in about.items()})
    assert [row["name"] for row in none] == ["mean of the frequent", "mean of all"]


def test_the_interval_is_that_of_students_table_and_none_for_one_seed(module):
    found = module.paired([0.0, 0.0, 0.0], [1.0, 2.0, 3.0])
    half = 4.303 / math.sqrt(3)
    assert (found["difference"], found["low"], found["high"]) == pytest.approx((2, 2 - half, 2 + half), abs=1e-3)
    assert module.paired([0.25], [0.5]) == {"difference": 0.25, "low": None, "high": None}
