"""Six hooks: when they are called, with what, and what a callback may do."""

import json
from dataclasses import fields

import pytest
from small_runs import built, configured, fitted, same

import mtvision as mtv
from mtvision.training.callbacks import Callback, StepInfo

pytestmark = pytest.mark.usefixtures("without_curves")

HOOKS = ["on_fit_start", "on_epoch_start", "on_step_end", "on_epoch_end", "on_checkpoint", "on_fit_end"]
TWO_EPOCHS = {"system__epochs": 2, "training__batch_size": 6, "training__lr_schedule": "cosine"}


class CutOffError(BaseException):
    """What no handler of the package catches, as SIGKILL is."""


class Notes(Callback):
    def __init__(self):
        self.calls = []

    def on_fit_start(self, trainer):
        self.calls.append(("on_fit_start", len(trainer.history)))

    def on_epoch_start(self, trainer, epoch):
        self.calls.append(("on_epoch_start", epoch))

    def on_step_end(self, trainer, step):
        self.calls.append(("on_step_end", step))

    def on_epoch_end(self, trainer, row):
        assert row == trainer.history[-1]
        assert json.loads((trainer.run_dir / "history.jsonl").read_text().splitlines()[-1])["epoch"] == row["epoch"]
        self.calls.append(("on_epoch_end", row["epoch"]))

    def on_checkpoint(self, trainer, folder):
        assert (folder / "state.pt").exists()
        self.calls.append(("on_checkpoint", str(folder.relative_to(trainer.run_dir))))

    def on_fit_end(self, trainer, history):
        assert history is trainer.history
        self.calls.append(("on_fit_end", len(history)))


@pytest.fixture(scope="module")
def noted(tmp_path_factory):
    notes = Notes()
    cfg = configured(**TWO_EPOCHS, system__checkpoint_steps=1, training__balancer="dwa")
    return fitted(cfg, notes, validate=True, run_dir=tmp_path_factory.mktemp("runs") / "a"), notes.calls


def test_there_are_six_hooks_and_no_more():
    assert [name for name in vars(Callback) if not name.startswith("_")] == HOOKS


def test_their_order_over_two_epochs(noted):
    """2 steps an epoch; the checkpoint after the last step of an epoch is the one after its validation."""
    last = "checkpoints/last"
    expected = [
        ("on_fit_start", 0),
        ("on_epoch_start", 0),
        ("on_step_end", ...),
        ("on_checkpoint", last),
        ("on_step_end", ...),
        ("on_epoch_end", 1),
        ("on_checkpoint", last),
        ("on_epoch_start", 1),
        ("on_step_end", ...),
        ("on_checkpoint", last),
        ("on_step_end", ...),
        ("on_epoch_end", 2),
        ("on_checkpoint", last),
        ("on_fit_end", 2),
    ]
    _, calls = noted
    assert [(name, ... if name == "on_step_end" else value) for name, value in calls] == expected


def test_what_a_step_tells(noted):
    trainer, calls = noted
    steps = [value for name, value in calls if name == "on_step_end"]
    assert all(isinstance(step, StepInfo) for step in steps)
    assert {field.name for field in fields(StepInfo)} == {"epoch", "step", "global_step", "lr", "losses", "weights"}
    assert [(step.epoch, step.step, step.global_step) for step in steps] == [(0, 1, 1), (0, 2, 2), (1, 1, 3), (1, 2, 4)]
    assert [steps[1].lr, steps[3].lr] == trainer.history.column("lr")
    assert len({step.lr for step in steps}) == 4
    for first, second, row in zip(steps[::2], steps[1::2], trainer.history, strict=True):
        mean = (float(first.losses["loss"]) + float(second.losses["loss"])) / 2
        assert mean == pytest.approx(row["train/loss"], rel=1e-6)
        assert set(second.losses) == {"loss", "seg/segmentation", "det/box", "det/class"}
        parts = sum(float(value) for name, value in second.losses.items() if name != "loss")
        assert float(second.losses["loss"]) == pytest.approx(parts, rel=1e-5)
        assert second.weights == {task: row[f"train/weight/{task}"] for task in ("seg", "det")}


class Stops(Callback):
    def __init__(self, hook, dies=None):
        self.hook, self.dies, self.steps = hook, dies, 0

    def on_epoch_start(self, trainer, epoch):
        if self.hook == "on_epoch_start":
            trainer.stop("enough seen")

    def on_step_end(self, trainer, step):
        self.steps += 1
        if self.hook == "on_step_end" and step.global_step == 1:
            trainer.stop("enough seen")
        if self.dies == step.global_step:
            raise CutOffError

    def on_epoch_end(self, trainer, row):
        if self.hook == "on_epoch_end":
            trainer.stop("enough seen")


@pytest.mark.parametrize("hook", ["on_epoch_start", "on_step_end", "on_epoch_end"])
def test_stop_ends_the_run_after_the_epoch_with_a_reason(hook, capsys):
    stops = Stops(hook)
    trainer = fitted(configured(**TWO_EPOCHS), stops, progress=True)
    assert stops.steps == 2
    assert trainer.history.column("epoch") == [1]
    assert "stopped after epoch 1: enough seen" in capsys.readouterr().out


def test_a_wish_to_stop_survives_a_cut_off(tmp_path):
    """In the first step somebody wishes to stop; the run dies in the second, before the epoch is over."""
    cfg = configured(**TWO_EPOCHS, system__checkpoint_steps=1)
    with pytest.raises(CutOffError):
        fitted(cfg, Stops("on_step_end", dies=2), run_dir=tmp_path / "cut")
    cut = fitted(cfg, run_dir=tmp_path / "cut", resume=True)
    whole = fitted(cfg, Stops("on_step_end"))
    assert cut.history.column("train/loss") == whole.history.column("train/loss")
    assert same(cut.model.state_dict(), whole.model.state_dict())


def test_a_run_that_was_stopped_is_not_trained_on(tmp_path):
    cfg = configured(**TWO_EPOCHS)
    first = fitted(cfg, Stops("on_epoch_end"), run_dir=tmp_path)
    notes = Stops("never")
    again = fitted(cfg, notes, run_dir=tmp_path, resume=True)
    assert notes.steps == 0
    assert again.history.column("train/loss") == first.history.column("train/loss")


@pytest.fixture(scope="module")
def whole():
    return fitted(configured(**TWO_EPOCHS))


@pytest.mark.parametrize("hook", ["on_step_end", "on_epoch_end", "on_checkpoint"])
def test_a_callback_that_fails_leaves_a_run_that_can_be_resumed(whole, tmp_path, hook):
    """In the second epoch; what the error was is not hidden."""

    class Fails(Callback):
        def on_epoch_start(self, trainer, epoch):
            self.epoch = epoch

    def fail(self, trainer, *_):
        if self.epoch == 1:
            raise ZeroDivisionError("a callback's own")

    setattr(Fails, hook, fail)
    cfg = configured(**TWO_EPOCHS)
    with pytest.raises(ZeroDivisionError, match="a callback's own"):
        fitted(cfg, Fails(), run_dir=tmp_path)
    cut = fitted(cfg, run_dir=tmp_path, resume=True)
    assert same(cut.model.state_dict(), whole.model.state_dict())
    assert cut.history.column("train/loss") == whole.history.column("train/loss")
    assert json.loads((tmp_path / "summary.json").read_text())["best_epoch"] == 2


def test_several_callbacks_are_called_in_their_order_by_train_too(tmp_path):
    calls = []

    class First(Callback):
        def on_epoch_end(self, trainer, row):
            calls.append((type(self).__name__, trainer.config.system.epochs, row["val/score"]))

    class Second(First):
        pass

    result = mtv.train(configured(), tmp_path, progress=False, callbacks=[First(), Second()])
    score = result.history[0]["val/score"]
    assert calls == [("First", 1, score), ("Second", 1, score)]


def test_an_evaluation_calls_no_hook():
    model, data = built(cfg := configured())
    notes = Stops("on_epoch_end")
    trainer = mtv.Trainer(model, cfg, progress=False, callbacks=[notes])
    trainer.evaluate(mtv.build_dataset(cfg, "val"))
    assert notes.steps == 0
    trainer.fit(data)
    assert notes.steps == 3
