"""Whoever looks on while images are scored sees each of them once; a predictor is scored as its model is."""

from dataclasses import replace

import pytest
import torch
from several_processes import PartlyAnnotated
from small_runs import configured

import mtvision as mtv
from mtvision.errors import DataError
from mtvision.training.evaluate import Reading, Said, observe


class Onlooker:
    def __init__(self, wants_confidence=False):
        self.wants_confidence, self.batches = wants_confidence, []

    def add(self, seen):
        self.batches.append(seen)


class Echo:
    """A predictor that says what its model says."""

    def __init__(self, model):
        self.model = model

    def predict_samples(self, samples):
        return [Said(prediction, {}) for prediction in self.model.predict([sample.image for sample in samples])]


class Only:
    """Some samples, one of which cannot be read."""

    def __init__(self, samples, indices, bad):
        self.samples = [samples[index] for index in indices]
        self.classes, self.bad = samples.classes, bad

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        if index == self.bad:
            raise DataError("broken.jpg: cannot be read")
        return self.samples[index]


@pytest.fixture(scope="module")
def data():
    return PartlyAnnotated("val")


@pytest.fixture(scope="module")
def model(data):
    model = mtv.build_model(configured(data__image_size=64), classes=data.classes)
    model.task("det").selection = replace(model.task("det").selection, score_threshold=0.0)
    return model


def test_an_observer_sees_each_image_once_and_in_order(model, data):
    onlooker = Onlooker()
    observe(model, data, [onlooker], reading=Reading(batch_size=4))
    ids = [image_id for seen in onlooker.batches for image_id in seen.image_ids]
    assert ids == [data[index].image_id for index in range(len(data))]
    seen = onlooker.batches[0]
    assert [tuple(mask.shape) for mask in seen.predictions["seg"]] == list(seen.image_sizes)
    assert seen.confidence == {}
    for index, mask in enumerate(seen.truths["seg"]):
        assert (mask is None) == (data[index].mask is None)


def test_confidence_is_that_of_the_predicted_class(model, data):
    onlooker = Onlooker(wants_confidence=True)
    observe(model, data, [onlooker], reading=Reading(batch_size=3))
    seen = onlooker.batches[0]
    assert list(seen.confidence) == ["seg"]
    with torch.inference_mode():
        logits = model.eval()(torch.stack(list(seen.images)))["seg"].logits
    for index, confidence in enumerate(seen.confidence["seg"]):
        size = seen.image_sizes[index]
        resized = torch.nn.functional.interpolate(logits[index][None], size=size, mode="bilinear", align_corners=False)
        expected = resized.softmax(dim=1)[0].gather(0, seen.predictions["seg"][index][None])[0]
        torch.testing.assert_close(confidence, expected, rtol=1e-4, atol=1e-6)


def test_a_predictor_scores_as_the_model_that_it_repeats(model, data):
    protocols = ["standard", "coco"]
    own = mtv.evaluate(model, data, protocol=protocols, batch_size=4, keep_predictions=True)
    other = mtv.evaluate(Echo(model), data, protocol=protocols, batch_size=4, keep_predictions=True)
    assert other.metrics == pytest.approx(own.metrics, rel=1e-5, nan_ok=True)
    assert own.losses
    assert other.losses == {}
    assert list(other.predictions) == list(own.predictions)


def test_a_predictor_leaves_out_what_cannot_be_read(model, data):
    onlooker = Onlooker()
    broken = Only(data, range(len(data)), bad=1)
    result = observe(Echo(model), broken, [onlooker], reading=Reading(batch_size=2, on_error="skip"))
    assert result.skipped == ("broken.jpg: cannot be read",)
    seen = [image_id for seen in onlooker.batches for image_id in seen.image_ids]
    assert seen == [data[index].image_id for index in range(len(data)) if index != 1]
    with pytest.raises(DataError, match=r"broken\.jpg"):
        mtv.evaluate(Echo(model), broken)


def test_a_predictor_on_nothing_but_bad_items_is_an_error(model, data):
    with pytest.raises(DataError, match="not one of the 1 images can be read"):
        mtv.evaluate(Echo(model), Only(data, [0], bad=0), on_error="skip")
