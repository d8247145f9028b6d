"""The structure of COCO's instances JSON: what must hold before a single image is read."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mtvision.errors import DataError

logger = logging.getLogger(__name__)

_LISTS = ("images", "annotations", "categories")


class Instances(NamedTuple):
    """The images by id in the order of their ids, each image's annotations, category names by id in their order."""

    source: str
    images: dict[int, dict[str, Any]]
    annotations: dict[int, list[dict[str, Any]]]
    categories: dict[int, str]


def read_instances(path: Path) -> Instances:
    """Read COCO's instances JSON.

    Raises:
        DataError: if it cannot be read or is another JSON; see `parse_instances`.
    """
    return parse_instances(_read_json(path), str(path))


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path}: the annotations are missing") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: malformed JSON ({' '.join(str(error).split())})") from None
    except RecursionError:
        raise DataError(f"{path}: malformed JSON (nested too deeply)") from None


def parse_instances(content: Any, source: str) -> Instances:
    """Return the images, annotations and categories of COCO's instances JSON.

    Raises:
        DataError: if the content is not in that format, an id occurs twice, or an annotation belongs to no image.
    """
    lists = _lists(content, source)
    categories = {
        number: _text(item, "name", source, f"category {number}")
        for number, item in _by_id(lists["categories"], source, "category").items()
    }
    if len(set(categories.values())) < len(categories):
        raise DataError(f"{source}: two categories have the same name")
    images = dict(sorted(_by_id(lists["images"], source, "image").items()))
    for number, item in images.items():
        _text(item, "file_name", source, f"image {number}")
    if not images:
        raise DataError(f"{source}: it lists no images")
    return Instances(source, images, _by_image(lists["annotations"], images, source), categories)


def _lists(content: Any, source: str) -> dict[str, list[Any]]:
    expected = "expected a COCO instances file, an object with the lists images, annotations and categories"
    if not isinstance(content, Mapping):
        raise DataError(f"{source}: {expected}; got {type(content).__name__}")
    for name in _LISTS:
        if not isinstance(content.get(name), list):
            raise DataError(f"{source}: {expected}; '{name}' is missing or no list")
    return {name: content[name] for name in _LISTS}


def _by_id(items: list[Any], source: str, noun: str) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for position, item in enumerate(items):
        number = item.get("id") if isinstance(item, dict) else None
        if type(number) is not int:
            raise DataError(f"{source}: the {noun} at position {position} has no whole number as 'id'")
        if number in found:
            raise DataError(f"{source}: the {noun} id {number} occurs twice")
        found[number] = item
    return found


def _text(item: dict[str, Any], key: str, source: str, what: str) -> str:
    value = item.get(key)
    if not isinstance(value, str) or not value:
        raise DataError(f"{source}: {what} has no '{key}'")
    return value


def _by_image(items: list[Any], images: dict[int, Any], source: str) -> dict[int, list[dict[str, Any]]]:
    """Group the annotations; one whose box has no width or no height is left out, as two of COCO's own are."""
    found: dict[int, list[dict[str, Any]]] = {number: [] for number in images}
    empty = []
    for position, item in enumerate(items):
        image = item.get("image_id") if isinstance(item, dict) else None
        if type(image) is not int or image not in images:
            raise DataError(f"{source}: the annotation at position {position} belongs to no listed image: {image!r}")
        box = item.get("bbox")
        if isinstance(box, list) and len(box) == 4 and (box[2] == 0 or box[3] == 0):
            empty.append(item.get("id"))
        else:
            found[image].append(item)
    if empty:
        logger.warning("%s: %d annotations have an empty box: left out (ids %s)", source, len(empty), empty[:8])
    return found
