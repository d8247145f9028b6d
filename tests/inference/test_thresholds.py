"""Thresholds of each class: at least as good as any that all classes share, kept in a file, and obeyed."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou
from toy_predictors import CLASSES, Rectangles, painted, toy_model

import mtvision as mtv
from mtvision.errors import ConfigError, DataError
from mtvision.inference.predictor import Predictor
from mtvision.inference.thresholds import Thresholds, tune_thresholds
from mtvision.training.evaluate import Said


@pytest.fixture(scope="module")
def data():
    return mtv.build_dataset({"data": {"dataset": {"name": "shapes", "num_images": 48, "image_size": 32}}}, "val")


class Guesser:
    """Finds most of the objects a little beside their place, and more that are not there; surest of some classes."""

    def __init__(self, data):
        self.model = toy_model(det=mtv.build_model({"backbone": "test_resnet", "segmentation_head": None}).task("det"))
        self.model.classes = data.classes
        self.model.task("det").num_classes = len(data.classes.detection)

    def predict_samples(self, samples):
        return [Said({"det": self._of(sample)}, {}) for sample in samples]

    def _of(self, sample):
        rng = np.random.default_rng(sum(sample.image_id.encode()))
        boxes = sample.boxes + rng.uniform(-1, 1, sample.boxes.shape)
        sure = rng.uniform(0.2, 0.6, len(boxes)) + 0.05 * sample.labels
        low = rng.uniform(0, 20, (6, 2))
        false = np.concatenate([low, low + 8], axis=1)
        labels = rng.integers(0, self.model.task("det").num_classes, 6)
        unsure = rng.uniform(0.05, 0.4, 6) + 0.05 * labels
        scores = np.concatenate([sure, unsure])
        order = np.argsort(-scores)
        table = np.concatenate([boxes, false])[order]
        return {
            "boxes": torch.tensor(table, dtype=torch.float32),
            "scores": torch.tensor(scores[order], dtype=torch.float32),
            "labels": torch.tensor(np.concatenate([sample.labels, labels])[order]),
        }


def f1(images, label, threshold):
    """Count by hand: the best detection first, each takes the free object that it overlaps most, by at least half."""
    true = false = objects = 0
    for found, boxes, labels in images:
        overlaps = box_iou(found["boxes"], boxes[labels == label])
        free = torch.ones(overlaps.shape[1], dtype=torch.bool)
        objects += len(free)
        for overlap in overlaps[(found["labels"] == label) & (found["scores"] >= threshold)]:
            best = (overlap * free).max(dim=0) if len(free) else None
            if best is not None and best.values >= 0.5:
                free[best.indices] = False
                true += 1
            else:
                false += 1
    return 2 * true / (true + false + objects)


def test_no_shared_threshold_is_better_than_those_of_the_classes(data):
    guesser, samples = Guesser(data), list(data)
    tuned = tune_thresholds(guesser, data).by_task["det"]
    assert list(tuned) == list(data.classes.detection)
    assert len(set(tuned.values())) == len(tuned)
    found = [said.prediction["det"] for said in guesser.predict_samples(samples)]
    truths = [(torch.from_numpy(sample.boxes), torch.from_numpy(sample.labels)) for sample in samples]
    images = [(one, *truth) for one, truth in zip(found, truths, strict=True)]
    best = [f1(images, label, threshold) for label, threshold in enumerate(tuned.values())]
    shared = [[f1(images, label, at) for label in range(len(tuned))] for at in np.linspace(0, 1, 21)]
    assert all(np.greater_equal(best, single).all() for single in shared)
    assert np.mean(best) > max(map(np.mean, shared))


def test_both_measures_give_a_score_that_occurs(data):
    guesser = Guesser(data)
    occurring = {float(score) for each in guesser.predict_samples(data) for score in each.prediction["det"]["scores"]}
    for measure in ("f1", "lrp"):
        tuned = tune_thresholds(guesser, data, measure)
        assert tuned.measure == measure
        assert set(tuned.by_task["det"].values()) <= occurring


class Fixed:
    """Says the same of every image: a perfect box, a wrong one, and one that covers 55 % of its object."""

    def __init__(self):
        self.model = toy_model(det=Rectangles())

    def predict_samples(self, samples):
        boxes = torch.tensor([[0.0, 0, 100, 10], [0, 50, 100, 60], [0, 80, 55, 90]])
        found = {"boxes": boxes, "scores": torch.tensor([0.9, 0.6, 0.5]), "labels": torch.zeros(3, dtype=torch.int64)}
        return [Said({"det": found}, {}) for _ in samples]


class TwoObjects:
    classes = CLASSES

    def __len__(self):
        return 1

    def __getitem__(self, index):
        boxes = np.array([[0, 0, 100, 10], [0, 80, 100, 90]], dtype=np.float32)
        image, labels = np.zeros((100, 100, 3), np.uint8), np.zeros(2, np.int64)
        return mtv.Sample(image, None, boxes, labels, labels.astype(bool), str(index), (100, 100))


@pytest.mark.parametrize(("measure", "threshold"), [("f1", 0.5), ("lrp", 0.9)])
def test_the_measures_differ_where_boxes_do_not_fit(measure, threshold):
    # from 0.9, 0.6 and 0.5 on: F1 2/3, 1/2, 4/5; LRP 1/2, 2/3 and (0.9 + 1)/3 = 0.63
    tuned = tune_thresholds(Fixed(), TwoObjects(), measure)
    assert tuned.by_task == {"det": {"red": pytest.approx(threshold)}}


class OneClassOnly:
    """Images with a red rectangle each, and none that is green."""

    classes = CLASSES

    def __len__(self):
        return 3

    def __getitem__(self, index):
        image = painted((32, 32), (0, 100 + 20 * index, 4, 4, 20, 20)).permute(1, 2, 0).numpy()
        box = np.array([[4, 4, 20, 20]], dtype=np.float32)
        one = np.zeros(1, dtype=np.int64)
        return mtv.Sample(image, np.zeros((32, 32), np.uint8), box, one, one.astype(bool), str(index), (32, 32))


def test_a_class_without_objects_keeps_what_the_task_keeps_and_is_told(caplog):
    with caplog.at_level(logging.WARNING, logger="mtvision"):
        tuned = tune_thresholds(toy_model(det=Loss(0.05)), OneClassOnly())
    assert tuned.by_task == {"det": {"red": pytest.approx(100 / 255)}}
    assert "without objects or detections: green" in caplog.text
    image = painted((32, 32), (0, 90, 4, 4, 20, 20), (1, 30, 22, 22, 30, 30))
    found = Predictor(toy_model(), thresholds=tuned).predict(image)[0]["det"]
    assert found["labels"].tolist() == [1]  # 90 is below the 100 of red; green has no threshold


class Loss(Rectangles):
    """Evaluation also asks for losses."""

    def loss(self, output, target):
        return {"none": output.sum() * 0}


def test_a_detection_of_exactly_the_threshold_stays_also_after_a_file(tmp_path):
    image = painted((32, 32), (0, 77, 4, 4, 20, 20))
    score = float(toy_model().predict(image)[0]["det"]["scores"][0])
    Thresholds({"det": {"red": score}}, "f1").save(tmp_path / "thresholds.json")
    loaded = Thresholds.load(tmp_path / "thresholds.json")
    assert loaded == Thresholds({"det": {"red": score}}, "f1")
    assert len(Predictor(toy_model(), thresholds=loaded).predict(image)[0]["det"]["boxes"]) == 1
    above = Thresholds({"det": {"red": float(np.nextafter(np.float32(score), np.float32(1)))}})
    found = Predictor(toy_model(), thresholds=above).predict(image)[0]["det"]
    assert [len(part) for part in found.values()] == [0, 0, 0]


def test_a_file_is_not_replaced_unasked(tmp_path):
    path = tmp_path / "thresholds.json"
    Thresholds({}).save(path)
    with pytest.raises(DataError, match="already there"):
        Thresholds({"det": {}}).save(path)
    Thresholds({"det": {}}).save(path, overwrite=True)
    assert json.loads(path.read_text()) == {"measure": None, "thresholds": {"det": {}}}


@pytest.mark.parametrize("content", ["", "[]", '{"det": {"red": 0.5}}', '{"thresholds": {"det": 0.5}}'])
def test_a_file_of_another_kind_is_named(tmp_path, content):
    (tmp_path / "other.json").write_text(content)
    with pytest.raises(DataError, match=r"other\.json"):
        Thresholds.load(tmp_path / "other.json")
    with pytest.raises(DataError, match=r"missing\.json"):
        Thresholds.load(tmp_path / "missing.json")


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), "0.5", True, None])
def test_what_is_no_threshold_is_told(value):
    with pytest.raises(ConfigError, match=r"thresholds\.det\.red: expected a number in \[0, 1\]"):
        Thresholds({"det": {"red": value, "green": 0.5}})


def test_unknown_names_are_told_all_at_once():
    thresholds = Thresholds({"det": {"rde": 0.5}, "dte": {}})
    with pytest.raises(ConfigError) as caught:
        Predictor(toy_model(), thresholds=thresholds)
    assert [problem.split("? Known")[0] for problem in caught.value.problems] == [
        "thresholds.det: the model has no class 'rde'. Did you mean 'red'",
        "thresholds: the model has no task 'dte'. Did you mean 'det'",
    ]


def test_a_model_without_names_has_numbers():
    model = toy_model()
    model.classes = None
    image = painted((32, 32), (0, 90, 4, 4, 20, 20), (1, 90, 22, 22, 30, 30))
    found = Predictor(model, thresholds=Thresholds({"det": {"0": 0.9}})).predict(image)[0]["det"]
    assert found["labels"].tolist() == [1]


def test_an_unknown_measure_is_told():
    with pytest.raises(ConfigError, match=r"measure: there is no 'f2'\. Known: f1, lrp"):
        tune_thresholds(toy_model(), OneClassOnly(), "f2")


def test_a_real_network_is_tuned(data):
    config = {"model": {"backbone": "test_resnet"}, "data": {"image_size": 32}}
    model = mtv.build_model(config, classes=data.classes).eval()
    model.task("det").selection = replace(model.task("det").selection, score_threshold=0.0)
    tuned = tune_thresholds(model, data, batch_size=4)
    assert set(tuned.by_task["det"]) <= set(data.classes.detection)
    assert len(Predictor(model, thresholds=tuned).predict(data[0].image)) == 1
