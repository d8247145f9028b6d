"""A whole training: loop, validation, checkpoints. For a loop of your own copy ``examples/plain_loop.py``."""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from mtvision.config import Config, as_config
from mtvision.config_errors import flat_differences
from mtvision.data.loader import build_loader
from mtvision.data.preprocessing import compute_statistics
from mtvision.data.sampler import PairedDataset, TransformedDataset
from mtvision.errors import CheckpointError, ConfigError, TrainingError
from mtvision.factory import network_settings
from mtvision.losses.class_counts import fill_class_counts
from mtvision.model import MultiTaskModel
from mtvision.registries import OPTIMIZERS
from mtvision.training.checkpoint import (
    load_state,
    load_weights,
    save_checkpoint,
    versions,
    whole_checkpoint,
    write_json,
)
from mtvision.training.device import build_accelerator, deterministic, prepared
from mtvision.training.evaluation import (
    EvaluationResult,
    check_classes,
    combined_score,
    score,
)
from mtvision.training.history import History, Row
from mtvision.training.loop import Loop
from mtvision.training.monitor import Monitor
from mtvision.training.progress import Reporter
from mtvision.training.run_folder import CONFIG, HISTORY, SUMMARY, check_same_run
from mtvision.types import Batch, Sample

logger = logging.getLogger(__name__)

Data = Sequence[Sample] | DataLoader[Batch]


class Trainer:
    """Trains a model as a config says.

    Args:
        model: any `MultiTaskModel`.
        config: a `Config`, a mapping or the path of a YAML file. What it says of the network and its losses must be
            what the model was built with, since a checkpoint is loaded by it.
        run_dir: folder for ``config.yaml, history.jsonl, summary.json, checkpoints/, plots/``; ``system.run_dir`` if
            None. Without either, nothing is written.
        progress: whether to show a bar and a row an epoch.

    Raises:
        ConfigError: for any problem of the config, also for a ``training.monitor`` or ``training.loss_weights`` that
            names nothing of this model, or where the model was built from a config that says otherwise of the network.
    """

    def __init__(
        self,
        model: MultiTaskModel,
        config: Config | Mapping[str, Any] | str | Path,
        *,
        run_dir: str | Path | None = None,
        progress: bool = True,
    ) -> None:
        self.model = model
        self.config = as_config(config)
        folder = run_dir if run_dir is not None else self.config.system.run_dir
        self.run_dir = Path(folder) if folder is not None else None
        self.reporter = Reporter(progress)
        self.history = History()
        self.monitor = Monitor(model, self.config.training)
        _check_same_network(model, self.config)

    def fit(self, train: Data, val: Data | None = None, *, resume: bool = False) -> History:
        """Train for ``system.epochs`` epochs, scoring ``val`` after each.

        Args:
            train: a data set (its loader is built from the config) or a loader with ``training=True``.
            val: likewise, with ``training=False``; without it the last epoch is the best.
            resume: go on after the last epoch that ``run_dir`` holds.

        Returns:
            A row an epoch; also in ``history.jsonl``.

        Raises:
            TrainingError: if a loss is not finite; the message names task, part and images.
            CheckpointError: if ``run_dir`` holds a run already and ``resume`` is False, or one that cannot be resumed.
            DataError: if a data set's classes are not those of the model.
        """
        accelerator = build_accelerator(self.config)
        if accelerator.num_processes > 1:
            raise TrainingError("training in several processes is not supported by this version; start one process")
        if self.run_dir is not None and (resume or not self.run_dir.is_dir()):
            check_same_run(self.run_dir, self.config)
        torch.manual_seed(self.config.system.seed)
        self.monitor = Monitor(self.model, self.config.training)
        self._prepare_statistics(train)
        settings = self.config.training
        optimizer = OPTIMIZERS.build(settings.optimizer, self.model.parameters(), settings.lr, settings.weight_decay)
        loader = accelerator.prepare(self._loader(train, training=True))
        val_loader = accelerator.prepare(self._loader(val, training=False)) if val is not None else None
        with prepared(self.model, accelerator) as network, deterministic(self.config.system.deterministic):
            loop = Loop(self.config, self.model, network, accelerator.prepare(optimizer), accelerator)
            for epoch in range(self._start(loop, resume), self.config.system.epochs):
                self._epoch(loop, epoch, loader, val_loader)
        self._finish()
        return self.history

    def evaluate(self, data: Data) -> dict[str, float]:
        """Return the metrics over ``data``, ``{"seg/miou": ..., ...}``, fractions in [0, 1]."""
        accelerator = build_accelerator(self.config)
        self.model.warn_if_pending()
        loader = accelerator.prepare(self._loader(data, training=False))
        with prepared(self.model, accelerator) as network:
            return self._score(network, loader, "evaluate").metrics

    def _epoch(self, loop: Loop, epoch: int, loader: Any, val_loader: Any) -> None:
        began = time.perf_counter()
        loader.set_epoch(epoch)
        with self.reporter.bar(f"epoch {epoch + 1}/{self.config.system.epochs}", len(loader)) as bar:
            losses, rate = loop.train_epoch(epoch, loader, bar)
        if epoch == 0:
            _warn_of_idle_tasks(self.model, losses)
        row: Row = {"epoch": epoch + 1, "lr": rate, "seconds": 0.0, **_named("train", losses)}
        result = EvaluationResult({})
        if val_loader is not None:
            result = self._score(loop.network, val_loader, "validate")
            row |= _named("val", result.losses) | {f"val/{name}": value for name, value in result.metrics.items()}
            row["val/score"] = combined_score(self.model, result.metrics)
        row["seconds"] = time.perf_counter() - began
        row["per_class"] = result.per_class
        self.history.append(row)
        self.reporter.row(row)
        self._save(loop, epoch + 1, row, result.metrics)

    def _score(self, network: Any, loader: Any, title: str) -> EvaluationResult:
        weights = self.config.training.loss_weights
        with self.reporter.bar(title, len(loader)) as bar:
            return score(self.model, bar.over(loader), forward=network, weights=weights)

    def _save(self, loop: Loop, epoch: int, row: Row, metrics: Mapping[str, float]) -> None:
        is_best = self.monitor.update(epoch, row)
        if self.run_dir is None:
            return
        checkpoints = self.run_dir / "checkpoints"
        if is_best:
            save_checkpoint(checkpoints / "best", self.model, self.config, epoch, metrics)
        state = {**loop.state(), "epoch": epoch, "monitor": self.monitor.state()}
        save_checkpoint(checkpoints / "last", self.model, self.config, epoch, metrics, state)

    def _loader(self, data: Data, *, training: bool) -> DataLoader[Batch]:
        check_classes(self.model, _samples(data))
        return data if isinstance(data, DataLoader) else build_loader(self.config, data, training=training)

    def _prepare_statistics(self, train: Data) -> None:
        if self.model.normalization.pending:
            statistics = compute_statistics(_samples(train))
            self.model.normalization.set_statistics(statistics.mean or (), statistics.std or ())
        fill_class_counts(self.model, _samples(train))

    def _start(self, loop: Loop, resume: bool) -> int:
        """Return the first epoch to do, with weights, optimizer and random generators as they were then."""
        self.history = History()
        if self.run_dir is None:
            return 0
        last = whole_checkpoint(self.run_dir / "checkpoints" / "last")
        _make_folder(self.run_dir)
        path = self.run_dir / HISTORY
        if last is None:
            self.config.save(self.run_dir / CONFIG)
            self.history = History(path)
            return 0
        if not resume:
            raise CheckpointError(f"{self.run_dir}: holds a run already; choose another folder, or resume it")
        load_weights(self.model, last)
        state = load_state(last)
        loop.restore(state)
        self.monitor.restore(state["monitor"])
        self.history = History(path, History.read(path)[: state["epoch"]])
        if len(self.history) != state["epoch"]:
            raise CheckpointError(f"{path}: has {len(self.history)} epochs, the checkpoint beside it {state['epoch']}")
        return int(state["epoch"])

    def _finish(self) -> None:
        if self.run_dir is None or not self.history:
            return
        from mtvision.visualize.curves import write_curves

        write_curves(self.history, self.run_dir / "plots")
        row = self.history[self.monitor.epoch - 1]
        named = {key.removeprefix("val/"): value for key, value in row.items() if key.startswith("val/")}
        content = {
            "metrics": {key: value for key, value in named.items() if not key.startswith("loss")},
            "best_epoch": self.monitor.epoch,
            "seconds": sum(self.history.column("seconds")),
            "per_class": row["per_class"],
            "config": self.config.dump(),
            "versions": versions(),
        }
        write_json(self.run_dir / SUMMARY, content)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"{folder}: the run's folder cannot be made ({error.strerror})") from None


def _samples(data: Data) -> Any:
    """Return the untransformed data set, also of a loader."""
    if not isinstance(data, DataLoader):
        return data
    transformed = data.dataset
    return transformed.dataset if isinstance(transformed, TransformedDataset | PairedDataset) else transformed


def _warn_of_idle_tasks(model: MultiTaskModel, losses: Mapping[str, float]) -> None:
    for task in model.tasks:
        parts = [value for name, value in losses.items() if name.startswith(f"{task}/")]
        if not any(parts):
            logger.warning("task '%s': its loss was zero in every step; is any training image annotated for it?", task)


def _named(split: str, losses: Mapping[str, float]) -> dict[str, float]:
    return {f"{split}/loss" if name == "loss" else f"{split}/loss/{name}": value for name, value in losses.items()}


def _check_same_network(model: MultiTaskModel, config: Config) -> None:
    """Refuse a config that describes another network than that of the model; one put together from parts has none.

    Raises:
        ConfigError: with each difference.
    """
    if model.settings is None:
        return
    differences = flat_differences(model.settings, network_settings(config))
    if differences:
        raise ConfigError(
            [
                f"{key}: the model was built with {built!r}, not with {given!r}; build it from this config"
                for key, (built, given) in differences.items()
            ]
        )
