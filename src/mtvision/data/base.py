"""What a data set is: a sequence of `Sample`; the small base class that the library's own data sets share."""

import operator
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias, overload, runtime_checkable

import numpy as np

from mtvision.data.geometry import resize
from mtvision.errors import DataError
from mtvision.types import Classes, Sample

Transform: TypeAlias = Callable[[Sample, int], Sample]
"""``transform(sample, seed)``: a function of both and of nothing else."""


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
        if hasattr(dataset, "classes"):  # a user's own need not have any
            self.classes = dataset.classes
        self._indices = np.array([range(len(dataset))[index] for index in indices], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._indices)

    def sample(self, index: int) -> Sample:
        """Return the sample of the whole set that is ``index``-th here."""
        return self.dataset.sample(int(self._indices[index]))

    def sample_at(self, index: int, size: tuple[int, int], *, with_instances: bool = True) -> Sample:
        """Return a sample at a size; only where the whole set is a `ResizedDataset`."""
        whole: Any = self.dataset
        sample: Sample = whole.sample_at(int(self._indices[index]), size, with_instances=with_instances)
        return sample

    def annotations(self, index: int) -> Sample:
        """Return a sample with an image that may be smaller; only where the whole set is a `ResizedDataset`."""
        whole: Any = self.dataset
        sample: Sample = whole.annotations(int(self._indices[index]))
        return sample

    @property
    def image_ids(self) -> list[str]:
        """The ids of these samples, in order; only where the whole set has ``image_ids``."""
        ids = self.dataset.image_ids  # type: ignore[attr-defined]  # an AttributeError is what is meant
        return [ids[index] for index in self._indices]

    def image_path(self, index: int) -> Path | None:
        """Return the file of one image, None if it has none or the whole set does not tell."""
        whole = self.dataset
        return whole.image_path(int(self._indices[index])) if isinstance(whole, HasImageFiles) else None

    def examine(self, index: int) -> tuple[Sample | None, list[str]]:
        """Return one sample and what is wrong with it, where the whole set can tell without raising."""
        whole = int(self._indices[index])
        if isinstance(self.dataset, Examinable) and examines_itself(self.dataset):
            return self.dataset.examine(whole)
        return self.dataset.sample(whole), []

    def fingerprint(self) -> str | None:
        """Return a text that changes whenever the images may have changed, None if the whole set has none."""
        whole = own_fingerprint(self.dataset)
        return None if whole is None else f"{whole}{self._indices.tolist()}"


class ExaminedDataset(SampleDataset):
    """A data set that reads an item in one place, `examine`: what is wrong there is what `sample` raises."""

    def sample(self, index: int) -> Sample:
        """Read one image with its annotations.

        Raises:
            DataError: with a sentence for each problem of its files.
        """
        return _usable(*self.examine(index))

    @abstractmethod
    def examine(self, index: int) -> tuple[Sample | None, list[str]]:
        """Read one image with its annotations; return it, or None and a sentence for each problem of its files."""


class ResizedDataset(ExaminedDataset):
    """A data set that can read an image at a smaller size than it is stored in, in one place, `read`."""

    def examine(self, index: int) -> tuple[Sample | None, list[str]]:
        """Read one image with its annotations; return it, or None and a sentence for each problem of its files."""
        return self.read(index, None, with_instances=True)

    def sample_at(self, index: int, size: tuple[int, int], *, with_instances: bool = True) -> Sample:
        """Read one image with its annotations, stretched to ``size`` (H, W), decoding no more than that needs.

        Args:
            index: of the image.
            size: ``(H, W)``.
            with_instances: False: its instance map may be left out.

        Raises:
            DataError: with a sentence for each problem of its files.
        """
        sample = _usable(*self.read(index, size, with_instances))
        return resize(sample, size, annotated=sample.original_size)

    def annotations(self, index: int) -> Sample:
        """Read the annotations of one image as they are, with an image that may be decoded smaller.

        Raises:
            DataError: with a sentence for each problem of its files.
        """
        return _usable(*self.read(index, (1, 1), with_instances=False))

    @abstractmethod
    def read(self, index: int, least: tuple[int, int] | None, with_instances: bool) -> tuple[Sample | None, list[str]]:
        """Read one image with its annotations; return it, or None and a sentence for each problem of its files.

        Args:
            index: of the image.
            least: ``(H, W)`` that the image need not be larger than; its annotations and ``original_size`` are those of
                the stored image all the same. None: as it is stored.
            with_instances: False: the instance map may be left out.
        """


def _usable(sample: Sample | None, problems: list[str]) -> Sample:
    if problems or sample is None:
        raise DataError("\n".join(problems))
    return sample


@runtime_checkable
class Examinable(Protocol):
    """A data set that can list what is wrong with an item instead of raising."""

    def examine(self, index: int) -> tuple[Sample | None, list[str]]:
        """Return the sample, None if it cannot be used, and one sentence for each problem of it."""


def examines_itself(dataset: object) -> bool:
    """Tell whether a data set is `Examinable` and no subclass has since replaced how it reads an item."""
    places = [_defined_at(dataset, name) for name in ("sample", "__getitem__")]
    return isinstance(dataset, Examinable) and _defined_at(dataset, "examine") <= min(places)


def reads_resized(dataset: object) -> bool:
    """Tell whether a data set is a `ResizedDataset` and no subclass has since replaced how it reads an item."""
    if type(dataset) is Subset:
        return reads_resized(dataset.dataset)
    places = [_defined_at(dataset, name) for name in ("sample", "examine", "__getitem__")]
    return isinstance(dataset, ResizedDataset) and _defined_at(dataset, "sample_at") <= min(places)


def own_fingerprint(dataset: object) -> str | None:
    """Return a data set's fingerprint, None where it has none or a subclass has since replaced how it reads an item."""
    places = [_defined_at(dataset, name) for name in ("sample", "examine", "read", "__getitem__")]
    if not isinstance(dataset, Fingerprinted) or _defined_at(dataset, "fingerprint") > min(places):
        return None
    return dataset.fingerprint()


def _defined_at(dataset: object, name: str) -> int:
    """Return how far up the line of its classes a method is defined."""
    owners = type(dataset).__mro__
    return next((depth for depth, owner in enumerate(owners) if name in vars(owner)), len(owners))


@runtime_checkable
class HasImageFiles(Protocol):
    """A data set whose images are files; `check` reads their headers."""

    def image_path(self, index: int) -> Path | None:
        """Return the file of the image at ``index``, None if it has none of its own."""


@runtime_checkable
class Fingerprinted(Protocol):
    """A data set that can tell whether its images may have changed."""

    def fingerprint(self) -> str | None:
        """Return a text that changes whenever the images may have changed, None where that cannot be told."""
