"""A run that was cut off anywhere ends, bit for bit, as one that was left alone."""

import importlib.util
import json
import os
import signal
from pathlib import Path

import pytest

import mtvision as mtv
from mtvision.training.checkpoint import load_state, whole_checkpoint
from quick_processes import QuickProcess

pytestmark = pytest.mark.usefixtures("without_curves")

EVERYTHING = {
    "system": {"epochs": 3, "device": "cpu", "seed": 3, "checkpoint_steps": 1},
    "model": {"backbone": "test_resnet", "dropout_rate": 0.3},
    "training": {"batch_size": 4, "accumulate": 2, "ema_decay": 0.9, "balancer": "uncertainty", "keep_best": 2},
    "data": {
        "dataset": {"name": "shapes", "num_images": 24, "image_size": 32},
        "image_size": 32,
        "augmentation_level": "heavy",
    },
}
"""6 batches, 3 optimizer steps an epoch; dropout, augmentation, accumulation, an average, a balancer that learns."""


class CutOffError(BaseException):
    """What no handler of the package catches, as SIGKILL is."""


class CutOff(mtv.Callback):
    """Ends the process's work, or asks for its end, after a step or at a checkpoint."""

    def __init__(self, epoch, step, how):
        self.at, self.how = (epoch, step), how

    def on_step_end(self, trainer, step):
        if (step.epoch, step.step) == self.at:
            self.how()


def die():
    raise CutOffError


def ask(wish):
    return lambda: os.kill(os.getpid(), wish)


def run(folder, *callbacks, config=EVERYTHING, **values):
    cfg = mtv.Config(**config).replace(values)
    train, val = mtv.build_dataset(cfg, "train"), mtv.build_dataset(cfg, "val")
    model = mtv.build_model(cfg, classes=train.classes)
    return mtv.Trainer(model, cfg, run_dir=folder, callbacks=callbacks, progress=False).fit(train, val, resume=True)


def assert_same(a, b):
    names = [path.relative_to(a) for path in (a / "checkpoints").glob("*/*.safetensors") if not path.parent.suffix]
    assert {"model.safetensors", "training.safetensors"} <= {path.name for path in names}
    for name in names:
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    histories = [[json.loads(line) for line in (f / "history.jsonl").read_text().splitlines()] for f in (a, b)]
    for row in (*histories[0], *histories[1]):
        assert row.pop("seconds") > 0
    assert histories[0] == histories[1]
    best = [json.loads((folder / "summary.json").read_text())["best_epoch"] for folder in (a, b)]
    assert best[0] == best[1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    run(folder)
    return folder


@pytest.mark.slow
def test_cut_off_between_any_two_steps_it_goes_on_bit_for_bit(whole, tmp_path):
    """One run, cut off five times: in the first step, inside an epoch, before and after a validation, at the end."""
    for epoch, step in ((0, 2), (0, 6), (1, 4), (2, 2), (2, 6)):
        with pytest.raises(CutOffError):
            run(tmp_path / "cut", CutOff(epoch, step, die))
    run(tmp_path / "cut", **{"data.num_workers": 2})
    assert_same(whole, tmp_path / "cut")


def test_cut_off_in_validation_it_goes_on_bit_for_bit(whole, tmp_path, monkeypatch):
    from mtvision.tasks.segmentation import SegmentationTask

    original, calls = SegmentationTask.postprocess, []

    def dies(self, *arguments, **options):
        calls.append(1)
        if len(calls) == 3:  # in the second epoch: 6 images to validate are 2 batches
            raise CutOffError
        return original(self, *arguments, **options)

    monkeypatch.setattr(SegmentationTask, "postprocess", dies)
    with pytest.raises(CutOffError):
        run(tmp_path / "cut")
    assert load_state(whole_checkpoint(tmp_path / "cut" / "checkpoints" / "last"))["epoch"] == 1
    run(tmp_path / "cut")
    assert_same(whole, tmp_path / "cut")


def test_cut_off_after_the_best_checkpoint_and_before_the_last_it_goes_on_bit_for_bit(whole, tmp_path, monkeypatch):
    from mtvision.training.run_folder import RunFolder

    original = RunFolder.save_best

    def dies(self, model, epoch, *arguments):
        original(self, model, epoch, *arguments)
        if epoch == 2:
            raise CutOffError

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save_best", dies)
        with pytest.raises(CutOffError):
            run(tmp_path / "cut")
    run(tmp_path / "cut")
    assert_same(whole, tmp_path / "cut")


@pytest.mark.parametrize(("wish", "leaves"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_asked_to_stop_it_saves_and_leaves_and_says_how_to_go_on(whole, tmp_path, capsys, wish, leaves):
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}[wish]
    outside = signal.signal(wish, usual)  # whatever started the tests may have it ignored
    before = signal.getsignal(wish)
    cfg = mtv.Config(**EVERYTHING).replace({"system.checkpoint_steps": None})
    train, val = mtv.build_dataset(cfg, "train"), mtv.build_dataset(cfg, "val")
    model = mtv.build_model(cfg, classes=train.classes)
    trainer = mtv.Trainer(model, cfg, run_dir=tmp_path / "cut", callbacks=[CutOff(1, 2, ask(wish))])
    with pytest.raises(leaves) as caught:
        trainer.fit(train, val)
    if leaves is SystemExit:
        assert caught.value.code == 143
    assert signal.getsignal(wish) is before
    signal.signal(wish, outside)
    hint = capsys.readouterr().out
    assert "stopped after 2 of 6 batches of epoch 2; the same call goes on from there" in hint
    assert str(tmp_path / "cut") in hint
    state = load_state(tmp_path / "cut" / "checkpoints" / "last")
    assert (state["epoch"], state["step"]) == (1, 2)
    run(tmp_path / "cut")
    assert_same(whole, tmp_path / "cut")


def test_asked_to_stop_in_validation_it_repeats_the_validation_only(whole, tmp_path, monkeypatch):
    from mtvision.tasks.segmentation import SegmentationTask

    original, calls = SegmentationTask.postprocess, []

    def asks(self, *arguments, **options):
        calls.append(1)
        if len(calls) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *arguments, **options)

    monkeypatch.setattr(SegmentationTask, "postprocess", asks)
    with pytest.raises(SystemExit):
        run(tmp_path / "cut")
    state = load_state(tmp_path / "cut" / "checkpoints" / "last")
    assert (state["epoch"], state["step"]) == (0, 6)
    steps = []

    class Count(mtv.Callback):
        def on_step_end(self, trainer, step):
            steps.append((step.epoch, step.step))

    run(tmp_path / "cut", Count())
    assert steps[0] == (1, 2)
    assert_same(whole, tmp_path / "cut")


@pytest.mark.parametrize("balancer", ["dwa", "famo", "gradnorm"])
def test_a_balancer_with_a_memory_goes_on_bit_for_bit(tmp_path, balancer):
    values = {"training.balancer": balancer, "system.epochs": 2, "data.augmentation_level": "none"}
    run(tmp_path / "whole", **values)
    with pytest.raises(CutOffError):
        run(tmp_path / "cut", CutOff(1, 4, die), **values)
    run(tmp_path / "cut", **values)
    assert_same(tmp_path / "whole", tmp_path / "cut")


def test_early_stopping_goes_on_where_it_was(tmp_path):
    """With a rate that destroys the model nothing gets better: the run ends early, cut off or not."""
    values = {"training.lr": 3.0, "training.patience": 1, "system.epochs": 6, "training.warmup_epochs": 0.0}
    values |= {"training.clip_norm": None, "system.checkpoint_steps": None}
    run(tmp_path / "whole", **values)
    epochs = len((tmp_path / "whole" / "history.jsonl").read_text().splitlines())
    best = json.loads((tmp_path / "whole" / "summary.json").read_text())["best_epoch"]
    assert epochs == best + 1 < 6
    with pytest.raises(CutOffError):
        run(tmp_path / "cut", CutOff(epochs - 1, 4, die), **values)
    run(tmp_path / "cut", **values)
    assert_same(tmp_path / "whole", tmp_path / "cut")


def _campaign():
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "kill_resume.py"
    spec = importlib.util.spec_from_file_location("kill_resume", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _kill_twice(folder):
    campaign = _campaign()
    small = {section: dict(values) for section, values in campaign.CONFIG.items()}
    small["system"]["epochs"] = 2
    small["data"] |= {"dataset": {"name": "shapes", "num_images": 24, "image_size": 32}, "image_size": 32}
    (folder / "result.json").write_text(json.dumps(campaign.main(2, 1, folder, small)))


@pytest.mark.slow
def test_killed_by_the_system_it_goes_on_bit_for_bit(tmp_path):
    """The quick case of ``benchmarks/kill_resume.py``: SIGKILL, twice, at moments drawn at random."""
    # In a process of its own: its children are forks, and autograd does not work in the fork of one that used it.
    process = QuickProcess(_kill_twice, (tmp_path,), tmp_path / "printed.txt")
    assert process.wait() == 0, process.text[-2000:]
    result = json.loads((tmp_path / "result.json").read_text())
    campaign = _campaign()
    assert len(result["reached"]) == 2
    assert result["differences"] == []
    (tmp_path / "killed-0" / "checkpoints" / "best" / "model.safetensors").write_bytes(b"")
    found = campaign.differences(tmp_path / "whole", tmp_path / "killed-0")
    assert found == ["checkpoints/best/model.safetensors"]


def test_asked_twice_as_launchers_do_it_still_saves(tmp_path):
    class Twice(mtv.Callback):
        def on_step_end(self, trainer, step):
            if step.global_step == 2:
                os.kill(os.getpid(), signal.SIGTERM)

        def on_checkpoint(self, trainer, folder):
            if step_of(folder) == 4:
                os.kill(os.getpid(), signal.SIGTERM)

    def step_of(folder):
        return load_state(folder)["step"]

    outside = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with pytest.raises(SystemExit):
        run(tmp_path / "cut", Twice())
    signal.signal(signal.SIGTERM, outside)
    assert step_of(tmp_path / "cut" / "checkpoints" / "last") == 4


def test_asked_after_the_last_step_it_finishes_and_leaves(tmp_path):
    class Late(mtv.Callback):
        def on_fit_end(self, trainer, history):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit):
        run(tmp_path / "late", Late(), **{"system.epochs": 1})
    assert json.loads((tmp_path / "late" / "summary.json").read_text())["best_epoch"] == 1
