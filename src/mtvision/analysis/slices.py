"""Results by slice: of images that have something in common which the user knows and the data set does not."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtvision.errors import DataError, did_you_mean

Number: TypeAlias = Callable[[NDArray[np.int64]], float]
"""What is told of a slice, given the indices of its images."""

MOST_NUMBERS = 8
"""Different numbers up to which a column has a slice a value; one with more is cut into quarters."""
MOST_TEXTS = 50
"""Different texts that a column may have: with more it is rather a description of each image than a kind of image."""
MISSING = "missing"

_ID = "image_id"
_MOST_NAMED = 3


def read_columns(source: Mapping[str, Mapping[str, Any]] | pd.DataFrame | str | Path) -> pd.DataFrame:
    """Return columns of values an image, indexed by image id (text).

    Args:
        source: ``{column: {image id: value}}``; a frame with the image ids as its index or in the column
            ``image_id``; or the path of a CSV whose first column is ``image_id``. In a CSV an empty cell and ``nan``
            are missing, ``NA`` is a text.

    Raises:
        DataError: if a file cannot be read or has no column ``image_id``, if there is no column of values, or ids or
            names of columns stand twice; all problems in one message, a sentence each.

    Example:
        >>> read_columns({"weather": {"a": "rain", "b": "sun"}}).loc["b", "weather"]
        'sun'
    """
    name = "slices"
    if isinstance(source, (str, Path)):
        name, frame = str(source), _read_csv(Path(source).expanduser())
    elif isinstance(source, pd.DataFrame):
        frame = source.set_index(_ID) if _ID in source else source.copy()
    else:
        frame = pd.DataFrame({column: pd.Series(dict(values)) for column, values in source.items()})
    frame.index = pd.Index([str(image_id) for image_id in frame.index], name=_ID, dtype=object)
    problems = [] if len(frame.columns) else ["there is no column of values beside the image ids"]
    for what, labels in (("image id", frame.index), ("column", frame.columns)):
        if labels.has_duplicates:
            problems.append(f"the {what} {_some(labels[labels.duplicated()].unique())} stands more than once")
    _raise(problems, name)
    return frame


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, header=None, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # of pandas: ParserError, EmptyDataError, UnicodeDecodeError
        raise DataError(f"{path}: cannot be read as a CSV: {str(error).strip()}") from error
    header, cells = table.iloc[0], table.iloc[1:]
    if header[0] != _ID:
        raise DataError(f"{path}: expected {_ID!r} as the first column, got {header[0]!r}")
    typed = {place: _typed(column) for place, column in cells.items() if place}  # by place: names may stand twice
    return pd.DataFrame(typed, index=cells.index).set_axis(cells[0]).set_axis(list(header)[1:], axis=1)


def _typed(column: pd.Series) -> pd.Series:
    """Return the column as numbers if all that is there is a number, else as it is; empty cells are missing."""
    given = column.mask(column.str.strip().str.lower().isin(["", "nan"]))
    numbers = pd.to_numeric(given, errors="coerce")
    return numbers if numbers.isna().equals(given.isna()) else given


def slice_rows(
    columns: Mapping[str, Mapping[str, Any]] | pd.DataFrame | str | Path, image_ids: Sequence[str]
) -> dict[str, dict[str, NDArray[np.int64]]]:
    """Return which images each slice of each column has, ``{column: {slice: indices}}``.

    A column of numbers with more than 8 different ones is cut at its quartiles, as ``[1, 2.5]``, ``(2.5, 4]`` and so
    on: a bound belongs to the slice that ends with it, so equal numbers are in the same slice, and there may be fewer
    than four. Any other column has a slice a value. Images without a value are the slice ``missing``, the last.

    Args:
        columns: as in `read_columns`; each image has a row.
        image_ids: of the images that were scored, in their order.

    Raises:
        DataError: as in `read_columns`; if an image has no row, or a row no image; if a column has no value at all, an
            infinite number, or more than 50 texts; all problems in one message, a sentence each.

    Example:
        >>> slice_rows({"weather": {"a": "rain", "b": "sun", "c": None}}, ["c", "b", "a"])["weather"]
        {'rain': array([2]), 'sun': array([1]), 'missing': array([0])}
    """
    name = str(columns) if isinstance(columns, (str, Path)) else "slices"
    frame = read_columns(columns)
    _raise(_id_problems(frame.index, image_ids), name)
    frame = frame.loc[list(image_ids)]
    _raise([problem for column, values in frame.items() if (problem := _problem(str(column), values))], name)
    return {str(column): _slices(values) for column, values in frame.items()}


def slice_results(
    columns: Mapping[str, Mapping[str, Any]] | pd.DataFrame | str | Path,
    image_ids: Sequence[str],
    numbers: Mapping[str, Number],
) -> pd.DataFrame:
    """Return numbers of each slice: columns ``column``, ``slice``, ``n`` (images), and one a number.

    Args:
        columns: as in `slice_rows`.
        image_ids: of the images that were scored, in their order.
        numbers: by name, what to tell of a slice.

    Raises:
        DataError: as in `slice_rows`.

    Example:
        >>> scores = np.array([0.5, 0.75, 0.25])
        >>> weather = {"weather": {"a": "sun", "b": "rain", "c": "sun"}}
        >>> slice_results(weather, ["a", "b", "c"], {"mean": lambda rows: scores[rows].mean()}).values.tolist()
        [['weather', 'rain', 1, 0.75], ['weather', 'sun', 2, 0.375]]
    """
    rows = [
        (column, label, len(images), *(float(number(images)) for number in numbers.values()))
        for column, slices in slice_rows(columns, image_ids).items()
        for label, images in slices.items()
    ]
    return pd.DataFrame(rows, columns=["column", "slice", "n", *numbers])


def _id_problems(given: pd.Index, image_ids: Sequence[str]) -> list[str]:
    known = pd.Index(list(image_ids), dtype=object)
    unknown, missing = given[~given.isin(known)], known[~known.isin(given)]
    problems = []
    if len(unknown):
        hint = did_you_mean(unknown[0], image_ids)
        problems.append(f"no image has the id {_some(unknown)}{'.' + hint if hint else ''}")
    if len(missing):
        problems.append(f"there is no row for the image {_some(missing)}: expected one an image, empty where unknown")
    return problems


def _problem(name: str, values: pd.Series) -> str | None:
    given = values.dropna()
    if not len(given):
        return f"the column {name!r} has no value for any image"
    if not _is_number(values):
        count = given.map(_text).nunique()
        return f"the column {name!r} has {count} texts, expected at most {MOST_TEXTS}" if count > MOST_TEXTS else None
    return None if np.isfinite(given.to_numpy(np.float64)).all() else f"the column {name!r} has an infinite number"


def _slices(values: pd.Series) -> dict[str, NDArray[np.int64]]:
    """Return the images of each slice of a column that has no problem."""
    known = np.flatnonzero(values.notna())
    given = values.iloc[known]
    if _is_number(values) and given.nunique() > MOST_NUMBERS:
        codes, labels = _quarters(given.to_numpy(np.float64))
    else:
        ordered = _is_number(values) or isinstance(values.dtype, pd.CategoricalDtype)
        codes, kinds = pd.factorize(given if ordered else given.map(_text), sort=True)
        labels = [_text(kind) for kind in kinds]
    slices = {label: known[codes == code] for code, label in enumerate(labels)}
    missing = np.flatnonzero(values.isna())
    return slices | ({MISSING: missing} if len(missing) else {})


def _quarters(values: NDArray[np.float64]) -> tuple[NDArray[np.int64], list[str]]:
    """Return the quarter of each value, and the bounds of each quarter as text."""
    bounds = np.unique(np.quantile(values, [0, 0.25, 0.5, 0.75, 1]))
    digits = next(count for count in range(3, 18) if len({f"{bound:.{count}g}" for bound in bounds}) == len(bounds))
    texts = [f"{bound:.{digits}g}" for bound in bounds]
    labels = [f"{'(' if place else '['}{texts[place]}, {texts[place + 1]}]" for place in range(len(texts) - 1)]
    return np.searchsorted(bounds[1:-1], values, side="left"), labels


def _is_number(values: pd.Series) -> bool:
    return bool(pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values))


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _some(names: Sequence[Any]) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(repr(str(name)) for name in names[:_MOST_NAMED]) + more


def _raise(problems: Sequence[str], name: str) -> None:
    if problems:
        raise DataError("\n".join(f"{name}: {problem}" for problem in problems))
