"""Keyed randomness: what happens to a sample depends on (seed, epoch, index) and on nothing else."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from mtvision.data.base import Transform
from mtvision.data.checking.check import checked_reader
from mtvision.data.loading.orders import Uniform, occurrences
from mtvision.data.reading import Item
from mtvision.errors import DataError
from mtvision.types import Sample


class SampleKey(NamedTuple):
    """Which sample in which epoch. The epoch travels with the index, so no worker can hold a stale copy of it.

    Attributes:
        epoch: counted from 0.
        index: in the data set.
        size: ``(H, W)`` that the whole batch has; None: the one that the loader was made with.
        repeat: how often the index came before in the epoch; each time the augmentation is another.
    """

    epoch: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs of a key
    size: tuple[int, int] | None = None
    repeat: int = 0


class KeyedSampler(Sampler[SampleKey]):
    """Yield a `SampleKey` for every sample, in an order that is a function of (seed, epoch).

    Args:
        num_samples: length of the data set.
        seed: of the order.
        shuffle: False: in the order of the data set.
        order: which indices an epoch has, from (seed, epoch), ``num_samples`` of them; None: each once, shuffled.

    Example:
        >>> [key.index for key in KeyedSampler(2, seed=0, shuffle=False)]
        [0, 1]
    """

    def __init__(
        self,
        num_samples: int,
        seed: int,
        shuffle: bool = True,
        order: Callable[[int, int], NDArray[np.int64]] | None = None,
    ) -> None:
        self.num_samples = num_samples
        self.seed = seed
        self.order = order if order is not None or not shuffle else Uniform(num_samples).order
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0, whose order and augmentation come next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_samples

    def __iter__(self) -> Iterator[SampleKey]:
        epoch = self.epoch
        order = np.arange(self.num_samples)
        if self.order is not None:
            order = _checked_order(self.order(self.seed, epoch), self.num_samples)
        return (
            SampleKey(epoch, index, repeat=repeat)
            for index, repeat in zip(order.tolist(), occurrences(order).tolist(), strict=True)
        )


def _checked_order(order: object, num_samples: int) -> NDArray[np.int64]:
    """Return the indices of an epoch, which may come from a user's code."""
    indices = np.asarray(order)
    is_whole = indices.shape == (num_samples,) and indices.dtype.kind in "iu"
    if not is_whole or (num_samples and not 0 <= indices.min() <= indices.max() < num_samples):
        raise DataError(
            f"data.sampler: order() must return {num_samples} indices from 0 to {num_samples - 1}, got "
            f"{indices.dtype} {indices.shape}"
        )
    return indices.astype(np.int64)


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
        sizes: image sizes of which each batch gets one, a function of (seed, epoch, batch); empty: all the same.

    Example:
        >>> batches = KeyedBatchSampler(KeyedSampler(4, seed=0, shuffle=False), batch_size=2)
        >>> batches.share(1, 2)
        >>> [[key.index for key in batch] for batch in batches]
        [[1], [3]]
    """

    def __init__(
        self,
        order: KeyedSampler,
        batch_size: int,
        drop_last: bool = False,
        sizes: Sequence[tuple[int, int]] = (),
    ) -> None:
        self.order = order
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.sizes = tuple(sizes)
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
            own = whole[slice(*_part(len(whole), self.rank, self.num_processes))]
            size = self._size(batch)
            yield [key._replace(size=size) for key in own] if size is not None else own

    def _size(self, batch: int) -> tuple[int, int] | None:
        if not self.sizes:
            return None
        # The 1 keeps it apart from the order, which is drawn from (seed, epoch).
        rng = np.random.default_rng(np.random.SeedSequence([self.order.seed, self.order.epoch, batch, 1]))
        return self.sizes[int(rng.integers(len(self.sizes)))]


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


def sample_seed(seed: int, epoch: int, index: int, repeat: int = 0) -> int:
    """Return the 64-bit seed of one sample in one epoch; different keys give unrelated streams."""
    further = [1 + repeat] if repeat else []  # from 2 on: an appended 1 is that of the batches' sizes
    high, low = np.random.SeedSequence([seed, epoch, index, *further]).generate_state(2)
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
        key = key if isinstance(key, SampleKey) else SampleKey(0, key)
        if key.size not in (None, self.image_size):
            raise DataError(f"a batch of size {key.size} is wanted, but the transform makes {self.image_size}")
        sample = self.transform(self._read(key.index), sample_seed(self.seed, key.epoch, key.index, key.repeat))
        return checked_size(sample, self.image_size)


def checked_size(sample: Sample, size: tuple[int, int] | None) -> Sample:
    """Return an augmented sample as it is.

    Args:
        sample: to be looked at.
        size: ``(H, W)`` that it must have; None: any.

    Raises:
        DataError: if its image has another size, or one of its maps another one than the image.
    """
    own = sample.image.shape[:2]
    if size is not None and own != size:
        raise DataError(
            f"image '{sample.image_id}' is {own} after augmentation, not {size}: "
            "an augmentation must return images of the image_size that it is made with"
        )
    for name, values in sample.maps.items():
        if values is not None and values.shape[:2] != own:
            raise DataError(
                f"image '{sample.image_id}' is {own} after augmentation, but its map '{name}' {values.shape[:2]}: "
                "an augmentation must move the pixels of the maps as it does those of the image"
            )
    return sample


class PairedDataset(Dataset[Item]):
    """Samples after a transform, each with the sample as it was, for scoring at the original size.

    Args:
        dataset: any sequence of samples; one that does not check itself is checked as it is read.
        transform: called with a sample and the seed 0.
        skip_bad: whether an item that cannot be read is left out and named, instead of raised.

    Raises:
        DataError: when an item is read that breaks the contract of `Sample`, unless ``skip_bad``.
    """

    def __init__(self, dataset: Sequence[Sample], transform: Transform, skip_bad: bool = False) -> None:
        self.dataset = dataset
        self.transform = transform
        self.skip_bad = skip_bad
        self._read = checked_reader(dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Item:
        """Return the transformed sample and the original."""
        try:
            original = self._read(index)
        except DataError as error:
            if not self.skip_bad:
                raise
            return Item(None, None, (str(error),))
        return Item(self.transform(original, 0), original)
