"""A step whose loss or gradient is not finite is not made, leaves no trace, and is told."""

import json
import logging
import math
from dataclasses import replace

import pytest
import torch
from small_runs import as_loader, batches_of, built, configured, fitted, parameters, same, statistics

import mtvision as mtv
from mtvision import TrainingError
from mtvision.losses.segmentation import CrossEntropy
from mtvision.training.checkpoint import load_state
from mtvision.types import VOID

pytestmark = pytest.mark.usefixtures("without_curves")


def broken(batch):
    """A batch whose images are no numbers: what the network makes of them is none either."""
    return replace(batch, images=torch.full(batch.images.shape, math.nan))


@pytest.fixture(scope="module")
def batches():
    return batches_of(configured())


@pytest.fixture(scope="module")
def two_of_three(batches):
    return fitted(configured(), train=as_loader([batches[0], batches[2]]))


class Steps(mtv.Callback):
    def __init__(self):
        self.done = []

    def on_step_end(self, trainer, step):
        self.done.append((step.step, step.global_step))


@pytest.mark.parametrize("clip_norm", [None, 10.0])
def test_a_broken_batch_is_as_if_it_had_not_been(batches, two_of_three, caplog, clip_norm):
    steps = Steps()
    with caplog.at_level(logging.WARNING, logger="mtvision"):
        trainer = fitted(
            configured(training__clip_norm=clip_norm),
            steps,
            train=as_loader([batches[0], broken(batches[1]), batches[2]]),
        )
    expected = two_of_three
    if clip_norm is not None:
        expected = fitted(configured(training__clip_norm=clip_norm), train=as_loader([batches[0], batches[2]]))
    assert same(parameters(trainer.model), parameters(expected.model))
    assert same(statistics(trainer.model), statistics(expected.model))
    assert trainer.history[0]["train/loss"] == expected.history[0]["train/loss"]
    assert trainer.history[0]["train/skipped_steps"] == 1
    assert "train/skipped_steps" not in expected.history[0]
    assert steps.done == [(1, 1), (2, 1), (3, 2)]
    (record,) = [record for record in caplog.records if "step skipped" in record.message]
    for text in ("seg/segmentation = nan", "det/class = nan", *batches[1].image_ids):
        assert text in record.message, text
    assert batches[0].image_ids[0] not in record.message


def test_a_broken_batch_takes_its_whole_group_along(batches, two_of_three):
    """Two batches a step: the first group has the broken one, so only the third batch is learned from."""
    cfg = configured(training__accumulate=2)
    trainer = fitted(cfg, train=as_loader([batches[0], broken(batches[1]), batches[2]]))
    expected = fitted(configured(), train=as_loader([batches[2]]))
    assert same(trainer.model.state_dict(), expected.model.state_dict())
    assert not same(trainer.model.state_dict(), two_of_three.model.state_dict())


def test_an_average_does_not_see_a_skipped_step(batches, tmp_path):
    cfg = configured(training__ema_decay=0.9)
    runs = {"broken": [batches[0], broken(batches[1]), batches[2]], "whole": [batches[0], batches[2]]}
    for name, given in runs.items():
        fitted(cfg, train=as_loader(given), run_dir=tmp_path / name)
    averages = [mtv.load_model(tmp_path / name, "last").state_dict() for name in runs]
    assert same(*averages)


@pytest.mark.parametrize("clip_norm", [None, 10.0])
@pytest.mark.parametrize("balancer", ["fixed", "mgda"])
def test_a_gradient_that_is_not_finite_skips_the_step_too(batches, caplog, clip_norm, balancer):
    @mtv.SEGMENTATION_LOSSES.register("steep")
    class Steep(CrossEntropy):
        """With a void pixel the root of 0, whose slope is infinite (mtvision)."""

        def forward(self, logits, mask):
            root = (logits.sum() * 0).sqrt() if mask.numel() > 1 and (mask == VOID).any() else 0.0
            return super().forward(logits, mask) + root

    mask = batches[1].targets["seg"].clone()
    mask[0, 0, 0] = VOID
    steep = replace(batches[1], targets={**batches[1].targets, "seg": mask})
    cfg = configured(training__seg_loss="steep", training__clip_norm=clip_norm, training__balancer=balancer)
    with caplog.at_level(logging.WARNING, logger="mtvision"):
        trainer = fitted(cfg, train=as_loader([batches[0], steep, batches[2]]))
    expected = fitted(cfg, train=as_loader([batches[0], batches[2]]))
    assert same(trainer.model.state_dict(), expected.model.state_dict())
    assert trainer.history[0]["train/skipped_steps"] == 1
    assert "step skipped: the gradient is not finite, though the loss is (" in caplog.text


class Gives(mtv.Callback):
    """Puts other batches into a loader, epoch by epoch."""

    def __init__(self, loader, *epochs):
        self.loader, self.epochs = loader, epochs

    def on_epoch_start(self, trainer, epoch):
        self.loader.dataset[:] = self.epochs[epoch]


def test_too_many_in_a_row_end_the_run_and_the_last_checkpoint_goes_on(batches, tmp_path):
    """Two steps are skipped at the end of the second epoch, and the third one is the first of the third epoch."""
    cfg = configured(system__epochs=3, system__checkpoint_steps=1, training__max_skipped_steps=3)
    loader, bad = as_loader(batches), [broken(batch) for batch in batches]
    model, _ = built(cfg)
    gives = Gives(loader, batches, [batches[0], *bad[1:]], bad)
    with pytest.raises(TrainingError, match=r"3 steps in a row could not be made; .*seg/segmentation = nan.*images: "):
        mtv.Trainer(model, cfg, run_dir=tmp_path, progress=False, callbacks=[gives]).fit(loader)
    rows = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [row.get("train/skipped_steps") for row in rows] == [None, 2]
    assert same(mtv.load_model(tmp_path, "last").state_dict(), model.state_dict())
    assert load_state(tmp_path / "checkpoints" / "last")["skipped_in_row"] == 2

    resumed = fitted(cfg, train=as_loader(batches), run_dir=tmp_path, resume=True)
    assert [row.get("train/skipped_steps") for row in resumed.history] == [None, 2, 2]
    loader = as_loader(batches)
    whole = fitted(configured(system__epochs=3), Gives(loader, batches, batches[:1], batches), train=loader)
    assert same(resumed.model.state_dict(), whole.model.state_dict())


def test_what_is_counted_are_steps_in_a_row(batches):
    """Two of three are broken in each of two epochs, never three in a row."""
    cfg = configured(system__epochs=2, training__max_skipped_steps=3)
    trainer = fitted(cfg, train=as_loader([broken(batches[0]), batches[1], broken(batches[2])]))
    assert trainer.history.column("train/skipped_steps") == [2, 4]
    with pytest.raises(TrainingError, match="2 steps in a row"):
        fitted(
            cfg.replace({"training.max_skipped_steps": 2}),
            train=as_loader([broken(batches[0]), batches[1], broken(batches[2])]),
        )


def test_an_epoch_without_a_step_ends_the_run(batches):
    with pytest.raises(TrainingError, match=r"no step of epoch 1 could be made; the loss is not finite: loss = nan"):
        fitted(configured(), train=as_loader([broken(batch) for batch in batches]))
