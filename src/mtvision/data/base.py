"""What a data set is: a sequence of `Sample`; the small base class that the library's own data sets share."""

import operator
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Protocol, overload, runtime_checkable

import numpy as np

from mtvision.errors import DataError
from mtvision.types import Classes, Sample


class SampleDataset(Sequence[Sample]):
    """A sequence of samples with classes; a subclass fills ``classes``, ``__len__`` and ``sample``.

    Deriving from it is a convenience: any object with ``__len__`` and ``__getitem__(int) -> Sample`` is a data set.
    """

    classes: Classes

    @abstractmethod
    def sample(self, index: int) -> Sample:
        """Return the sample at ``index``, which lies in ``range(len(self))``."""

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> "Subset": ...
    def __getitem__(self, index: int | slice) -> "Sample | Subset":
        """Return one sample, or for a slice the `Subset` of those samples (nothing is read then)."""
        if isinstance(index, slice):
            return Subset(self, range(len(self))[index])
        return self.sample(range(len(self))[operator.index(index)])


class Subset(SampleDataset):
    """Some samples of a `SampleDataset`, in the order of ``indices``."""

    def __init__(self, dataset: SampleDataset, indices: Iterable[int]) -> None:
        self.dataset = dataset
        self.classes = dataset.classes
        self._indices = np.array([range(len(dataset))[index] for index in indices], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._indices)

    def sample(self, index: int) -> Sample:
        """Return the sample of the whole set that is ``index``-th here."""
        return self.dataset.sample(int(self._indices[index]))

    def examine(self, index: int) -> tuple[Sample | None, list[str]]:
        """Return one sample and what is wrong with it, where the whole set can tell without raising."""
        whole = int(self._indices[index])
        if isinstance(self.dataset, Examinable) and examines_itself(self.dataset):
            return self.dataset.examine(whole)
        return self.dataset.sample(whole), []

    def fingerprint(self) -> str | None:
        """Return a text that changes whenever the images may have changed, None if the whole set has none."""
        whole = self.dataset.fingerprint() if isinstance(self.dataset, Fingerprinted) else None
        return None if whole is None else f"{whole}{self._indices.tolist()}"


class ExaminedDataset(SampleDataset):
    """A data set that reads an item in one place, `examine`: what is wrong there is what `sample` raises."""

    def sample(self, index: int) -> Sample:
        """Read one image with its annotations.

        Raises:
            DataError: with a sentence for each problem of its files.
        """
        sample, problems = self.examine(index)
        if problems or sample is None:
            raise DataError("\n".join(problems))
        return sample

    @abstractmethod
    def examine(self, index: int) -> tuple[Sample | None, list[str]]:
        """Read one image with its annotations; return it, or None and a sentence for each problem of its files."""


@runtime_checkable
class Examinable(Protocol):
    """A data set that can list what is wrong with an item instead of raising."""

    def examine(self, index: int) -> tuple[Sample | None, list[str]]:
        """Return the sample, None if it cannot be used, and one sentence for each problem of it."""


def examines_itself(dataset: object) -> bool:
    """Tell whether a data set is `Examinable` and no subclass has since replaced how it reads an item."""
    owners = type(dataset).__mro__

    def depth(name: str) -> int:
        return next((depth for depth, owner in enumerate(owners) if name in vars(owner)), len(owners))

    return isinstance(dataset, Examinable) and depth("examine") <= min(depth("sample"), depth("__getitem__"))


@runtime_checkable
class Fingerprinted(Protocol):
    """A data set that can tell whether its images may have changed."""

    def fingerprint(self) -> str | None:
        """Return a text that changes whenever the images may have changed, None where that cannot be told."""
