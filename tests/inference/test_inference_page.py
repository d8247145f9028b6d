"""The page on inference says what is true, and its code runs."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from toy_predictors import noise

import mtvision as mtv
from mtvision.inference.video import CODECS

PAGE = (Path(__file__).parents[2] / "docs" / "inference.md").read_text()
CONFIG = {
    "system": {"epochs": 1, "device": "cpu"},
    "model": {"backbone": "test_resnet", "neck": {"name": "fpn", "channels": 16}},
    "training": {"batch_size": 4},
    "data": {"dataset": {"name": "shapes", "num_images": 8, "image_size": 32}, "image_size": 32},
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The folder in which all Python blocks ran, one after the other, and their names."""
    folder = tmp_path_factory.mktemp("page")
    mtv.Config(**CONFIG).save(folder / "run.yaml")
    mtv.train(CONFIG, folder / "runs" / "a", progress=False)
    (folder / "photos").mkdir()
    for index, name in enumerate(("street.jpg", "yard.jpg")):
        Image.fromarray(noise(40, 50, index).permute(1, 2, 0).numpy()).save(folder / "photos" / name)
    writer = cv2.VideoWriter(str(folder / "walk.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (64, 48))
    for index in range(5):
        writer.write(np.ascontiguousarray(noise(48, 64, index).permute(1, 2, 0).numpy()))
    writer.release()
    scope = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
            exec(block, scope)
    return folder, scope


def test_every_python_block_runs(ran):
    folder, scope = ran
    assert [len(scope[name]) for name in ("plain", "merged", "found")] == [1, 2, 1]
    assert scope["result"].num_images == 2
    assert (scope["film"].num_frames, scope["film"].num_predicted) == (5, 3)
    assert (folder / "walk_predicted.detections.json").exists()
    assert (folder / "walk_predicted.images.json").exists()
    assert isinstance(scope["brightness"], float)


def test_the_folder_has_what_the_page_says_and_no_more(ran):
    table = PAGE.split("| in `predictions/` |")[1].split("\n\n")[0]
    told = {name.replace("<name>", "street") for name in re.findall(r"^\| `([^`]+)`", table, flags=re.MULTILINE)}
    there = {path.relative_to(ran[0] / "predictions") for path in (ran[0] / "predictions").rglob("*") if path.is_file()}
    assert {path.as_posix() for path in there if path.stem != "yard"} == told


def test_the_page_names_every_suffix_of_films():
    assert [suffix for suffix in CODECS if f"`{suffix}`" not in PAGE] == []
