"""The code of docs/hub.md runs, from the training to the hub and back."""

import re
from pathlib import Path

import torch
from PIL import Image
from small_shapes import CONFIG

import mtvision as mtv

PAGE = Path(__file__).parents[2] / "docs" / "hub.md"


def test_the_code_of_the_page_runs(hub, tmp_path, monkeypatch, without_curves):
    monkeypatch.chdir(tmp_path)
    mtv.Config(**CONFIG).save("run.yaml")
    Image.new("RGB", (60, 48), "grey").save("photo.jpg")
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL):
        exec(block, names)
    assert names["prediction"]["seg"].shape == (48, 60)
    weights, before = names["again"].state_dict(), names["model"].state_dict()
    assert all(torch.equal(weights[name], before[name]) for name in before)
    assert hub.asked[-1] == ("snapshot", "user/street", ("config.json", "model.safetensors"), "main")


def test_the_files_of_the_page_are_those_that_are_written(tmp_path):
    rows = set(re.findall(r"^\| `([\w.]+)`", PAGE.read_text(), flags=re.MULTILINE))
    assert {path.name for path in mtv.build_model(CONFIG).save_pretrained(tmp_path / "a").iterdir()} == rows
