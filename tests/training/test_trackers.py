"""Trackers: TensorBoard's files are read back; names of nothing, and of what is not there, are sentences."""

from io import BytesIO

import numpy as np
import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS
from accelerate.utils import LoggerType
from PIL import Image
from sklearn.metrics import precision_recall_curve
from small_runs import configured, fitted

import mtvision as mtv
from mtvision import ConfigError
from mtvision.training import trackers
from mtvision.training.observing import Seen
from mtvision.training.tracked_curves import curves_by_class, score_curve
from mtvision.training.tracked_pictures import NUM_PICTURES, TrackedPictures

pytestmark = pytest.mark.usefixtures("without_curves")

TWO_EPOCHS = {"system__epochs": 2, "training__batch_size": 6, "training__lr_schedule": "cosine"}


class Rates(mtv.Callback):
    def __init__(self):
        self.steps = []

    def on_step_end(self, trainer, step):
        self.steps.append((step.global_step, step.lr, float(step.losses["loss"])))


def read(folder):
    """Return what TensorBoard reads of all that is in a run's folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "tensorboard" / "mtvision"), size_guidance={"tensors": 0, "images": 0})
    found.Reload()
    return found


def scalars_of(found):
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run without ``system.trackers``: its trainer, and its steps."""
    pytest.importorskip("tensorboard")
    rates = Rates()
    folder = tmp_path_factory.mktemp("runs") / "run"
    return fitted(configured(**TWO_EPOCHS), rates, validate=True, run_dir=folder), rates.steps


@pytest.fixture(scope="module")
def board(run):
    """Beside them what TensorBoard reads of the numbers."""
    trainer, steps = run
    return trainer, steps, scalars_of(read(trainer.run_dir))


def test_tensorboard_has_every_step(board):
    _, steps, scalars = board
    assert scalars["train/step_loss"] == [(number, pytest.approx(loss, rel=1e-6)) for number, _, loss in steps]
    rates = [(number, pytest.approx(rate, rel=1e-6)) for number, rate, _ in steps]
    assert scalars["lr"] == [rates[0], rates[1], rates[1], rates[2], rates[3], rates[3]]  # an epoch's row has it too


def test_tensorboard_has_every_number_of_every_epoch(board):
    trainer, _, scalars = board
    for key in trainer.history[0]:
        if key not in ("per_class", "lr"):
            column = trainer.history.column(key)
            assert scalars[key] == [
                (2, pytest.approx(column[0], nan_ok=True)),
                (4, pytest.approx(column[1], nan_ok=True)),
            ]
    assert {"val/score", "train/loss/seg/segmentation"} <= set(scalars)


def test_the_config_is_kept_beside_it(board):
    (path,) = (board[0].run_dir / "tensorboard" / "mtvision").glob("*/hparams.yml")
    text = path.read_text()
    assert "training.lr: 0.01" in text
    assert "model.backbone: test_resnet" in text


def test_an_empty_list_is_none(tmp_path):
    fitted(configured(system__trackers=[]), run_dir=tmp_path)
    assert not (tmp_path / "tensorboard").exists()


def test_without_tensorboard_there_is_none_by_default(tmp_path, monkeypatch):
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    assert trackers.chosen_trackers(configured(), tmp_path) == []
    monkeypatch.setattr(trackers, "find_spec", lambda name: name == "tensorboard")
    assert trackers.chosen_trackers(configured(), tmp_path) == ["tensorboard"]
    assert trackers.chosen_trackers(configured(), None) == []


def test_a_name_of_nothing_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(
        ConfigError, match=r"system\.trackers: unknown tracker 'tensorbord'\. Did you mean 'tensorboard'\?"
    ):
        fitted(configured(system__trackers=["tensorbord"]), run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_all_that_is_wrong_is_said_at_once(monkeypatch):
    monkeypatch.setattr("accelerate.tracking._available_trackers", [])
    with pytest.raises(ConfigError) as caught:
        fitted(configured(system__trackers=["wanb", "mlflow"]))
    first, second = caught.value.problems
    assert "unknown tracker 'wanb'. Did you mean 'wandb'?" in first
    assert second == "system.trackers: 'mlflow' is not installed: install it, or leave it out"


def test_tensorboard_needs_a_folder():
    pytest.importorskip("tensorboard")
    with pytest.raises(ConfigError, match=r"'tensorboard' writes into the run's folder: give the run one"):
        fitted(configured(system__trackers=["tensorboard"]))


def test_it_has_a_panel_of_each_new_best_epoch_and_the_last(run):
    trainer, _ = run
    found = read(trainer.run_dir)
    assert found.Tags()["images"] == ["val/predictions"]
    events = found.Images("val/predictions")
    assert [event.step for event in events] == sorted({2 * trainer.monitor.epoch, 2} | {4})
    for event in events:
        picture = Image.open(BytesIO(event.encoded_image_string))
        # three pictures of 200 x 200 and the gaps between them; a row an image: 3 images are validated
        assert picture.size == (event.width, event.height) == (3 * 206 + 6, 3 * 206 + 18)


def test_it_has_curves_whose_numbers_are_those_of_the_detections(run):
    trainer, _ = run
    found = read(trainer.run_dir)
    tags = [tag for tag in found.Tags()["tensors"] if "precision_recall" in tag]
    val = mtv.build_dataset(trainer.config, "val")
    present = {val.classes.detection[label] for sample in val for label in sample.labels}
    assert {tag.rpartition("/")[2] for tag in tags} == {"all", *present}
    for tag in tags:
        plugin = found.SummaryMetadata(tag).plugin_data
        assert plugin.plugin_name == "pr_curves"
        true, false, _, missed, precision, recall = np.array(found.Tensors(tag)[-1].tensor_proto.float_val).reshape(
            6, -1
        )
        objects = sum(tag.endswith(("/all", val.classes.detection[label])) for sample in val for label in sample.labels)
        assert set(true + missed) == {objects}
        np.testing.assert_allclose(recall, true / objects, rtol=1e-6)
        np.testing.assert_allclose(precision[true > 0], (true / np.maximum(true + false, 1))[true > 0], rtol=1e-6)


def test_a_curve_is_that_of_scikit_learn():
    generator = np.random.default_rng(0)
    scores = generator.integers(0, 60, 200) / 60
    true = generator.random(200) < scores
    ignored = generator.random(200) < 0.1
    curve = score_curve(scores, true & ~ignored, ~true & ~ignored, 120)
    # objects that are not found are positives below every threshold
    kept = scores[~ignored]
    missed = np.full(120 - np.count_nonzero(true & ~ignored), -1.0)
    facts = np.append(true[~ignored], np.ones(len(missed), bool))
    precision, recall, thresholds = precision_recall_curve(facts, np.append(kept, missed))
    at = np.searchsorted(thresholds, np.linspace(0, 1, 101))
    np.testing.assert_allclose(curve.precision, precision[at])
    np.testing.assert_allclose(curve.recall, recall[at])
    assert curve.recall[0] < 1


def test_classes_without_objects_have_no_curve():
    """Class 0 has one object of two found, class 1 a false detection only, class 2 nothing."""
    state = {
        "scores": np.array([0.5, 0.75]),
        "labels": np.array([0, 1], dtype=np.int32),
        "true": np.array([True, False]),
        "false": np.array([False, True]),
        "objects": np.array([[2, 0, 0]]),
    }
    curves = dict(curves_by_class(state))
    assert list(curves) == [None, 0]
    assert (curves[0].precision[0], curves[0].recall[0]) == (1.0, 0.5)
    assert (curves[None].precision[0], curves[None].recall[0], curves[None].precision[60]) == (0.5, 0.5, 0.0)
    assert list(curves_by_class({**state, "objects": np.zeros((1, 3), int)})) == []


@pytest.mark.parametrize(
    ("num_images", "batch_size", "expected"),
    [(20, 4, [0, 5, 10, 15]), (3, 8, [0, 1, 2]), (9, 2, [0, 2, 4, 6]), (5, 1, [0, 1, 2, 3])],
)
def test_pictures_are_spread_over_the_images_and_always_the_same(num_images, batch_size, expected):
    import torch

    model = mtv.build_model(configured(model__detection_head=None))
    pictures = TrackedPictures(model, -(-num_images // batch_size))
    for _ in range(2):
        pictures.clear()
        for start in range(0, num_images, batch_size):
            ids = [str(index) for index in range(start, min(start + batch_size, num_images))]
            number, mask = len(ids), torch.zeros(6, 8, dtype=torch.int64)
            images, masks = [torch.zeros(3, 4, 4, dtype=torch.uint8)] * number, [mask] * number
            truths = {"seg": [None] * number, "det": [None] * number}
            pictures.add(Seen(ids, [(6, 8)] * number, images, {"seg": masks}, truths, {}))
        samples = [sample for sample, _ in pictures._shown]
        assert [int(sample.image_id) for sample in samples] == expected
        assert len(samples) <= NUM_PICTURES
        assert {sample.image.shape for sample in samples} == {(6, 8, 3)}


class CutError(Exception):
    """The end of a run that is not over."""


def test_a_run_that_was_cut_off_has_each_step_once(tmp_path, run):
    """Cut off after step 3, of which no checkpoint is: it is done again."""

    class Cuts(mtv.Callback):
        def on_epoch_end(self, trainer, row):
            if row["epoch"] == 2:
                raise CutError

    cfg = configured(**TWO_EPOCHS)
    with pytest.raises(CutError):
        fitted(cfg, Cuts(), validate=True, run_dir=tmp_path)
    assert [step for step, _ in scalars_of(read(tmp_path))["train/step_loss"]] == [1, 2, 3, 4]
    fitted(cfg, validate=True, run_dir=tmp_path, resume=True)
    whole, cut = read(run[0].run_dir), read(tmp_path)
    assert len(list((tmp_path / "tensorboard" / "mtvision").glob("events.*"))) == 2
    here, there = scalars_of(whole), scalars_of(cut)
    assert {**here, "seconds": None} == {**there, "seconds": None}
    assert steps_shown(tmp_path) == steps_shown(run[0].run_dir)


def steps_shown(folder):
    """Return the steps of all numbers, pictures and curves, as TensorBoard's own server reads them."""
    from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "tensorboard" / "mtvision"), size_guidance={"tensors": 0})
    found.Reload()
    tags = found.Tags()["tensors"]
    assert {"val/loss", "val/predictions", "val/det/precision_recall/all"} <= set(tags)
    return {tag: [event.step for event in found.Tensors(tag)] for tag in tags}


class Recorder:
    """Stands for a tracker's class: what accelerate tells it."""

    name, requires_logging_directory, main_process_only = "wandb", False, True

    def __init__(self, run_name, **_):
        self.told = [("began", run_name)]
        Recorder.last = self

    tracker = property(lambda self: self)

    def start(self):
        pass

    def store_init_configuration(self, values):
        self.told.append(("config", values))

    def log(self, values, step=None, **_):
        self.told.append((step, values))

    def log_images(self, values, step=None):
        self.told.append((step, values))

    def finish(self):
        self.told.append(("ended", None))


def test_another_tracker_gets_the_same_and_is_ended(monkeypatch):
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "wandb", Recorder)
    monkeypatch.setattr("accelerate.tracking._available_trackers", [LoggerType.WANDB])
    cfg = configured(system__trackers=["wandb"], training__balancer="dwa", training__batch_size=6)
    trainer = fitted(cfg)
    (began, (word, config), *logged, ended) = Recorder.last.told
    assert (began, word, ended) == (("began", "mtvision"), "config", ("ended", None))
    assert config["system.seed"] == 3
    assert [step for step, _ in logged] == [1, 2, 2]
    assert set(logged[0][1]) == {"train/step_loss", "lr", "train/weight/seg", "train/weight/det"}
    assert logged[-1][1] == {key: value for key, value in trainer.history[0].items() if key != "per_class"}


def test_another_tracker_that_takes_images_gets_the_panel(monkeypatch):
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "wandb", Recorder)
    monkeypatch.setattr("accelerate.tracking._available_trackers", [LoggerType.WANDB])
    cfg = configured(system__trackers=["wandb"])
    trainer = fitted(cfg, validate=True)
    shown = [
        (step, values["val/predictions"]) for step, values in Recorder.last.told if "val/predictions" in (values or ())
    ]
    assert [(step, panel.shape, panel.dtype) for step, panel in shown] == [(3, (1, 636, 624, 3), np.uint8)]
    monkeypatch.delattr(Recorder, "log_images")
    assert len(fitted(cfg, validate=True).history) == len(trainer.history)


def test_a_tracker_of_a_run_that_fails_is_ended_too(monkeypatch):
    class Fails(mtv.Callback):
        def on_step_end(self, trainer, step):
            raise ZeroDivisionError

    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "wandb", Recorder)
    monkeypatch.setattr("accelerate.tracking._available_trackers", [LoggerType.WANDB])
    cfg = configured(system__trackers=["wandb"])
    with pytest.raises(ZeroDivisionError):
        fitted(cfg, Fails())
    assert [word for word, _ in Recorder.last.told] == ["began", "config", "ended"]
    monkeypatch.setattr(Recorder, "requires_logging_directory", True)
    with pytest.raises(ConfigError, match=r"'wandb' writes into the run's folder: give the run one"):
        fitted(cfg)
