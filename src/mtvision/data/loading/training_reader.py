"""How training reads samples, as the config says: at one size, from the cache, and around items that cannot be read."""

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch.utils.data import DataLoader, Dataset

from mtvision.config import Config
from mtvision.data.base import reads_resized
from mtvision.data.checking.check import checked_reader
from mtvision.data.geometry import resize
from mtvision.data.loading.sample_cache import CachedReader, cache_folder, open_cache, read_or_problem, write_cache
from mtvision.data.loading.workers import worker_count
from mtvision.data.progress_bar import progress_bar
from mtvision.data.reading import Reader, SubstitutingReader
from mtvision.data.statistics_cache import cache_root
from mtvision.errors import ConfigError, DataError
from mtvision.types import Sample

logger = logging.getLogger(__name__)

Size: TypeAlias = tuple[int, int]


class ResizedReader:
    """Reads samples stretched to one size; a data set that can decode at less than full size is asked to.

    Args:
        dataset: of samples.
        size: ``(H, W)``.
        with_instances: False: instance maps may be left out.
    """

    def __init__(self, dataset: Sequence[Sample], size: Size, with_instances: bool = True) -> None:
        self.size = size
        self.with_instances = with_instances
        self._dataset: Any = dataset
        self._decodes_at_size = reads_resized(dataset)
        self._read = checked_reader(dataset)

    def __call__(self, index: int) -> Sample:
        """Return the sample at an index."""
        if self._decodes_at_size:
            sample: Sample = self._dataset.sample_at(index, self.size, with_instances=self.with_instances)
            return sample
        return resize(self._read(index), self.size)


def training_reader(
    config: Config, dataset: Sequence[Sample], size: Size | None, with_instances: bool = True
) -> Reader:
    """Return what reads the samples of training.

    Args:
        config: its ``data`` section.
        dataset: of samples.
        size: ``(H, W)`` to read them at, where that is all that the augmentation looks at; None: as they are stored.
        with_instances: False: instance maps, which nothing looks at, may be left out.

    Raises:
        ConfigError: if they are to be cached, but the augmentation looks at more.
        DataError: if they are to be cached, but the data set has no fingerprint, an item cannot be read and
            ``data.on_error`` is ``raise``, or the cache cannot be written.
    """
    settings = config.data
    if size is None and settings.cache:
        raise ConfigError(
            [
                f"data.cache: '{settings.augmentation_level.name}' looks at images as they are stored, the cache has "
                "them at data.image_size; choose another data.augmentation_level, or leave data.cache out"
            ]
        )
    read: Reader = checked_reader(dataset) if size is None else ResizedReader(dataset, size, with_instances)
    if size is not None and settings.cache:
        root = cache_root() if settings.cache is True else Path(settings.cache).expanduser()
        folder = cache_folder(dataset, size, root, with_instances)
        read = _cached(read, len(dataset), folder, worker_count(config), settings.on_error == "skip")
    return SubstitutingReader(read, len(dataset)) if settings.on_error == "skip" else read


def _cached(read: Reader, number: int, folder: Path, num_workers: int, skip_bad: bool) -> CachedReader:
    found = open_cache(folder, number)
    if found is None:
        logger.info("caching %d samples in %s", number, folder)
        found = write_cache(folder, _samples(read, number, num_workers, skip_bad))
    return found


def _samples(read: Reader, number: int, num_workers: int, skip_bad: bool) -> Iterator[Sample | str]:
    """Yield all samples, read by workers where there are any; a sentence for one that cannot be read."""
    items: Any = DataLoader(
        _Items(read, number),
        batch_size=None,
        num_workers=num_workers,
        worker_init_fn=prepare_worker,
        generator=torch.Generator(),  # else it draws from the global one, out of which dropout draws too
    )
    with progress_bar("cache", number, None) as advance:
        for item in items:
            if isinstance(item, str) and not skip_bad:
                raise DataError(item)
            yield item
            advance()


class _Items(Dataset[Any]):
    def __init__(self, read: Reader, number: int) -> None:
        self._read, self._number = read, number

    def __len__(self) -> int:
        return self._number

    def __getitem__(self, index: int) -> Sample | str:
        return read_or_problem(self._read, index)


def prepare_worker(worker: int) -> None:
    """Keep OpenCV to one thread a worker, and a worker out of reach of what is meant for the run.

    As many threads as cores in each worker would only wait for one another. Ctrl-C and SIGTERM often go to all
    processes of a group: workers that died of it would take the run down before it is saved. They end with the run's.
    """
    import cv2

    cv2.setNumThreads(0)
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    logger.debug("loader worker %d decodes with one thread", worker)
