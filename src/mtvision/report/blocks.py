"""What a report consists of, before it is HTML or Markdown: sections of text, tables, pictures and code."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, TypeAlias

import pandas as pd

from mtvision.report.numbers import MISSING, decimals_for, number_text

Kind: TypeAlias = Literal["text", "number", "signed", "p", "picture"]

_FOLDED_FROM = 16  # rows
_LEAST_P = 0.001


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        key: of the frame.
        heading: for a person.
        kind: ``text``, ``number``, ``signed``, ``p`` for a p-value, or ``picture``, the path of a small one or None.
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
    picture: Path | None = None


@dataclass(frozen=True)
class Table:
    """A table; its file holds the frame with all digits, without pictures.

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

    @property
    def stored(self) -> pd.DataFrame:
        """What its file holds."""
        return self.frame.drop(columns=[column.key for column in self.columns if column.kind == "picture"])

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
    if kind == "picture":
        return Cell("", picture=value if isinstance(value, Path) else None)
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


class Sign(NamedTuple):
    """A sign that pictures use: its colour as ``#rrggbb``, and what it means; a dashed one is drawn as a line."""

    color: str
    text: str
    dashed: bool = False


@dataclass(frozen=True)
class Legend:
    """What the colours of pictures mean."""

    kind: ClassVar[str] = "legend"
    signs: Sequence[Sign]


@dataclass(frozen=True)
class Card:
    """A picture with what is said of it.

    Attributes:
        title: such as the id of an image.
        text: behind the title.
        picture: a file.
        alt: what the picture shows, for those who do not see it.
        lines: below.
        values: numbers that cards can be sorted by, by name.
    """

    title: str
    text: str
    picture: Path
    alt: str
    lines: Sequence[str] = ()
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Cards:
    """Cards beside and below each other.

    Attributes:
        title: of them together; empty: none.
        cards: in their order.
        searchable: whether they can be searched, and sorted by their values.
        small: whether their pictures are, so that more stand beside each other.
        caption: a sentence below the title; empty: none.
    """

    kind: ClassVar[str] = "cards"
    title: str
    cards: Sequence[Card]
    searchable: bool = False
    small: bool = False
    caption: str = ""

    @property
    def sort_keys(self) -> tuple[str, ...]:
        """The names of the values that the cards have."""
        return tuple(dict.fromkeys(name for card in self.cards for name in card.values))


Block: TypeAlias = Text | Bullets | Table | Picture | Code | Legend | Cards


@dataclass(frozen=True)
class Section:
    """A part of the report with a heading; without blocks it is left out."""

    title: str
    blocks: Sequence[Block]

    @property
    def anchor(self) -> str:
        """The heading in a form for links."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.title.lower())
