"""A run's folder: what is in it, and whether it is the run that is meant."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mtvision.config import Config
from mtvision.config_errors import flat_differences
from mtvision.errors import CheckpointError
from mtvision.model import MultiTaskModel
from mtvision.training.checkpoint import load_model
from mtvision.training.history import History, with_nan

CONFIG, HISTORY, SUMMARY = "config.yaml", "history.jsonl", "summary.json"
PANEL = "plots/predictions.png"

# What may differ when a run is taken up again: where it runs, not what it computes; and class numbers that one side
# leaves to the data set, since the weights tell those.
_FREE_TO_CHANGE = ("system.device", "system.run_dir", "data.num_workers", "data.dataset_root", "model.num_classes")


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
    path = Path(run_dir) / SUMMARY
    try:
        summary: Mapping[str, Any] = with_nan(json.loads(path.read_text(encoding="utf-8")))
        return RunResult(
            Path(run_dir),
            dict(summary["metrics"]),
            int(summary["best_epoch"]),
            float(summary["seconds"]),
            dict(summary["per_class"]),
        )
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise CheckpointError(f"{path}: no finished run here ({type(error).__name__}: {error})") from None


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
    differences = flat_differences(Config.load(path).dump(), config.dump(), ignore=_FREE_TO_CHANGE)
    if differences:
        lines = "; ".join(f"{key}: {old!r} there, {new!r} now" for key, (old, new) in differences.items())
        raise CheckpointError(f"{run_dir}: holds a run of another config ({lines}); choose another folder")
