"""From a config and a data set to batches."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch
from torch.utils.data import DataLoader

from mtvision.config import Config, as_config
from mtvision.data.augmentation.mixing import Mix
from mtvision.data.augmentation.presets import resize_only
from mtvision.data.base import SampleDataset, Transform
from mtvision.data.checking.check import classes_problems
from mtvision.data.checking.exclusion import exclude
from mtvision.data.loading.augmented import AugmentedDataset, Recipe
from mtvision.data.loading.collating import collate_items
from mtvision.data.loading.sampler import (
    BlockBatchSampler,
    KeyedBatchSampler,
    KeyedSampler,
    PairedDataset,
    Shared,
)
from mtvision.data.loading.training_reader import prepare_worker, training_reader
from mtvision.data.loading.workers import loads_for_cuda, worker_count
from mtvision.errors import ConfigError, DataError
from mtvision.registries import AUGMENTATIONS, DATASETS, MIXES, SAMPLERS
from mtvision.registry import Component
from mtvision.types import Batch, Sample

logger = logging.getLogger(__name__)

_STRONG_LEVELS, _CALM_LEVEL = ("heavy", "robust", "large_scale_jitter"), "basic"
_SIZE_STEP = 32

ConfigLike: TypeAlias = Config | Mapping[str, Any] | str | Path


class Loader(DataLoader[Any]):
    """A ``DataLoader`` that yields `Batch`."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """Begin to read, and return the batches; masks that come from workers as bytes become int64, but for CUDA."""
        batches = super().__iter__()
        return batches if self.pin_memory or not self.num_workers else map(partial(Batch.to, device="cpu"), batches)

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch, counted from 0, whose order and augmentation come next; without effect in evaluation.

        Args:
            epoch: counted from 0.
            start: the first batch of it that comes; those before it are not even read.
        """
        if isinstance(self.batch_sampler, KeyedBatchSampler):
            self.batch_sampler.set_epoch(epoch, start)

    @property
    def can_skip(self) -> bool:
        """Whether it can begin within an epoch, as one for training can."""
        return isinstance(self.batch_sampler, KeyedBatchSampler)

    def share(self, rank: int, num_processes: int) -> None:
        """Yield only what process ``rank`` of ``num_processes`` works on.

        In training that is its part of every batch, in evaluation a block of whole batches.

        Raises:
            DataError: if a batch in training has fewer images than there are processes.
        """
        batches = self.batch_sampler
        if isinstance(batches, KeyedBatchSampler):
            rest = len(batches.order) % batches.batch_size
            last = batches.batch_size if batches.drop_last or rest == 0 else rest
            least = min(last, batches.batch_size, len(batches.order))
            if least < num_processes:
                raise DataError(
                    f"a batch of {least} images cannot be shared by {num_processes} processes: choose a larger "
                    "training.batch_size (it counts the images of all processes)"
                )
        cast(Shared, batches).share(rank, num_processes)


def build_dataset(cfg: ConfigLike, split: str = "train") -> SampleDataset:
    """Build the data set that ``data.dataset`` and ``data.dataset_root`` name.

    Args:
        cfg: a config, a mapping of its sections, or the path of a YAML file.
        split: ``train``, ``val`` or ``test``.

    Raises:
        ConfigError: for any problem of the config.
        DataError: if the data set cannot be opened, lacks the split, or does not tell its ``classes``.

    Example:
        >>> dataset = build_dataset({"data": {"dataset": {"name": "shapes", "num_images": 8}}}, split="val")
        >>> len(dataset)
        2
    """
    data = as_config(cfg).data
    dataset = DATASETS.build(data.dataset, data.dataset_root, split)
    if not hasattr(dataset, "classes"):
        raise DataError(f"data set '{data.dataset.name}' has no attribute 'classes': an mtvision.Classes is expected")
    for problem in classes_problems(dataset.classes):
        raise DataError(f"data set '{data.dataset.name}': {problem}")
    whole = cast(SampleDataset, dataset)
    return whole if data.exclude is None else exclude(whole, data.exclude)


def build_loader(cfg: ConfigLike, dataset: Sequence[Sample], *, training: bool) -> Loader:
    """Build a loader that yields `Batch`.

    In training the order is shuffled and ``data.augmentation_level`` acts, both as functions of (``system.seed``,
    epoch, index) alone: call ``loader.set_epoch(epoch)`` before each epoch. An incomplete last batch is left
    out where at least two full ones remain, or where it has a single image, which batch norm cannot take. In evaluation
    the order is kept, images are only resized, none is left out, and ``truths`` holds the annotations at the original
    size. Call ``batch.to(device)`` before masks are used: on their way to a CUDA device they are bytes.

    Args:
        cfg: a config, a mapping of its sections, or the path of a YAML file.
        dataset: any object with ``__len__`` and ``__getitem__(int) -> Sample``.
        training: whether the batches are for training.

    Raises:
        ConfigError: for any problem of the config.
        DataError: if the data set is empty; while loading, if an item cannot be read or breaks the contract of
            `Sample` (a data set that does not check itself is checked as it is read).

    Example:
        >>> config = {"data": {"dataset": {"name": "shapes", "num_images": 8}, "image_size": 64}}
        >>> batch = next(iter(build_loader(config, build_dataset(config), training=False)))
        >>> batch.images.shape
        torch.Size([8, 3, 64, 64])
    """
    config = as_config(cfg)
    if len(dataset) == 0:
        raise DataError("the data set is empty: there is nothing to load")
    return _training_loader(config, dataset) if training else _evaluation_loader(config, dataset)


def _batch_size(config: Config) -> int:
    size = config.training.batch_size
    if size == "auto":
        raise ConfigError(["training.batch_size: 'auto' is found by mtv.train; give a number here"])
    return size


def training_samples(config: Config, dataset: Sequence[Sample]) -> AugmentedDataset:
    """Return the samples of training as `build_loader` reads them, for whoever wants to look at them one by one.

    Raises:
        DataError: if the data set is empty.
    """
    if len(dataset) == 0:
        raise DataError("the data set is empty: there is nothing to load")
    size, recipe = config.data.image_size, _recipe(config)
    largest = max(training_sizes(config), default=size)  # (H, W) grow together
    parts = [*(make(size) for make in (recipe.augmentation, recipe.calm) if make is not None), *recipe.mixes]
    resized = all(getattr(part, "resizes_first", isinstance(part, Mix)) for part in parts)
    with_instances = any(getattr(part, "uses_instances", True) for part in parts)
    read = training_reader(config, dataset, largest if resized else None, with_instances)
    return AugmentedDataset(dataset, read, recipe, config.system.seed, size)


def training_sizes(config: Config) -> list[tuple[int, int]]:
    """Return the sizes that the batches of training have, none where all have ``data.image_size``.

    Raises:
        ConfigError: if ``data.multi_scale`` leaves but one size.
    """
    settings = config.data
    if settings.multi_scale is None:
        return []
    sizes = scaled_sizes(settings.image_size, settings.multi_scale)
    if len(sizes) < 2:
        low, high = settings.multi_scale
        raise ConfigError(
            [
                f"data.multi_scale: between {low:g} and {high:g} times {settings.image_size} there are not two sizes "
                f"in steps of {_SIZE_STEP} pixels; widen it, or leave it out"
            ]
        )
    return sizes


def _training_loader(config: Config, dataset: Sequence[Sample]) -> Loader:
    seed, settings, batch_size = config.system.seed, config.data, _batch_size(config)
    order = SAMPLERS.build(settings.sampler, dataset, batch_size).order
    return Loader(
        training_samples(config, dataset),
        batch_sampler=KeyedBatchSampler(
            KeyedSampler(len(dataset), seed, order=order),
            batch_size,
            drop_last=_drops_last(len(dataset), batch_size),
            sizes=training_sizes(config),
        ),
        **_common_options(config),
    )


def _recipe(config: Config) -> Recipe:
    """Return what the config says is done to samples in training."""
    settings, epochs = config.data, config.system.epochs
    level, calm = settings.augmentation_level, None
    mixes = tuple(MIXES.build(mix) for mix in settings.mixes)
    if settings.calm_epochs:
        calm = Component(_CALM_LEVEL) if level.name in _STRONG_LEVELS else level
        if calm == level and not mixes:
            logger.warning(
                "data.calm_epochs does nothing: there are no data.mixes, and '%s' is none of %s",
                *(level.name, ", ".join(_STRONG_LEVELS)),
            )
    return Recipe(
        augmentation=partial(_build_augmentation, level),
        mixes=mixes,
        calm_from=max(epochs - settings.calm_epochs, 0) if calm is not None else None,
        calm=None if calm is None else partial(_build_augmentation, calm),
    )


def _build_augmentation(level: Component, image_size: tuple[int, int]) -> Transform:
    transform: Transform = AUGMENTATIONS.build(level, image_size)
    return transform


def scaled_sizes(image_size: tuple[int, int], scales: tuple[float, float]) -> list[tuple[int, int]]:
    """Return the sizes (H, W) between two factors of an image size, in steps of 32 pixels of the shorter side.

    Both sides are multiples of 32, the stride of the coarsest features, and the ratio stays as near as that allows.

    Example:
        >>> scaled_sizes((128, 256), (0.75, 1.25))
        [(96, 192), (128, 256), (160, 320)]
    """
    short = min(image_size)
    first, last = (short * scale / _SIZE_STEP for scale in scales)
    sides = [_SIZE_STEP * number for number in range(max(math.ceil(first - 1e-9), 1), math.floor(last + 1e-9) + 1)]
    sizes = [tuple(max(round(side * own / short / _SIZE_STEP), 1) * _SIZE_STEP for own in image_size) for side in sides]
    return list(dict.fromkeys((height, width) for height, width in sizes))


def _evaluation_loader(config: Config, dataset: Sequence[Sample]) -> Loader:
    skip = config.data.on_error == "skip"
    pairs = PairedDataset(dataset, resize_only(config.data.image_size), skip_bad=skip)
    batches = BlockBatchSampler(len(dataset), _batch_size(config))
    return Loader(pairs, batch_sampler=batches, **_common_options(config))


def _common_options(config: Config) -> dict[str, Any]:
    workers, for_cuda = worker_count(config), loads_for_cuda(config)
    return {
        "collate_fn": partial(collate_items, small_masks=for_cuda or workers > 0),
        "num_workers": workers,
        "persistent_workers": workers > 0,
        "worker_init_fn": prepare_worker,
        # else each iterator draws from torch's global generator, out of which dropout draws too: a run would depend on
        # the number of workers and on where it was resumed
        "generator": torch.Generator().manual_seed(config.system.seed),
        "pin_memory": for_cuda,
    }


def _drops_last(num_samples: int, batch_size: int) -> bool:
    full, rest = divmod(num_samples, batch_size)
    return full >= 2 or (full == 1 and rest == 1)
