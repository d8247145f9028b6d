"""The loop, its run folder, resuming, and what it refuses."""

import json
import logging
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import mtvision as mtv
from mtvision import CheckpointError, ConfigError, DataError, TrainingError
from mtvision.training.checkpoint import load_state
from mtvision.training.run import read_result

CONFIG = {
    "system": {"epochs": 2, "device": "cpu", "seed": 3},
    "model": {"backbone": "test_resnet", "dropout_rate": 0.2},
    "training": {"batch_size": 4, "lr": 0.002},
    "data": {"dataset": {"name": "shapes", "num_images": 12, "image_size": 64}, "image_size": 64},
}


def configured(**values):
    return mtv.Config(**CONFIG).replace(values)


def train(run_dir, **values):
    return mtv.train(
        configured(**{key.replace("__", "."): value for key, value in values.items()}), run_dir, progress=False
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return train(tmp_path_factory.mktemp("runs") / "a")


def test_the_run_folder_holds_all_that_the_design_names(finished):
    folder = finished.run_dir
    for name in ("config.yaml", "history.jsonl", "summary.json", "plots/curves.png", "plots/predictions.png"):
        assert (folder / name).stat().st_size > 0, name
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best", "last", "last.previous"}
    summary = json.loads((folder / "summary.json").read_text())
    assert {"metrics", "best_epoch", "seconds", "config", "versions"} <= set(summary)
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    for key in (
        "train/loss",
        "val/loss",
        "val/seg/miou",
        "val/seg/pixel_accuracy",
        "val/det/map50",
        "val/det/map50_95",
    ):
        assert all(key in row for row in rows), key
    assert set(rows[0]["per_class"]) == {"seg/iou", "det/ap50", "det/ap50_95"}
    assert "background" in rows[0]["per_class"]["seg/iou"]


def test_metrics_are_fractions(finished):
    for row in finished.history:
        for key, value in row.items():
            if key.startswith("val/") and "/loss" not in key:
                assert math.isnan(value) or 0 <= value <= 1, (key, value)


def test_a_run_can_be_repeated_from_its_own_folder_alone(finished, tmp_path):
    again = mtv.train(finished.run_dir / "config.yaml", tmp_path / "again", progress=False)
    assert again.metrics == pytest.approx(finished.metrics, nan_ok=True)
    weights = [result.model.state_dict() for result in (finished, again)]
    assert all(torch.equal(a, b) for a, b in zip(*(w.values() for w in weights), strict=True))


def test_checkpoints_load_by_themselves(finished):
    data = mtv.build_dataset(CONFIG, "val")
    for which in ("best", "last"):
        model = mtv.load_model(finished.run_dir, which=which)
        assert not model.training
        assert model.classes == data.classes
        assert model.image_size == (64, 64)
    from_folder = mtv.load_model(finished.run_dir / "checkpoints" / "best")
    result = mtv.evaluate(from_folder, data)
    expected = finished.metrics
    assert {k: result.metrics[k] for k in expected if k in result.metrics} == pytest.approx(
        {k: v for k, v in expected.items() if k in result.metrics}, abs=1e-6, nan_ok=True
    )
    assert not from_folder.training


def test_the_best_checkpoint_is_the_best_and_not_the_last(tmp_path):
    """With a rate that destroys the model later, the best epoch is an early one, and its weights are what is loaded."""
    result = train(
        tmp_path / "r", system__epochs=4, training__lr=0.5, training__warmup_epochs=4.0, training__clip_norm=None
    )
    scores = result.history.column("val/score")
    best = int(np.nanargmax(scores))
    assert result.best_epoch == best + 1
    metrics = mtv.evaluate(mtv.load_model(tmp_path / "r"), mtv.build_dataset(CONFIG, "val")).metrics
    assert metrics["seg/miou"] == pytest.approx(result.history[best]["val/seg/miou"], abs=1e-6)


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tmp_path, monkeypatch, num_workers):
    """Killed between two epochs; dropout, augmentation and the optimizer's moments must go on where they were."""
    values = {"system__epochs": 3, "data__augmentation_level": "heavy", "data__num_workers": num_workers}
    whole = train(tmp_path / "whole", **values)

    from mtvision.training.fit import Fit

    original = Fit._epoch

    def dies(self, epoch, start):
        if epoch == 1:
            raise KeyboardInterrupt
        original(self, epoch, start)

    monkeypatch.setattr(Fit, "_epoch", dies)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", **values)
    monkeypatch.setattr(Fit, "_epoch", original)
    torch.rand(7)  # another process would have other generators
    np.random.rand(3)  # noqa: NPY002
    cut = train(tmp_path / "cut", **values)

    for which in ("best", "last"):
        a, b = (mtv.load_model(folder, which).state_dict() for folder in (whole.run_dir, cut.run_dir))
        assert all(torch.equal(a[name], b[name]) for name in a)
    drop = ("seconds",)
    rows = [[{k: v for k, v in row.items() if k not in drop} for row in result.history] for result in (whole, cut)]
    assert json.dumps(rows[0]) == json.dumps(rows[1])


def test_the_number_of_workers_changes_nothing_also_with_dropout(finished, tmp_path):
    other = train(tmp_path / "workers", data__num_workers=2)
    a, b = (mtv.load_model(result.run_dir, "last").state_dict() for result in (finished, other))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_smaller_last_group_of_batches_is_a_mean_too():
    """3 batches an epoch: with 3 or with 100 batches an optimizer step there is one step, and it is the same."""

    def weights(accumulate):
        values = {"training.optimizer": "sgd", "training.accumulate": accumulate, "training.clip_norm": None}
        cfg = configured(**{**values, "system.epochs": 1, "model.dropout_rate": 0.0})
        data = mtv.build_dataset(cfg, "train")
        model = mtv.build_model(cfg, classes=data.classes)
        before = [p.detach().clone() for p in model.parameters()]
        mtv.Trainer(model, cfg, progress=False).fit(data)
        return torch.cat([(new - old).flatten() for new, old in zip(model.parameters(), before, strict=True)])

    three, hundred = weights(3), weights(100)
    assert three.abs().max() > 0
    torch.testing.assert_close(hundred, three)


def test_a_panel_that_was_not_written_is_written_by_the_next_call(finished, tmp_path):
    import shutil

    folder = Path(shutil.copytree(finished.run_dir, tmp_path / "run"))
    (folder / "plots" / "predictions.png").unlink()
    train(folder)
    assert (folder / "plots" / "predictions.png").exists()


def test_a_finished_run_is_returned_and_not_trained_again(finished):
    before = (finished.run_dir / "history.jsonl").stat().st_mtime_ns
    assert train(finished.run_dir).metrics == pytest.approx(finished.metrics, nan_ok=True)
    assert (finished.run_dir / "history.jsonl").stat().st_mtime_ns == before


def test_a_folder_of_another_config_is_refused_naming_the_difference(finished):
    with pytest.raises(CheckpointError, match=r"training\.lr: 0\.002 there, 0\.1 now"):
        train(finished.run_dir, training__lr=0.1)


def test_trainer_does_not_overwrite_a_run(finished):
    cfg = configured()
    data = mtv.build_dataset(cfg, "train")
    trainer = mtv.Trainer(mtv.build_model(cfg, classes=data.classes), cfg, run_dir=finished.run_dir, progress=False)
    with pytest.raises(CheckpointError, match="holds a run already"):
        trainer.fit(data)


def test_trainer_without_run_dir_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = configured(**{"system.epochs": 1})
    data = mtv.build_dataset(cfg, "train")
    trainer = mtv.Trainer(mtv.build_model(cfg, classes=data.classes), cfg, progress=False)
    history = trainer.fit(data)
    assert len(history) == 1
    assert "val/loss" not in history[0]
    assert set(trainer.evaluate(data)) == {"seg/miou", "seg/pixel_accuracy", "det/map50", "det/map50_95"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("absent", ["segmentation_head", "detection_head"])
def test_single_task_models_train_and_evaluate_the_same_way(absent, tmp_path):
    result = train(tmp_path / "r", **{f"model__{absent}": None, "system__epochs": 1})
    task = {"segmentation_head": "det", "detection_head": "seg"}[absent]
    assert {key.split("/")[0] for key in result.metrics if "/" in key} == {task}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("training.optimizer", "sgd"),
        ("training.optimizer", "lion"),
        ("training.lr_schedule", {"name": "cosine", "start_epoch": 1}),
        ("training.lr_schedule", "step"),
        ("training.lr_schedule", "constant"),
        ("training.accumulate", 2),
        ("system.precision", "bf16"),
        ("system.deterministic", True),
        ("data.preprocessing", "normalize"),
        ("data.preprocessing", "none"),
        ("data.augmentation_level", "none"),
        ("data.augmentation_level", "heavy"),
        ("data.augmentation_level", "robust"),
        ("training.monitor", "seg/miou"),
        ("training.monitor", "loss"),
    ],
)
def test_every_way_of_training_trains(key, value):
    cfg = configured(**{key: value, "system.epochs": 1})
    data = mtv.build_dataset(cfg, "train")
    model = mtv.build_model(cfg, classes=data.classes)
    before = [p.detach().clone() for p in model.parameters()]
    row = mtv.Trainer(model, cfg, progress=False).fit(data, data[:4])[0]
    assert math.isfinite(row["train/loss"])
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert not model.normalization.pending


def test_a_half_precision_run_gives_the_model_back_as_it_was():
    cfg = configured(**{"system.precision": "bf16", "system.epochs": 1})
    data = mtv.build_dataset(cfg, "train")
    model = mtv.build_model(cfg, classes=data.classes)
    trainer = mtv.Trainer(model, cfg, progress=False)
    trainer.fit(data)
    trainer.evaluate(data)
    assert "forward" not in model.__dict__
    model.eval()
    with torch.no_grad():
        images = torch.rand(1, 3, 64, 64).contiguous(memory_format=torch.channels_last)  # as the model sees them
        features = model.backbone(model.normalization(images))
        assert features[0].dtype == torch.float32
        assert torch.equal(model(images)["seg"].logits, model.tasks["seg"](features, (64, 64)).logits)


def test_a_checkpoint_whose_replacement_was_cut_off_is_found(finished, tmp_path):
    import shutil

    folder = tmp_path / "run"
    shutil.copytree(finished.run_dir, folder)
    shutil.rmtree(folder / "checkpoints" / "best.old", ignore_errors=True)
    (folder / "checkpoints" / "best").rename(folder / "checkpoints" / "best.old")
    (folder / "checkpoints" / "best.new").mkdir()
    assert mtv.load_model(folder).image_size == (64, 64)


def test_normalize_takes_the_data_sets_own_statistics():
    cfg = configured(**{"data.preprocessing": "normalize", "system.epochs": 1})
    data = mtv.build_dataset(cfg, "train")
    model = mtv.build_model(cfg, classes=data.classes)
    assert model.normalization.pending
    mtv.Trainer(model, cfg, progress=False).fit(data)
    pixels = np.concatenate([sample.image.reshape(-1, 3) for sample in data]) / 255
    np.testing.assert_allclose(model.normalization.mean.flatten().numpy(), pixels.mean(0), atol=1e-5)
    np.testing.assert_allclose(model.normalization.std.flatten().numpy(), pixels.std(0), atol=1e-5)


def test_normalize_takes_the_statistics_of_the_images_trained_on_only():
    cfg = configured(**{"data.preprocessing": "normalize", "system.epochs": 1})
    whole = mtv.build_dataset(cfg, "train")
    part = whole[:4]
    for data in (part, mtv.build_loader(cfg, part, training=True)):
        model = mtv.build_model(cfg, classes=whole.classes)
        mtv.Trainer(model, cfg, progress=False).fit(data)
        expected = mtv.data.compute_statistics(part, cache=False).mean
        assert model.normalization.mean.flatten().tolist() == pytest.approx(expected, abs=1e-6)


class Renamed:
    """A data set whose classes have another order."""

    def __init__(self, data):
        self.data, self.classes = data, mtv.Classes(data.classes.segmentation, data.classes.detection[::-1])

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        return self.data[index]


def test_classes_of_another_order_are_refused(finished):
    data = mtv.build_dataset(CONFIG, "val")
    sentence = "class 0 of task 'det' is 'disc' in the model but 'ring' in the data set"
    with pytest.raises(DataError, match=sentence):
        mtv.evaluate(finished.model, Renamed(data))
    cfg = configured()
    trainer = mtv.Trainer(mtv.build_model(cfg, classes=data.classes), cfg, progress=False)
    for train_data, val_data in ((Renamed(data), None), (data, Renamed(data))):
        with pytest.raises(DataError, match=sentence):
            trainer.fit(train_data, val_data)


def test_a_task_that_nobody_annotated_is_named(caplog):
    cfg = configured(**{"system.epochs": 1})
    data = mtv.build_dataset(cfg, "train")
    blind = [replace(sample, mask=None) for sample in data]
    with caplog.at_level(logging.WARNING, logger="mtvision"):
        mtv.Trainer(mtv.build_model(cfg, classes=data.classes), cfg, progress=False).fit(blind)
    assert "task 'seg': its loss was zero in every step" in caplog.text
    assert "task 'det'" not in caplog.text


def test_a_loader_for_training_cannot_be_scored():
    cfg = configured()
    data = mtv.build_dataset(cfg, "train")
    trainer = mtv.Trainer(mtv.build_model(cfg, classes=data.classes), cfg, progress=False)
    with pytest.raises(DataError, match="no truths to score against: build it with training=False"):
        trainer.evaluate(mtv.build_loader(cfg, data, training=True))


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        (
            "checkpoint.json",
            '{"config": [], "classes": null, "epoch": 1, "metrics": {}}',
            "not a checkpoint's description",
        ),
        ("checkpoint.json", "[]", "not a checkpoint's description"),
        (
            "checkpoint.json",
            '{"config": {}, "classes": null, "epoch": 1, "metrics": {}, "format": 99}',
            "newer mtvision",
        ),
    ],
)
def test_edited_descriptions_are_named(name, content, sentence, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(CheckpointError, match=sentence):
        mtv.load_model(tmp_path)


def test_damaged_runs_are_named(finished, tmp_path):
    import shutil

    def copy(name):
        return Path(shutil.copytree(finished.run_dir, tmp_path / name))

    edited = copy("summary")
    (edited / "summary.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"summary\.json: no finished run here"):
        read_result(edited)
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="file: is a file; a run needs a folder"):
        train(tmp_path / "file")

    def resume(folder, **values):
        (folder / "summary.json").unlink()
        return train(folder, **values)

    state = copy("state")
    for content in (b"", b"\x80\x02.", b"PK\x03\x04"):
        (state / "checkpoints" / "last" / "state.pt").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"state\.pt: cannot be read"):
            load_state(state / "checkpoints" / "last")
    torch.save({"optimizer": 1}, state / "checkpoints" / "last" / "state.pt")
    (state / "checkpoints" / "last" / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"state\.pt: not the state of a run"):
        resume(state)


@pytest.mark.parametrize("damage", ["missing", "torn", "short"])
def test_a_damaged_history_is_written_anew_from_the_checkpoint(finished, tmp_path, damage):
    import shutil

    folder = Path(shutil.copytree(finished.run_dir, tmp_path / "run"))
    path = folder / "history.jsonl"
    text = path.read_text()
    path.write_text(
        {"missing": "", "torn": text + '{"epoch": 3, "lr"', "short": text.splitlines(keepends=True)[0]}[damage]
    )
    if damage == "missing":
        path.unlink()
    (folder / "summary.json").unlink()
    train(folder)
    assert path.read_text() == text


def test_the_trainer_itself_refuses_to_resume_another_config(finished):
    cfg = configured(**{"training.optimizer": "sgd", "system.run_dir": str(finished.run_dir)})
    data = mtv.build_dataset(cfg, "train")
    trainer = mtv.Trainer(mtv.build_model(cfg, classes=data.classes), cfg, progress=False)
    with pytest.raises(CheckpointError, match=r"training\.optimizer: 'adamw' there, 'sgd' now"):
        trainer.fit(data, resume=True)


def test_a_batch_too_small_for_batch_norm_is_a_sentence():
    cfg = configured(**{"training.batch_size": 1, "data.image_size": 32})
    data = mtv.build_dataset(cfg, "train")
    with pytest.raises(TrainingError, match=r"choose a larger training\.batch_size or data\.image_size"):
        mtv.Trainer(mtv.build_model(cfg, classes=data.classes), cfg, progress=False).fit(data)


def test_the_learning_rate_follows_the_schedule():
    cfg = configured(**{"system.epochs": 4, "training.lr_schedule": "cosine", "training.warmup_epochs": 2.0})
    data = mtv.build_dataset(cfg, "train")
    history = mtv.Trainer(mtv.build_model(cfg, classes=data.classes), cfg, progress=False).fit(data)
    # 3 batches an epoch; the rate of the last step, at the middle of that step
    expected = [min(e / 2, 1) * 0.5 * (1 + math.cos(math.pi * e / 4)) * 0.002 for e in (5 / 6, 11 / 6, 17 / 6, 23 / 6)]
    assert history.column("lr") == pytest.approx(expected)


def test_a_loss_that_is_not_finite_names_task_part_and_images():
    cfg = configured(**{"system.epochs": 1})
    data = mtv.build_dataset(cfg, "train")
    model = mtv.build_model(cfg, classes=data.classes)
    with torch.no_grad():
        model.tasks["seg"].head.get_parameter(next(n for n, _ in model.tasks["seg"].head.named_parameters())).fill_(
            math.nan
        )
    with pytest.raises(TrainingError, match=r"seg/segmentation = nan.*images: .*Try a lower"):
        mtv.Trainer(model, cfg, progress=False).fit(data)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"training.monitor": "seg/mio"}, r"training\.monitor: unknown metric 'seg/mio'\. Did you mean 'seg/miou'\?"),
        ({"training.loss_weights": {"sge": 1.0}}, r"training\.loss_weights\.sge: the model has no such task.*'seg'"),
    ],
)
def test_names_of_nothing_are_refused_before_training(values, sentence):
    cfg = configured(**values)
    with pytest.raises(ConfigError, match=sentence):
        mtv.Trainer(mtv.build_model(cfg), cfg)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_without_cuda_says_so_and_names_auto(tmp_path):
    with pytest.raises(ConfigError, match=r"system\.device: 'cuda' is not available on this machine; use 'auto'"):
        train(tmp_path / "r", system__device="cuda")


def test_class_numbers_that_are_not_the_data_sets_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"model\.num_classes\.seg: 21, but the data set has 6 \(background"):
        train(tmp_path / "r", model__num_classes={"seg": 21, "det": 5})


def test_loss_weights_act():
    def total(**weights):
        cfg = configured(**{"system.epochs": 1, "training.loss_weights": weights, "training.lr": 1e-12})
        data = mtv.build_dataset(cfg, "train")
        return mtv.Trainer(mtv.build_model(cfg, classes=data.classes), cfg, progress=False).fit(data)[0]

    row, weighted = total(seg=1.0, det=1.0), total(seg=0.5, det=0.0)
    seg = row["train/loss/seg/segmentation"]
    det = row["train/loss/det/box"] + row["train/loss/det/class"]
    assert row["train/loss"] == pytest.approx(seg + det, rel=1e-4)
    assert weighted["train/loss"] == pytest.approx(0.5 * seg, rel=1e-3)


def test_damaged_and_missing_checkpoints_are_named(finished, tmp_path):
    with pytest.raises(CheckpointError, match="there is no such run folder"):
        mtv.load_model(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="no checkpoint 'bets' in it; checkpoints there: best, last"):
        mtv.load_model(finished.run_dir, which="bets")
    with pytest.raises(CheckpointError, match="no finished run here"):
        read_result(tmp_path)
    copy = tmp_path / "copy"
    copy.mkdir()
    source = finished.run_dir / "checkpoints" / "best"
    (copy / "checkpoint.json").write_text((source / "checkpoint.json").read_text())
    (copy / "model.safetensors").write_bytes((source / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: cannot be read as weights"):
        mtv.load_model(copy)
    (copy / "model.safetensors").write_bytes((source / "model.safetensors").read_bytes())
    description = json.loads((source / "checkpoint.json").read_text())
    description["config"]["model"]["segmentation_head"] = "unet"
    (copy / "checkpoint.json").write_text(json.dumps(description))
    with pytest.raises(CheckpointError, match=r"weights of another config: .* missing, e\.g\. tasks\.seg"):
        mtv.load_model(copy)


def test_a_malicious_state_is_refused_and_not_executed(tmp_path):
    import pickle

    class Attack:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    (tmp_path / "state.pt").write_bytes(pickle.dumps(Attack(), protocol=2))
    with pytest.raises(CheckpointError, match=r"state\.pt: cannot be read"):
        load_state(tmp_path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.first
@pytest.mark.slow
def test_overfits_sixteen_images(tmp_path, caplog):
    """The whole chain can fit what it sees: mIoU and mAP@50 above 0.9 on 16 images."""
    cfg = mtv.Config(
        system={"epochs": 110, "device": "cpu", "seed": 0},
        model={
            "backbone": "test_resnet",
            "segmentation_head": {"name": "unet", "strides": [2, 4, 8, 16, 32]},
            "detection_head": {"name": "fpn", "channels": 32},
            "init_scheme": "kaiming",
            "dropout_rate": 0.0,
        },
        training={"batch_size": 4, "lr": 0.006, "seg_loss": [{"name": "cross_entropy"}, {"name": "dice"}]},
        data={
            "dataset": {"name": "shapes", "num_images": 16, "image_size": 64, "max_objects": 2},
            "image_size": 64,
            "augmentation_level": "none",
        },
    )
    data = mtv.build_dataset(cfg, "train")
    trainer = mtv.Trainer(mtv.build_model(cfg, classes=data.classes), cfg, progress=False)
    with caplog.at_level(logging.WARNING):
        trainer.fit(data)
    metrics = trainer.evaluate(data)
    assert metrics["seg/miou"] > 0.9
    assert metrics["det/map50"] > 0.9
