"""A whole training: loop, validation, checkpoints. For a loop of your own copy ``examples/plain_loop.py``."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from mtvision.config import Config, as_config
from mtvision.data.loading.augmented import AugmentedDataset
from mtvision.data.loading.loader import Loader, build_loader
from mtvision.data.loading.sampler import PairedDataset, TransformedDataset
from mtvision.data.preprocessing import compute_statistics, fingerprint
from mtvision.errors import TrainingError
from mtvision.losses.class_counts import fill_class_counts
from mtvision.model import MultiTaskModel
from mtvision.training import processes
from mtvision.training.callbacks import Callback
from mtvision.training.device import build_accelerator, prepared
from mtvision.training.evaluation import check_classes, score
from mtvision.training.fit import Fit
from mtvision.training.history import History
from mtvision.training.interrupts import interruptible
from mtvision.training.monitor import Monitor
from mtvision.training.processes import named_failures
from mtvision.training.progress import chosen_reporter
from mtvision.training.random_state import seed_all
from mtvision.training.range_test import RangeTest, range_test
from mtvision.training.run_folder import RunFolder, check_same_network
from mtvision.training.session import open_session
from mtvision.training.trackers import chosen_trackers, stop_trackers
from mtvision.types import Batch, Sample

logger = logging.getLogger(__name__)

Data = Sequence[Sample] | DataLoader[Batch]


class Trainer:
    """Trains a model as a config says.

    Started in several processes (``torchrun``, ``accelerate launch``), all of them work on each batch, whose size
    counts the images of all; the main one writes. With ``system.sharding: full`` a copy of the model is trained, of
    which each process holds a share; the model itself is brought up to date after each epoch and at the end.

    Args:
        model: any `MultiTaskModel`.
        config: a `Config`, a mapping or the path of a YAML file. What it says of the network and its losses must be
            what the model was built with, since a checkpoint is loaded by it.
        run_dir: folder for ``config.yaml, history.jsonl, summary.json, checkpoints/, plots/``; ``system.run_dir`` if
            None. Without either, nothing is written.
        progress: False says nothing; else as ``system.progress`` says.
        callbacks: code of one's own; see `Callback`.

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
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.model = model
        self.config = as_config(config)
        folder = run_dir if run_dir is not None else self.config.system.run_dir
        self.run_dir = Path(folder).expanduser() if folder is not None else None
        self.reporter = chosen_reporter(self.config.system.progress, progress)
        self.callbacks = list(callbacks)
        self.history = History()
        self.monitor = Monitor(model, self.config.training)
        self.reason = ""
        check_same_network(model, self.config)

    def fit(self, train: Data, val: Data | None = None, *, resume: bool = False) -> History:
        """Train for ``system.epochs`` epochs, scoring ``val`` after each.

        Ctrl-C and SIGTERM are obeyed after the step that is being done: the run is saved and can be resumed there.

        Args:
            train: a data set (its loader is built from the config) or a loader with ``training=True``.
            val: likewise, with ``training=False``; without it the last epoch is the best.
            resume: go on from the last checkpoint that ``run_dir`` holds, bit for bit.

        Returns:
            A row an epoch; also in ``history.jsonl``.

        Raises:
            TrainingError: if losses stay not finite, or another process has died.
            CheckpointError: if ``run_dir`` holds a run already and ``resume`` is False, or one that cannot be resumed,
                or if a checkpoint cannot be written.
            DataError: if a data set's classes are not those of the model.
        """
        trackers = chosen_trackers(self.config, self.run_dir)
        accelerator = build_accelerator(self.config, trackers, self.run_dir)
        seed_all(self.config.system.seed + processes.rank())
        if val is None and (self.config.training.patience is not None or self.config.training.monitor != "score"):
            logger.warning("training.patience and training.monitor do nothing: there are no images to validate with")
        self.monitor, self.reason = Monitor(self.model, self.config.training), ""
        folder = RunFolder(self.run_dir, self.model, self.config, fingerprint(_samples(train)))
        folder.check(resume)
        self._prepare_statistics(train)
        loader = self._loader(train, training=True)
        val_loader = self._loader(val, training=False) if val is not None else None
        self.history = History()
        with open_session(self.model, self.config, accelerator) as session, interruptible() as interruption:
            fit = Fit(self, session, folder, loader, val_loader, interruption)
            with named_failures(self.run_dir):
                try:
                    fit.run()
                finally:
                    stop_trackers(accelerator)
        if processes.is_main():
            folder.finish(self.history, self.monitor.epoch)  # only what was trained or resumed has a history
        processes.wait()
        if interruption:  # it came after the last step
            interruption.leave("the run is finished")
        return self.history

    def stop(self, reason: str) -> None:
        """End the training after the epoch that is being done; for callbacks.

        Args:
            reason: for the log.
        """
        self.reason = reason

    def find_lr(self, train: Data, *, lowest: float = 1e-6, highest: float = 1.0, steps: int = 100) -> RangeTest:
        """Try learning rates from low to high on a copy of the model, which itself stays as it is; see `RangeTest`.

        Args:
            train: as for `fit`.
            lowest: rate of the first optimizer step.
            highest: of the last; it ends before where the loss explodes.
            steps: optimizer steps.

        Raises:
            ValueError: if the rates are not rising from above 0, or there are less than 10 steps.
        """
        self._prepare_statistics(train)
        return range_test(self.model, self.config, self._loader(train, training=True), lowest, highest, steps)

    def evaluate(self, data: Data, *, protocol: str | Sequence[str] | None = None) -> dict[str, float]:
        """Return the metrics over ``data``, ``{"seg/miou": ..., ...}``, fractions in [0, 1].

        Several processes share the images, and all return the same.

        Args:
            data: as ``val`` of `fit`.
            protocol: one name or several, whose numbers are added by the name ``<task>/<protocol>/<number>``; see
                `mtvision.evaluate`.

        Raises:
            ConfigError: if a protocol scores none of the model's tasks.
            DataError: if the data set's classes are not those of the model, or a truth cannot be scored.
        """
        accelerator = build_accelerator(self.config)
        self.model.warn_if_pending()
        loader = self._loader(data, training=False)
        self.model.to(accelerator.device)
        processes.spread_buffers(self.model)
        with prepared(self.model, accelerator, training=False), self.reporter.bar("evaluate", len(loader)) as bar:
            batches = (batch.to(accelerator.device) for batch in bar.over(loader))
            return score(self.model, batches, shared=True, protocol=protocol).metrics

    def call(self, hook: str, *values: Any) -> None:
        """Call a hook of all callbacks."""
        for callback in self.callbacks:
            getattr(callback, hook)(self, *values)

    def _loader(self, data: Data, *, training: bool) -> DataLoader[Batch]:
        check_classes(self.model, _samples(data))
        loader = data if isinstance(data, DataLoader) else build_loader(self.config, data, training=training)
        if processes.number() > 1 and not isinstance(loader, Loader):
            raise TrainingError("several processes share what mtv.build_loader makes: give a data set or such a loader")
        if isinstance(loader, Loader):
            loader.share(processes.rank(), processes.number())
        return loader

    def _prepare_statistics(self, train: Data) -> None:
        skip_bad = self.config.data.on_error == "skip"
        if self.model.normalization.pending:
            statistics = compute_statistics(_samples(train), skip_bad=skip_bad)
            self.model.normalization.set_statistics(statistics.mean or (), statistics.std or ())
        fill_class_counts(self.model, _samples(train), skip_bad=skip_bad)


def _samples(data: Data) -> Any:
    """Return the untransformed data set, also of a loader."""
    if not isinstance(data, DataLoader):
        return data
    transformed: Any = data.dataset
    known = isinstance(transformed, AugmentedDataset | TransformedDataset | PairedDataset)
    return transformed.dataset if known else transformed
