"""The structure of COCO's panoptic JSON: what must hold before a single image is read."""

from pathlib import Path
from typing import Any, NamedTuple

from mtvision.data.readers.coco_files import by_id, images_of, lists_of, names_of, read_json, text_of
from mtvision.errors import DataError

_LISTS = ("images", "annotations", "categories")
_EXPECTED = "expected a COCO panoptic file, an object with the lists images, annotations and categories"


class Category(NamedTuple):
    """A category: its name, and whether its objects can be counted (things) or not (stuff)."""

    name: str
    is_thing: bool


class Panoptic(NamedTuple):
    """The images by id in the order of their ids, the one annotation of some, categories by id in their order."""

    source: str
    images: dict[int, dict[str, Any]]
    annotations: dict[int, dict[str, Any]]
    categories: dict[int, Category]


def read_panoptic(path: Path) -> Panoptic:
    """Read COCO's panoptic JSON.

    Raises:
        DataError: if it cannot be read or is another JSON; see `parse_panoptic`.
    """
    return parse_panoptic(read_json(path), str(path))


def parse_panoptic(content: Any, source: str) -> Panoptic:
    """Return the images, annotations and categories of COCO's panoptic JSON.

    Raises:
        DataError: if the content is not in that format, an id occurs twice, an annotation belongs to no image or an
            image has two.
    """
    lists = lists_of(content, source, _LISTS, _EXPECTED)
    names = names_of(lists["categories"], source)
    things = by_id(lists["categories"], source, "category")
    for number, item in things.items():
        if item.get("isthing") not in (0, 1):
            raise DataError(
                f"{source}: category {number}: 'isthing' must be 0 or 1, got {str(item.get('isthing'))[:80]}"
            )
    images = images_of(lists["images"], source)
    categories = {number: Category(name, bool(things[number]["isthing"])) for number, name in names.items()}
    return Panoptic(source, images, _by_image(lists["annotations"], images, source), categories)


def _by_image(items: list[Any], images: dict[int, Any], source: str) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for position, item in enumerate(items):
        image = item.get("image_id") if isinstance(item, dict) else None
        if type(image) is not int or image not in images:
            text = str(image)[:80]
            raise DataError(f"{source}: the annotation at position {position} belongs to no listed image: {text}")
        if image in found:
            raise DataError(f"{source}: image {image} has two annotations; a panoptic file has one an image")
        text_of(item, "file_name", source, f"the annotation of image {image}")
        if not isinstance(item.get("segments_info"), list):
            raise DataError(f"{source}: the annotation of image {image} has no list 'segments_info'")
        found[image] = item
    return found
