"""The samples of training: read, mixed, augmented; each a function of (seed, epoch, index) and of nothing else."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from torch.utils.data import Dataset

from mtvision.data.augmentation.mixing import Mix
from mtvision.data.base import Transform
from mtvision.data.geometry import resize
from mtvision.data.loading.sampler import SampleKey, checked_size, sample_seed
from mtvision.data.reading import Item, Reader, SubstitutingReader
from mtvision.types import Sample

Size: TypeAlias = tuple[int, int]
TransformMaker: TypeAlias = Callable[[Size], Transform]

_PARTNER_TRIES = 4


@dataclass(frozen=True)
class Recipe:
    """What is done to samples.

    Attributes:
        augmentation: makes the transform to a size.
        mixes: in the order in which they act, before and after it.
        calm_from: the epoch, counted from 0, from which on there are no mixes, and ``calm`` takes the place of
            ``augmentation``; None: never.
        calm: makes the transform of those epochs.
    """

    augmentation: TransformMaker
    mixes: tuple[Mix, ...] = ()
    calm_from: int | None = None
    calm: TransformMaker | None = None

    def is_calm(self, epoch: int) -> bool:
        """Whether an epoch is one of the last ones, that are calm."""
        return self.calm_from is not None and epoch >= self.calm_from


class AugmentedDataset(Dataset[Item]):
    """Samples after mixes and augmentation.

    Args:
        dataset: the samples as they are.
        read: how they are read, see `reading`.
        recipe: what is done to them.
        seed: of the run.
        image_size: ``(H, W)`` of the result, where a key says no other.

    Raises:
        DataError: when an item is read that cannot be, or comes out in another size.
    """

    def __init__(self, dataset: Sequence[Sample], read: Reader, recipe: Recipe, seed: int, image_size: Size) -> None:
        self.dataset = dataset
        self.recipe = recipe
        self.seed = seed
        self.image_size = image_size
        self._read = read
        self._transforms: dict[tuple[bool, Size], Transform] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: SampleKey | int) -> Item:
        """Return the augmented sample of a key; a plain index means epoch 0."""
        key = key if isinstance(key, SampleKey) else SampleKey(0, key)
        size = key.size or self.image_size
        seed = sample_seed(self.seed, key.epoch, key.index, key.repeat)
        calm = self.recipe.is_calm(key.epoch)
        sample = self._mixed(key.index, seed, size) if not calm else self._alone(key.index, seed, size, calm)
        problems = self._read.take_problems() if isinstance(self._read, SubstitutingReader) else ()
        return Item(checked_size(sample, size), skipped=problems)

    def _alone(self, index: int, seed: int, size: Size, calm: bool = False) -> Sample:
        return self._transform(size, calm)(self._read(index), seed)

    def _mixed(self, index: int, seed: int, size: Size) -> Sample:
        sample = self._read(index)
        drawn = [
            (mix, np.random.default_rng(np.random.SeedSequence([seed, 2 + number])))
            for number, mix in enumerate(self.recipe.mixes)
        ]
        chosen = [(mix, rng) for mix, rng in drawn if rng.random() < mix.probability]
        for mix, rng in chosen:
            if mix.when == "before":
                sample = self._combined(
                    mix, resize(sample, size), rng, lambda index, _: resize(self._read(index), size)
                )
        sample = self._transform(size)(sample, seed)
        for mix, rng in chosen:
            if mix.when == "after":
                sample = self._combined(mix, sample, rng, lambda index, seed: self._alone(index, seed, size))
        return sample

    def _combined(
        self, mix: Mix, sample: Sample, rng: "np.random.Generator", partner_of: Callable[[int, int], Sample]
    ) -> Sample:
        """Return a mix with partners that suit it; the sample as it is where a few draws find none."""
        partners: list[Sample] = []
        for _ in range(mix.num_partners + _PARTNER_TRIES - 1):
            partner = partner_of(int(rng.integers(len(self))), int(rng.integers(2**63)))
            if mix.suits(sample, partner):
                partners.append(partner)
            if len(partners) == mix.num_partners:
                return mix.combine(sample, partners, rng)
        return sample

    def _transform(self, size: Size, calm: bool = False) -> Transform:
        known = self._transforms.get((calm, size))
        if known is None:
            make = self.recipe.calm if calm and self.recipe.calm is not None else self.recipe.augmentation
            known = self._transforms[calm, size] = make(size)
        return known
