"""The example that draws predictions: which files it writes, and what it says when it cannot."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mtvision as mtv

SCRIPT = Path(__file__).parents[2] / "examples" / "predict.py"


class Colourist:
    """A model that sees its class everywhere."""

    classes = mtv.Classes(("background", "cat"), ("cat",))

    def predict(self, images, **options):
        return [{"seg": torch.zeros(as_array(image).shape[:2], dtype=torch.int64)} for image in images]


def as_array(path):
    return np.asarray(Image.open(path))


@pytest.fixture
def example(monkeypatch):
    spec = importlib.util.spec_from_file_location("example_predict_alone", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(mtv, "load_model", lambda run: Colourist())
    return module


def test_images_of_one_name_do_not_overwrite_each_other(example, tmp_path):
    images = [tmp_path / name for name in ("a/photo.png", "b/photo.png", "a/photo.bmp", "a/photo-2.png")]
    for value, path in enumerate(images):
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 9, 3), value * 10, np.uint8)).save(path)
    written = example.main(tmp_path, images, tmp_path / "out")
    assert len(set(written)) == 4
    for image, path in zip(images, written, strict=True):
        assert path.suffix == ".png"
        assert np.array_equal(as_array(path), as_array(image))


def test_it_says_in_one_line_what_is_wrong(tmp_path):
    command = [sys.executable, SCRIPT, tmp_path / "no_run", "photo.jpg"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
