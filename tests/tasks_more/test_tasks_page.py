"""Every block of docs/tasks.md runs as it stands."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor
from torchmetrics import MetricCollection

import mtvision as mtv
from tests.examples.test_examples import load

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tasks.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, flags=re.DOTALL)
PYTHON = [text for language, text in BLOCKS if language == "python"]
YAML = [text for language, text in BLOCKS if language == "yaml"]


def run(block: str) -> dict:
    """Run a block with the names that its page takes for granted."""
    known = (Sequence, NamedTuple, Tensor, MetricCollection, Path, replace)
    scope = {part.__name__: part for part in known} | {"mtv": mtv, "np": np, "torch": torch}
    exec(block, scope)
    return scope


def test_there_is_no_other_kind_of_block():
    assert len(BLOCKS) == len(PYTHON) + len(YAML) == 5
    assert len(PYTHON) == 3


@pytest.mark.parametrize("block", YAML)
def test_a_config_builds_its_tasks(block):
    config = mtv.Config(**yaml.safe_load(block)).replace({"model.backbone": "test_resnet"})
    model = mtv.build_model(config)
    assert set(config.model.tasks) == set(model.tasks) - {"seg", "det"}
    mtv.Trainer(model, config)  # which refuses weights of tasks that are not there


def test_the_config_with_tags_trains_on_shapes_as_they_are(tmp_path):
    small = {"model.backbone": "test_resnet", "data.dataset": {"name": "shapes", "num_images": 8, "image_size": 64}}
    config = mtv.Config(**yaml.safe_load(YAML[1])).replace({**small, "system.epochs": 1, "data.image_size": 64})
    assert "tags/map" in mtv.train(config, tmp_path / "run", progress=False).metrics


def test_the_data_set_reads_depths_and_says_where_there_is_none(tmp_path):
    images = mtv.data.Shapes("train", num_images=2, image_size=(32, 40))
    np.save(tmp_path / f"{images[1].image_id}.npy", np.full((32, 40), 2.5, np.float32))
    data = run(PYTHON[0])["WithDepth"](images, tmp_path)
    assert mtv.data.check(data).errors == []
    assert data[0].maps == {"depth": None}
    assert data[1].maps["depth"].mean() == 2.5


def test_the_task_is_that_of_the_example():
    assert PYTHON[1] in (ROOT / "examples" / "custom_task.py").read_text()


CONFIG = {
    "system": {"epochs": 6, "device": "cpu"},
    "model": {
        "backbone": "test_resnet",
        "segmentation_head": None,
        "detection_head": None,
        "tasks": {"normals": {"name": "normals", "head": "fcn"}},
        "dropout_rate": 0.0,
    },
    "training": {"batch_size": 4},
    "data": {"dataset": {"name": "bumps", "num_images": 16}, "image_size": 64, "augmentation_level": "mirror_normals"},
}


def test_a_task_registered_here_trains_with_the_transform_of_the_page(tmp_path):
    example = load("custom_task")
    mtv.TASKS._factories.pop("normals")
    names = {name: getattr(example, name) for name in ("Angle", "Within11", "_resized")}
    scope = run(PYTHON[1])
    scope.update(names)
    run(PYTHON[2])
    assert mtv.TASKS.get("normals") is scope["NormalsTask"]
    result = mtv.train(CONFIG, tmp_path / "run", progress=False)
    before = mtv.evaluate(mtv.build_model(CONFIG), mtv.build_dataset(CONFIG, "val")).metrics["normals/angle"]
    assert result.metrics["normals/angle"] < before - 20
    with pytest.raises(mtv.ConfigError, match=r"has no option 'heda'\. Did you mean 'head'\?"):
        mtv.Config(model={"tasks": {"normals": {"name": "normals", "heda": "fcn"}}})
    with pytest.raises(mtv.ConfigError, match=r"loss_weights\.normal: .*Did you mean 'normals'\?"):
        mtv.Trainer(result.model, {**CONFIG, "training": {"loss_weights": {"normal": 1.0}}})


def test_the_pages_transform_keeps_normals_those_of_the_picture():
    """Shading is a function of normal and lamps: after mirroring, of the lamps mirrored."""
    example = load("custom_task")
    run(PYTHON[2])
    transform = mtv.AUGMENTATIONS.build("mirror_normals", (64, 64))
    sample = example.Bumps(Path(), "train", num_images=1)[0]
    shown = set()
    for seed in range(8):
        result = transform(sample, seed)
        mirrored = not np.array_equal(result.image, sample.image)
        lamps = example.Bumps.lamps * ([-1, 1, 1] if mirrored else 1)
        shading = (result.maps["normals"] @ lamps.T).clip(0, 1) * 255
        assert np.abs(shading - result.image).mean() < 6  # the noise
        shown.add(mirrored)
    assert shown == {False, True}
