"""A predictor with one view is the model; with several it is what one works out by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from toy_predictors import (
    Constant,
    Pointwise,
    Rectangles,
    noise,
    painted,
    same_prediction,
    segmenter,
    toy_model,
)

import mtvision as mtv
from mtvision.data.geometry import resize_image
from mtvision.data.images import as_sample
from mtvision.errors import ConfigError, DataError
from mtvision.inference.predictor import Predictor
from mtvision.inference.windows import windows_of
from mtvision.layers.resize import resize_to
from mtvision.tasks.blending import border_weights

OVERALL = {"flip": True, "scales": (1.0, 0.5), "window": (24, 40)}


@pytest.fixture(scope="module")
def model():
    """A real network of two tasks, which finds something: untrained, with all its detections."""
    torch.manual_seed(0)
    config = {"model": {"backbone": "test_resnet"}, "data": {"image_size": 32}}
    built = mtv.build_model(config, classes=mtv.build_dataset({"data": {"dataset": "shapes"}}).classes).eval()
    built.task("det").selection = replace(built.task("det").selection, score_threshold=0.0)
    return built


def same(one, other):
    return len(one) == len(other) and all(map(same_prediction, one, other))


def test_with_one_view_it_is_the_model_in_every_form_of_image(model, tmp_path):
    array = noise(40, 50).permute(1, 2, 0).numpy()
    Image.fromarray(array).save(tmp_path / "a.png")
    forms = [tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(array), array, array / 255, noise(40, 50)]
    predictor = Predictor(model)
    assert same(predictor.predict(forms), model.predict(forms))
    for form in forms:
        assert same(predictor.predict(form), model.predict(form))
    batch = torch.stack([noise(40, 50, seed) for seed in range(3)])
    assert same(predictor.predict(batch, batch_size=2), model.predict(batch, batch_size=2))
    assert same(predictor.predict(batch, score_threshold=0.01), model.predict(batch, score_threshold=0.01))
    assert predictor.predict([]) == []


def test_without_a_size_of_its_own_it_is_the_model_too(model):
    images = [noise(40, 50), noise(64, 32)]
    model.image_size, size = None, model.image_size
    try:
        assert same(Predictor(model).predict(images), model.predict(images))
    finally:
        model.image_size = size


def test_one_window_that_covers_the_image_is_the_model(model):
    images = [noise(40, 50), noise(30, 64)]
    assert same(Predictor(model, window=(40, 64)).predict(images), model.predict(images, batch_size=1))


def test_images_are_read_a_batch_at_a_time(monkeypatch):
    read, seen = [], []
    task = segmenter()
    monkeypatch.setattr(task, "postprocess", lambda output, sizes: seen.append(len(read)) or [0] * len(sizes))
    images = (read.append(seed) or noise(8, 8, seed) for seed in range(5))
    Predictor(toy_model(seg=task), batch_size=2).predict(images)
    assert seen == [2, 4, 5]


def test_flips_change_nothing_where_the_network_does_not_care_for_left_and_right():
    # at the network's own size, so that no resizing rounds differently
    model = toy_model(image_size=(24, 32))
    images = [noise(24, 32), painted((24, 32), (0, 200, 3, 4, 10, 12), (1, 90, 12, 2, 30, 20))]
    plain, flipped = model.predict(images), Predictor(model, flip=True).predict(images)
    for one, other in zip(plain, flipped, strict=True):
        assert torch.equal(one["seg"], other["seg"])
        torch.testing.assert_close(one["det"]["boxes"], other["det"]["boxes"])
        torch.testing.assert_close(one["det"]["scores"], other["det"]["scores"])


def test_with_flips_a_mirrored_image_has_the_mirrored_prediction(model):
    image = noise(32, 32)
    predictor = Predictor(model, flip=True, fusion="nms")
    (said,), (mirrored,) = (predictor.predict_samples([as_sample(each)]) for each in (image, image.flip(-1)))
    # the mean of two numbers does not depend on their order
    assert torch.equal(said.confidence["seg"], mirrored.confidence["seg"].flip(-1))
    assert torch.equal(said.prediction["seg"], mirrored.prediction["seg"].flip(-1))
    boxes, others = said.prediction["det"]["boxes"], mirrored.prediction["det"]["boxes"]
    assert len(boxes) > 10
    back = torch.stack([32 - others[:, 2], others[:, 1], 32 - others[:, 0], others[:, 3]], dim=1)
    torch.testing.assert_close(by_corner(back), by_corner(boxes), rtol=1e-4, atol=1e-3)


def by_corner(boxes):
    return boxes[np.lexsort(boxes.round().T.numpy())]


def test_probabilities_of_scales_are_averaged_at_the_size_of_the_image(model):
    image = noise(32, 32)
    batches = [_resized(image, side)[None] for side in (32, 48)]
    with torch.no_grad():
        logits = [model(batch)["seg"].logits for batch in batches]
    mean = torch.stack([resize_to(each, (32, 32)).softmax(dim=1)[0] for each in logits]).mean(dim=0)
    (said,) = Predictor(model, scales=(1, 1.5), fusion="nms").predict_samples([as_sample(image)])
    torch.testing.assert_close(said.confidence["seg"], mean.amax(dim=0))
    assert torch.equal(said.prediction["seg"], mean.argmax(dim=0))


def _resized(image, side):
    return torch.from_numpy(resize_image(image.permute(1, 2, 0).numpy(), (side, side))).permute(2, 0, 1)


def test_windows_are_blended_by_their_weights(model):
    image = noise(40, 72)
    windows = windows_of((40, 72), (32, 32), 0.25)
    total, weight = torch.zeros(model.classes.num_classes["seg"], 40, 72), torch.zeros(40, 72)
    for region in windows:
        crop = image[:, region.top : region.top + 32, region.left : region.left + 32]
        with torch.no_grad():
            probabilities = model(crop[None])["seg"].logits.softmax(dim=1)[0]
        place = np.s_[..., region.top : region.top + 32, region.left : region.left + 32]
        total[place] += probabilities * border_weights(region, (40, 72))
        weight[place] += border_weights(region, (40, 72))
    assert len(windows) == 6
    (said,) = Predictor(model, window=(32, 32), fusion="nms", batch_size=4).predict_samples([as_sample(image)])
    torch.testing.assert_close(said.confidence["seg"], (total / weight).amax(dim=0), rtol=1e-4, atol=1e-5)


def test_a_constant_network_says_the_same_everywhere_in_every_view():
    values = [0.5, 2.0, -1.0]
    model = toy_model(seg=segmenter(Constant(values)))
    (said,) = Predictor(model, **OVERALL).predict_samples([as_sample(noise(70, 90))])
    assert (said.prediction["seg"] == 1).all()
    expected = torch.tensor(values).softmax(dim=0)[1].expand(70, 90)
    torch.testing.assert_close(said.confidence["seg"], expected)


@pytest.mark.parametrize("fusion", ["nms", "weighted_boxes"])
def test_an_object_that_one_window_cuts_is_found_once_and_whole(fusion):
    # windows end at 100 and begin at 80; the object reaches from 85 to 120
    image = painted((100, 180), (0, 200, 85, 30, 120, 60))
    predictor = Predictor(toy_model(image_size=(100, 100)), window=(100, 100), overlap=0.2, fusion=fusion)
    found = predictor.predict(image)[0]["det"]
    torch.testing.assert_close(found["boxes"], torch.tensor([[85.0, 30.0, 120.0, 60.0]]))
    torch.testing.assert_close(found["scores"], torch.tensor([200 / 255]))


@pytest.mark.parametrize("options", [{"flip": True}, {"window": (100, 100)}, {"flip": True, "window": (100, 100)}])
@pytest.mark.parametrize("fusion", ["nms", "weighted_boxes"])
def test_objects_are_found_at_their_place_in_every_view(options, fusion):
    image = painted((160, 180), (0, 200, 10, 30, 40, 60), (1, 100, 120, 90, 170, 150))
    model = toy_model(image_size=(100, 100))
    found = Predictor(model, fusion=fusion, **options).predict(image)[0]["det"]
    expected = torch.tensor([[10.0, 30, 40, 60], [120, 90, 170, 150]])
    assert found["labels"].tolist() == [0, 1]
    assert (found["boxes"] - expected).abs().max() < 2  # pixels of the network are 1.6 and 1.8 of the image's


def test_an_object_longer_than_a_window_is_found_in_parts():
    image = painted((100, 180), (0, 200, 20, 30, 170, 60))
    predictor = Predictor(toy_model(image_size=(100, 100)), window=(100, 100), overlap=0.2, fusion="nms")
    assert sorted(predictor.predict(image)[0]["det"]["boxes"][:, 0].tolist()) == [20, 80]


def test_a_fused_score_below_the_tasks_threshold_is_no_detection():
    # found with a score of 0.5 at one of two scales: 0.25 on average
    class HalfBlind(Rectangles):
        def postprocess(self, output, image_sizes=None):
            found = super().postprocess(output, image_sizes)
            seen = output.shape[2] == 32
            return [{name: part[: len(part) * seen] for name, part in each.items()} for each in found]

    image = painted((32, 32), (0, 128, 3, 3, 20, 20))
    for threshold, number in ((0.2, 1), (0.3, 0)):
        model = toy_model(det=HalfBlind(score_threshold=threshold))
        found = Predictor(model, scales=(1, 0.5)).predict(image)[0]["det"]
        assert len(found["boxes"]) == number
        torch.testing.assert_close(found["scores"], torch.full((number,), 128 / 255 / 2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": ()}, "scales: at least one"),
        ({"scales": (1.0, 0.0)}, "above 0, got 0.0"),
        ({"scales": (1.0, float("nan"))}, "above 0, got nan"),
        ({"scales": (1, 1.0)}, "scales: expected different numbers"),
        ({"window": (0, 5)}, r"window: expected \(height, width\)"),
        ({"window": (5.0, 5.0)}, r"window: expected \(height, width\)"),
        ({"window": (5,)}, r"window: expected \(height, width\)"),
        ({"overlap": 1.0}, r"overlap: expected a number in \[0, 1\), got 1.0"),
        ({"fusion": "nsm"}, "no 'nsm'. Did you mean 'nms'"),
    ],
)
def test_what_cannot_be_used_is_told(options, message):
    with pytest.raises(ConfigError, match=message):
        Predictor(toy_model(), **options)


def test_numbers_out_of_range_are_told():
    with pytest.raises(ValueError, match="batch_size: expected at least 1, got 0"):
        Predictor(toy_model(), batch_size=0)
    with pytest.raises(ValueError, match=r"score_threshold: expected a number in \[0, 1\], got 2"):
        Predictor(toy_model()).predict([], score_threshold=2)


def test_windows_of_a_sample_that_was_made_smaller_are_refused():
    smaller = replace(as_sample(noise(8, 8)), original_size=(16, 16), image_id="cat7")
    with pytest.raises(DataError, match=r"'cat7'.*16 x 16, got 8 x 8"):
        Predictor(toy_model(), window=(4, 4), fusion="nms").predict_samples([smaller])
    assert Predictor(toy_model()).predict_samples([smaller])[0].prediction["seg"].shape == (16, 16)


def test_the_modes_of_the_model_stay_as_they_are():
    model = toy_model(seg=segmenter(nn.Sequential(Pointwise(), nn.Dropout(0.9)))).train()
    model.tasks["seg"].head[0].eval()
    before = [part.training for part in model.modules()]
    predictor = Predictor(model, flip=True)
    assert same(predictor.predict(noise(8, 8)), predictor.predict(noise(8, 8)))
    assert [part.training for part in model.modules()] == before


def test_confidence_of_one_view_is_the_softmax_of_what_is_predicted(model):
    image = noise(40, 50)
    (said,) = Predictor(model).predict_samples([as_sample(image)])
    with torch.no_grad():
        logits = resize_to(model(_resized(image, 32)[None])["seg"].logits, (40, 50))
    expected = logits.softmax(dim=1)[0].gather(0, said.prediction["seg"][None])[0]
    torch.testing.assert_close(said.confidence["seg"], expected)
    assert set(said.confidence) == {"seg"}


def test_a_predictor_of_one_view_is_scored_as_its_model(model):
    data = mtv.build_dataset({"data": {"dataset": {"name": "shapes", "num_images": 8, "image_size": 32}}}, "val")
    plain, predictor = (mtv.evaluate(each, data, protocol=["standard", "coco"]) for each in (model, Predictor(model)))
    assert predictor.metrics == pytest.approx(plain.metrics, nan_ok=True)
    assert mtv.evaluate(Predictor(model, **OVERALL), data).metrics.keys() == mtv.evaluate(model, data).metrics.keys()
