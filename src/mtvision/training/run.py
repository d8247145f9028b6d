"""One call for a whole run, and one for an evaluation."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from mtvision.config import Config, as_config
from mtvision.config_errors import flat_differences
from mtvision.data.loader import build_dataset, build_loader
from mtvision.errors import CheckpointError, ConfigError
from mtvision.factory import build_model
from mtvision.model import MultiTaskModel
from mtvision.training.checkpoint import load_model
from mtvision.training.evaluation import EvaluationResult, score
from mtvision.training.history import History
from mtvision.training.trainer import Trainer
from mtvision.types import Classes, Sample

_PANEL_IMAGES = 6
# What may differ when a run is taken up again: where it runs, not what it computes.
_FREE_TO_CHANGE = ("system.device", "system.run_dir", "data.num_workers", "data.dataset_root")


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Attributes:
        run_dir: its folder.
        metrics: of the best epoch on the validation split, ``{"seg/miou": ..., "det/map50": ...}``.
        best_epoch: counted from 1.
        seconds: spent in all epochs.
        per_class: tables by metric and class name, of the best epoch.
    """

    run_dir: Path
    metrics: dict[str, float]
    best_epoch: int
    seconds: float
    per_class: dict[str, dict[str, float]]

    @cached_property
    def history(self) -> History:
        """What happened in each epoch."""
        return History.read(self.run_dir / "history.jsonl")

    @cached_property
    def model(self) -> MultiTaskModel:
        """The model of the best epoch."""
        return load_model(self.run_dir)


def train(
    config: Config | Mapping[str, Any] | str | Path, run_dir: str | Path | None = None, *, progress: bool = True
) -> RunResult:
    """Do all of it: data, model, training, curves and a panel of predictions.

    The same call on an unfinished run folder goes on after its last whole epoch; a finished one is only read.

    Args:
        config: a `Config`, a mapping or the path of a YAML file.
        run_dir: the run's folder; ``system.run_dir`` if None, else ``runs/<date and time>``.
        progress: whether to show a bar, a row an epoch and the closing table.

    Raises:
        ConfigError: for any problem of the config, or class numbers that are not those of the data set.
        DataError: if the data cannot be read.
        CheckpointError: if ``run_dir`` holds a run of another config; the differences are named.
    """
    cfg = as_config(config)
    folder = Path(run_dir or cfg.system.run_dir or f"runs/{datetime.now():%Y%m%d-%H%M%S}")
    train_data, val_data = build_dataset(cfg, "train"), build_dataset(cfg, "val")
    classes = getattr(train_data, "classes", None)
    cfg = resolve(cfg, classes).replace({"system.run_dir": str(folder)})
    _check_same_run(folder, cfg)
    if not (folder / "summary.json").exists():
        trainer = Trainer(build_model(cfg, classes=classes), cfg, run_dir=folder, progress=progress)
        trainer.fit(train_data, val_data, resume=True)
        result = read_result(folder)
        _write_panel(result, val_data)
        trainer.reporter.table("best epoch, by class", result.per_class)
        trainer.reporter.say(f"best epoch {result.best_epoch}; everything is in {folder}")
        return result
    return read_result(folder)


def evaluate(
    model: MultiTaskModel, data: Sequence[Sample], *, batch_size: int = 8, num_workers: int = 0
) -> EvaluationResult:
    """Score a model on annotated images, at their original size; the model's mode and device stay as they are.

    Args:
        model: e.g. of `load_model`.
        data: e.g. of `build_dataset`.
        batch_size: images that go through the network together.
        num_workers: processes that load images.

    Raises:
        ConfigError: if the model has no image size of its own to resize to.
    """
    if model.image_size is None:
        raise ConfigError(["image_size: the model has none; set model.image_size = (height, width)"])
    settings = {"image_size": model.image_size, "num_workers": num_workers}
    loader = build_loader(Config(training={"batch_size": batch_size}, data=settings), data, training=False)
    device = model.normalization.mean.device
    return score(model, (batch.to(device) for batch in loader), classes=getattr(data, "classes", None))


def read_result(run_dir: str | Path) -> RunResult:
    """Read a finished run's folder.

    Raises:
        CheckpointError: if it holds no finished run.
    """
    path = Path(run_dir) / "summary.json"
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: no finished run here ({error})") from None
    known = {key: float("nan") if value is None else value for key, value in summary["metrics"].items()}
    per_class = {
        metric: {name: float("nan") if value is None else value for name, value in table.items()}
        for metric, table in summary["per_class"].items()
    }
    return RunResult(Path(run_dir), known, summary["best_epoch"], summary["seconds"], per_class)


def resolve(config: Config, classes: Classes | None) -> Config:
    """Return the config with ``model.num_classes`` filled in from the data set.

    Raises:
        ConfigError: if the config says other numbers; a task without head is not compared.
    """
    if classes is None:
        return config
    given = config.model.num_classes
    if given is None:
        return config.replace({"model.num_classes": classes.num_classes})
    heads = {"seg": config.model.segmentation_head, "det": config.model.detection_head}
    problems = [
        f"model.num_classes.{task}: {number}, but the data set has {len(names)} ({', '.join(names[:5])}"
        f"{', ...' if len(names) > 5 else ''}); leave it out to take those"
        for task, number, names in ((task, number, classes.names(task)) for task, number in given.model_dump().items())
        if heads[task] is not None and number != len(names)
    ]
    if problems:
        raise ConfigError(problems)
    return config


def _check_same_run(folder: Path, config: Config) -> None:
    path = folder / "config.yaml"
    if not path.exists():
        return
    differences = flat_differences(Config.load(path).dump(), config.dump(), ignore=_FREE_TO_CHANGE)
    if differences:
        lines = "; ".join(f"{key}: {old!r} there, {new!r} now" for key, (old, new) in differences.items())
        raise CheckpointError(f"{folder}: holds a run of another config ({lines}); choose another folder")


def _write_panel(result: RunResult, data: Sequence[Sample]) -> None:
    from mtvision.visualize.panel import write_panel

    step = max(len(data) // _PANEL_IMAGES, 1)
    samples = [data[i] for i in range(0, len(data), step)][:_PANEL_IMAGES]
    model = result.model
    predictions = model.predict([sample.image for sample in samples])
    write_panel(samples, predictions, model.classes, result.run_dir / "plots" / "predictions.png")
