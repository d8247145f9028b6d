"""An ONNX file says what the model says, at any size, and what it is."""

import numpy as np
import pytest
import torch

from mtvision.data.augmentation.presets import resize_only
from mtvision.data.images import as_sample
from mtvision.exporting import read_metadata
from mtvision.exporting.onnx_file import onnx_runner
from mtvision.layers.mode import evaluation_mode
from mtvision.tasks.exported_parts import exported_parts
from small_exports import CLASSES, SIZE, exported_model, noise, require_packages

require_packages()
import onnx  # noqa: E402

pytestmark = pytest.mark.slow  # an export takes its time


@pytest.fixture(scope="module")
def model():
    return exported_model()[0]


@pytest.fixture(scope="module")
def exported():
    return exported_model()[1]


@pytest.fixture(scope="module")
def run(exported):
    return onnx_runner(exported.path)


@pytest.fixture(scope="module")
def run_with_numbers(exported):
    """Also gives what predictions are made of, which is in the file but no output of it."""
    names = ("seg_logits", "det_boxes", "det_scores")
    float32 = onnx.TensorProto.FLOAT
    return onnx_runner(
        exported.path, [onnx.helper.make_tensor_value_info(f"decoded/{name}", float32, None) for name in names]
    )


def predictions(found, index):
    """The predictions of one image in a file's outputs, as the model gives them."""
    count = int(found["det_count"][index])
    boxes = {name: found[f"det_{name}"][index, :count] for name in ("boxes", "scores", "labels")}
    return {"seg": found["seg_mask"][index], "det": boxes}


def assert_same_predictions(found, expected):
    """Masks may differ where two classes are level, and detections where two scores are.

    Numbers differ by 1e-6, so of two detections whose scores are that near the other one may come first, and suppress.
    That the file decides as the model does, given the same numbers, is checked at export.
    """
    assert (found["seg"] == expected["seg"]).double().mean() > 0.999
    mine, theirs = found["det"], expected["det"]
    assert abs(len(mine["scores"]) - len(theirs["scores"])) <= 2
    near = (mine["boxes"][:, None] - theirs["boxes"]).abs().amax(dim=2) < 1e-4 * max(SIZE)
    near &= (mine["scores"][:, None] - theirs["scores"]).abs() < 1e-4
    near &= mine["labels"][:, None] == theirs["labels"]
    assert near.any(dim=0).double().mean() > 0.95


@pytest.mark.parametrize("shape", [(1, *SIZE), (4, 65, 97), (2, 160, 80)])
def test_predicts_as_the_model_does(model, run, shape):
    images = noise(*shape)
    with evaluation_mode(model):
        expected = model.postprocess(model(images))
    found = run(images)
    assert sum(len(each["det"]["scores"]) for each in expected) > 20
    for index, each in enumerate(expected):
        assert_same_predictions(predictions(found, index), each)


@pytest.mark.parametrize("size", [SIZE, (128, 128), (192, 256)], ids=str)
@pytest.mark.parametrize("batch", [1, 4])
def test_photographs_give_the_same_numbers(model, run_with_numbers, real_pack, size, batch):
    """Within 1e-4: of logits and scores, and of the longer side of the image for boxes."""
    paths = sorted((real_pack("coco_voc20") / "JPEGImages").glob("*.jpg"))[:batch]
    images = torch.stack([torch.from_numpy(resize_only(size)(as_sample(path), 0).image) for path in paths])
    images = images.permute(0, 3, 1, 2).contiguous()
    with evaluation_mode(model):
        outputs = model(images)
        expected = model.postprocess(outputs)
        parts = exported_parts(model.task("det"), outputs["det"]).decoded(outputs["det"])
    found = run_with_numbers(images)
    limits = {"det_boxes": 1e-4 * max(size), "det_scores": 1e-4, "seg_logits": 1e-4}
    truths = {"det_boxes": parts["boxes"], "det_scores": parts["scores"], "seg_logits": outputs["seg"].logits}
    for name, truth in truths.items():
        torch.testing.assert_close(found[f"decoded/{name}"], truth, rtol=0, atol=limits[name])
    for index, each in enumerate(expected):
        assert len(each["det"]["scores"])
        assert_same_predictions(predictions(found, index), each)


def test_the_result_tells_what_was_written(exported):
    assert exported.outputs == ("seg_mask", "det_boxes", "det_scores", "det_labels", "det_count")
    assert exported.largest_difference < 1e-5
    assert exported.num_bytes == exported.path.stat().st_size
    assert [path.name for path in exported.path.parent.iterdir()] == ["model.onnx"]


def test_the_model_is_left_as_it_was(model, exported):
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_file_is_valid_onnx_with_named_axes(exported):
    file = onnx.load(exported.path)
    onnx.checker.check_model(file, full_check=True)
    axes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*file.graph.input, *file.graph.output)
    }
    assert axes == {
        "images": ["batch", 3, "height", "width"],
        "seg_mask": ["batch", "height", "width"],
        "det_boxes": ["batch", 100, 4],
        "det_scores": ["batch", 100],
        "det_labels": ["batch", 100],
        "det_count": ["batch"],
    }
    assert file.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8


def test_the_file_tells_what_it_is(model, exported):
    metadata = read_metadata(exported.path)
    assert metadata == exported.metadata
    assert (metadata.format, metadata.postprocess, metadata.quantization) == ("onnx", "inside", None)
    assert (metadata.input_name, metadata.input_type, metadata.image_size) == ("images", "uint8", SIZE)
    assert metadata.dynamic == ("batch", "height", "width")
    assert metadata.smallest_side == 33  # the coarsest stride is 32: two rows of features
    assert metadata.tasks["seg"].classes == CLASSES.segmentation
    assert metadata.tasks["det"].classes == CLASSES.detection
    assert metadata.tasks["det"].settings == {
        "score_threshold": 0.01,
        "nms": "class_wise",
        "nms_threshold": model.task("det").selection.nms_threshold,
        "max_detections": 100,
        "candidates": 1000,
    }
    assert metadata.config["model"]["backbone"] == "test_resnet"
    assert metadata.versions["torch"] == torch.__version__.partition("+")[0]


def test_a_lone_image_of_one_colour_is_taken(run):
    found = run(torch.zeros(1, 3, *SIZE, dtype=torch.uint8))
    assert found["seg_mask"].shape == (1, *SIZE)
    assert np.isfinite(found["det_boxes"].numpy()).all()
