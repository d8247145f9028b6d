"""A run's folder: what is in it, and whether it is the run that is meant."""

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from mtvision.config import Config
from mtvision.config_errors import flat_differences
from mtvision.errors import CheckpointError, ConfigError
from mtvision.factory import network_settings
from mtvision.model import MultiTaskModel
from mtvision.training import processes
from mtvision.training.checkpoint import (
    TRAINING_WEIGHTS,
    WEIGHTS,
    load_model,
    load_state,
    load_weights,
    save_checkpoint,
    whole_checkpoint,
)
from mtvision.training.checkpoint_description import describe_run, read_description, versions, write_json
from mtvision.training.history import History, with_nan

logger = logging.getLogger(__name__)

CONFIG, HISTORY, SUMMARY = "config.yaml", "history.jsonl", "summary.json"
PANEL, CURVES = "plots/predictions.png", "plots/curves.png"

# What may differ when a run is taken up again: where it runs, not what it computes; and class numbers that one side
# leaves to the data set, since the weights tell those.
FREE_TO_CHANGE = (
    "system.device",
    "system.run_dir",
    "system.compile",
    "system.sharding",
    "system.channels_last",
    "system.checkpoint_steps",
    "system.trackers",
    "system.progress",
    "data.num_workers",
    "data.on_error",
    "data.cache",
    "data.dataset_root",
    "model.num_classes",
)


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
        return History.read(self.run_dir / HISTORY)

    @cached_property
    def model(self) -> MultiTaskModel:
        """The model of the best epoch."""
        return load_model(self.run_dir)


def read_result(run_dir: str | Path) -> RunResult:
    """Read a finished run's folder.

    Raises:
        CheckpointError: if it holds no finished run, or its summary was damaged.
    """
    folder = Path(run_dir).expanduser()
    path = folder / SUMMARY
    try:
        summary: Mapping[str, Any] = with_nan(json.loads(path.read_text(encoding="utf-8")))
        return RunResult(
            folder,
            dict(summary["metrics"]),
            int(summary["best_epoch"]),
            float(summary["seconds"]),
            dict(summary["per_class"]),
        )
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise CheckpointError(f"{path}: no finished run here ({type(error).__name__}: {error})") from None


class RunFolder:
    """Reads and writes the folder of one run; without a path it does neither.

    Args:
        path: of the folder.
        model: that is trained.
        config: of the run.
        data: fingerprint of the training images, if they have one.
    """

    def __init__(self, path: Path | None, model: MultiTaskModel, config: Config, data: str | None) -> None:
        self.path, self.model, self.config, self.data = path, model, config, data

    def check(self, resume: bool) -> None:
        """Refuse to begin where the folder's run is another one, or is not to be resumed.

        Raises:
            CheckpointError: see `check_same_run`; or if there is a run and ``resume`` is False.
        """
        if self.path is None:
            return
        if resume or not self.path.is_dir():
            check_same_run(self.path, self.config)
        elif whole_checkpoint(self._checkpoint("last")) is not None:
            raise CheckpointError(f"{self.path}: holds a run already; choose another folder, or resume it")

    def load(self, model: MultiTaskModel, averaged: MultiTaskModel | None) -> dict[str, Any] | None:
        """Return the state in the last checkpoint, its weights loaded into the model; None where there is none.

        Raises:
            CheckpointError: if it cannot be read or has no state.
        """
        last = whole_checkpoint(self._checkpoint("last")) if self.path is not None else None
        if len(set(processes.gather(last is not None))) > 1:
            raise CheckpointError(
                f"{self.path}: some processes see a checkpoint here and others none: share the folder"
            )
        if last is None:
            return None
        state = load_state(last)
        load_weights(model, last, WEIGHTS if averaged is None else TRAINING_WEIGHTS)
        if averaged is not None:
            load_weights(averaged, last)
        before = read_description(last).data
        if before != self.data:
            logger.warning("%s: the training images are no longer those that the run began with", self.path)
        processes.wait()  # nobody writes before all have read
        return state

    def history(self, state: Mapping[str, Any] | None) -> History:
        """Return the history up to a state, which the file then holds too; begin a new one for None.

        Raises:
            CheckpointError: if the folder cannot be made.
        """
        rows = History.parse(state["history"]) if state is not None else ()
        if self.path is None or not processes.is_main():
            return History(rows=rows)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if state is None:
                self.config.save(self.path / CONFIG)
            return History(self.path / HISTORY, rows)
        except OSError as error:
            raise CheckpointError(f"{self.path}: the run's folder cannot be written ({error.strerror})") from None

    def save_last(
        self,
        trained: Mapping[str, Tensor],
        averaged: Mapping[str, Tensor] | None,
        state: Mapping[str, Any],
        history: History,
    ) -> Path | None:
        """Write the checkpoint to go on from, and return its folder; the one before it is kept."""
        if self.path is None:
            return None
        folder = self._checkpoint("last")
        where = {"epoch": state["epoch"], "step": state["step"], "metrics": state["metrics"], "data": self.data}
        save_checkpoint(
            folder,
            describe_run(self.model, self.config, **where),
            trained if averaged is None else averaged,
            {**state, "history": history.text()},
            None if averaged is None else trained,
        )
        return folder

    def save_best(
        self, model: MultiTaskModel, epoch: int, metrics: Mapping[str, float], is_best: bool, kept: Sequence[int]
    ) -> None:
        """Write the checkpoints of an epoch (from 1) that is the best, or one of the best; drop what is no longer.

        Args:
            model: to keep.
            epoch: that was done.
            metrics: of its validation.
            is_best: whether it is the best.
            kept: the best epochs; where these are several, each has a checkpoint ``epoch-0001`` of its own.
        """
        if self.path is None:
            return
        names = [f"epoch-{number:04d}" for number in kept] if self.config.training.keep_best > 1 else []
        own = [f"epoch-{epoch:04d}"] if epoch in kept and names else []
        for name in [*own, *(["best"] if is_best else [])]:
            where = {"epoch": epoch, "metrics": dict(metrics), "data": self.data}
            save_checkpoint(self._checkpoint(name), describe_run(self.model, self.config, **where), model.state_dict())
        for folder in (self.path / "checkpoints").glob("epoch-*"):
            if folder.name not in names:
                shutil.rmtree(folder, ignore_errors=True)

    def finish(self, history: History, best_epoch: int) -> None:
        """Write the curves and the summary of a run that has come to its end."""
        if self.path is None or not history:
            return
        from mtvision.visualize.curves import write_curves

        write_curves(history, self.path / "plots")
        row = history[best_epoch - 1]
        named = {key.removeprefix("val/"): value for key, value in row.items() if key.startswith("val/")}
        content = {
            "metrics": {key: value for key, value in named.items() if not key.startswith("loss")},
            "best_epoch": best_epoch,
            "seconds": sum(history.column("seconds")),
            "per_class": row["per_class"],
            "config": self.config.dump(),
            "versions": versions(),
        }
        write_json(self.path / SUMMARY, content)

    def _checkpoint(self, name: str) -> Path:
        return cast(Path, self.path) / "checkpoints" / name


def with_batch_size_of(run_dir: Path, config: Config) -> Config:
    """Return the config with the number that an unfinished run has found for ``training.batch_size: auto``."""
    path = run_dir / CONFIG
    if config.training.batch_size != "auto" or not path.is_file():
        return config
    return config.replace({"training.batch_size": Config.load(path).training.batch_size})


def check_same_run(run_dir: Path, config: Config) -> None:
    """Refuse a folder that cannot be that of a config's run.

    Raises:
        CheckpointError: if it is a file, or holds a run of another config; the differences are named.
    """
    if run_dir.exists() and not run_dir.is_dir():
        raise CheckpointError(f"{run_dir}: is a file; a run needs a folder")
    path = run_dir / CONFIG
    if not path.exists():
        return
    differences = flat_differences(Config.load(path).dump(), config.dump(), ignore=FREE_TO_CHANGE)
    if differences:
        lines = "; ".join(f"{key}: {old!r} there, {new!r} now" for key, (old, new) in differences.items())
        raise CheckpointError(f"{run_dir}: holds a run of another config ({lines}); choose another folder")


def check_same_network(model: MultiTaskModel, config: Config) -> None:
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
