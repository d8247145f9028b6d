"""An analysis of a perfect, a spoilt and an untrained model: its numbers are those of the evaluation, part by part."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import confusion_matrix
from torch import nn

import mtvision as mtv
from mtvision.analysis.analyze import analyze
from mtvision.errors import ConfigError, DataError
from mtvision.training.evaluate import Said
from mtvision.types import VOID

SHAPES = {"dataset": {"name": "shapes", "num_images": 40, "image_size": 64}, "image_size": 64}
CONFIG = {"model": {"backbone": "test_resnet"}, "data": SHAPES}


class Samples:
    """Samples that were made once; what is not annotated is cut out of some."""

    def __init__(self, samples, classes):
        self.samples, self.classes = list(samples), classes

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


class Truth:
    """A predictor that knows the truth, and spoils it as it is told."""

    def __init__(self, model, spoil=lambda index, mask, boxes: (mask, boxes)):
        self.model, self.spoil, self.index = model, spoil, 0

    def predict_samples(self, samples):
        said = []
        for sample in samples:
            mask = torch.from_numpy(sample.mask.astype(np.int64))
            mask[mask == VOID] = 0
            labels = torch.from_numpy(sample.labels)
            boxes = {
                "boxes": torch.from_numpy(sample.boxes),
                "labels": labels,
                "scores": torch.full((len(labels),), 0.9),
            }
            mask, boxes = self.spoil(self.index, mask, boxes)
            said.append(Said({"seg": mask, "det": boxes}, {"seg": torch.full(mask.shape, 0.75)}))
            self.index += 1
        return said


@pytest.fixture(scope="module")
def data():
    whole = mtv.build_dataset(CONFIG, "val")
    return Samples([whole[index] for index in range(len(whole))], whole.classes)


@pytest.fixture(scope="module")
def model(data):
    model = mtv.build_model(CONFIG, classes=data.classes)
    model.task("det").selection = replace(model.task("det").selection, score_threshold=0.0)
    return model


@pytest.fixture(scope="module")
def analysis(model, data):
    halves = {"half": {sample.image_id: ("even", "odd")[index % 2] for index, sample in enumerate(data.samples)}}
    return analyze(model, data, slices=halves, batch_size=3)


def test_of_a_perfect_model_nothing_is_wrong(model, data):
    found = analyze(Truth(model), data)
    images = found.images
    assert (images[["score", "seg", "det"]] == 1).all(axis=None)
    assert (images[[f"det/{name}" for name in ("classification", "localisation", "both", "duplicate")]] == 0).all(
        axis=None
    )
    assert (images["det/missed"] == 0).all()
    assert images["det/true"].tolist() == [len(sample.labels) for sample in data.samples]
    errors = found.tables["det/errors"].set_index("error")
    assert errors["delta_ap"].abs().max() == 0
    assert errors["n_used"].sum() == 0
    assert found.tables["seg/confused"].empty
    assert (found.tables["det/recall"]["rate"] == 1).all()
    # it says 0.75 of each pixel and 0.9 of each box, and is always right
    assert found.tables["seg/calibration_by_class"]["ece"].iloc[0] == pytest.approx(0.25)
    assert found.tables["det/calibration_by_class"]["ece"].iloc[0] == pytest.approx(0.1, abs=1e-6)
    rates = found.tables["agreement"].query("column == 'all'")["rate"].to_numpy()
    assert rates[0] == rates[2]  # the model's boxes agree with its mask as the true ones do with the true mask
    assert rates[1] == rates[3]


def test_each_spoilt_image_is_told(model, data):
    def spoil(index, mask, boxes):
        if index == 0:  # one object is lost
            boxes = {name: values[1:] for name, values in boxes.items()}
        if index == 1:  # all objects are of another class
            boxes = {**boxes, "labels": (boxes["labels"] + 1) % len(data.classes.detection)}
        if index == 2:
            mask = torch.zeros_like(mask)
        return mask, boxes

    found = analyze(Truth(model, spoil), data)
    images = found.images
    counts = [len(sample.labels) for sample in data.samples]
    assert min(counts[:3]) >= 1
    assert images["det/missed"].tolist() == [1] + [0] * (len(data) - 1)
    assert images["det/classification"].tolist() == [0, counts[1], *[0] * (len(data) - 2)]
    assert images["det"][0] == pytest.approx(2 * (counts[0] - 1) / (2 * counts[0] - 1))
    assert images["det"][1] == 0
    assert images["seg"].lt(1).tolist() == [index == 2 for index in range(len(data))]
    assert images["disagreements"][2] == counts[2]
    shown = found.tables["disagreements"]
    assert set(shown.loc[shown["verdict"] == "nothing_there", "mask_class"]) == {""}


def test_numbers_are_those_of_the_evaluation(model, data, analysis):
    own = mtv.evaluate(model, data, batch_size=3)
    assert analysis.result.metrics == own.metrics
    confusion = analysis.tables["seg/confusion"].iloc[:, 1:].to_numpy()
    iou = confusion.diagonal() / (confusion.sum(axis=0) + confusion.sum(axis=1) - confusion.diagonal())
    assert np.nanmean(iou) == pytest.approx(own.metrics["seg/miou"], abs=1e-6)
    errors = analysis.tables["det/errors_by_class"]
    assert errors["ap50"].to_numpy() == pytest.approx(list(own.per_class["det/ap50"].values()), abs=1e-4, nan_ok=True)


def test_the_pixels_are_confused_as_scikit_learn_counts_them(model, data, analysis):
    kept = mtv.evaluate(model, data, batch_size=3, keep_predictions=True).predictions
    true = np.concatenate([sample.mask.ravel() for sample in data.samples])
    said = np.concatenate([kept[sample.image_id]["seg"].numpy().ravel() for sample in data.samples])
    known = true != VOID
    expected = confusion_matrix(true[known], said[known], labels=range(len(data.classes.segmentation)))
    table = analysis.tables["seg/confusion"]
    assert table["true"].tolist() == list(data.classes.segmentation)
    assert (table.iloc[:, 1:].to_numpy() == expected).all()
    worst = analysis.tables["seg/confused"].iloc[0]
    off = expected.copy()
    np.fill_diagonal(off, 0)
    assert worst["pixels"] == off.max()
    assert worst["share_of_errors"] == pytest.approx(off.max() / off.sum())


def test_a_slice_has_the_numbers_of_an_evaluation_of_its_images(model, data, analysis):
    rows = analysis.tables["slices"].set_index("slice")
    for start, name in enumerate(("even", "odd")):
        part = mtv.evaluate(model, Samples(data.samples[start::2], data.classes))
        assert rows.loc[name, "n"] == len(data.samples[start::2])
        for metric in ("seg/miou", "det/map50", "det/map50_95"):
            assert rows.loc[name, metric] == pytest.approx(part.metrics[metric], abs=1e-4)


def test_what_nobody_looked_at_is_not_scored(model, data):
    unseen = replace(data.samples[0], mask=None)
    unboxed = replace(data.samples[1], boxes=None, labels=None, difficult=None)
    found = analyze(model, Samples([unseen, unboxed, *data.samples[2:5]], data.classes))
    images = found.images
    assert images["seg"].isna().tolist() == [True, False, False, False, False]
    assert images["det"].isna().tolist() == [False, True, False, False, False]
    assert images["score"].isna().tolist() == [True, True, False, False, False]
    part = mtv.evaluate(model, Samples([unseen, unboxed, *data.samples[2:5]], data.classes))
    assert found.result.metrics == part.metrics


def test_one_task_is_enough(data):
    config = {"model": {"backbone": "test_resnet", "detection_head": None}, "data": SHAPES}
    found = analyze(mtv.build_model(config, classes=data.classes), data)
    assert found.boxes == {}
    assert "agreement" not in found.tables
    assert found.images["score"].equals(found.images["seg"].rename("score"))


def test_files_hold_the_tables(analysis, tmp_path):
    folder = analysis.save(tmp_path / "out")
    assert (folder / "metrics.json").exists()
    names = {path.stem for path in (folder / "tables").glob("*.csv")}
    assert names == {name.replace("/", "_") for name in analysis.tables}
    read = pd.read_csv(folder / "tables" / "det_errors.csv")
    pd.testing.assert_frame_equal(read, analysis.tables["det/errors"])


def test_wrong_input_is_told_before_anything_is_scored(data):
    class Untouched(nn.Module):
        model = None

        def predict_samples(self, samples):
            raise AssertionError("nothing is predicted")

    with pytest.raises(ConfigError, match=r"score_threshold: expected a number in \[0, 1\], got 2"):
        analyze(Untouched(), data, score_threshold=2)
    with pytest.raises(DataError, match=r"nowhere\.csv"):
        analyze(Untouched(), data, slices="nowhere.csv")
