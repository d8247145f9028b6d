"""Runs side by side: what a planted difference gives, what equal runs give, and what is refused."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import mtvision as mtv
from mtvision.analysis.compare import compare
from mtvision.analysis.comparison import Row, difference_frame, image_frame
from mtvision.analysis.entrants import config_differences, read_entrants, shared_data
from mtvision.analysis.evidence import BoxGatherer
from mtvision.analysis.run_scores import PackedPredictions
from mtvision.errors import CheckpointError, ConfigError, DataError
from mtvision.training.checkpoint import save_checkpoint
from mtvision.training.checkpoint_description import describe_run
from mtvision.training.evaluate import Said
from mtvision.training.observing import Seen

CONFIG = {
    "model": {"backbone": "test_resnet", "dropout_rate": 0.0},
    "data": {"dataset": {"name": "shapes", "num_images": 64, "image_size": 32}, "image_size": 32},
}
FALSE = torch.tensor([False])
METRICS = ["seg/miou", "seg/pixel_accuracy", "det/map50", "det/map50_95"]


class Told:
    """A predictor that is told the truth, and says something else of one image in ``every``.

    Args:
        model: whose tasks score it.
        every: 0: it is always right.
    """

    def __init__(self, model, every=0):
        self.model, self.every, self.seen = model, every, 0

    def predict_samples(self, samples):
        return [Said(self._said(sample), {}) for sample in samples]

    def _said(self, sample):
        self.seen += 1
        wrong = self.every and self.seen % self.every == 0
        mask, labels = torch.from_numpy(sample.mask.astype(np.int64)), torch.from_numpy(sample.labels)
        mask, labels = (mask * 2 % 6, (labels + 1) % 5) if wrong else (mask, labels)  # 1 to 5 change places
        scores = torch.linspace(0.9, 0.5, len(labels))
        said = {"seg": mask, "det": {"boxes": torch.from_numpy(sample.boxes), "labels": labels, "scores": scores}}
        return {task: said[task] for task in self.model.tasks}


def model_of(**values):
    config = mtv.Config(**CONFIG).replace({key.replace("__", "."): value for key, value in values.items()})
    model = mtv.build_model(config, classes=mtv.build_dataset(config, "val").classes)
    if "det" in model.tasks:  # untrained, it finds something, if with low scores
        model.task("det").selection = replace(model.task("det").selection, score_threshold=0.0)
    return model


def folder_of(path, **values):
    """Return a run folder with an untrained model."""
    config = mtv.Config(**CONFIG).replace({key.replace("__", "."): value for key, value in values.items()})
    model = mtv.build_model(config, classes=mtv.build_dataset(config, "val").classes)
    save_checkpoint(path / "checkpoints" / "best", describe_run(model, config, epoch=1, metrics={}), model.state_dict())
    return path


@pytest.fixture(scope="module")
def data():
    return mtv.build_dataset(CONFIG, "val")


@pytest.fixture(scope="module")
def model():
    return model_of()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two run folders of the same name with untrained models."""
    root = tmp_path_factory.mktemp("runs")
    return folder_of(root / "one" / "run"), folder_of(root / "two" / "run", system__seed=7, training__lr=0.5)


@pytest.fixture(scope="module")
def planted(model, data):
    return compare({"right": Told(model), "wrong": Told(model, every=2)}, data, resamples=200)


def column(comparison, name):
    return dict(zip(comparison.table["metric"], comparison.table[name], strict=True))


def test_values_are_those_of_evaluate(planted, model, data):
    result = mtv.evaluate(Told(model, every=2), data, protocol=["coco", "standard"])
    values = column(planted, "value")
    assert list(values) == METRICS
    assert all(0 < value < 1 for value in values.values())
    assert values == pytest.approx({name: result.metrics[name] for name in METRICS}, abs=1e-6)
    for name, exact in zip(METRICS, ("standard/miou", "standard/pixel_accuracy", "coco/ap50", "coco/ap"), strict=True):
        assert values[name] == pytest.approx(result.metrics[f"{name.partition('/')[0]}/{exact}"], abs=1e-12)
    for metric in ("seg/iou", "det/ap50", "det/ap50_95"):
        rows = planted.per_class[planted.per_class["metric"] == metric]
        per_class = dict(zip(rows["class"], rows["value"], strict=True))
        assert per_class == pytest.approx(result.per_class[metric], abs=1e-6, nan_ok=True)


def test_the_same_run_twice_differs_by_exactly_nothing(model, data):
    again = compare([model, model], data, resamples=20)
    assert again.names == ("model 1", "model 2")
    for name in ("difference", "low", "high", "low_together", "high_together"):
        assert set(again.table[name]) == {0.0}
    for frame in (again.table, again.per_class):
        assert not frame["shown"].any()
        assert set(frame["difference"].dropna()) == {0.0}
    assert set(again.images["difference"]) == {0.0}
    assert again.examples["model 2"] == ()
    assert "no image is predicted better" in str(again)


def test_a_run_that_is_wrong_in_every_other_image_is_shown_to_be_worse(planted, data):
    assert column(planted, "baseline") == pytest.approx(dict.fromkeys(METRICS, 1.0))
    table = planted.table
    assert table["shown"].all()
    assert (table["high"] < 0).all()
    assert (table["low"] <= table["difference"]).all()
    assert (table["low_together"] <= table["low"] + 0.1).all()
    assert set(table["share"]) == {1.0}
    assert set(table["images"]) == {len(data)}
    filled = sum(len(data[place].labels) > 0 for place in range(1, len(data), 2))
    assert (planted.images["difference"] < 0).sum() == filled  # an empty image has nothing that could be wrong
    assert planted.images["difference"].abs().is_monotonic_decreasing


def test_the_score_of_an_image_is_worked_out_by_hand(planted, data):
    """In a wrong image no box has its class, so F1 is 0, and of the masks the background alone is right."""
    rows = planted.images.set_index("image")
    place = next(place for place in range(1, len(data), 2) if len(data[place].labels))
    row = rows.loc[data.image_ids[place]]
    mask = data[place].mask
    classes = set(np.unique(mask)) | {value * 2 % 6 for value in np.unique(mask)}
    right = {value: np.sum((mask == value) & (mask * 2 % 6 == value)) for value in classes}
    either = {value: np.sum((mask == value) | (mask * 2 % 6 == value)) for value in classes}
    assert row["seg"] == pytest.approx(np.mean([right[value] / either[value] for value in classes]))
    assert row["det"] == 0.0
    assert row["score"] == pytest.approx(row["seg"] / 2)
    assert (row["baseline"], row["seg_baseline"], row["det_difference"]) == (1.0, 1.0, -1.0)


def test_what_few_images_hold_has_no_interval(planted):
    few = planted.per_class["images"] < 10
    assert few.any()
    assert not few.all()
    assert planted.per_class.loc[few, ["low", "high", "share"]].isna().all(axis=None)
    assert not planted.per_class.loc[few, "shown"].any()
    assert planted.per_class.loc[~few, "low"].notna().all()


def test_the_intervals_depend_on_the_seed_and_on_nothing_else(model, data, planted):
    again = compare({"right": Told(model), "wrong": Told(model, every=2)}, data, resamples=200, batch_size=3)
    assert again.table.equals(planted.table)
    assert again.images.equals(planted.images)
    other = compare({"right": Told(model), "wrong": Told(model, every=2)}, data, resamples=200, seed=1)
    assert other.table["difference"].equals(planted.table["difference"])
    assert not other.table["low"].equals(planted.table["low"])


def test_three_runs_are_compared_with_the_first(model, data):
    runs = [Told(model), Told(model, every=2), Told(model, every=4)]
    three = compare(runs, data, names=["right", "half", "quarter"], resamples=50)
    assert list(three.table["run"][:2]) == ["half", "quarter"]
    halves = three.table[three.table["run"] == "half"]["difference"].to_numpy()
    quarters = three.table[three.table["run"] == "quarter"]["difference"].to_numpy()
    assert (halves < quarters).all()
    assert (quarters < 0).all()
    assert set(three.examples) == {"half", "quarter"}


def test_run_folders_bring_data_and_configs(folders, data):
    got = compare({"a": folders[0], "b": str(folders[1])}, resamples=10)
    assert got.num_images == len(data)
    assert got.images["image"].isin(data.image_ids).all()
    assert got.differences.to_dict("records") == [
        {"key": "system.seed", "a": 42, "b": 7},
        {"key": "training.lr", "a": 0.002, "b": 0.5},
    ]
    assert "training.lr" in str(got)
    assert got.notes == ()


def test_only_shared_tasks_are_compared_and_the_others_are_told(model, data):
    masks_only = model_of(model__detection_head=None)
    got = compare({"both": model, "masks": masks_only}, data, resamples=10)
    assert list(got.table["metric"]) == METRICS[:2]
    assert any("'both' also does det" in note for note in got.notes)


def test_an_image_that_nobody_annotated_has_no_score_and_no_weight(model, data):
    class Partly:
        classes = data.classes

        def __len__(self):
            return 12

        def __getitem__(self, index):
            nobody = {1: {"mask": None}, 2: {"boxes": None, "labels": None, "difficult": None}}
            return replace(data[index], **nobody.get(index, {}))

    got = compare([model, model], Partly(), resamples=10)
    rows = got.images.set_index("image")
    for place, looked, other in ((1, "det", "seg"), (2, "seg", "det")):
        row = rows.loc[data.image_ids[place]]
        assert np.isnan(row[other])
        assert row["score"] == row[looked]
    assert column(got, "images") == dict.fromkeys(METRICS, 11)


def test_detections_where_nobody_looked_count_nowhere():
    box = {"boxes": torch.tensor([[0.0, 0.0, 9.0, 9.0]]), "labels": torch.tensor([0])}
    gatherer = BoxGatherer(1)
    gatherer.add(
        [{**box, "scores": torch.tensor([score])} for score in (0.9, 0.5)], [None, {**box, "difficult": FALSE}]
    )
    found = gatherer.evidence()
    assert found.numbers(np.ones((1, 2), dtype=np.int32)).metrics["map50"] == pytest.approx(1.0)
    assert found.class_images.tolist() == [1]
    assert found.score_threshold == 0.5
    np.testing.assert_array_equal(found.image_scores(), [np.nan, 1.0])


def test_text_says_what_was_found_and_what_it_does_not_say(planted):
    text = str(planted)
    assert "differences are to 'right'" in text
    line = next(line for line in text.splitlines() if line.startswith("seg/miou"))
    assert line.split()[1] == "1.0000"
    assert line.split()[-1] == "yes"
    assert "another seed" in text


def test_files_hold_the_frames_and_a_picture(planted, tmp_path):
    folder = planted.save(tmp_path / "deep" / "comparison")
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["metric"] for row in rows] == METRICS
    assert float(rows[0]["difference"]) == planted.table["difference"][0]
    content = json.loads((folder / "comparison.json").read_text())
    assert content["names"] == ["right", "wrong"]
    assert content["metrics"][0]["shown"] is True
    with (folder / "images.csv").open() as file:
        assert len(list(csv.reader(file))) == 1 + len(planted.images)
    with Image.open(folder / "images_2.png") as picture:
        width, height = picture.size
        assert height > width / 4 * len(planted.examples["wrong"]) * 0.9  # four square pictures a row
        assert picture.getcolors(256) is None  # more colours than that
    assert (folder / "per_class.csv").exists()
    assert (folder / "differences.csv").exists()


def test_masks_are_kept_exactly():
    packed = PackedPredictions()
    masks = [torch.randint(0, 21, (5, 7)), torch.full((2, 3), 700)]
    boxes = {"boxes": torch.rand(2, 4), "labels": torch.tensor([0, 1]), "scores": torch.rand(2)}
    packed.add(Seen(["x", "y"], [(5, 7), (2, 3)], [], {"seg": masks, "det": [boxes, boxes]}, {}, {}))
    for name, mask in zip(packed.image_ids, masks, strict=True):
        assert torch.equal(packed.of(name)["seg"].long(), mask)
        assert torch.equal(packed.of(name)["det"]["scores"], boxes["scores"])
    with pytest.raises(DataError, match="'x' occurs twice"):
        packed.add(Seen(["x"], [(5, 7)], [], {}, {}, {}))


def test_numbers_without_resamples_keep_their_difference():
    nan = np.nan
    rows = [
        Row({"metric": "depth/rmse"}, np.array([1.0, nan, nan]), np.array([1.5, nan, nan]), 50),
        Row({"metric": "seg/miou"}, np.array([0.5, 0.4, 0.5]), np.array([0.6, 0.5, 0.6]), 50),
    ]
    frame = difference_frame(rows, ("metric",))
    assert frame["difference"].tolist() == pytest.approx([0.5, 0.1])
    assert frame["shown"].tolist() == [False, True]
    assert np.isnan(frame["low"][0])
    assert list(difference_frame([], ("metric",))) == list(frame)


def test_images_without_a_score_stand_last():
    scores = [{"seg": np.array([np.nan, 0.5, 0.5])}, {"seg": np.array([np.nan, 0.6, 0.1])}]
    assert image_frame(["x", "y", "z"], ["a", "b"], scores)["image"].tolist() == ["z", "y", "x"]
    assert image_frame(["x"], ["a", "b"], [{}, {}])["score"].isna().all()


class TestRefused:
    def test_one_run_or_what_is_no_list(self, model, data):
        for runs, number in (([model], "1"), ([], "0"), (model, "a MultiTaskModel"), ("runs/a", "a str")):
            with pytest.raises(ConfigError, match=f"two or more models or run folders.*got {number}"):
                compare(runs, data)
        with pytest.raises(ConfigError, match="expected models or run folders, got int"):
            compare([model, 3], data)

    def test_names_that_are_missing_equal_or_given_twice(self, model, data):
        for names in (["a"], ["a", "a"]):
            with pytest.raises(ConfigError, match="expected 2 different ones"):
                compare([model, model], data, names=names)
        with pytest.raises(ConfigError, match="has names already"):
            compare({"a": model, "b": model}, data, names=["c", "d"])

    def test_other_classes(self, model, data):
        other = model_of()
        other.classes = mtv.Classes((*data.classes.segmentation[:2], "cat", *data.classes.segmentation[3:]), ())
        with pytest.raises(ConfigError, match=r"class 2 of task 'seg' is 'square' in 'a' but 'cat' in 'b'"):
            compare({"a": model, "b": other}, data)
        other.classes, other.task("seg").num_classes = None, 4
        with pytest.raises(ConfigError, match="'a' has 6 classes of task 'seg', 'b' has 4"):
            compare({"a": model, "b": other}, data)

    def test_no_task_in_common(self, data):
        masks, boxes = model_of(model__detection_head=None), model_of(model__segmentation_head=None)
        with pytest.raises(ConfigError, match="'a' has the tasks seg and 'b' det: none in common"):
            compare({"a": masks, "b": boxes}, data)

    def test_a_missing_folder(self, model, data, tmp_path):
        with pytest.raises(CheckpointError, match="there is no such run folder"):
            compare([model, tmp_path / "none"], data)

    def test_models_without_data(self, model):
        with pytest.raises(ConfigError, match="'model 1' is a model, whose data is not known"):
            compare([model, model])

    def test_runs_of_other_data(self, folders):
        first, second = read_entrants({"a": folders[0], "b": folders[1]})
        other = {**second.config, "data": {**second.config["data"], "dataset_root": "elsewhere"}}
        with pytest.raises(ConfigError, match=r"data\.dataset_root is .* in 'a' but 'elsewhere' in 'b'; give the data"):
            shared_data([first, replace(second, config=other)], "val")

    def test_no_resamples_or_no_images(self, model, data):
        with pytest.raises(ValueError, match="resamples: expected at least 1, got 0"):
            compare([model, model], data, resamples=0)
        with pytest.raises(DataError, match="no image to compare"):
            compare([model, model], [])


def test_folders_of_the_same_name_are_told_apart(folders):
    first, second = map(str, folders)
    assert [entrant.name for entrant in read_entrants([first, second, first])] == [first, second, f"{first} (3)"]
    same = read_entrants([folders[0], folders[0]])
    assert config_differences(same) == {}
