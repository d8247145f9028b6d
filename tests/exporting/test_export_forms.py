"""What else a file can be: a program of torch.export, raw or undecided outputs, further tasks, fixed sizes."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

import mtvision as mtv
from mtvision.errors import ConfigError
from mtvision.exporting import read_metadata
from mtvision.exporting.onnx_file import onnx_runner
from mtvision.layers.mode import evaluation_mode
from mtvision.ops.boxes import clip_boxes
from mtvision.tasks.base import Task
from small_exports import SIZE, noise, require_packages, small_model

pytestmark = pytest.mark.slow  # an export takes its time

FURTHER = {"distance": "depth", "scene": {"name": "classification", "num_classes": 4}}


@pytest.fixture(scope="module")
def model():
    return small_model(tasks=FURTHER)


@pytest.fixture(scope="module")
def outside(model, tmp_path_factory):
    require_packages()
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    return mtv.export(model, path, postprocess="outside", dynamic="batch", input_type="float32")


@pytest.fixture(scope="module")
def program(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "model.program"
    return mtv.export(model, path, format="torch.export", dynamic="batch")


def test_undecided_outputs_of_four_tasks(model, outside):
    images = noise(3, *SIZE)
    with evaluation_mode(model):
        says = model(images)
    found = onnx_runner(outside.path)(images.float() / 255)
    det = says["det"]
    boxes = clip_boxes(model.task("det").head.decode(det.box_regression, det.points), det.image_size)
    expected = {
        "seg_logits": says["seg"].logits,
        "det_boxes": boxes,
        "det_scores": det.class_logits.sigmoid(),
        "distance_map": says["distance"].depth,
        "scene_class_scores": says["scene"].logits.sigmoid(),
    }
    assert set(found) == {*expected, "det_levels"}
    for name, each in expected.items():
        limit = 1e-4 * (max(SIZE) if name == "det_boxes" else 1)
        torch.testing.assert_close(found[name], each, rtol=0, atol=limit)
    assert found["det_levels"].unique_consecutive(return_counts=True)[1].tolist() == [8 * 12, 4 * 6, 2 * 3]
    assert read_metadata(outside.path).dynamic == ("batch",)


def test_a_program_predicts_as_the_model_does(model, program):
    images = noise(3, *SIZE)
    run = torch.export.load(program.path.open("rb")).module()
    with evaluation_mode(model):
        expected = model.postprocess(model(images))
    found = run(images)
    assert not any(each.requires_grad for each in found.values())
    for index, each in enumerate(expected):
        count = int(found["det_count"][index])
        assert count == len(each["det"]["scores"]) > 0
        torch.testing.assert_close(found["det_boxes"][index, :count], each["det"]["boxes"])
        assert torch.equal(found["det_labels"][index, :count], each["det"]["labels"])
        assert torch.equal(found["seg_mask"][index], each["seg"])
        torch.testing.assert_close(found["distance_map"][index], each["distance"])
        torch.testing.assert_close(found["scene_scores"][index], each["scene"]["scores"])
        assert torch.equal(found["scene_labels"][index], each["scene"]["labels"])


def test_a_program_takes_images_without_any_object(model, program):
    dark = torch.zeros(1, 3, *SIZE, dtype=torch.uint8)
    assert torch.export.load(program.path.open("rb")).module()(dark)["seg_mask"].shape == (1, *SIZE)


def test_a_program_tells_what_it_is(program):
    metadata = program.metadata
    assert read_metadata(program.path) == metadata
    assert metadata.format == "torch.export"
    assert metadata.tasks["scene"].outputs == ("scene_scores", "scene_labels")
    assert program.largest_difference == 0


class Levels(NamedTuple):
    mean: Tensor
    extremes: tuple[Tensor, Tensor]
    unit: str = "grey"


class Brightness(Task):
    main_metric = "error"

    def forward(self, features, image_size):
        values = features[0].flatten(1)
        return Levels(values.mean(dim=1), (values.amin(dim=1), values.amax(dim=1)))

    def loss(self, output, target):
        return {}

    def postprocess(self, output, image_sizes=None):
        return output.mean.tolist()

    def metrics(self):
        raise NotImplementedError


@pytest.fixture
def own_task():
    return mtv.MultiTaskModel(small_model().backbone, {"light": Brightness()})


def test_a_task_of_ones_own_is_exported_raw(own_task, tmp_path):
    exported = mtv.export(own_task, tmp_path / "own.pt2", postprocess="raw", dynamic=False, image_size=40, batch_size=2)
    assert exported.outputs == ("light_mean", "light_extremes_0", "light_extremes_1")
    assert exported.metadata.dynamic == ()
    assert exported.metadata.image_size == (40, 40)
    images = noise(2, 40, 40)
    found = torch.export.load(exported.path).module()(images)
    with evaluation_mode(own_task):
        torch.testing.assert_close(found["light_mean"], own_task(images)["light"].mean)


def test_a_task_of_ones_own_without_parts_is_refused(own_task, tmp_path):
    with pytest.raises(ConfigError, match=r"Brightness: .* postprocess='raw', or write ExportedParts"):
        mtv.export(own_task, tmp_path / "own.pt2")
    assert list(tmp_path.iterdir()) == []
