"""The network as one callable: types, sizes, compile, export, predict."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image

import mtvision as mtv
from mtvision import DataError
from mtvision.heads.detection.base import encode_distances
from mtvision.layers.mode import evaluation_mode
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


@pytest.mark.parametrize("backbone", ["test_resnet", "mobilenetv3_small_050", "test_convnext", "test_vit"])
@pytest.mark.parametrize("segmentation_head", ["fcn", "single_scale"])
def test_evaluation_in_the_memory_format_nhwc_changes_no_number(backbone, segmentation_head, monkeypatch):
    config = {"backbone": backbone, "segmentation_head": segmentation_head, "detection_head": "single_scale"}
    if backbone == "test_vit" and segmentation_head == "fcn":
        pytest.skip("a plain transformer has one stride, this head needs several")
    model = mtv.build_model(config).double().eval()
    images = torch.rand(2, 3, 160, 160, dtype=torch.float64)
    formats = []
    model.normalization.register_forward_pre_hook(
        lambda _, inputs: formats.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
    )
    found = leaves(model(images))
    monkeypatch.setattr("mtvision.model._FASTER_IN_NHWC", ())
    for mine, expected in zip(found, leaves(model(images)), strict=True):
        torch.testing.assert_close(mine, expected, atol=1e-9, rtol=1e-9)
    assert formats == [True, False]
    assert backbone == "test_vit" or found[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [(64, 64), (65, 97), (100, 75)])
def test_odd_sizes(model, size):
    assert model(torch.rand(1, 3, *size))["seg"].logits.shape == (1, 21, *size)


def test_compiles_in_one_graph(model):
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    images = torch.rand(2, 3, 64, 64)
    for mine, expected in zip(leaves(compiled(images)), leaves(model(images)), strict=True):
        torch.testing.assert_close(mine, expected)


@pytest.mark.slow
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
    with pytest.raises(mtv.DataError, match=r"annotations for task 'det' are missing; got \['seg'\]"):
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


def mixed_modes(model):
    """Return a copy in training with one frozen norm and one head in evaluation."""
    mixed = copy.deepcopy(model).train()
    next(module for module in mixed.modules() if isinstance(module, torch.nn.BatchNorm2d)).eval()
    mixed.tasks["seg"].eval()
    return mixed


def test_predict_and_score_leave_mixed_modes_as_they_found_them(model):
    mixed = mixed_modes(model)
    before = {name: module.training for name, module in mixed.named_modules()}
    assert len(set(before.values())) == 2
    mixed.predict(torch.rand(3, 32, 32))
    assert {name: module.training for name, module in mixed.named_modules()} == before
    with pytest.raises(DataError):
        mixed.predict("nowhere.jpg")
    score(mixed, [])
    assert {name: module.training for name, module in mixed.named_modules()} == before


def test_evaluation_mode_is_evaluation_without_gradients(model):
    mixed = mixed_modes(model)
    with evaluation_mode(mixed):
        assert not any(module.training for module in mixed.modules())
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()


def test_predict_reads_no_more_images_than_a_batch_ahead(model, monkeypatch):
    alive = []
    original = model._predict_samples
    monkeypatch.setattr(model, "_predict_samples", lambda samples: alive.append(len(samples)) or original(samples))
    drawn = []

    def images():
        for index in range(5):
            drawn.append((index, len(alive)))
            yield torch.full((3, 32, 32), index / 5)

    assert len(model.predict(images(), batch_size=2)) == 5
    assert alive == [2, 2, 1]
    assert drawn == [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2)]
    monkeypatch.setattr(model, "image_size", None)
    assert len(model.predict((image for image in torch.rand(2, 3, 32, 32)), batch_size=2)) == 2
    assert alive[3:] == [1, 1]


@pytest.mark.parametrize("batch", [torch.rand(3, 3, 32, 32), np.zeros((3, 32, 40, 3), dtype=np.uint8)])
def test_predict_takes_a_batch_and_no_images_at_all(model, batch):
    assert len(model.predict(batch)) == 3
    assert model.predict([]) == model.predict(batch[:0]) == []


@pytest.mark.parametrize("batch_size", [0, -1])
def test_predict_refuses_batches_of_nothing(model, batch_size):
    with pytest.raises(ValueError, match=f"batch_size: expected at least 1, got {batch_size}"):
        model.predict([], batch_size=batch_size)


class FixedScores(mtv.Task):
    """Three detections of known scores, whatever the image."""

    main_metric = "none"

    def forward(self, features, image_size):
        return features[0]

    def loss(self, output, target):
        return {}

    def postprocess(self, output, image_sizes=None):
        rows = {"scores": torch.tensor([0.9, 0.5, 0.1]), "labels": torch.arange(3), "boxes": torch.rand(3, 4)}
        return [dict(rows) for _ in range(len(output))]

    def metrics(self):
        raise NotImplementedError


def test_predict_drops_detections_below_a_threshold_of_the_caller(model):
    tasks = {"any": FixedScores(), "seg": copy.deepcopy(model.tasks["seg"])}
    fixed = mtv.MultiTaskModel(copy.deepcopy(model.backbone), tasks)
    image = torch.rand(3, 64, 64)
    kept = {threshold: fixed.predict(image, score_threshold=threshold)[0] for threshold in (None, 0.0, 0.5, 1.0)}
    assert {threshold: part["any"]["labels"].tolist() for threshold, part in kept.items()} == {
        None: [0, 1, 2],
        0.0: [0, 1, 2],
        0.5: [0, 1],
        1.0: [],
    }
    assert kept[0.5]["any"]["boxes"].shape == (2, 4)
    assert torch.equal(kept[1.0]["seg"], kept[None]["seg"])
    with pytest.raises(ValueError, match=r"score_threshold: expected a number in \[0, 1\], got 30"):
        fixed.predict(image, score_threshold=30)


def test_predict_warns_once_while_the_data_sets_statistics_are_not_known(caplog):
    model = mtv.build_model({"model": SMALL, "data": {"image_size": 64, "preprocessing": "normalize"}})
    images = torch.rand(3, 3, 32, 32)
    with caplog.at_level("WARNING", logger="mtvision.model"):
        model.predict(images, batch_size=1)
        (record,) = caplog.records
        assert "model.normalization.set_statistics(mean, std)" in record.getMessage()
        assert "Trainer" in record.getMessage()
        caplog.clear()
        model.normalization.set_statistics([0.5] * 3, [0.2] * 3)
        model.predict(images, batch_size=1)
        assert not caplog.records


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
        (np.full((4, 4, 3), 255.0), r"\[0, 1\]"),
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
        system={"device": "cpu"},
        model=SMALL,
        data={"dataset": {"name": "shapes", "num_images": 24, "image_size": 96}, "image_size": 96},
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


def test_evaluate_scores_what_predict_says_at_the_original_size():
    cfg = mtv.Config(
        model=SMALL, data={"dataset": {"name": "shapes", "num_images": 6, "image_size": [80, 112]}, "image_size": 64}
    )
    data = mtv.build_dataset(cfg, "train")
    model = mtv.build_model(cfg, classes=data.classes)
    result = mtv.evaluate(model, data, batch_size=4)
    predictions = model.predict([sample.image for sample in data])
    truths = [truth for batch in mtv.build_loader(cfg, data, training=False) for truth in batch.truths["seg"]]
    metrics = model.task("seg").metrics()
    metrics.update([prediction["seg"] for prediction in predictions], truths)
    assert [truth.shape for truth in truths] == [(80, 112)] * 6
    assert result.metrics["seg/miou"] == pytest.approx(float(metrics.compute()["miou"]), abs=1e-6)
    assert result.metrics["seg/pixel_accuracy"] == pytest.approx(
        np.mean([(p["seg"].numpy() == s.mask).mean() for p, s in zip(predictions, data, strict=True)]), abs=1e-6
    )
