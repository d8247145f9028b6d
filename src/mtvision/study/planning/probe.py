"""What a run will cost, measured on a few batches."""

import operator
import time
from collections.abc import Sequence
from dataclasses import dataclass

from mtvision.config import Config
from mtvision.data.base import SampleDataset
from mtvision.data.loading.loader import build_dataset
from mtvision.factory import build_model, resolve_classes
from mtvision.training.trainer import Trainer
from mtvision.types import Sample

_BATCHES, _EPOCHS = 2, 3  # of which the first warms up


@dataclass(frozen=True)
class Probe:
    """What one run of a config takes on this machine, by a short measurement.

    Attributes:
        seconds_per_epoch: of training and validation.
        epochs: of the run.
        measured: seconds that the measurement itself took.
    """

    seconds_per_epoch: float
    epochs: int
    measured: float

    @property
    def seconds(self) -> float:
        """Of the whole run."""
        return self.seconds_per_epoch * self.epochs


def probe(config: Config) -> Probe:
    """Train and validate on a few batches, and scale up to the config's data and epochs.

    Args:
        config: of a run; nothing of it is written.

    Raises:
        ConfigError: if the config cannot be trained.
        DataError: if the data cannot be read.
    """
    began = time.perf_counter()
    train, val = build_dataset(config, "train"), build_dataset(config, "val")
    short = resolve_classes(config, train.classes).replace(
        {
            "system.epochs": _EPOCHS,
            "system.run_dir": None,
            "system.trackers": [],
            "training.patience": None,
            "data.calm_epochs": 0,  # all but the last epochs are not calm
            "data.cache": False,  # the first run writes it, and a probe leaves nothing
        }
    )
    size = short.training.batch_size
    number = _BATCHES * short.training.accumulate * (size if isinstance(size, int) else 1)
    some, few = _first(train, number), _first(val, number)
    trainer = Trainer(build_model(short, classes=train.classes), short, progress=False)
    seconds = trainer.fit(some).column("seconds")[1:]
    trainer.evaluate(few)
    start = time.perf_counter()
    trainer.evaluate(few)
    validation = (time.perf_counter() - start) / len(few) * len(val)
    training = sum(seconds) / len(seconds) / len(some) * len(train)
    return Probe(training + validation, config.system.epochs, time.perf_counter() - began)


def _first(data: Sequence[Sample], number: int) -> Sequence[Sample]:
    """Return the first samples of a data set."""
    return data[:number] if isinstance(data, SampleDataset) else _First(data, number)


class _First(SampleDataset):
    """The first samples of any other sequence."""

    def __init__(self, data: Sequence[Sample], number: int) -> None:
        self.data, self.number = data, min(number, len(data))
        classes = getattr(data, "classes", None)
        if classes is not None:
            self.classes = classes

    def __len__(self) -> int:
        return self.number

    def sample(self, index: int) -> Sample:
        return self.data[operator.index(index)]


def duration(seconds: float) -> str:
    """Return a duration for a person.

    Example:
        >>> duration(40), duration(150), duration(9000)
        ('40 s', '2 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
