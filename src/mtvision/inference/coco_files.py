"""Detections of many images as two files that the COCO tools read together, written while the images come."""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import tee
from pathlib import Path
from typing import IO, NamedTuple

from mtvision.data.writers.results_coco import write_coco_results
from mtvision.data.writers.writing import new_file
from mtvision.types import Prediction


class Written(NamedTuple):
    """An image that was predicted.

    Attributes:
        id: a whole number, COCO's.
        name: of its file.
        size: ``(H, W)`` in pixels.
        prediction: of the image.
    """

    id: int
    name: str
    size: tuple[int, int]
    prediction: Prediction


def write_coco_files(
    images: Iterable[Written], detections: Path, listing: Path, names: Sequence[str], *, overwrite: bool
) -> None:
    """Write COCO's results, and a file that tells which id is which image; one image at a time is held.

    ``COCO(listing).loadRes(detections)`` of the COCO tools reads them.

    Args:
        images: consumed once; whatever else is done with each image is done while it is taken.
        detections: the file of results.
        listing: the file ``{"images", "annotations", "categories"}``, without annotations.
        names: of the classes, by label; their category ids are 1, 2, ...
        overwrite: whether files that are there are replaced.

    Raises:
        DataError: if a file is there already or cannot be written.
    """
    with new_file(listing, overwrite) as file:
        file.write('{"images": [')
        first, second = tee(_listed(images, file))  # each image is asked for its prediction, then for its id
        predictions, ids = (image.prediction for image in first), (image.id for image in second)
        write_coco_results(predictions, ids, detections, overwrite=overwrite)
        categories = [{"id": label, "name": name} for label, name in enumerate(names, start=1)]
        file.write(f'\n], "annotations": [], "categories": {json.dumps(categories)}}}\n')


def _listed(images: Iterable[Written], file: IO[str]) -> Iterator[Written]:
    """Write an entry for each image that passes."""
    separator = "\n"
    for image in images:
        height, width = image.size
        entry = {"id": image.id, "file_name": image.name, "width": width, "height": height}
        file.write(separator + json.dumps(entry))
        separator = ",\n"
        yield image
