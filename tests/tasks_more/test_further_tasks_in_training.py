"""Depth and classification through the config, the loop, the metrics, `predict` and a checkpoint."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml

import mtvision as mtv
from mtvision.tasks import DepthTask
from mtvision.tasks.depth import ScaleInvariantLog
from mtvision.tasks.depth_metrics import depth_metrics
from mtvision.training.fit import Fit

GROUND = np.linspace(9, 2, 64, dtype=np.float32)[:, None]
"""Depth of the background, by row: far above, near below."""

TASKS = {
    "depth": {"name": "depth", "head": {"name": "fcn", "channels": 32}, "loss": "scale_invariant_log"},
    "tags": {"name": "classification", "num_classes": 5},
}


class ShapesWithDepth(mtv.data.SampleDataset):
    """Shapes one metre above a sloping ground; nobody measured every fourth image."""

    def __init__(self, num_images: int, names: bool = False) -> None:
        self.shapes = mtv.data.Shapes("train", num_images=num_images, image_size=(64, 72))
        own = self.shapes.classes
        self.classes = replace(own, others={"tags": own.detection}) if names else own
        self.names = names

    def __len__(self) -> int:
        return len(self.shapes)

    def sample(self, index: int) -> mtv.Sample:
        sample = self.shapes[index]
        depth = None if index % 4 == 3 else GROUND - (sample.mask > 0)
        sample = replace(sample, maps={"depth": depth})
        if self.names:
            tags = np.isin(np.arange(5), sample.labels).astype(np.float32)
            sample = replace(sample, values={"tags": tags})
        return sample


@pytest.fixture(autouse=True)
def _data():
    @mtv.DATASETS.register("shapes_with_depth")
    def shapes_with_depth(root, split, *, num_images: int = 8, names: bool = False):
        return ShapesWithDepth(num_images, names)


def configured(epochs=1, standard=False, **values):
    heads = {} if standard else {"segmentation_head": None, "detection_head": None}
    config = mtv.Config(
        system={"epochs": epochs, "device": "cpu"},
        model={"backbone": "test_resnet", "dropout_rate": 0.1, "tasks": TASKS, **heads},
        training={"batch_size": 4, "lr": 0.003, "loss_weights": {"depth": 2.0}},
        data={"dataset": "shapes_with_depth", "image_size": 64, "augmentation_level": "none"},
    )
    return config.replace(values)


def test_the_config_goes_through_yaml_with_its_tasks():
    config = configured()
    again = mtv.Config(**yaml.safe_load(yaml.safe_dump(config.dump())))
    assert again == config
    assert config.dump()["model"]["tasks"] == TASKS
    assert again.model.tasks["depth"].options["head"].options == {"channels": 32}


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        ({"name": "dept"}, r"model\.tasks\.x: unknown task 'dept'\. Did you mean 'depth'\?"),
        ({"name": "depth", "loss": "l2"}, r"model\.tasks\.x\.loss: .*'l1' or 'scale_invariant_log'"),
        ({"name": "depth", "head": "fnc"}, r"model\.tasks\.x\.head: .*Did you mean 'fcn'\?"),
        ({"name": "depth", "min_depth": 0}, r"model\.tasks\.x\.min_depth: must be greater than 0"),
        ({"name": "classification", "num_clases": 3}, r"no option 'num_clases'\. Did you mean 'num_classes'\?"),
    ],
)
def test_a_wrong_option_is_named_when_the_config_is_read(task, sentence):
    with pytest.raises(mtv.ConfigError, match=sentence):
        mtv.Config(model={"tasks": {"x": task}})


def test_a_few_images_are_learned(tmp_path):
    tasks = {"depth": {**TASKS["depth"], "head": "unet"}, "tags": TASKS["tags"]}
    changes = {"model.tasks": tasks, "model.dropout_rate": 0.0, "training.lr": 0.005}
    result = mtv.train(configured(epochs=16, **changes), tmp_path / "run", progress=False)
    first, metrics = result.history[0], result.metrics
    constant = best_of_a_constant(ShapesWithDepth(8))
    assert first["val/depth/delta1"] < constant["delta1"] + 0.05
    assert metrics["depth/delta1"] > max(0.9, 2 * constant["delta1"])
    for name in ("abs_rel", "rmse", "silog"):
        assert metrics[f"depth/{name}"] < constant[name] / 2
    assert metrics["tags/map"] > 0.9 > first["val/tags/map"]
    assert set(result.per_class["tags/ap"]) == set("01234")
    score = [metrics["depth/delta1"], metrics["tags/map"]]
    assert result.history[result.best_epoch - 1]["val/score"] == pytest.approx(np.mean(score))


def best_of_a_constant(data):
    """Return the best that one depth everywhere can score."""
    truths = [torch.from_numpy(sample.maps["depth"]) for sample in data if sample.maps["depth"] is not None]
    rows = []
    for value in np.linspace(1, 9, 33):
        metrics = depth_metrics(1e-3, 10.0)
        metrics.update([torch.full_like(truth, value) for truth in truths], truths)
        rows.append({name: float(number) for name, number in metrics.compute().items()})
    return {name: (max if name == "delta1" else min)(row[name] for row in rows) for name in rows[0]}


def test_all_four_tasks_go_together(tmp_path):
    result = mtv.train(configured(standard=True), tmp_path / "run", progress=False)
    assert list(result.model.tasks) == ["seg", "det", "depth", "tags"]
    row = result.history[0]
    parts = [row[f"train/loss/{name}"] for name in ("seg/segmentation", "det/box", "det/class", "tags/classification")]
    assert row["train/loss"] == pytest.approx(sum(parts) + 2 * row["train/loss/depth/depth"], rel=1e-4)


def test_a_stopped_run_goes_on_and_its_model_loads_by_itself(tmp_path, monkeypatch):
    config = configured(epochs=2, **{"data.augmentation_level": "heavy"})
    whole = mtv.train(config, tmp_path / "whole", progress=False)
    original = Fit._epoch

    def dies(self, epoch, start):
        if epoch == 1:
            raise KeyboardInterrupt
        original(self, epoch, start)

    monkeypatch.setattr(Fit, "_epoch", dies)
    with pytest.raises(KeyboardInterrupt):
        mtv.train(config, tmp_path / "stopped", progress=False)
    monkeypatch.setattr(Fit, "_epoch", original)
    resumed = mtv.train(config, tmp_path / "stopped", progress=False)
    assert resumed.metrics == pytest.approx(whole.metrics, abs=0, nan_ok=True)
    model = mtv.load_model(tmp_path / "stopped", which="last")
    again = mtv.evaluate(model, ShapesWithDepth(8)).metrics
    assert again == pytest.approx({name: resumed.history[-1][f"val/{name}"] for name in again}, abs=1e-6, nan_ok=True)


def test_classes_of_a_further_task_come_from_the_data_set(tmp_path):
    tasks = {"tags": "classification"}
    config = configured(**{"model.tasks": tasks, "data.dataset": {"name": "shapes_with_depth", "names": True}})
    result = mtv.train(config.replace({"training.loss_weights": {}}), tmp_path / "run", progress=False)
    assert result.model.task("tags").num_classes == 5
    assert list(result.per_class["tags/ap"]) == list(mtv.data.Shapes.classes.detection)


def test_tags_of_ones_own_are_those_of_the_boxes():
    model = mtv.build_model(configured()).eval()
    losses, numbers = [], []
    for names in (False, True):
        data = ShapesWithDepth(8, names)
        batch = next(iter(mtv.build_loader(configured(), data, training=False)))
        losses.append(model.loss(model(batch.images), batch.targets)["tags"]["classification"])
        model.classes = data.classes
        numbers.append(mtv.evaluate(model, data).metrics["tags/map"])
    assert losses[0] == losses[1]
    assert numbers[0] == numbers[1]


def test_predict_says_depth_at_the_images_own_size_and_filters_tags():
    model = mtv.build_model(configured())
    image = ShapesWithDepth(8)[0].image
    prediction = model.predict(image)[0]
    assert prediction["depth"].shape == (64, 72)
    assert prediction["depth"].dtype == torch.float32
    assert 0 < prediction["depth"].min() <= prediction["depth"].max() < 10
    scores = prediction["tags"]["scores"]
    assert sorted(prediction["tags"]["labels"].tolist()) == [0, 1, 2, 3, 4]
    threshold = float(scores[1:3].mean())
    filtered = model.predict(image, score_threshold=threshold)[0]
    assert filtered["tags"]["labels"].tolist() == prediction["tags"]["labels"][:2].tolist()
    assert torch.equal(filtered["depth"], prediction["depth"])


def test_a_task_from_parts_has_the_losses_of_the_config():
    built = mtv.build_model(configured()).eval()
    images, target = torch.rand(2, 3, 64, 64), [torch.rand(64, 64) + 1, None]
    own = DepthTask(built.task("depth").head, ScaleInvariantLog())
    model = mtv.MultiTaskModel(built.backbone, {"depth": own}).eval()
    mine = model.loss(model(images), {"depth": target})["depth"]
    assert mine == built.task("depth").loss(built(images)["depth"], target)
    assert mine["depth"] > 0
