"""How the views of tasks other than segmentation and detection are merged, and those of a task of one's own."""

import pytest
import torch
from toy_predictors import Pointwise, classifier, depth, noise, painted, toy_model

import mtvision as mtv
from mtvision.data.images import as_sample
from mtvision.errors import ConfigError
from mtvision.inference.predictor import Predictor
from mtvision.tasks.views import ViewMerger, view_merger


def test_depths_are_averaged():
    class LeftIsFar(Pointwise):
        def forward(self, features):
            maps = super().forward(features)
            return maps + torch.linspace(0, 1, maps.shape[-1])

    model = toy_model(dist=depth())
    model.tasks["dist"].head = LeftIsFar(1)
    image = noise(32, 32)
    (one,), (two,) = model.predict(image), model.predict(image.flip(-1))
    found = Predictor(model, flip=True).predict(image)[0]["dist"]
    torch.testing.assert_close(found, (one["dist"] + two["dist"].flip(-1)) / 2)
    assert not torch.equal(found, one["dist"])


def test_classes_are_averaged_over_scales_and_of_windows_the_highest_counts():
    model = toy_model(image_size=(16, 16), what=classifier())
    right = painted((16, 32), (1, 255, 20, 4, 30, 12))  # only the right window sees class 1
    for image in (right, right.flip(-1)):
        found = Predictor(model, window=(16, 16), overlap=0.0).predict(image)[0]["what"]
        assert found["labels"].tolist()[0] == 1
        torch.testing.assert_close(found["scores"], torch.tensor([1.0, 0, 0]).sigmoid())
    dot = painted((16, 16), (0, 255, 4, 4, 5, 5))
    scores = [Predictor(model, scales=(s,)).predict(dot)[0]["what"]["scores"][0] for s in (1.0, 0.5)]
    both = Predictor(model, scales=(1.0, 0.5)).predict(dot)[0]["what"]["scores"][0]
    torch.testing.assert_close(both, (scores[0] + scores[1]) / 2)
    assert scores[0] > scores[1]


class Nothing(mtv.Task):
    main_metric = "none"

    def forward(self, features, image_size):
        return features[0]

    def loss(self, output, target):
        return {}

    def postprocess(self, output, image_sizes=None):
        return [float(each.mean()) for each in output]

    def metrics(self):
        raise NotImplementedError


def test_a_task_that_cannot_merge_views_is_told_at_once_and_only_where_there_are_several():
    model = toy_model(own=Nothing())
    with pytest.raises(ConfigError, match=r"Nothing.*view_merger\.register"):
        Predictor(model, flip=True)
    assert len(Predictor(model).predict(noise(8, 8))) == 1


def test_a_task_of_ones_own_says_how_its_views_are_merged():
    class Mean(Nothing):
        pass

    class MeanMerger(ViewMerger):
        def __init__(self, number):
            self.values = [[] for _ in range(number)]

        def add(self, output, views):
            for each, view in zip(output, views, strict=True):
                self.values[view.image].append(float(each.mean()))

        def predictions(self):
            return [sum(values) / len(values) for values in self.values]

    view_merger.register(Mean, lambda task, image_sizes, fusion: MeanMerger(len(image_sizes)))
    (said,) = Predictor(toy_model(own=Mean()), window=(16, 16), overlap=0.0).predict_samples(
        [as_sample(painted((16, 32), (0, 255, 0, 0, 16, 16)))]
    )
    assert said.prediction["own"] == pytest.approx(1 / 6)  # a third of the channels in half of the windows
    assert said.confidence == {}
