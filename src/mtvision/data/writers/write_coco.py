"""Writing any data set as COCO's instances JSON with its images."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtvision.data.readers.file_set import is_plain_name
from mtvision.data.readers.instance_maps import InstanceMap
from mtvision.data.writers.writing import (
    check_new_ids,
    checked_sample,
    dataset_classes,
    file_name,
    has_further,
    new_folder,
    objects_of,
    refuse_existing,
    run_lengths,
    write_picture,
)
from mtvision.errors import DataError
from mtvision.types import VOID, Classes, Sample

logger = logging.getLogger(__name__)

_LONGEST_ID = 18  # digits


class _Left(NamedTuple):
    """Ids of the images of which something has no place in the format."""

    boxless: list[str]
    maskless: list[str]
    uncovered: list[str]
    further: list[str]


def write_coco(
    dataset: Sequence[Sample],
    folder: str | Path,
    split: str,
    *,
    classes: Classes | None = None,
    overwrite: bool = False,
) -> dict[str, int]:
    """Write one split of a data set as ``annotations/instances_{split}.json`` and a folder of images, as `Coco` reads.

    A difficult box becomes a crowd, the format's only object that is neither a positive nor a negative, so its pixels
    will read as void. The pixels of an object are those that the instance map gives it and the mask its class (for a
    crowd also void), as run lengths; a crowd without any has the void pixels of its box that no object has. Boxes are
    written exactly. An image's file is copied where the data set has it as a JPEG or PNG of the same pixels, else
    written as a PNG. Categories are the classes with boxes, numbered 1, 2, ... in the order of their labels.

    The format lists objects, so some things have no place in it, are left out, and named in a warning: images that
    nobody looked at for boxes; masks of images without an instance map; pixels of a mask that belong to no object, such
    as void around objects and classes without boxes, which will read as background; what further tasks learn from
    (``maps`` and ``values``).

    Args:
        dataset: the samples, with ``image_id`` unique; ``a/b`` is written as the file ``a_b``.
        folder: of the data set, made where it is missing.
        split: name of the JSON and of the folder of images.
        classes: None: those of the data set.
        overwrite: whether files that are there are replaced.

    Returns:
        COCO's number of each ``image_id``: the id itself if all are whole numbers, else 1, 2, ...

    Raises:
        DataError: if the data set has no classes, an item breaks the contract of `Sample`, an id cannot be the name of
            a file or occurs twice, or files are there already or cannot be written.

    Example:
        >>> import tempfile
        >>> from mtvision.data.readers.shapes import Shapes
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_coco(Shapes("train", num_images=2, image_size=32), folder, "train")
        {'train-00000': 1, 'train-00001': 2}
    """
    what = "write_coco"
    if not is_plain_name(split):
        raise DataError(f"{what}: expected the name of a split without folder, got {split[:80]!r}")
    known = dataset_classes(dataset, classes, what)
    root, name = Path(folder).expanduser(), Path("annotations", f"instances_{split}.json")
    refuse_existing(root / name, overwrite)
    left = _Left([], [], [], [])
    with new_folder(root, overwrite) as place:
        (place / name).parent.mkdir(parents=True)
        with (place / name).open("w", encoding="utf-8") as file:
            numbers = _write(dataset, file, place / split, known, left)
    _tell(root / name, left)
    return numbers


def _write(dataset: Sequence[Sample], file: IO[str], pictures: Path, classes: Classes, left: _Left) -> dict[str, int]:
    """Write the JSON object, annotations as they come and the list of images, which is short, at the end."""
    categories = [{"id": number, "name": name} for number, name in enumerate(classes.detection, start=1)]
    file.write(f'{{"categories": {json.dumps(categories)},\n"annotations": [')
    images: list[dict[str, Any]] = []
    numbers: dict[str, int] = {}
    seen: set[str] = set()
    as_they_are = _are_numbers(getattr(dataset, "image_ids", None))
    count = 0
    for index in range(len(dataset)):
        sample = checked_sample(dataset, index, classes, "write_coco")
        check_new_ids(seen, file_name(sample.image_id, "write_coco"), "write_coco")
        if sample.boxes is None:
            left.boxless.append(sample.image_id)
            continue
        if has_further(sample):
            left.further.append(sample.image_id)
        number = int(sample.image_id) if as_they_are else len(numbers) + 1
        numbers[sample.image_id] = number
        picture = write_picture(dataset, index, sample, pictures / file_name(sample.image_id, "write_coco"))
        height, width = sample.image.shape[:2]
        images.append({"id": number, "file_name": picture.name, "height": height, "width": width})
        for item in _annotations(sample, classes, left):
            count += 1
            identity = {"id": count, "image_id": number}
            file.write(("," if count > 1 else "") + "\n" + json.dumps(identity | item, allow_nan=False))
    file.write(f'\n],\n"images": {json.dumps(images)}}}\n')
    return numbers


def _annotations(sample: Sample, classes: Classes, left: _Left) -> list[dict[str, Any]]:
    mask, instances = sample.mask, sample.instances
    if mask is not None and instances is None:
        left.maskless.append(sample.image_id)
    items = []
    covered = np.zeros(sample.image.shape[:2], dtype=np.bool_)
    for row, (box, label, difficult) in enumerate(objects_of(sample), start=1):
        x, y, right, bottom = box
        item: dict[str, Any] = {"category_id": label + 1, "iscrowd": int(difficult)}
        item |= {"bbox": [x, y, right - x, bottom - y], "area": (right - x) * (bottom - y)}
        if instances is not None:
            own = classes.segmentation.index(classes.detection[label]) if mask is not None else 0
            pixels = _pixels(sample, instances, row, own)
            if difficult and mask is not None and not pixels.any():
                pixels = _within(box, (mask == VOID) & (instances == 0) & ~covered)
            covered |= pixels
            item |= {"segmentation": run_lengths(pixels), "area": int(pixels.sum())}
        items.append(item)
    if mask is not None and instances is not None and (mask[~covered] != 0).any():
        left.uncovered.append(sample.image_id)
    return items


def _pixels(sample: Sample, instances: InstanceMap, row: int, own: int) -> NDArray[np.bool_]:
    """Return the pixels of object ``row`` (from 1) to which the mask gives its class ``own``; a crowd has void too."""
    pixels = np.asarray(instances == row, dtype=np.bool_)
    if sample.mask is not None and sample.difficult is not None:
        agrees = sample.mask == own
        pixels &= agrees | (sample.mask == VOID) if sample.difficult[row - 1] else agrees
    return pixels


def _within(box: Sequence[float], pixels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels that a box in xyxy pixels touches."""
    left, top, right, bottom = (int(edge) for edge in (*np.floor(box[:2]), *np.ceil(box[2:])))
    found = np.zeros_like(pixels)
    place = np.s_[max(top, 0) : bottom, max(left, 0) : right]
    found[place] = pixels[place]
    return found


def _are_numbers(ids: Sequence[str] | None) -> bool:
    """Tell whether all ids are whole numbers as a JSON writes them, so that they come back as they are."""
    return ids is not None and all(
        text.isascii() and text.isdecimal() and len(text) <= _LONGEST_ID and str(int(text)) == text for text in ids
    )


def _tell(path: Path, left: _Left) -> None:
    for ids, text in (
        (left.boxless, "images were not annotated for boxes and are left out"),
        (left.maskless, "images have a mask without an instance map, which is left out"),
        (left.further, "images have annotations of further tasks, which are left out"),
        (left.uncovered, "images have pixels of their masks that belong to no object; they will read as background"),
    ):
        if ids:
            logger.warning("%s: %d %s (%s)", path, len(ids), text, ", ".join(map(str, ids[:8])))
