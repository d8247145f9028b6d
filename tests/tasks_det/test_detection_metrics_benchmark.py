"""The benchmark of detection metrics as it stands, on a few small images."""

import json

import pytest

from mtvision.tasks.detection_protocols import DETECTION_PROTOCOLS


@pytest.fixture
def module(load_benchmark):
    return load_benchmark("metrics")


SIZES = {"images": 12, "detections": 20, "classes": 3, "repeats": 1}


@pytest.mark.parametrize("per_class", [False, True])
def test_all_programs_score_the_same_boxes_alike(module, tmp_path, per_class):
    rows = module.main(**SIZES, per_class=per_class, output=tmp_path / "rows.json")
    others = ["torchmetrics, pycocotools", "torchmetrics, faster_coco_eval"]
    assert [row["program"] for row in rows] == [*(f"mtvision, {name}" for name in DETECTION_PROTOCOLS), *others]
    by_name = {row["program"]: row for row in rows}
    assert all(by_name[name]["largest difference"] < 1e-6 for name in others)
    ours = by_name["mtvision, coco"]
    assert (ours["x ours (CPU)"], ours["x ours (wall)"], ours["largest difference"]) == (1, 1, None)
    for row in rows:
        assert row["x ours (CPU)"] == row["CPU s"] / ours["CPU s"]
    assert json.loads((tmp_path / "rows.json").read_text())["tables"][0]["rows"] == rows


def test_a_back_end_that_is_missing_is_named(module, monkeypatch, capsys):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    rows = module.main(**SIZES)
    assert [row["program"] for row in rows] == [f"mtvision, {name}" for name in DETECTION_PROTOCOLS]
    printed = capsys.readouterr().out
    assert all(f"pip install {name}" in printed for name in ("pycocotools", "faster_coco_eval"))
    assert "Wanted" not in printed


@pytest.mark.parametrize("difference", [2e-4, float("inf"), float("nan")])
def test_other_numbers_are_other_work(module, difference):
    module.check({"theirs": 0.0})
    with pytest.raises(SystemExit, match="theirs and ours do not agree"):
        module.check({"theirs": difference})
