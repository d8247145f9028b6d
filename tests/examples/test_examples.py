"""Every example runs as it stands, here in a short form."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import mtvision as mtv

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quickstart") / "run"
    load("quickstart").main(run_dir=folder, epochs=1, images=8)
    return folder


def test_quickstart_leaves_a_whole_run(run):
    assert (run / "plots" / "predictions.png").exists()
    assert mtv.load_model(run).classes.segmentation[0] == "background"


def test_predict_writes_a_picture_for_each_image(run, tmp_path, capsys):
    images = []
    for index, sample in enumerate(mtv.build_dataset(run / "config.yaml", "test")[:2]):
        images.append(tmp_path / f"image{index}.png")
        Image.fromarray(sample.image).save(images[-1])
    written = load("predict").main(run, images, tmp_path / "out")
    assert [Image.open(path).size for path in written] == [(128, 128)] * 2
    assert "objects ->" in capsys.readouterr().out


def test_plain_loop_learns(capsys):
    module = load("plain_loop")
    few, more = module.main(epochs=1, images=24), module.main(epochs=6, images=48)
    assert more["seg/miou"] > few["seg/miou"]


def test_plain_loop_stays_short():
    lines = (EXAMPLES / "plain_loop.py").read_text().splitlines()
    assert len(lines) <= 50


def test_custom_head_trains_by_name_without_touching_the_package(tmp_path):
    metrics = load("custom_head").main(epochs=1, images=12, run_dir=tmp_path / "run")
    assert 0 <= metrics["seg/miou"] <= 1


def test_train_voc_takes_a_folder_and_overrides(devkit, tmp_path):
    overrides = ["system.epochs=1", "model.backbone=test_resnet", "data.image_size=64", "training.batch_size=2"]
    result = load("train_voc").main(devkit, tmp_path / "run", overrides=overrides)
    assert (tmp_path / "run" / "plots" / "curves.png").exists()
    assert "seg/miou" in result.metrics


def test_train_voc_says_in_one_line_what_is_wrong(tmp_path):
    command = [sys.executable, EXAMPLES / "train_voc.py", "--data-root", tmp_path / "nothing"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    assert str(tmp_path / "nothing") in result.stderr
