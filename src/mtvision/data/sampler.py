"""Keyed randomness: what happens to a sample depends on (seed, epoch, index) and on nothing else."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from torch.utils.data import Dataset, Sampler

from mtvision.data.check import checked_reader
from mtvision.errors import DataError
from mtvision.types import Sample

Transform: TypeAlias = Callable[[Sample, int], Sample]


class SampleKey(NamedTuple):
    """Which sample in which epoch. The epoch travels with the index, so no worker can hold a stale copy of it."""

    epoch: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs of a key


class KeyedSampler(Sampler[SampleKey]):
    """Yield a `SampleKey` for every sample, in an order that is a function of (seed, epoch).

    Args:
        num_samples: length of the data set.
        seed: of the order.
        shuffle: False: in the order of the data set.

    Example:
        >>> list(KeyedSampler(2, seed=0, shuffle=False))
        [SampleKey(epoch=0, index=0), SampleKey(epoch=0, index=1)]
    """

    def __init__(self, num_samples: int, seed: int, shuffle: bool = True) -> None:
        self.num_samples = num_samples
        self.seed = seed
        self.shuffle = shuffle
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0, whose order and augmentation come next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_samples

    def __iter__(self) -> Iterator[SampleKey]:
        epoch = self.epoch
        order = np.arange(self.num_samples)
        if self.shuffle:
            order = np.random.default_rng(np.random.SeedSequence([self.seed, epoch])).permutation(self.num_samples)
        return (SampleKey(epoch, int(index)) for index in order)


class Shared:
    """What one of several processes takes of the batches; a process alone takes all."""

    rank = 0
    num_processes = 1

    def share(self, rank: int, num_processes: int) -> None:
        """Take the part of process ``rank`` of ``num_processes``."""
        self.rank, self.num_processes = rank, num_processes


class KeyedBatchSampler(Shared, Sampler[list[SampleKey]]):
    """Cut an epoch's order into batches; of several processes each takes its part of every batch.

    So a batch is the same whether one process works on it or four. Resuming inside an epoch is skipping batches.

    Args:
        order: of the samples.
        batch_size: samples in a batch, over all processes.
        drop_last: whether an incomplete last batch is left out.

    Example:
        >>> batches = KeyedBatchSampler(KeyedSampler(4, seed=0, shuffle=False), batch_size=2)
        >>> batches.share(1, 2)
        >>> list(batches)
        [[SampleKey(epoch=0, index=1)], [SampleKey(epoch=0, index=3)]]
    """

    def __init__(self, order: KeyedSampler, batch_size: int, drop_last: bool = False) -> None:
        self.order = order
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.start = 0

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch, counted from 0, and the first of its batches that comes."""
        self.order.set_epoch(epoch)
        self.start = start

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        full, rest = divmod(len(self.order), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        keys = list(self.order)
        for batch in range(self.start, len(self)):
            whole = keys[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield whole[slice(*_part(len(whole), self.rank, self.num_processes))]


class BlockBatchSampler(Shared, Sampler[list[int]]):
    """Cut a data set into batches in its order; of several processes each takes a block of whole batches.

    The blocks follow one another, so that what is gathered from the processes in turn stands in the order of one
    process, and every sample is there exactly once. The last processes may have one batch less, or none.

    Args:
        num_samples: length of the data set.
        batch_size: samples in a batch.

    Example:
        >>> list(BlockBatchSampler(5, batch_size=2))
        [[0, 1], [2, 3], [4]]
    """

    def __init__(self, num_samples: int, batch_size: int) -> None:
        self.num_samples = num_samples
        self.batch_size = batch_size

    def _batches(self) -> range:
        number = -(-self.num_samples // self.batch_size)
        return range(*_part(number, self.rank, self.num_processes))

    def __len__(self) -> int:
        """Return the number of this process's batches."""
        return len(self._batches())

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._batches():
            yield list(range(batch * self.batch_size, min((batch + 1) * self.batch_size, self.num_samples)))


def _part(length: int, rank: int, num_processes: int) -> tuple[int, int]:
    """Return where a process's part of a list begins and ends; the parts differ by one at most, first ones longer."""
    size, rest = divmod(length, num_processes)
    begin = rank * size + min(rank, rest)
    return begin, begin + size + (rank < rest)


def sample_seed(seed: int, epoch: int, index: int) -> int:
    """Return the 64-bit seed of one sample in one epoch; different keys give unrelated streams."""
    high, low = np.random.SeedSequence([seed, epoch, index]).generate_state(2)
    return int(high) << 32 | int(low)


class TransformedDataset(Dataset[Sample]):
    """Samples of a data set after a transform that is seeded by (seed, epoch, index).

    Args:
        dataset: any sequence of samples; one that does not check itself is checked as it is read.
        transform: called with a sample and a seed.
        seed: of the run.
        image_size: ``(H, W)`` that the transform must give; None: any.

    Raises:
        DataError: when an item is read that breaks the contract of `Sample`, or its image or one of its maps comes out
            in another size.
    """

    def __init__(
        self, dataset: Sequence[Sample], transform: Transform, seed: int, image_size: tuple[int, int] | None = None
    ) -> None:
        self.dataset = dataset
        self.image_size = image_size
        self.transform = transform
        self.seed = seed
        self._read = checked_reader(dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: SampleKey | int) -> Sample:
        """Return the transformed sample of a key; a plain index means epoch 0."""
        epoch, index = key if isinstance(key, SampleKey) else SampleKey(0, key)
        sample = self.transform(self._read(index), sample_seed(self.seed, epoch, index))
        if self.image_size is not None and sample.image.shape[:2] != self.image_size:
            raise DataError(
                f"image '{sample.image_id}' is {sample.image.shape[:2]} after augmentation, not {self.image_size}: "
                "an augmentation must return images of the image_size that it is made with"
            )
        _check_maps(sample)
        return sample


def _check_maps(sample: Sample) -> None:
    size = sample.image.shape[:2]
    for name, values in sample.maps.items():
        if values is not None and values.shape[:2] != size:
            raise DataError(
                f"image '{sample.image_id}' is {size} after augmentation, but its map '{name}' {values.shape[:2]}: "
                "an augmentation must move the pixels of the maps as it does those of the image"
            )


class PairedDataset(Dataset[tuple[Sample, Sample]]):
    """Samples after a transform, each with the sample as it was, for scoring at the original size.

    Raises:
        DataError: when an item is read that breaks the contract of `Sample`.
    """

    def __init__(self, dataset: Sequence[Sample], transform: Transform) -> None:
        self.dataset = dataset
        self.transform = transform
        self._read = checked_reader(dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Sample, Sample]:
        """Return the transformed sample and the original."""
        original = self._read(index)
        return self.transform(original, 0), original
