"""The example that writes a run's report."""

import importlib.util
import runpy
import sys
from pathlib import Path

import pytest

import mtvision as mtv

SCRIPT = Path(__file__).parents[2] / "examples" / "report.py"


@pytest.fixture
def example():
    spec = importlib.util.spec_from_file_location("example_report_alone", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_run_gets_its_report(example, tmp_path, capsys):
    shapes = {"name": "shapes", "num_images": 16, "image_size": 32}
    config = {
        "system": {"epochs": 1},
        "model": {"backbone": "test_resnet", "num_classes": {"seg": 6, "det": 5}},
        "training": {"batch_size": 4},
        "data": {"dataset": shapes, "image_size": 32},
    }
    mtv.train(config, run_dir=tmp_path / "run")
    page = example.main(tmp_path / "run")
    assert page == tmp_path / "run" / "report" / "report.html"
    text = page.read_text(encoding="utf-8")
    assert "Losses, metrics and learning rate by epoch" in text
    assert "backbone test_resnet" in text
    assert str(page) in capsys.readouterr().out


def test_it_says_in_one_line_what_is_wrong(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(tmp_path / "no_run")])
    with pytest.raises(SystemExit, match=r"^error: .*no_run.*config\.yaml"):
        runpy.run_path(str(SCRIPT), run_name="__main__")
