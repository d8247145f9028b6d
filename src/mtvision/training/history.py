"""What a run did, a row an epoch."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mtvision.errors import CheckpointError
from mtvision.target_files import replace_text

Row = dict[str, Any]


class History(Sequence[Row]):
    """Rows of one run, oldest first; each also goes as one JSON line into ``path`` if there is one.

    A row has ``epoch`` (from 1), ``lr``, ``seconds``, ``train/...`` and ``val/...`` losses, ``val/<task>/<metric>`` as
    fractions, and ``per_class``: the tables by metric and class name.
    """

    def __init__(self, path: Path | None = None, rows: Sequence[Row] = ()) -> None:
        self._path = path
        self._rows = list(rows)
        if path is not None:
            replace_text(path, self.text())

    @classmethod
    def read(cls, path: Path) -> "History":
        """Read the rows of a ``history.jsonl``; a last line that was cut off is left out, the file stays as it is.

        Raises:
            CheckpointError: if the file is missing or another line is damaged.
        """
        try:
            return cls(rows=cls.parse(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path}: the history of the run cannot be read ({error})") from None

    @staticmethod
    def parse(text: str) -> list[Row]:
        """Return the rows of a `text`; a last line that was cut off is left out."""
        *lines, _ = text.split("\n")  # a whole last line ends here
        return [with_nan(json.loads(line)) for line in lines]

    def text(self) -> str:
        """Return all rows as the file has them."""
        return "".join(_line(row) for row in self._rows)

    def append(self, row: Row) -> None:
        """Add a row and write it.

        Raises:
            CheckpointError: if it cannot be written.
        """
        self._rows.append(row)
        if self._path is None:
            return
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(_line(row))
        except OSError as error:
            raise CheckpointError(f"{self._path}: cannot be written ({error.strerror})") from None

    def column(self, key: str) -> list[float]:
        """Return one value a row, NaN where a row lacks it."""
        return [float(row.get(key, math.nan)) for row in self._rows]

    def __getitem__(self, index: Any) -> Any:
        """Return a row, or a list of rows for a slice."""
        return self._rows[index]

    def __len__(self) -> int:
        """Return the number of epochs done."""
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        """Iterate over the rows."""
        return iter(self._rows)


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(without_nan(row)) + "\n"


def without_nan(value: Any) -> Any:
    """Return plain values for JSON, which has no NaN: null instead."""
    if isinstance(value, Mapping):
        return {str(key): without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def with_nan(value: Any) -> Any:
    """Undo `without_nan`: null becomes NaN."""
    if isinstance(value, dict):
        return {key: with_nan(item) for key, item in value.items()}
    return math.nan if value is None else value
