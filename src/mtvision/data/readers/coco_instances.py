"""The structure of COCO's instances JSON: what must hold before a single image is read."""

import logging
from pathlib import Path
from typing import Any, NamedTuple

from mtvision.data.readers.coco_files import images_of, lists_of, names_of, read_json
from mtvision.errors import DataError

logger = logging.getLogger(__name__)

_LISTS = ("images", "annotations", "categories")
_EXPECTED = f"expected a COCO instances file, an object with the lists {_LISTS[0]}, {_LISTS[1]} and {_LISTS[2]}"


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
    return parse_instances(read_json(path), str(path))


def parse_instances(content: Any, source: str) -> Instances:
    """Return the images, annotations and categories of COCO's instances JSON.

    Raises:
        DataError: if the content is not in that format, an id occurs twice, or an annotation belongs to no image.
    """
    lists = lists_of(content, source, _LISTS, _EXPECTED)
    categories = names_of(lists["categories"], source)
    images = images_of(lists["images"], source)
    return Instances(source, images, _by_image(lists["annotations"], images, source), categories)


def _by_image(items: list[Any], images: dict[int, Any], source: str) -> dict[int, list[dict[str, Any]]]:
    """Group the annotations; one whose box has no width or no height is left out, as two of COCO's own are."""
    found: dict[int, list[dict[str, Any]]] = {number: [] for number in images}
    empty = []
    for position, item in enumerate(items):
        image = item.get("image_id") if isinstance(item, dict) else None
        if type(image) is not int or image not in images:
            raise DataError(
                f"{source}: the annotation at position {position} belongs to no listed image: {str(image)[:80]}"
            )
        box = item.get("bbox")
        if isinstance(box, list) and len(box) == 4 and (box[2] == 0 or box[3] == 0):
            empty.append(item.get("id"))
        else:
            found[image].append(item)
    if empty:
        logger.warning("%s: %d annotations have an empty box: left out (ids %s)", source, len(empty), empty[:8])
    return found
