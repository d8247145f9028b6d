"""Boxes of many images in one CSV file."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mtvision.data.readers.file_set import read_lines
from mtvision.data.readers.files import Size
from mtvision.data.readers.regions import Found, box_problem
from mtvision.errors import DataError, choices_hint, did_you_mean

_EDGES = ("xmin", "ymin", "xmax", "ymax")
_COLUMNS = ("image", *_EDGES, "class")
_OPTIONAL = "difficult"


class Row(NamedTuple):
    """One line: its number and cells; those of a box are empty where the image has no object."""

    number: int
    cells: dict[str, str]


def read_table(path: Path) -> Iterator[Row]:
    """Yield the lines of a CSV with the columns ``image,xmin,ymin,xmax,ymax,class`` and maybe ``difficult``.

    Raises:
        DataError: if the file cannot be read, a column is missing or unknown, or a line has more or fewer cells.
    """
    reader = csv.reader(read_lines(path, "the table of boxes"), strict=True)
    try:
        header = [cell.strip() for cell in next(reader, [])]
        _check_header(path, header)
        for cells in reader:
            if len(cells) not in (0, len(header)):
                raise DataError(f"{path}:{reader.line_num}: expected {len(header)} cells, got {len(cells)}")
            if cells:
                yield Row(reader.line_num, dict(zip(header, (cell.strip() for cell in cells), strict=True)))
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: malformed CSV ({error})") from None


def _check_header(path: Path, header: Sequence[str]) -> None:
    expected = f"the first line must name the columns {', '.join(_COLUMNS)} and maybe {_OPTIONAL}"
    known = (*_COLUMNS, _OPTIONAL)
    for name in header:
        if name not in known or header.count(name) > 1:
            what = "is there twice" if name in known else f"is unknown.{did_you_mean(name, known)}"
            raise DataError(f"{path}: {expected}; '{name[:40]}' {what}")
    for name in _COLUMNS:
        if name not in header:
            raise DataError(f"{path}: {expected}; {name} is missing")


def to_found(cells: Mapping[str, str], size: Size, names: Sequence[str]) -> tuple[Found | None, str]:
    """Return the object of a line, None if the line says that there is none; and what is wrong with it."""
    if not any(cells[name] for name in (*_EDGES, "class")):
        return None, ""
    edges = []
    for name in _EDGES:
        try:
            edges.append(float(cells[name]))
        except ValueError:
            return None, f"{name} is not a number: '{cells[name][:40]}'"
    left, top, right, bottom = edges
    complaint = box_problem((left, top, right, bottom), size)
    if complaint:
        return None, complaint
    label, difficult = cells["class"], cells.get("difficult") or "0"
    if label not in names:
        return None, f"unknown class name '{label[:40]}'{choices_hint(label, names)}"
    if difficult not in ("0", "1"):
        return None, f"difficult must be 0 or 1, got '{difficult[:40]}'"
    return Found((left, top, right, bottom), names.index(label), difficult == "1"), ""
