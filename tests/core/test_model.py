"""The network as one callable: types, sizes, compile, export, predict."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image

import mtvision as mtv
from mtvision import DataError
from mtvision.heads.detection.base import encode_distances
from mtvision.tasks.detection import DetectionOutput
from mtvision.tasks.segmentation import SegmentationOutput
from mtvision.training.evaluation import score
from tests.core.test_factory import SMALL, synthetic_targets


@pytest.fixture(scope="module")
def model():
    return mtv.build_model({"model": SMALL, "data": {"image_size": 64}}).eval()


def leaves(outputs):
    return [tensor for output in outputs.values() for tensor in output]


def test_forward_returns_the_same_type_in_every_mode_and_for_every_input_type(model):
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    evaluated = model(images)
    for mine, expected in zip(leaves(model(images / 255)), leaves(evaluated), strict=True):
        torch.testing.assert_close(mine, expected, atol=1e-4, rtol=1e-4)
    trained = copy.deepcopy(model).train()(images)
    assert [type(v) for v in evaluated.values()] == [type(v) for v in trained.values()]


@pytest.mark.parametrize("size", [(64, 64), (65, 97), (100, 75)])
def test_odd_sizes(model, size):
    assert model(torch.rand(1, 3, *size))["seg"].logits.shape == (1, 21, *size)


def test_compiles_in_one_graph(model):
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    images = torch.rand(2, 3, 64, 64)
    for mine, expected in zip(leaves(compiled(images)), leaves(model(images)), strict=True):
        torch.testing.assert_close(mine, expected)


@pytest.mark.parametrize("segmentation_head", ["fcn", "unet"])
def test_exports_at_dynamic_sizes_equal_to_eager(segmentation_head):
    model = mtv.build_model({**SMALL, "segmentation_head": segmentation_head}).eval()
    dims = {0: torch.export.Dim("batch", min=1, max=16), 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    exported = torch.export.export(model, (torch.rand(2, 3, 64, 96),), dynamic_shapes=(dims,)).module()
    for shape in [(2, 3, 64, 96), (1, 3, 96, 64), (3, 3, 128, 160)]:
        images = torch.rand(shape)
        for mine, expected in zip(leaves(exported(images)), leaves(model(images)), strict=True):
            torch.testing.assert_close(mine, expected, atol=1e-4, rtol=1e-4)


def test_loss_says_which_targets_are_missing(model):
    with pytest.raises(KeyError, match="targets for task 'det' are missing; got \\['seg'\\]"):
        model.loss(model(torch.rand(1, 3, 64, 64)), {"seg": torch.zeros(1, 64, 64, dtype=torch.int64)})


def test_a_batch_without_any_annotation_gives_zero_with_a_gradient_path(model):
    model = copy.deepcopy(model).train()
    targets = {"seg": torch.full((2, 64, 64), 255), "det": [None, None]}
    losses = model.loss(model(torch.rand(2, 3, 64, 64)), targets)
    total = sum(part for parts in losses.values() for part in parts.values())
    total.backward()
    assert total.item() == 0
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(g).all() and not g.any() for g in gradients)


def test_partly_annotated_batches_count_only_what_is_annotated(model):
    images, targets = torch.rand(2, 3, 64, 64), synthetic_targets()
    mixed = {"seg": targets["seg"].clone(), "det": [targets["det"][0], None]}
    mixed["seg"][0] = 255
    outputs = model(images)
    got = model.loss(outputs, mixed)
    only_boxes = model.loss(model(images[:1]), {"seg": targets["seg"][:1], "det": targets["det"][:1]})["det"]
    only_mask = model.loss(model(images[1:]), {"seg": targets["seg"][1:], "det": [None]})["seg"]
    for name, value in {**only_boxes, **only_mask}.items():
        torch.testing.assert_close({**got["det"], **got["seg"]}[name], value, atol=1e-5, rtol=1e-5)


def test_predict_takes_every_form_of_an_image_and_returns_its_size(model, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    path = tmp_path / "image.png"
    Image.fromarray(pixels).save(path)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    forms = [path, str(path), pixels, Image.fromarray(pixels), tensor, tensor / 255]
    predictions = model.predict(forms)
    assert len(predictions) == len(forms)
    for form, prediction in zip(forms, predictions, strict=True):
        assert prediction["seg"].shape == (50, 70)
        assert prediction["seg"].dtype == torch.int64
        assert torch.equal(prediction["seg"], predictions[0]["seg"])
        alone = model.predict(form)
        assert isinstance(alone, list)
        assert torch.equal(alone[0]["seg"], prediction["seg"])
        boxes = prediction["det"]["boxes"]
        assert boxes.shape[1] == 4
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([70.0, 50.0, 70.0, 50.0])).all()
    batch = torch.stack([tensor, tensor])
    assert len(model.predict(batch)) == 2


def test_predict_leaves_the_mode_as_it_found_it(model):
    for mode in (True, False):
        model.train(mode)
        model.predict(torch.rand(3, 32, 32))
        assert all(module.training == mode for module in model.modules())
    model.eval()


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        ("nowhere.jpg", "nowhere.jpg"),
        (np.zeros((4, 4), dtype=np.uint8), r"expected.*\(H, W, 3\)"),
        (np.zeros((4, 4, 3), dtype=np.float32), "uint8"),
        (torch.zeros(4, 4, 3), r"\(3, H, W\)"),
        (torch.full((3, 4, 4), 255.0), r"\[0, 1\]"),
        (7, "int"),
    ],
)
def test_predict_refuses_what_is_no_image(model, image, sentence):
    with pytest.raises(DataError, match=sentence):
        model.predict(image)


def outputs_from_truth(batch, points, num_classes):
    """Return the outputs of a network that is always right: the chosen logits, and one point an object."""
    logits = torch.nn.functional.one_hot(batch.targets["seg"], num_classes["seg"]).movedim(-1, 1) * 40.0 - 20.0
    class_logits = torch.full((len(batch.images), len(points), num_classes["det"]), -20.0)
    regression = torch.zeros(len(batch.images), len(points), 4)
    for image, objects in enumerate(batch.targets["det"]):
        free = torch.ones(len(points), dtype=torch.bool)
        for box, label in zip(objects["boxes"], objects["labels"], strict=True):
            encoded = encode_distances(box.expand(len(points), 4), points)
            index = int((free & encoded.isfinite().all(dim=1)).nonzero()[0])
            free[index] = False
            class_logits[image, index, label] = 20.0
            regression[image, index] = encoded[index]
    size = torch.tensor([float(length) for length in batch.images.shape[-2:]])
    return {"seg": SegmentationOutput(logits), "det": DetectionOutput(class_logits, regression, points, size)}


def test_outputs_set_from_the_truth_score_one_on_both_tasks():
    cfg = mtv.Config(
        model=SMALL, data={"dataset": {"name": "shapes", "num_images": 24, "image_size": 96}, "image_size": 96}
    )
    data = mtv.build_dataset(cfg, "train")
    model = mtv.build_model(cfg, classes=data.classes)
    points = model(torch.zeros(1, 3, 96, 96))["det"].points
    batches = list(mtv.build_loader(cfg, data, training=False))
    outputs = iter([outputs_from_truth(batch, points, data.classes.num_classes) for batch in batches])
    result = score(model, batches, forward=lambda images: next(outputs))
    assert result.metrics == pytest.approx(
        {"seg/miou": 1.0, "seg/pixel_accuracy": 1.0, "det/map50": 1.0, "det/map50_95": 1.0}
    )
