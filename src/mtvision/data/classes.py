"""Which class has which id: Pascal VOC's, or those of a ``classes.txt``."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mtvision.errors import DataError
from mtvision.types import VOID, Classes

BACKGROUND = "background"

_LONGEST_ID = 9  # digits; Python refuses to read numbers of thousands of them

VOC_NAMES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
"""The 20 object classes of Pascal VOC in the order of their mask ids 1 to 20 (Everingham et al., 2010)."""


class _Row(NamedTuple):
    id: int
    name: str
    has_boxes: bool


def classes_from_names(names: Sequence[str]) -> Classes:
    """Return classes that are all both segmented and detected.

    Args:
        names: of the objects, in the order of their mask ids 1, 2, ...; a leading ``"background"`` is optional.

    Raises:
        DataError: if there is no name, or a name occurs twice.

    Example:
        >>> classes_from_names(["cat", "dog"]).segmentation
        ('background', 'cat', 'dog')
    """
    objects = tuple(names[1:] if names and names[0] == BACKGROUND else names)
    if not objects:
        raise DataError("classes: expected at least one class besides the background")
    twice = _first_repeated(objects)
    if twice is not None:
        raise DataError(f"classes: the name '{twice}' occurs twice")
    return Classes((BACKGROUND, *objects), objects)


def voc_classes() -> Classes:
    """Return Pascal VOC's classes: 21 for segmentation (0 is the background), 20 for detection."""
    return classes_from_names(VOC_NAMES)


def read_classes(path: Path) -> Classes:
    """Read a ``classes.txt``: one class a line, ``id name has_boxes``, with 0 = background and 255 = void.

    A name may have spaces.

    Detection classes are those with ``has_boxes`` 1, in the order of their ids; their labels are 0-based.

    Raises:
        DataError: if the file cannot be read, a line has another form, the ids are not 0, 1, 2, ... without a gap,
            or a name occurs twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: the list of classes cannot be read ({error})") from None
    rows = sorted(_parse_line(path, number, line) for number, line in enumerate(lines, start=1) if line.strip())
    rows = [row for row in rows if row.id != VOID]
    ids = [row.id for row in rows]
    if len(rows) < 2 or ids != list(range(len(rows))):
        raise DataError(
            f"{path}: expected ids 0 (background), 1, 2, ... without a gap and at least one object, got {ids}"
        )
    names = tuple(row.name for row in rows)
    twice = _first_repeated(names)
    if twice is not None:
        raise DataError(f"{path}: the class name '{twice}' occurs twice")
    return Classes(names, tuple(row.name for row in rows if row.has_boxes))


def _parse_line(path: Path, number: int, line: str) -> _Row:
    parts = line.split()
    first = parts[0] if parts[0].isascii() and len(parts[0]) <= _LONGEST_ID else ""
    if len(parts) < 3 or not first.isdecimal() or parts[-1] not in ("0", "1"):
        raise DataError(
            f"{path}:{number}: expected 'id name has_boxes' such as '15 person 1', got '{line.strip()[:80]}'"
        )
    return _Row(int(first), " ".join(parts[1:-1]), parts[-1] == "1")  # a name may have spaces


def _first_repeated(names: Sequence[str]) -> str | None:
    return next((name for position, name in enumerate(names) if name in names[:position]), None)
