"""Decoded and resized samples on disk, memory-mapped: an epoch reads them without a single JPEG being decoded."""

import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mtvision.data.preprocessing import fingerprint
from mtvision.data.reading import Reader
from mtvision.errors import DataError
from mtvision.types import Sample

logger = logging.getLogger(__name__)

_VERSION = 2  # of the format and of what is in a sample; raised whenever the same files give other samples
_SAMPLES, _ENDS = "samples.bin", "ends.npy"
_FIELDS = ("image", "mask", "boxes", "labels", "difficult", "instances")
_FURTHER = ("maps", "values")


class CachedReader:
    """Reads samples from a cache; each process maps the file for itself, and all share its pages.

    Args:
        folder: of a finished cache.

    Raises:
        DataError: if the cache is damaged; the reader, for an item that could not be read when the cache was made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self._ends: NDArray[np.int64] = np.load(folder / _ENDS)
            is_whole = (folder / _SAMPLES).stat().st_size == int(self._ends[-1:].sum())
        except (OSError, ValueError):
            is_whole = False
        if not is_whole:
            raise DataError(f"{folder}: the cache is damaged; delete the folder, and it is made anew")
        self._bytes: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self._ends)

    def __call__(self, index: int) -> Sample:
        """Return the sample at an index; its arrays are its own."""
        if self._bytes is None:
            self._bytes = np.memmap(self.folder / _SAMPLES, dtype=np.uint8, mode="r")
        begin = int(self._ends[index - 1]) if index else 0
        return _decoded(self._bytes[begin : self._ends[index]].tobytes())

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the mapped file: it would travel to each worker as bytes."""
        return {**self.__dict__, "_bytes": None}


def open_cache(folder: Path, number: int) -> CachedReader | None:
    """Return what reads the samples of a cache, None if there is no such folder.

    Args:
        folder: of the cache, see `cache_folder`.
        number: of the samples that it must have.

    Raises:
        DataError: if the cache is damaged or has another number of samples.
    """
    if not folder.is_dir():
        return None
    reader = CachedReader(folder)
    if len(reader) != number:
        raise DataError(f"{folder}: the cache has {len(reader)} samples, not {number}; delete the folder")
    return reader


def write_cache(folder: Path, samples: Iterable[Sample | str]) -> CachedReader:
    """Write samples to a cache, unless it is there already, and return what reads them.

    It is written beside its place, flushed and renamed: whoever is killed meanwhile leaves nothing that could be read.
    Of several writers one writes and the others wait for it.

    Args:
        folder: of the cache, see `cache_folder`.
        samples: one for each item in order, or a sentence for one that cannot be read; not touched where the cache is
            there.

    Raises:
        DataError: if the disk is full, the folder cannot be written, or a sample has an array that cannot be kept.
    """
    from filelock import FileLock

    with _explained(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_suffix(".lock"))
        lock.acquire()
    try:
        if not folder.is_dir():
            _write(folder, samples)
    finally:
        lock.release()
    return CachedReader(folder)


def cache_folder(dataset: Sequence[Sample], size: tuple[int, int], root: Path, with_instances: bool = True) -> Path:
    """Return where the samples of a data set are kept below a root.

    Args:
        dataset: of samples.
        size: ``(H, W)`` of the samples.
        root: folder of all caches.
        with_instances: whether they are read with their instance maps.

    Raises:
        DataError: if the data set has no ``fingerprint`` of its own, by which it would be recognised.
    """
    key = fingerprint(dataset)
    if key is None:
        raise DataError(
            f"data.cache: {type(dataset).__name__} has no method 'fingerprint' of its own, by which its samples would "
            "be recognised; give it one, or leave data.cache out"
        )
    return root / f"samples-{key[:40]}-{size[0]}x{size[1]}{'' if with_instances else '-no-instances'}-v{_VERSION}"


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turn what the file system says into a sentence about the cache."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{folder}: samples cannot be cached ({error.strerror or error})") from None


def _write(folder: Path, samples: Iterable[Sample | str]) -> None:
    for left in folder.parent.glob(f"{folder.name}.part*"):  # of a writer that was killed: we hold the lock
        shutil.rmtree(left, ignore_errors=True)
    with _explained(folder):
        part = Path(tempfile.mkdtemp(prefix=f"{folder.name}.part", dir=folder.parent))
    try:
        number, size = _write_records(folder, part, map(_encoded, samples))
        with _explained(folder):
            part.chmod(0o755)  # as other folders; temporary ones are private
            part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    logger.info("%s: %d samples cached, %.0f MB", folder, number, size / 1e6)


def _write_records(folder: Path, part: Path, records: Iterable[bytes]) -> tuple[int, int]:
    """Write records and where each ends; return how many they are, and their bytes."""
    ends: list[int] = []
    size = 0
    with _explained(folder):
        file = (part / _SAMPLES).open("wb")
    with file:
        for record in records:  # what reading a sample raises is not about the cache
            with _explained(folder):
                file.write(record)
            size += len(record)
            ends.append(size)
        with _explained(folder):
            _flush(file)  # else the new name may stand for an unwritten file after a loss of power
    with _explained(folder), (part / _ENDS).open("wb") as index:
        np.save(index, np.array(ends, dtype=np.int64))
        _flush(index)
    return len(ends), size


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _encoded(sample: Sample | str) -> bytes:
    """Return a sample, or what is wrong with it, in the format of safetensors."""
    from safetensors.numpy import save

    if isinstance(sample, str):
        return save({"problem": _text(sample)})
    arrays: dict[str, NDArray[Any]] = {name: getattr(sample, name) for name in _FIELDS}
    arrays |= {f"{kind}/{name}": values for kind in _FURTHER for name, values in getattr(sample, kind).items()}
    known = {name: np.asarray(values, order="C") for name, values in arrays.items() if values is not None}
    unknown = [name for name, values in arrays.items() if values is None and name not in _FIELDS]
    known["size"] = np.array(sample.original_size, dtype=np.int64)
    known["id"] = _text(sample.image_id)
    known["unknown"] = _text("\n".join(unknown))
    for name, values in known.items():
        if values.dtype.kind not in "biuf":
            raise DataError(f"data.cache: image '{sample.image_id}': '{name}' is of {values.dtype}, which is not kept")
    return save(known)


def _decoded(record: bytes) -> Sample:
    from safetensors.numpy import load

    arrays: dict[str, Any] = load(record)
    if "problem" in arrays:
        raise DataError(_of_text(arrays["problem"]))
    further: dict[str, dict[str, Any]] = {kind: {} for kind in _FURTHER}
    for name, values in _further(arrays):
        kind, _, task = name.partition("/")
        further[kind][task] = values
    height, width = arrays["size"].tolist()
    fields = {name: arrays.get(name) for name in _FIELDS}
    return Sample(**fields, image_id=_of_text(arrays["id"]), original_size=(height, width), **further)  # type: ignore[arg-type]


def _further(arrays: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from ((name, values) for name, values in arrays.items() if "/" in name)
    yield from ((name, None) for name in filter(None, _of_text(arrays["unknown"]).split("\n")))


def _text(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(), dtype=np.uint8)


def _of_text(values: NDArray[np.uint8]) -> str:
    return values.tobytes().decode()


def read_or_problem(read: Reader, index: int) -> Sample | str:
    """Return a sample, or what is wrong with it in a sentence."""
    try:
        return read(index)
    except DataError as error:
        return str(error)
