"""The example predicts with an exported file as the model does, where torch cannot be imported."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from small_exports import exported_model

EXAMPLE = Path(__file__).parents[2] / "examples" / "onnx_runtime.py"
WITHOUT_TORCH = f"""
import runpy, sys
sys.modules.update(torch=None, torchvision=None, mtvision=None)
sys.argv[0] = {str(EXAMPLE)!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def photo(tmp_path):
    rows, columns = np.mgrid[:75, :133]
    path = tmp_path / "street.png"
    Image.fromarray(np.stack([rows * 3, columns, (rows * columns) % 256], axis=-1).astype(np.uint8)).save(path)
    return path


@pytest.mark.slow
def test_predicts_as_the_model_does_without_torch(photo, tmp_path):
    model, exported = exported_model()
    options = [exported.path, photo, "--out", tmp_path / "out", "--score-threshold", "0.03"]
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *options], capture_output=True, text=True, check=True)
    found = re.findall(r"(cat|dog) (\d\.\d\d) \[(.*?)\]", done.stdout)
    expected = model.predict(photo, score_threshold=0.03)[0]
    assert len(found) == len(expected["det"]["scores"]) > 3
    for (name, score, box), *truth in zip(found, *expected["det"].values(), strict=True):
        values = dict(zip(expected["det"], truth, strict=True))
        assert name == model.classes.detection[values["labels"]]
        assert float(score) == pytest.approx(float(values["scores"]), abs=0.01)
        assert list(map(float, box.split(", "))) == pytest.approx(values["boxes"].tolist(), abs=0.1)
    mask = np.asarray(Image.open(tmp_path / "out" / "street.png"))
    assert mask.shape == (75, 133)
    assert (mask == expected["seg"].numpy()).mean() > 0.9  # classes are resized there, logits here


def test_is_thirty_lines_at_most():
    body = EXAMPLE.read_text().split("\ndef main")[1].split("\nif __name__")[0]
    assert len(body.strip().splitlines()) <= 30
