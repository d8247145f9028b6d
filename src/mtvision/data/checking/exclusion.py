"""Lists of images to leave out: written by a check or by hand, and honoured without touching any file."""

import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mtvision.data.base import SampleDataset, Subset, own_fingerprint
from mtvision.errors import DataError
from mtvision.target_files import replace_text
from mtvision.types import Sample

if TYPE_CHECKING:
    from mtvision.data.checking.check_report import Finding

logger = logging.getLogger(__name__)

_HEADER = (
    "# Images to leave out, a line each: the id, a tab, why. Lines that begin with # say nothing. Delete a line to use "
    "its image again."
)


def exclude(dataset: Sequence[Sample], excluded: str | Path | Iterable[str]) -> SampleDataset:
    """Return a data set without some of its images; nothing is read, and no file is touched.

    Ids that the data set does not have are skipped, since one list may serve several splits; how many is logged.

    Args:
        dataset: with an attribute ``image_ids``, the ids in the order of the items, as all of the library's have.
        excluded: the path of a list, as `CheckReport.write_exclusions` makes it, or the ids themselves.

    Raises:
        DataError: if the list cannot be read or has a line without an id, the data set has no ``image_ids``, or no
            image is left.

    Example:
        >>> from mtvision.data.readers.shapes import Shapes
        >>> len(exclude(Shapes("train", num_images=4, image_size=32), ["train-00001", "train-00003"]))
        2
    """
    is_path = isinstance(excluded, str | Path)
    names = set(read_exclusions(Path(excluded).expanduser()) if isinstance(excluded, str | Path) else excluded)
    source = str(excluded) if is_path else "the ids to leave out"
    ids = _image_ids(dataset)
    kept = [index for index, name in enumerate(ids) if name not in names]
    if not kept:
        raise DataError(f"{source}: all of the {len(ids)} images of the data set are left out")
    _log(source, names, ids, len(ids) - len(kept))
    return Subset(dataset, kept) if isinstance(dataset, SampleDataset) else _Part(dataset, kept, ids)


def _image_ids(dataset: Sequence[Sample]) -> list[str]:
    ids = getattr(dataset, "image_ids", None)
    if ids is None:
        raise DataError(
            f"images of {type(dataset).__name__} cannot be left out by their ids: give it an attribute 'image_ids', "
            "the ids in the order of its items"
        )
    if len(ids) != len(dataset):
        raise DataError(f"{type(dataset).__name__} has {len(dataset)} items but {len(ids)} 'image_ids'")
    return list(ids)


def _log(source: str, names: set[str], ids: Sequence[str], num_excluded: int) -> None:
    unknown = sorted(names.difference(ids))
    # A list for several splits has ids that are in another one; where no id fits at all it is likely a wrong list.
    level = logging.INFO if num_excluded or not names else logging.WARNING
    absent = (
        f"; {len(unknown)} of its {len(names)} ids are not in the data set, such as '{unknown[0]}'" if unknown else ""
    )
    logger.log(level, "%s: %d of %d images are left out%s", source, num_excluded, len(ids), absent)


class _Part(SampleDataset):
    """Some items of a sequence of samples that is no `SampleDataset`."""

    def __init__(self, dataset: Sequence[Sample], indices: Sequence[int], ids: Sequence[str]) -> None:
        self.dataset = dataset
        if hasattr(dataset, "classes"):
            self.classes = dataset.classes
        self._indices = np.array(indices, dtype=np.int64)
        self._ids = np.array([ids[index] for index in indices], dtype=np.str_)

    @property
    def image_ids(self) -> list[str]:
        """The ids of those that are left, in order."""
        return [str(name) for name in self._ids]

    def __len__(self) -> int:
        return len(self._indices)

    def sample(self, index: int) -> Sample:
        """Return the item of the whole sequence that is ``index``-th here."""
        return self.dataset[int(self._indices[index])]

    def fingerprint(self) -> str | None:
        """Return a text that changes whenever the images may have changed, None if the whole sequence has none."""
        whole = own_fingerprint(self.dataset)
        return None if whole is None else f"{whole}{self._indices.tolist()}"


def read_exclusions(path: Path) -> dict[str, str]:
    """Return the ids of a list with the reasons, empty where none is given.

    Raises:
        DataError: if the file cannot be read, or a line has no id.
    """
    text = _read(path)
    if text is None:
        raise DataError(f"{path}: the list of images to leave out is missing")
    return _parsed(text, path)


def _read(path: Path) -> str | None:
    """Return the text of a list, None if it is missing."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise DataError(f"{path}: the list of images to leave out cannot be read (it is not UTF-8 text)") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: the list of images to leave out cannot be read ({error})") from None


def _parsed(text: str, path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip() and not line.startswith("#"):
            name, _, reason = line.partition("\t")
            found.setdefault(_parsed_id(name.strip(), f"{path}:{number}"), reason.strip())
    return found


def _parsed_id(text: str, where: str) -> str:
    expected = f"{where}: expected an image's id, and after a tab why it is left out"
    if not text.startswith('"'):
        if not text or not text.isprintable():
            raise DataError(f"{expected}; got {text[:60]!r}")
        return text
    try:
        name = json.loads(text)
    except (ValueError, RecursionError):
        raise DataError(f"{expected}; the quotes of {text[:60]} are not closed as in JSON") from None
    if not isinstance(name, str) or not name:
        raise DataError(f"{expected}; got {text[:60]}")
    return name


def merge_exclusions(path: Path, findings: Iterable["Finding"]) -> int:
    """Add the items of findings to a list, which is made where there is none; return how many ids are new.

    Several processes may add to one list at once: each waits for the one before, by a hidden lock file beside the list.

    Raises:
        DataError: if a list that is there cannot be read, or it cannot be written.
    """
    from filelock import FileLock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):
            return _merge(path, findings)
    except OSError as error:
        raise DataError(f"{path}: the list of images to leave out cannot be written ({error.strerror})") from None


def _merge(path: Path, findings: Iterable["Finding"]) -> int:
    text = _read(path)
    old = {} if text is None else _parsed(text, path)
    new: dict[str, list[str]] = {}
    for finding in findings:
        if finding.image_id is not None and finding.image_id not in old:
            new.setdefault(finding.image_id, []).append(f"{finding.kind}: {_as_utf8(' '.join(finding.split()))}")
        elif finding.image_id is None and finding.index is not None:
            logger.warning("%s: item %d has no id and cannot be listed: %s", path, finding.index, finding)
    head = _HEADER if text is None else text.rstrip("\n")
    lines = [f"{_written_id(name)}\t{'; '.join(reasons)}" for name, reasons in new.items()]
    replace_text(path, "\n".join(filter(None, [head, *lines])) + "\n")
    return len(new)


def _as_utf8(text: str) -> str:
    """Return a text with escapes for what UTF-8 has not: the name of a file may be of other bytes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _written_id(name: str) -> str:
    """Return an id as it stands in a list: as JSON where it would be read as something else."""
    is_plain = name == name.strip() and name.isprintable() and not name.startswith(("#", '"')) and name != ""
    return name if is_plain else json.dumps(name)
