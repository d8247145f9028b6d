"""The benchmark of detection metrics as it stands, on a few small images."""

import importlib.util
import json
from pathlib import Path

import pytest

from mtvision.tasks.detection_protocols import DETECTION_PROTOCOLS

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def module(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    spec = importlib.util.spec_from_file_location("benchmark_metrics", BENCHMARKS / "metrics.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("per_class", [False, True])
def test_all_programs_score_the_same_boxes_alike(module, tmp_path, per_class):
    sizes = {"images": 12, "detections": 20, "classes": 3, "repeats": 1, "per_class": per_class}
    rows = module.main(**sizes, json_file=tmp_path / "rows.json")
    others = ["torchmetrics, pycocotools", "torchmetrics, faster_coco_eval"]
    assert list(rows) == [*(f"mtvision, {name}" for name in DETECTION_PROTOCOLS), *others]
    assert all(rows[name]["difference"] < 1e-6 for name in others)
    assert rows["mtvision, coco"]["ratio"] == 1
    assert json.loads((tmp_path / "rows.json").read_text()) == rows
