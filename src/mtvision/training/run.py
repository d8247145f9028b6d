"""One call for a whole run, and one for an evaluation."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from mtvision.config import Config, as_config
from mtvision.data.loading.loader import build_dataset, build_loader
from mtvision.errors import ConfigError, DataError
from mtvision.factory import build_model, resolve_classes
from mtvision.model import MultiTaskModel
from mtvision.training import processes
from mtvision.training.batch_size import with_batch_size
from mtvision.training.callbacks import Callback
from mtvision.training.checkpoint import load_model
from mtvision.training.evaluation import EvaluationResult, check_classes, score
from mtvision.training.kept_predictions import KeptPredictions
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


def evaluate(
    model: MultiTaskModel | str | Path,
    data: Sequence[Sample],
    *,
    protocol: str | Sequence[str] | None = None,
    batch_size: int = 8,
    num_workers: int = 0,
    on_error: Literal["raise", "skip"] = "raise",
    keep_predictions: bool = False,
) -> EvaluationResult:
    """Score a model on annotated images, at their original size; the model's mode and device stay as they are.

    The tasks' own metrics are always there. A protocol adds its numbers for each task that it scores, by the name
    ``<task>/<protocol>/<number>``. Those of masks are ``standard`` and ``boundary``, those of boxes ``coco``, ``voc``,
    ``voc2007`` and ``lrp``. All are counted in one pass over the data.

    Args:
        model: a model, or the folder of a run, whose best checkpoint is loaded as `load_model` does, onto the CPU.
        data: e.g. of `build_dataset`.
        protocol: one name or several; None: no protocol.
        batch_size: images that go through the network together.
        num_workers: processes that load images.
        on_error: ``skip``: images that cannot be read are left out, and named in ``skipped`` of the result.
        keep_predictions: whether ``predictions`` of the result holds what the model said of each image, for
            `mtvision.data.write_coco_results`, `mtvision.data.write_voc_results` or an analysis of one's own.

    Raises:
        ConfigError: if the model has no image size of its own to resize to, or a protocol scores none of its tasks.
        CheckpointError: if ``model`` is a folder without a checkpoint that can be loaded.
        DataError: if the data set's classes are not those that the model was trained with, a truth cannot be scored, or
            predictions are to be kept and two images have the same id.

    Example:
        >>> data = build_dataset({"data": {"dataset": {"name": "shapes", "num_images": 8, "image_size": 32}}}, "val")
        >>> config = {"model": {"backbone": "test_resnet"}, "data": {"image_size": 32}}
        >>> model = build_model(config, classes=data.classes)
        >>> result = evaluate(model, data, protocol=["standard", "boundary"])
        >>> sorted(name for name in result.metrics if name.startswith("seg/boundary"))
        ['seg/boundary/miou']
    """
    if isinstance(model, str | Path):
        model = load_model(model)
    if model.image_size is None:
        raise ConfigError(["image_size: the model has none; set model.image_size = (height, width)"])
    settings = {"image_size": model.image_size, "num_workers": num_workers, "on_error": on_error}
    check_classes(model, data)
    model.warn_if_pending()
    loader = build_loader(Config(training={"batch_size": batch_size}, data=settings), data, training=False)
    device = model.normalization.mean.device
    batches = (batch.to(device) for batch in loader)
    kept = KeptPredictions() if keep_predictions else None
    result = score(model, batches, classes=getattr(data, "classes", None), protocol=protocol, kept=kept)
    return result if kept is None else replace(result, predictions=kept.by_image)


def _folder(given: str | Path | None) -> Path:
    if given is None and processes.launched() > 1:
        raise ConfigError(["system.run_dir: several processes need the same one; give it, or run_dir"])
    return Path(given or f"runs/{datetime.now():%Y%m%d-%H%M%S}")


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
