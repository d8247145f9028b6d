"""From a config and a data set to batches."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from mtvision.config import Config, as_config
from mtvision.data.augment import resize_only
from mtvision.data.base import SampleDataset
from mtvision.data.check import annotation_name_problems, classes_problems
from mtvision.data.sampler import (
    BlockBatchSampler,
    KeyedBatchSampler,
    KeyedSampler,
    PairedDataset,
    Shared,
    TransformedDataset,
)
from mtvision.errors import ConfigError, DataError
from mtvision.registries import AUGMENTATIONS, DATASETS
from mtvision.types import VOID, Batch, DetectionTarget, Sample

logger = logging.getLogger(__name__)

ConfigLike: TypeAlias = Config | Mapping[str, Any] | str | Path


class Loader(DataLoader[Any]):
    """A ``DataLoader`` that yields `Batch`."""

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
    return cast(SampleDataset, dataset)


def build_loader(cfg: ConfigLike, dataset: Sequence[Sample], *, training: bool) -> Loader:
    """Build a loader that yields `Batch`.

    In training the order is shuffled and ``data.augmentation_level`` acts, both as functions of (``system.seed``,
    epoch, index) alone: call ``loader.set_epoch(epoch)`` before each epoch. An incomplete last batch is left
    out where at least two full ones remain, or where it has a single image, which batch norm cannot take. In evaluation
    the order is kept, images are only resized, none is left out, and ``truths`` holds the annotations at the original
    size.

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


def _training_loader(config: Config, dataset: Sequence[Sample]) -> Loader:
    seed = config.system.seed
    transform = AUGMENTATIONS.build(config.data.augmentation_level, config.data.image_size)
    return Loader(
        TransformedDataset(dataset, transform, seed, config.data.image_size),
        batch_sampler=KeyedBatchSampler(
            KeyedSampler(len(dataset), seed),
            _batch_size(config),
            drop_last=_drops_last(len(dataset), _batch_size(config)),
        ),
        collate_fn=collate,
        **_common_options(config),
    )


def _evaluation_loader(config: Config, dataset: Sequence[Sample]) -> Loader:
    pairs = PairedDataset(dataset, resize_only(config.data.image_size))
    batches = BlockBatchSampler(len(dataset), _batch_size(config))
    return Loader(pairs, batch_sampler=batches, collate_fn=_collate_pairs, **_common_options(config))


def _common_options(config: Config) -> dict[str, Any]:
    workers = config.data.num_workers
    return {
        "num_workers": workers,
        "persistent_workers": workers > 0,
        "worker_init_fn": _prepare_worker,
        # else each iterator draws from torch's global generator, out of which dropout draws too: a run would depend on
        # the number of workers and on where it was resumed
        "generator": torch.Generator().manual_seed(config.system.seed),
        "pin_memory": torch.cuda.is_available() and config.system.device != "cpu",
    }


def collate(samples: Sequence[Sample], originals: Sequence[Sample] = ()) -> Batch:
    """Join samples of one size to a `Batch`.

    Args:
        samples: as the network gets them.
        originals: the same samples untransformed, for ``truths``; empty in training.

    Raises:
        DataError: if a map or value has the name of a standard task, or both have the same name.
    """
    for sample in samples:
        for problem in annotation_name_problems(sample):
            raise DataError(f"image '{sample.image_id}': {problem}")
    return Batch(
        images=torch.stack([_image_tensor(sample.image) for sample in samples]),  # (N, 3, H, W)
        targets={
            "seg": torch.stack([_mask_target(sample) for sample in samples]),  # (N, H, W)
            "det": [_detection_target(sample) for sample in samples],
            **_further_targets(samples),
        },
        image_ids=[sample.image_id for sample in samples],
        image_sizes=[sample.original_size for sample in samples],
        truths=_truths(originals) if originals else {},
    )


def _collate_pairs(pairs: Sequence[tuple[Sample, Sample]]) -> Batch:
    return collate([transformed for transformed, _ in pairs], [original for _, original in pairs])


def _truths(originals: Sequence[Sample]) -> dict[str, list[Any]]:
    masks = [None if sample.mask is None else torch.from_numpy(sample.mask.astype(np.int64)) for sample in originals]
    objects = [_detection_target(sample) for sample in originals]
    return {"seg": masks, "det": objects, **_further_targets(originals)}


def _further_targets(samples: Sequence[Sample]) -> dict[str, list[Tensor | None]]:
    """Return the maps and values by name, for each a list with an entry for each image."""
    targets: dict[str, list[Tensor | None]] = {}
    for index, sample in enumerate(samples):
        for name, values in sample.maps.items():
            # (K, H, W): as images, channels come first in tensors
            first = values.transpose(2, 0, 1) if values is not None and values.ndim == 3 else values
            targets.setdefault(name, [None] * len(samples))[index] = _tensor(first)
        for name, values in sample.values.items():
            targets.setdefault(name, [None] * len(samples))[index] = _tensor(values)
    return targets


def _tensor(values: NDArray[Any] | None) -> Tensor | None:
    if values is None:
        return None
    kinds: dict[str, Any] = {"f": np.float32, "b": np.bool_}
    return torch.from_numpy(np.array(values, dtype=kinds.get(values.dtype.kind, np.int64), order="C"))


def _image_tensor(image: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))  # (3, H, W)


def _mask_target(sample: Sample) -> Tensor:
    if sample.mask is None:
        return torch.full(sample.image.shape[:2], VOID, dtype=torch.int64)
    return torch.from_numpy(sample.mask.astype(np.int64))


def _detection_target(sample: Sample) -> DetectionTarget | None:
    if sample.boxes is None or sample.labels is None or sample.difficult is None:
        return None
    return DetectionTarget(
        boxes=torch.from_numpy(sample.boxes.astype(np.float32)),
        labels=torch.from_numpy(sample.labels.astype(np.int64)),
        difficult=torch.from_numpy(sample.difficult.astype(np.bool_)),
    )


def _drops_last(num_samples: int, batch_size: int) -> bool:
    full, rest = divmod(num_samples, batch_size)
    return full >= 2 or (full == 1 and rest == 1)


def _prepare_worker(worker: int) -> None:
    """Keep OpenCV to one thread a worker, and a worker out of reach of what is meant for the run.

    As many threads as cores in each worker would only wait for one another. Ctrl-C and SIGTERM often go to all
    processes of a group: workers that died of it would take the run down before it is saved. They end with the run's.
    """
    import cv2

    cv2.setNumThreads(0)
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    logger.debug("loader worker %d decodes with one thread", worker)
