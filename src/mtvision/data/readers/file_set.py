"""What the readers of image files share: ids, one place that reads and complains, a fingerprint, names held inside."""

import hashlib
import os
import pickle
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtvision.data.base import ResizedDataset
from mtvision.data.classes import classes_from_names, read_classes
from mtvision.data.readers.files import Objects, Size, read_picture
from mtvision.data.readers.instance_maps import InstanceMap
from mtvision.errors import DataError
from mtvision.types import VOID, Classes, Sample

_LONGEST_NAME = 250
"""Bytes; most file systems know no name over 255, and a suffix may be put to it."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


class Annotation(NamedTuple):
    """Mask and objects of one image, and which object is seen where; None: nobody looked."""

    mask: NDArray[np.uint8] | None
    objects: Objects | None
    instances: InstanceMap | None = None


class FileSet(ResizedDataset):
    """Images that are files, each with an id; a subclass reads their annotations."""

    def __init__(self, images: Sequence[Path], ids: Sequence[str], classes: Classes) -> None:
        if len(classes.segmentation) > VOID:
            raise DataError(f"classes: a mask holds at most {VOID - 1} classes, got {len(classes.segmentation) - 1}")
        self.classes = classes
        # Arrays, not lists: touching a Python object in a worker process copies its memory page.
        self._ids: NDArray[np.str_] = np.array(ids, dtype=np.str_)
        self._images: NDArray[np.str_] = np.array([str(path) for path in images], dtype=np.str_)

    @property
    def image_ids(self) -> list[str]:
        """The ids, in order."""
        return [str(name) for name in self._ids]

    def __len__(self) -> int:
        return len(self._ids)

    def image_path(self, index: int) -> Path:
        """Return the file of one image."""
        return Path(str(self._images[index]))

    def read(
        self,
        index: int,
        least: Size | None,
        with_instances: bool,  # noqa: ARG002 - they cost next to nothing beside the mask
    ) -> tuple[Sample | None, list[str]]:
        """Read one image with its annotations; return it, or None and a sentence for each problem of its files."""
        picture, problems = read_picture(self.image_path(index), least)
        if picture is None:
            return None, problems
        image, size = picture
        (mask, objects, instances), problems = self._annotation(index, size)
        if problems:
            return None, problems
        name = str(self._ids[index])
        if objects is None:
            return Sample(image, mask, None, None, None, name, size), []
        return Sample(image, mask, *objects, name, size, instances=instances), []

    def fingerprint(self) -> str:
        """Return a digest of the image ids with the sizes and times of the files of each."""
        digest = hashlib.sha256(f"{type(self).__name__} {self.classes}".encode())
        for index, name in enumerate(self.image_ids):
            paths = [self.image_path(index), *self._annotation_files(index)]
            digest.update(f"\n{name} {paths[0].absolute()} {[file_state(path) for path in paths]}".encode())
        return digest.hexdigest()

    @abstractmethod
    def _annotation(self, index: int, size: Size) -> tuple[Annotation, list[str]]:
        """Return the annotation of an image of ``size``, and a sentence for each problem."""

    @abstractmethod
    def _annotation_files(self, index: int) -> Iterable[Path]:
        """Return the files that an image's annotation is read from, for the fingerprint."""


class Records:
    """Plain values of many images as bytes in one array: objects would be copied into each worker that touches them."""

    def __init__(self, values: Iterable[Any]) -> None:
        # Pickle is ten times as fast as JSON here; the bytes never come from outside.
        texts = [pickle.dumps(value) for value in values]
        self._ends: NDArray[np.int64] = np.cumsum([0, *map(len, texts)], dtype=np.int64)
        self._bytes: NDArray[np.uint8] = np.frombuffer(b"".join(texts), dtype=np.uint8)

    def __getitem__(self, index: int) -> Any:
        return pickle.loads(self._bytes[self._ends[index] : self._ends[index + 1]].tobytes())

    def digest(self) -> str:
        """Return a digest of all values."""
        return hashlib.sha256(self._bytes.tobytes()).hexdigest()


def existing_folder(root: str | Path) -> Path:
    """Return the folder of a data set.

    Raises:
        DataError: if there is none.
    """
    folder = Path(root).expanduser()
    if not is_folder(folder):
        raise DataError(f"{folder}: the data set's folder does not exist")
    return folder


def is_folder(path: Path) -> bool:
    """Tell whether there is such a folder; a path that no file system has is none."""
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name that is too long, or has a NUL
        return False


def inside(folder: Path, name: str) -> Path | None:
    """Return ``folder / name``, None if the name leads out of the folder (links within it may) or is no file's name."""
    try:
        longest = max(map(len, map(os.fsencode, name.split("/"))))
    except UnicodeEncodeError:  # half of a surrogate pair
        return None
    if longest > _LONGEST_NAME:
        return None
    base = Path(os.path.normpath(folder.absolute()))
    path = Path(os.path.normpath(base / name))
    return path if "\0" not in name and path != base and path.is_relative_to(base) else None


def is_plain_name(name: str) -> bool:
    """Tell whether a text can stand in a path without leading anywhere: no separator, no ``..``, nothing invisible."""
    allowed = name not in ("", ".", "..") and name.isprintable() and not {"/", "\\"} & set(name)
    return allowed and len(os.fsencode(name)) <= _LONGEST_NAME


def file_state(path: Path) -> tuple[int, int] | None:
    """Return the size and the time of a file, None if it is missing."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def list_images(folder: Path) -> list[Path]:
    """Return the image files below a folder, in the order of their names, without hidden ones."""
    images = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(path for path in images if not is_hidden(path.relative_to(folder)) and path.is_file())


def is_hidden(path: Path) -> bool:
    """Tell whether a part of a relative path begins with a dot, as what systems and tools leave behind does."""
    return any(part.startswith(".") for part in path.parts)


def ids_below(folder: Path, images: Sequence[Path]) -> list[str]:
    """Return each image's path below a folder without its suffix.

    Raises:
        DataError: if two images have the same.
    """
    ids: dict[str, Path] = {}
    for path in images:
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in ids:
            raise DataError(f"{path}: another image has the same name without suffix: {ids[name].name}")
        ids[name] = path
    return list(ids)


def chosen_classes(classes: str | Path | list[str]) -> Classes:
    """Return the classes of an option: names, or the path of a list of classes."""
    return classes_from_names(classes) if isinstance(classes, list) else read_class_list(Path(classes).expanduser())


def read_class_list(path: Path) -> Classes:
    """Read a ``classes.txt``: lines ``id name has_boxes`` (see `read_classes`), or a name a line.

    Raises:
        DataError: if it cannot be read or is neither.
    """
    names = [line.strip() for line in read_lines(path, "the list of classes") if line.strip()]
    if names and names[0].split()[0].isdecimal():
        return read_classes(path)
    try:
        return classes_from_names(names)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def read_lines(path: Path, what: str) -> list[str]:
    """Return the lines of a text file.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise DataError(f"{path}: {what} is missing") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {what} cannot be read ({error})") from None
