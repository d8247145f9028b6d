"""One bad file does not end a run of hours: it is left out, named once and counted."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
from small_runs import configured, fitted

import mtvision as mtv
from mtvision.data import Shapes
from mtvision.errors import DataError
from mtvision.types import Sample


class Partly(Shapes):
    """Shapes of which two cannot be read."""

    def sample(self, index: int) -> Sample:
        if index in (1, 3):
            raise DataError(f"{self.split}/{index}.jpg: the image is truncated: its end is missing")
        return super().sample(index)

    def examine(self, index: int) -> tuple[Sample, list[str]]:
        return self.sample(index), []


def partly_readable(root: str | Path, split: str) -> Partly:
    """Shapes of which two cannot be read (mtvision, tests)."""
    return Partly(split, num_images=16, image_size=32)


@pytest.fixture(autouse=True)
def _by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(mtv.DATASETS._factories, "partly_readable", partly_readable)


OVERRIDES = {
    "data__dataset": "partly_readable",
    "data__on_error": "skip",
    "data__preprocessing": "normalize",
    "training__seg_loss": {"name": "cross_entropy", "class_weights": "balanced"},
    "system__epochs": 2,
}


def test_a_run_goes_on_and_says_what_was_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch):
    monkeypatch.setenv("MTVISION_CACHE", str(tmp_path / "cache"))
    with caplog.at_level(logging.WARNING):
        result = mtv.train(configured(**OVERRIDES), tmp_path / "run", progress=False)
    rows = [json.loads(line) for line in (tmp_path / "run/history.jsonl").read_text().splitlines()]
    assert [(row["train/skipped_images"], row["val/skipped_images"]) for row in rows] == [(2, 2), (2, 2)]
    named = [record.getMessage() for record in caplog.records if record.getMessage().startswith("left out")]
    # once, not again in the second epoch
    assert sorted(named) == [
        f"left out: {split}/{index}.jpg: the image is truncated: its end is missing"
        for split in ("train", "val")
        for index in (1, 3)
    ]
    assert result.metrics["seg/pixel_accuracy"] > 0
    assert (tmp_path / "run/plots/predictions.png").exists()


def test_without_skipping_the_file_is_named_in_the_error():
    with pytest.raises(DataError, match=r"train/\d\.jpg: the image is truncated"):
        fitted(configured(**{**OVERRIDES, "data__on_error": "raise", "data__preprocessing": "none"}))


def test_a_run_whose_images_are_all_good_counts_nothing():
    trainer = fitted(configured(data__on_error="skip"), validate=True)
    assert not [key for key in trainer.history[-1] if "skipped" in key]


def test_evaluation_leaves_out_the_same_as_if_they_were_not_there():
    cfg = configured(**OVERRIDES)
    trainer = fitted(cfg.replace({"system.epochs": 1, "data.preprocessing": "none"}))
    data = Partly("val", num_images=32, image_size=32)
    good = [replace(data[index]) for index in range(len(data)) if index not in (1, 3)]
    assert trainer.evaluate(data) == pytest.approx(trainer.evaluate(good), nan_ok=True)


def test_a_validation_set_of_which_nothing_can_be_read_ends_the_run():
    class Unreadable(Shapes):
        def examine(self, index: int) -> tuple[Sample, list[str]]:
            raise DataError(f"{index}.jpg is torn")

        sample = examine

    trainer = fitted(configured(data__on_error="skip"))
    with pytest.raises(DataError, match=r"not one of the 4 images can be read; the last: 3\.jpg is torn"):
        trainer.evaluate(Unreadable("val", num_images=16, image_size=32))


def test_mtv_evaluate_skips_where_it_is_told_to():
    model = fitted(configured()).model
    data = Partly("train", num_images=8, image_size=32)
    with pytest.raises(DataError, match="is truncated"):
        mtv.evaluate(model, data)
    assert len(mtv.evaluate(model, data, on_error="skip").skipped) == 2


def test_a_run_resumed_within_an_epoch_counts_what_was_left_out_before(tmp_path: Path):
    class Stop(mtv.Callback):
        def on_step_end(self, trainer, info) -> None:
            if info.global_step == 2:
                raise KeyboardInterrupt

    cfg = configured(**{**OVERRIDES, "system__epochs": 1, "system__checkpoint_steps": 1, "data__preprocessing": "none"})
    whole = fitted(cfg)
    with pytest.raises(KeyboardInterrupt):
        fitted(cfg, Stop(), run_dir=tmp_path / "run")
    resumed = fitted(cfg, run_dir=tmp_path / "run", resume=True)
    assert resumed.history[-1]["train/skipped_images"] == whole.history[-1]["train/skipped_images"] == 2
