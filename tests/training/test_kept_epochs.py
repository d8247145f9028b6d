"""Which epochs are kept, when a run ends early, and what the closing lines say of them."""

import json
import math

import pytest
from small_runs import CONFIG, configured, fitted, same

import mtvision as mtv
from mtvision.training.evaluation import EvaluationResult
from mtvision.training.monitor import Monitor

LOSSES = [0.5, 0.2, 0.4, 0.3, 0.6]
"""Of five epochs: the second and the fourth are the best."""


class CutOffError(BaseException):
    """What no handler of the package catches, as SIGKILL is."""


class Watch(mtv.Callback):
    """Knows the epoch, keeps the weights after each, and dies before one."""

    def __init__(self, dies_before=None):
        self.dies_before, self.epoch, self.weights = dies_before, 0, {}

    def on_epoch_start(self, trainer, epoch):
        self.epoch = epoch
        if epoch == self.dies_before:
            raise CutOffError

    def on_epoch_end(self, trainer, row):
        self.weights[row["epoch"]] = {name: value.clone() for name, value in trainer.model.state_dict().items()}


def run(folder, dies_before=None, losses=LOSSES, **values):
    """Train with validations whose outcome is given."""
    watch = Watch(dies_before)

    def scripted(*_, **__):
        loss = losses[watch.epoch]
        metrics = dict.fromkeys(("seg/miou", "seg/pixel_accuracy", "det/map50", "det/map50_95"), 1 - loss)
        return EvaluationResult(metrics, {"loss": loss})

    given = {"system__epochs": 5, "training__batch_size": 12, "training__keep_best": 2, "training__monitor": "loss"}
    cfg = configured(**{**given, **values})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mtvision.training.fit.score", scripted)
        trainer = fitted(cfg, watch, validate=True, run_dir=folder, resume=True, progress=True)
    return trainer, watch.weights


def kept(folder):
    return sorted(path.name for path in (folder / "checkpoints").glob("epoch-*"))


@pytest.fixture(scope="module")
def five(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "five"
    return *run(folder), folder


def test_the_best_epochs_are_kept_and_no_others(five):
    trainer, weights, folder = five
    assert trainer.history.column("val/loss") == LOSSES
    assert kept(folder) == ["epoch-0002", "epoch-0004"]
    for epoch in (2, 4):
        model = mtv.load_model(folder / "checkpoints" / f"epoch-{epoch:04d}")
        assert same(model.state_dict(), weights[epoch])
    assert not same(weights[2], weights[4])
    assert same(mtv.load_model(folder).state_dict(), weights[2])
    assert json.loads((folder / "summary.json").read_text())["best_epoch"] == 2 == trainer.monitor.epoch


def test_the_same_epochs_are_kept_across_a_resume(five, tmp_path):
    with pytest.raises(CutOffError):
        run(tmp_path, dies_before=3)
    assert kept(tmp_path) == ["epoch-0002", "epoch-0003"]
    run(tmp_path)
    assert kept(tmp_path) == ["epoch-0002", "epoch-0004"]
    assert same(mtv.load_model(tmp_path).state_dict(), five[1][2])


@pytest.mark.parametrize(
    ("monitor", "higher"), [("score", True), ("seg/miou", True), ("det/map50", True), ("loss", False)]
)
def test_the_monitor_knows_the_direction(five, monitor, higher):
    watched = Monitor(five[0].model, configured(training__monitor=monitor, training__keep_best=3).training)
    values = [0.3, 0.5, 0.1, 0.5, math.nan, 0.4]
    best = [watched.update(epoch, {f"val/{monitor}": value}) for epoch, value in enumerate(values, start=1)]
    assert [epoch for epoch, _ in watched.kept] == ([2, 4, 6] if higher else [3, 1, 6])
    assert best == ([True, True, False, False, False, False] if higher else [True, False, True, False, False, False])
    other = Monitor(five[0].model, configured(training__monitor=monitor, training__keep_best=3).training)
    other.restore(json.loads(json.dumps(watched.state())))
    assert other.kept == watched.kept


def test_without_validation_the_last_epoch_is_the_best(five):
    watched = Monitor(five[0].model, configured(training__keep_best=2, training__patience=1).training)
    assert [watched.update(epoch, {}) for epoch in (1, 2, 3)] == [True] * 3
    assert [epoch for epoch, _ in watched.kept] == [3, 2]
    assert not watched.is_exhausted(3)


@pytest.mark.parametrize(("patience", "epochs"), [(1, 3), (2, 4), (3, 5), (None, 5)])
def test_a_run_ends_when_its_patience_is_over(patience, epochs, capsys):
    trainer, _ = run(None, training__patience=patience)
    assert trainer.history.column("val/loss") == LOSSES[:epochs]
    assert (f"stopped after epoch {epochs}: no better epoch in {patience}" in capsys.readouterr().out) == (epochs < 5)


@pytest.mark.parametrize("monitor", ["score", "det/map50"])
def test_patience_with_what_is_better_when_higher(monitor):
    """The same outcome, since each metric is 1 minus the loss."""
    trainer, _ = run(None, training__patience=2, training__monitor=monitor)
    assert len(trainer.history) == 4
    assert trainer.monitor.epoch == 2


def test_the_closing_lines_name_the_best_epoch_and_where_everything_is(tmp_path, capsys):
    folder = tmp_path / "run"
    result = mtv.train(configured(system__epochs=2), folder)
    *_, best, where = capsys.readouterr().out.splitlines()
    assert best.startswith(f"best epoch {result.best_epoch} of 2, ")
    for name, value in result.metrics.items():
        assert f"{name} {value:.4f}" in best
    start, _, names = where.partition(": ")
    assert start == f"everything is in {folder}"
    assert len(names.split(", ")) >= 5
    for name in names.split(", "):
        assert (folder / name).exists(), name


def test_the_same_call_for_a_finished_run_says_so_where_it_may_speak(tmp_path, capsys):
    cfg = mtv.Config(**CONFIG)
    mtv.train(cfg, tmp_path, progress=False)
    assert capsys.readouterr().out == ""
    for how, expected in (
        ("auto", [f"{tmp_path}: this run is finished; its result is read"]),
        ("quiet", []),
        ("json", []),
    ):
        mtv.train(cfg.replace({"system.progress": how}), tmp_path)
        assert capsys.readouterr().out.splitlines() == expected
