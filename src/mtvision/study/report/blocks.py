"""What a report consists of, before it is HTML or Markdown: sections of text, tables, pictures and code."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, TypeAlias

import pandas as pd

from mtvision.study.report.gallery import GalleryImage
from mtvision.study.report.numbers import MISSING, decimals_for, number_text

Kind: TypeAlias = Literal["text", "number", "signed", "p"]

_FOLDED_FROM = 16  # rows
_LEAST_P = 0.001


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        key: of the frame.
        heading: for a person.
        kind: ``text``, ``number``, ``signed``, or ``p`` for a p-value.
        group: columns of one group have the same number of decimals; empty: the column's own.
    """

    key: str
    heading: str
    kind: Kind = "text"
    group: str = ""


class Cell(NamedTuple):
    """What is shown, and for a number what it is sorted by: all of its digits, or nothing where it is missing."""

    text: str
    sort: str | None = None


@dataclass(frozen=True)
class Table:
    """A table; its file holds the frame with all digits.

    Attributes:
        name: of the file.
        caption: what it shows.
        columns: that are shown.
        frame: all rows.
        searchable: whether it has a field to search in.
    """

    kind: ClassVar[str] = "table"
    name: str
    caption: str
    columns: Sequence[Column]
    frame: pd.DataFrame
    searchable: bool = False

    @property
    def folded(self) -> bool:
        """Whether it is too long to be open from the start."""
        return len(self.frame) > _FOLDED_FROM

    def decimals(self) -> dict[str, int]:
        """Return the decimals of each column of numbers, by key."""
        groups: dict[str, list[float]] = {}
        numbers = [column for column in self.columns if column.kind in ("number", "signed")]
        for column in numbers:
            groups.setdefault(column.group or column.key, []).extend(map(float, self.frame[column.key]))
        return {column.key: decimals_for(groups[column.group or column.key]) for column in numbers}

    def rows(self) -> list[list[Cell]]:
        """Return the cells, row by row."""
        decimals = self.decimals()
        columns = [
            [_cell(value, column.kind, decimals.get(column.key, 0)) for value in self.frame[column.key]]
            for column in self.columns
        ]
        return [list(row) for row in zip(*columns, strict=True)]


def _cell(value: object, kind: Kind, decimals: int) -> Cell:
    if kind == "text":
        return Cell(_text(value))
    number = float(str(value)) if not isinstance(value, int | float) else float(value)
    if number != number:
        return Cell(MISSING, "")
    if kind == "p":
        return Cell(f"< {_LEAST_P}" if number < _LEAST_P else number_text(number, 3), f"{number:.10g}")
    return Cell(number_text(number, decimals, signed=kind == "signed"), f"{number:.10g}")


def _text(value: object) -> str:
    if isinstance(value, bool) or str(value) in ("True", "False"):
        return "yes" if str(value) == "True" else "no"
    return MISSING if value is None or str(value) == "nan" else str(value)


@dataclass(frozen=True)
class Text:
    """A paragraph; an important one stands out."""

    kind: ClassVar[str] = "text"
    text: str
    important: bool = False


@dataclass(frozen=True)
class Bullets:
    """A list; of a warning each line stands out."""

    kind: ClassVar[str] = "bullets"
    lines: Sequence[str]
    important: bool = False


@dataclass(frozen=True)
class Picture:
    """A picture in a file, with what it shows."""

    kind: ClassVar[str] = "picture"
    path: Path
    caption: str


@dataclass(frozen=True)
class Code:
    """Text that can be copied as it is."""

    kind: ClassVar[str] = "code"
    caption: str
    text: str
    folded: bool = False


@dataclass(frozen=True)
class Cards:
    """Images of a gallery with the files of their pictures."""

    kind: ClassVar[str] = "cards"
    title: str
    images: Sequence[tuple[GalleryImage, Path]]


Block: TypeAlias = Text | Bullets | Table | Picture | Code | Cards


@dataclass(frozen=True)
class Section:
    """A part of the report with a heading; without blocks it is left out."""

    title: str
    blocks: Sequence[Block]

    @property
    def anchor(self) -> str:
        """The heading in a form for links."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.title.lower())
