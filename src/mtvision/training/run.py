"""One call for a whole run."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from mtvision.config import Config, as_config
from mtvision.data.loading.loader import build_dataset
from mtvision.errors import ConfigError, DataError
from mtvision.factory import build_model, resolve_classes
from mtvision.training import processes
from mtvision.training.batch_size import with_batch_size
from mtvision.training.callbacks import Callback
from mtvision.training.progress import Reporter, chosen_reporter
from mtvision.training.run_folder import (
    CURVES,
    HISTORY,
    PANEL,
    SUMMARY,
    RunResult,
    check_same_run,
    read_result,
    with_batch_size_of,
)
from mtvision.training.trainer import Trainer
from mtvision.types import Sample

_PANEL_IMAGES = 6


def train(
    config: Config | Mapping[str, Any] | str | Path,
    run_dir: str | Path | None = None,
    *,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
) -> RunResult:
    """Do all of it: data, model, training, curves and a panel of predictions.

    The same call on an unfinished run folder goes on from its last checkpoint, bit for bit; a finished one is only
    read. In several processes (``torchrun script.py``) all make the same call; give them a ``run_dir``.

    Args:
        config: a `Config`, a mapping or the path of a YAML file.
        run_dir: the run's folder; ``system.run_dir`` if None, else ``runs/<date and time>``.
        progress: whether to show a bar, a row an epoch and the closing table.
        callbacks: code of one's own; see `Callback`.

    Raises:
        ConfigError: for any problem of the config, or class numbers that are not those of the data set.
        DataError: if the data cannot be read.
        CheckpointError: if ``run_dir`` holds a run of another config; the differences are named.
    """
    cfg = as_config(config)
    folder = _folder(run_dir or cfg.system.run_dir)
    train_data, val_data = build_dataset(cfg, "train"), build_dataset(cfg, "val")
    cfg = resolve_classes(cfg, train_data.classes).replace({"system.run_dir": str(folder)})
    cfg = with_batch_size_of(folder, cfg)
    check_same_run(folder, cfg)
    if (folder / SUMMARY).exists():
        chosen_reporter(cfg.system.progress, progress).say(f"{folder}: this run is finished; its result is read")
        result = read_result(folder)
        if not (folder / PANEL).exists() and processes.is_main():  # stopped between the two
            _write_panel(result, val_data)
        return result
    model = build_model(cfg, classes=train_data.classes)
    cfg = with_batch_size(cfg, model, train_data)
    trainer = Trainer(model, cfg, run_dir=folder, progress=progress, callbacks=callbacks)
    trainer.fit(train_data, val_data, resume=True)
    result = read_result(folder)
    if processes.is_main():
        _write_panel(result, val_data)
        _sum_up(result, trainer.reporter)
    processes.wait()
    return result


def _folder(given: str | Path | None) -> Path:
    if given is None and processes.launched() > 1:
        raise ConfigError(["system.run_dir: several processes need the same one; give it, or run_dir"])
    return Path(given or f"runs/{datetime.now():%Y%m%d-%H%M%S}").expanduser()


def _sum_up(result: RunResult, reporter: Reporter) -> None:
    reporter.table("best epoch, by class", result.per_class)
    numbers = "  ".join(f"{name} {value:.4f}" for name, value in result.metrics.items())
    reporter.say(f"best epoch {result.best_epoch} of {len(result.history)}, {result.seconds:.0f} s:  {numbers}")
    contents = ("checkpoints/best", CURVES, PANEL, HISTORY, SUMMARY)
    reporter.say(f"everything is in {result.run_dir}: " + ", ".join(contents))


def _write_panel(result: RunResult, data: Sequence[Sample]) -> None:
    from mtvision.visualize.panel import write_panel

    step = max(len(data) // _PANEL_IMAGES, 1)
    samples = [sample for i in range(0, len(data), step) if (sample := _readable(data, i)) is not None][:_PANEL_IMAGES]
    if not samples:
        return
    model = result.model
    predictions = model.predict([sample.image for sample in samples])
    write_panel(samples, predictions, model.classes, result.run_dir / PANEL)


def _readable(data: Sequence[Sample], index: int) -> Sample | None:
    """Return a sample, None if it cannot be read: a picture is no reason for a finished run to fail."""
    try:
        return data[index]
    except DataError:
        return None
