"""Writing any data set as a folder in the layout of the Pascal VOC devkit."""

import logging
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mtvision.data.classes import read_classes
from mtvision.data.geometry import keep_objects
from mtvision.data.readers.file_set import is_plain_name
from mtvision.data.writers.writing import (
    COPIED_SUFFIXES,
    check_new_ids,
    checked_sample,
    dataset_classes,
    file_name,
    has_further,
    new_folder,
    objects_of,
    refuse_existing,
    write_ids,
    write_picture,
    writing_to,
)
from mtvision.errors import DataError
from mtvision.types import VOID, Classes, Sample

logger = logging.getLogger(__name__)

_BORDER = 0.5  # pixels: a box that comes nearer to the image's edge is called truncated


class _Lists(NamedTuple):
    """Ids of the images with boxes and of those with masks; of those of which something was left out."""

    boxes: list[str]
    masks: list[str]
    neither: list[str]
    narrow: list[str]
    crowded: list[str]
    further: list[str]


def write_voc(
    dataset: Sequence[Sample],
    folder: str | Path,
    split: str,
    *,
    classes: Classes | None = None,
    overwrite: bool = False,
) -> None:
    """Write one split of a data set as a folder that `VOC` and VOC's own tools read.

    Boxes become XML files, masks PNGs in ``SegmentationClass``, instance maps PNGs in ``SegmentationObject``; the lists
    of ``ImageSets`` say what each image is annotated with, and ``classes.txt`` names the classes. An image's file is
    copied where the data set has it as a JPEG or PNG of the same pixels, else written as a PNG: nothing is compressed
    again. What `VOC` reads from the folder is what was written: images, masks, boxes, labels and difficult flags are
    equal, number for number. Several splits go into one folder by as many calls.

    Some things have no place in the format, are left out, and named in a warning: images with neither boxes nor a mask;
    boxes that are narrower or lower than a pixel; the instance map of an image with more than 254 objects; what
    further tasks learn from (``maps`` and ``values``).
    ``truncated`` is 1 for a box at the image's edge; ``pose`` is not known.

    Args:
        dataset: the samples, with ``image_id`` unique; ``a/b`` is written as ``a_b``.
        folder: of the devkit, made where it is missing.
        split: name of the lists.
        classes: None: those of the data set.
        overwrite: whether files that are there are replaced; of an image of the same name all files are, also those
            that the new one has not, such as a mask.

    Raises:
        DataError: if the data set has no classes, or other ones than the folder; classes with boxes are no mask
            classes in the same order; an item breaks the contract of `Sample`; an id cannot be the name of a file or
            occurs twice; or files are there already or cannot be written.

    Example:
        >>> import tempfile
        >>> from mtvision.data.readers.shapes import Shapes
        >>> from mtvision.data.readers.voc import VOC
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_voc(Shapes("train", num_images=4, image_size=32), folder, "train")
        ...     len(VOC(folder, "train"))
        4
    """
    what = "write_voc"
    if not is_plain_name(split):
        raise DataError(f"{what}: expected the name of a split without folder, got {split[:80]!r}")
    known = dataset_classes(dataset, classes, what)
    root = Path(folder).expanduser()
    table = _class_table(known, root)
    for name in ("Main", "Segmentation"):
        refuse_existing(root / "ImageSets" / name / f"{split}.txt", overwrite)
    with new_folder(root, overwrite) as place:
        lists = _Lists([], [], [], [], [], [])
        seen: set[str] = set()
        for index in range(len(dataset)):
            sample = checked_sample(dataset, index, known, what)
            name = file_name(sample.image_id, what)
            check_new_ids(seen, name, what)
            if not overwrite:
                for file in _files_of(name):
                    refuse_existing(root / file, overwrite=False)
            _write_sample(dataset, index, sample, name, place, known, lists)
        _write_lists(place, split, lists)
        if not (root / "classes.txt").exists():
            (place / "classes.txt").write_text(table, encoding="utf-8")
        files = [file for image in dict.fromkeys((*lists.boxes, *lists.masks)) for file in _files_of(image)]
        stale = [file for file in files if not (place / file).exists()]
    if overwrite:  # else none of these files was there
        with writing_to(root):
            for file in stale:
                (root / file).unlink(missing_ok=True)
    _tell(root, lists)


def _write_sample(
    dataset: Sequence[Sample], index: int, sample: Sample, name: str, place: Path, classes: Classes, lists: _Lists
) -> None:
    if sample.boxes is None and sample.mask is None:
        lists.neither.append(name)
        return
    if has_further(sample):
        lists.further.append(name)
    sample = _expressible(sample, name, lists)
    picture = write_picture(dataset, index, sample, place / "JPEGImages" / name)
    if sample.boxes is not None:
        lists.boxes.append(name)
        path = place / "Annotations" / f"{name}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_to_xml(sample, picture.name, classes))
    if sample.mask is not None:
        lists.masks.append(name)
        write_ids(place / "SegmentationClass" / f"{name}.png", sample.mask)
    if sample.instances is not None:
        numbers = sample.instances.astype(np.uint8)
        if sample.mask is not None:
            numbers[(sample.mask == VOID) & (numbers == 0)] = VOID
        write_ids(place / "SegmentationObject" / f"{name}.png", numbers)


def _expressible(sample: Sample, name: str, lists: _Lists) -> Sample:
    """Return a sample without what an XML and an 8-bit PNG cannot say."""
    if sample.boxes is not None:
        first = sample.boxes[:, :2].astype(np.float64) + 1  # pixel, and so written
        wide = np.asarray((sample.boxes[:, 2:] >= first).all(axis=1), dtype=np.bool_)
        if not wide.all():
            lists.narrow.append(name)
            sample = keep_objects(sample, wide)
    if sample.instances is not None and sample.boxes is not None and len(sample.boxes) >= VOID:
        lists.crowded.append(name)
        sample = replace(sample, instances=None)
    return sample


def _to_xml(sample: Sample, picture: str, classes: Classes) -> bytes:
    height, width = sample.image.shape[:2]
    root = ElementTree.Element("annotation")
    _add(root, "filename", picture)
    size = ElementTree.SubElement(root, "size")
    for key, value in (("width", width), ("height", height), ("depth", 3)):
        _add(size, key, str(value))
    _add(root, "segmented", str(int(sample.mask is not None)))
    for box, label, difficult in objects_of(sample):
        item = ElementTree.SubElement(root, "object")
        truncated = min(box[:2]) < _BORDER or box[2] > width - _BORDER or box[3] > height - _BORDER
        _add(item, "name", classes.detection[label])
        _add(item, "pose", "Unspecified")
        _add(item, "truncated", str(int(truncated)))
        _add(item, "difficult", str(int(difficult)))
        place = ElementTree.SubElement(item, "bndbox")
        edges = (box[0] + 1, box[1] + 1, box[2], box[3])  # the first pixel is 1, and the last is part of the box
        for key, edge in zip(("xmin", "ymin", "xmax", "ymax"), edges, strict=True):
            _add(place, key, str(int(edge)) if edge == int(edge) else repr(edge))
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, encoding="utf-8"))


def _add(parent: ElementTree.Element, key: str, text: str) -> None:
    ElementTree.SubElement(parent, key).text = text


def _class_table(classes: Classes, root: Path) -> str:
    """Return the text of ``classes.txt``, held against the one that is there."""
    names, boxed = classes.segmentation, classes.detection
    odd = next((name for name in (*names, *boxed) if name != " ".join(name.split()) or not name.isprintable()), None)
    if odd is not None:
        raise DataError(f"write_voc: the class name {odd[:80]!r} cannot stand in a classes.txt")
    if tuple(name for name in names[1:] if name in boxed) != boxed:
        raise DataError("write_voc: the classes with boxes must be classes of the masks, in the same order")
    path = root / "classes.txt"
    if path.exists() and read_classes(path) != Classes(names, boxed):
        raise DataError(f"{path}: the folder has other classes than the data set")
    lines = [f"{number} {name} {int(name in boxed)}\n" for number, name in enumerate(names)]
    return "".join(lines) + f"{VOID} void 0\n"


def _files_of(name: str) -> list[Path]:
    """Return all files that an image can have, relative to the folder."""
    images = [Path("JPEGImages", f"{name}{suffix}") for suffix in COPIED_SUFFIXES]
    masks = [Path(folder, f"{name}.png") for folder in ("SegmentationClass", "SegmentationObject")]
    return [*images, Path("Annotations", f"{name}.xml"), *masks]


def _write_lists(place: Path, split: str, lists: _Lists) -> None:
    for name, ids in (("Main", lists.boxes), ("Segmentation", lists.masks)):
        path = place / "ImageSets" / name / f"{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{image_id}\n" for image_id in ids), encoding="utf-8")


def _tell(root: Path, lists: _Lists) -> None:
    for ids, text in (
        (lists.neither, "images have neither boxes nor a mask and are left out"),
        (lists.narrow, "images have boxes narrower or lower than a pixel, which are left out"),
        (lists.further, "images have annotations of further tasks, which are left out"),
        (lists.crowded, "images have more than 254 objects and are written without an instance map"),
    ):
        if ids:
            logger.warning("%s: %d %s (%s)", root, len(ids), text, ", ".join(ids[:8]))
