"""Trackers: TensorBoard's files are read back; names of nothing, and of what is not there, are sentences."""

import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS
from accelerate.utils import LoggerType
from small_runs import configured, fitted

import mtvision as mtv
from mtvision import ConfigError
from mtvision.training import trackers

TWO_EPOCHS = {"system__epochs": 2, "training__batch_size": 6, "training__lr_schedule": "cosine"}


class Rates(mtv.Callback):
    def __init__(self):
        self.steps = []

    def on_step_end(self, trainer, step):
        self.steps.append((step.global_step, step.lr, float(step.losses["loss"])))


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """What a run without ``system.trackers`` has left: its trainer, its steps and what TensorBoard reads of it."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, rates = tmp_path_factory.mktemp("runs") / "run", Rates()
    trainer = fitted(configured(**TWO_EPOCHS), rates, validate=True, run_dir=folder)
    (events,) = (folder / "tensorboard" / "mtvision").glob("events.*")
    read = EventAccumulator(str(events))
    read.Reload()
    return trainer, rates.steps, {tag: [(e.step, e.value) for e in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


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
