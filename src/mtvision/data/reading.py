"""What a loader's workers read: samples at one size, without those that cannot be read where that is wanted."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from mtvision.data.checking.check import checked_reader
from mtvision.errors import DataError
from mtvision.types import Sample

Reader: TypeAlias = Callable[[int], Sample]

_MOST_TRIES = 100


class Item(NamedTuple):
    """What a worker hands to `collate`.

    Attributes:
        sample: as the network gets it; None if it could not be read and nothing stands in for it.
        original: as it was, for scoring; None in training.
        skipped: a sentence for each item that could not be read.
    """

    sample: Sample | None
    original: Sample | None = None
    skipped: tuple[str, ...] = ()


class SubstitutingReader:
    """Reads an item, or the next one that can be read where it cannot be; batches keep their size so.

    What stands in is a function of the index and the files alone, so a resumed run has the same.

    Args:
        read: raises a `DataError` for an item that cannot be read.
        length: of the data set; the first item follows the last.

    Raises:
        DataError: the reader, if a hundred items in a row cannot be read.
    """

    def __init__(self, read: Reader, length: int) -> None:
        self._read = read
        self._length = length
        self._problems: dict[str, None] = {}

    def __call__(self, index: int) -> Sample:
        """Return the sample at an index or after it."""
        tries = min(self._length, _MOST_TRIES)
        for step in range(tries):
            try:
                return self._read((index + step) % self._length)
            except DataError as error:
                self._problems[str(error)] = None
        raise DataError(f"{tries} items in a row cannot be read; the last: {next(reversed(self._problems))}")

    def take_problems(self) -> tuple[str, ...]:
        """Return a sentence for each item passed over since the last call."""
        problems = tuple(self._problems)
        self._problems.clear()
        return problems


def readable(dataset: Sequence[Sample], skip_bad: bool = False) -> Iterator[Sample]:
    """Yield the samples of a data set in order.

    Args:
        dataset: to be read.
        skip_bad: leave out those that cannot be read.

    Raises:
        DataError: if an item cannot be read, or with ``skip_bad`` none can.
    """
    read, found, problem = checked_reader(dataset), 0, ""
    for index in range(len(dataset)):
        try:
            sample = read(index)
        except DataError as error:
            if not skip_bad:
                raise
            problem = str(error)
            continue
        found += 1
        yield sample
    if problem and not found:
        raise DataError(f"not one of the {len(dataset)} items can be read; the last: {problem}")
