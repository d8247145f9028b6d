"""What COCO's JSON files share: reading them, what must hold before an image is read, where they and the images are."""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mtvision.data.readers.file_set import inside, is_plain_name
from mtvision.data.readers.files import Size
from mtvision.data.readers.regions import box_problem, finite
from mtvision.errors import DataError, did_you_mean

_LARGEST_ID = 2**63
_LONGEST_NAME = 1024  # of a file or a category; one longer name would widen the array of all names


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        DataError: if it is missing or no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path}: the annotations are missing") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: malformed JSON ({' '.join(str(error).split())})") from None
    except RecursionError:
        raise DataError(f"{path}: malformed JSON (nested too deeply)") from None


def lists_of(content: Any, source: str, names: Sequence[str], expected: str) -> dict[str, list[Any]]:
    """Return the lists that a file must have.

    Raises:
        DataError: if the content is no object or a list is missing.
    """
    if not isinstance(content, Mapping):
        raise DataError(f"{source}: {expected}; got {type(content).__name__}")
    for name in names:
        if not isinstance(content.get(name), list):
            raise DataError(f"{source}: {expected}; '{name}' is missing or no list")
    return {name: content[name] for name in names}


def by_id(items: list[Any], source: str, noun: str) -> dict[int, dict[str, Any]]:
    """Return objects by their ids.

    Raises:
        DataError: if one has no whole number as its id, or the number of another one.
    """
    found: dict[int, dict[str, Any]] = {}
    for position, item in enumerate(items):
        number = item.get("id") if isinstance(item, dict) else None
        if type(number) is not int or abs(number) >= _LARGEST_ID:
            raise DataError(f"{source}: the {noun} at position {position} has no whole number as 'id'")
        if number in found:
            raise DataError(f"{source}: the {noun} id {number} occurs twice")
        found[number] = item
    return found


def images_of(items: list[Any], source: str) -> dict[int, dict[str, Any]]:
    """Return a file's images in the order of their ids.

    Raises:
        DataError: if there is none, or one has no id or file name.
    """
    images = dict(sorted(by_id(items, source, "image").items()))
    for number, item in images.items():
        text_of(item, "file_name", source, f"image {number}")
    if not images:
        raise DataError(f"{source}: it lists no images")
    return images


def names_of(items: list[Any], source: str) -> dict[int, str]:
    """Return the names of a file's categories by their ids, in their order.

    Raises:
        DataError: if one has no id or name, or two have the same.
    """
    names = {
        number: text_of(item, "name", source, f"category {number}")
        for number, item in by_id(items, source, "category").items()
    }
    if len(set(names.values())) < len(names):
        raise DataError(f"{source}: two categories have the same name")
    return names


def ids_of(names: Iterable[str], categories: Mapping[int, str]) -> list[int]:
    """Return the ids of categories by their names."""
    numbers = {name: number for number, name in categories.items()}
    return [numbers[name] for name in names]


def text_of(item: Mapping[str, Any], key: str, source: str, what: str) -> str:
    """Return a text of an object.

    Raises:
        DataError: if it is missing, empty or longer than any name.
    """
    value = item.get(key)
    if not isinstance(value, str) or not value:
        raise DataError(f"{source}: {what} has no '{key}'")
    if len(value) > _LONGEST_NAME:
        raise DataError(f"{source}: {what}: '{key}' has {len(value)} characters, more than {_LONGEST_NAME}")
    return value


def stated_size(item: Mapping[str, Any], source: str, number: int) -> list[int] | None:
    """Return the ``[H, W]`` that a file states for an image, None if it states none.

    Raises:
        DataError: if they are no whole numbers.
    """
    size = [item.get("height"), item.get("width")]
    if size == [None, None]:
        return None
    if any(type(side) is not int or abs(side) >= _LARGEST_ID for side in size):
        raise DataError(f"{source}: image {number}: height and width must be whole numbers, got {str(size)[:80]}")
    return size  # type: ignore[return-value]


def size_problem(path: Path, source: str, written: Sequence[int] | None, size: Size) -> list[str]:
    """Return a sentence if an image has another size than the file states."""
    if written is None or tuple(written) == size:
        return []
    own, wanted = (" x ".join(map(str, sides)) for sides in (size, written))
    return [f"{path}: the image is {own} pixels (height x width), {source} says {wanted}"]


def path_within(folder: Path, name: str, source: str, number: int) -> Path:
    """Return the path of an image's file.

    Raises:
        DataError: if its name leads out of the folder.
    """
    path = inside(folder, name)
    if path is None:
        raise DataError(f"{source}: image {number}: the file name {name!r} leads out of {folder}")
    return path


def crowd_flag(item: Mapping[str, Any]) -> Any:
    """Return an annotation's ``iscrowd``, unchecked; 0 where it is missing or null."""
    flag = item.get("iscrowd")
    return 0 if flag is None else flag


def xyxy(values: object, size: Size) -> tuple[tuple[float, float, float, float] | None, str]:
    """Return COCO's ``[x, y, width, height]`` as xyxy, or what is wrong with it."""
    numbers = finite(values)
    if numbers is None or len(numbers) != 4:
        return None, f"'bbox' must be 4 numbers, x, y, width and height; got {str(values)[:80]}"
    left, top, width, height = numbers.tolist()
    box = (left, top, left + width, top + height)
    complaint = box_problem(box, size)
    return (None if complaint else box), complaint


def find_annotations(folder: Path, split: str, kind: str, others: Sequence[str] = ()) -> Path:
    """Return the one JSON of a split: ``annotations/{kind}_{split}2017.json``, another year, none, or one of others.

    Raises:
        DataError: if there is none or more than one.
    """
    if not is_plain_name(split):
        raise DataError(f"{folder}: expected the name of a split without folder, got {split[:80]!r}")
    year = rf"{kind}_{re.escape(split)}\d{{4}}\.json"
    files = sorted((folder / "annotations").glob("*.json")) + (sorted(folder.glob("*.json")) if others else [])
    names = [f"annotations/{kind}_{split}.json", *others]
    paths = [path for path in files if re.fullmatch(year, path.name)] + [folder / name for name in names]
    found = [path for path in paths if path.is_file()]
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(path.relative_to(folder).as_posix() for path in found)
        raise DataError(f"{folder}: several files for the split '{split}' ({listed}); name one by 'annotations'")
    stems = [path.stem for path in files if others or path.stem.startswith(f"{kind}_")]
    splits = sorted({re.sub(rf"^{kind}_|\d{{4}}$", "", stem) for stem in stems})
    expected = ", ".join(names[:-1]) + f" or {names[-1]}" if others else names[0]
    raise DataError(
        f"{folder}: no COCO file of the split '{split}': expected {expected}.{did_you_mean(split, splits)} "
        f"Available: {', '.join(splits[:8]) or 'none'}"
    )


def find_images(folder: Path, split: str, file: Path, names: Iterable[str]) -> Path:
    """Return the first of the usual folders that has an image of the file.

    Raises:
        DataError: if none has.
    """
    year = "".join(re.findall(r"\d{4}$", file.stem))
    usual = dict.fromkeys((f"{split}{year}", f"images/{split}{year}", split, f"images/{split}", "images"))
    listed = list(names)
    for place in [*(folder / name for name in usual), file.parent, folder]:
        if place.is_dir() and any((path := inside(place, name)) and path.is_file() for name in listed):
            return place
    raise DataError(
        f"{file}: none of its images, such as {listed[0]!r}, is in {folder} or its folders {', '.join(usual)}"
    )


def item_problem(item: Mapping[str, Any], categories: Collection[int]) -> str:
    """Return what is wrong with the category id or the crowd flag of an object, empty if nothing is."""
    key, crowd = item.get("category_id"), crowd_flag(item)
    if type(key) is not int or key not in categories:
        known = ", ".join(map(str, list(categories)[:24]))
        return f"unknown category id {str(key)[:80]}; known: {known}"
    return "" if crowd in (0, 1) else f"'iscrowd' must be 0 or 1, got {str(crowd)[:80]}"
