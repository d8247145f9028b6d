"""Images with the instances of a COCO JSON file, as boxes and as masks of their classes."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from mtvision.data.classes import classes_from_names
from mtvision.data.coco_instances import Instances, read_instances
from mtvision.data.file_set import Annotation, FileSet, Records, chosen_classes, existing_folder, inside
from mtvision.data.files import Size
from mtvision.data.regions import (
    Found,
    Layer,
    Region,
    box_problem,
    finite,
    paint,
    polygon_problem,
    polygon_region,
    run_length_region,
    to_objects,
)
from mtvision.errors import DataError, did_you_mean
from mtvision.registries import DATASETS
from mtvision.types import VOID, Classes

_YEAR = r"instances_{}\d{{4}}\.json"


class _Parts(NamedTuple):
    found: Found | None
    layer: Layer | None


class Coco(FileSet):
    """The images of a COCO instances JSON (Lin et al. 2014, arXiv 1405.0312), in the order of their ids.

    Each category is a class of both tasks: labels 0, 1, ... in the order of the file, mask ids one more. Where objects
    share a pixel the smaller one (in pixels) is on top, of equal ones the later. A crowd (``iscrowd`` 1) is a difficult
    box, and void in the mask where no object lies on it. Polygons and run lengths are rasterised as the COCO tools do.

    All images count as annotated for detection. They have masks if any annotation of the file has a segmentation,
    except an image with an annotation that has none. An annotation whose box has width or height 0 (there are two in
    COCO) is left out, with a warning.

    ``image_id`` is the image's id in the file, as text.

    Args:
        annotations: the JSON file, or what `parse_instances` made of its content.
        images: the folder that the file names are relative to.
        classes: names, or the path of a list of classes: a choice of the categories, in that order; annotations of
            other categories are left out, their pixels are background. None: all categories.

    Raises:
        DataError: if the file is no such JSON, a file name leads out of the folder, or a class is no category.
    """

    def __init__(
        self,
        annotations: str | Path | Instances,
        images: str | Path,
        *,
        classes: str | Path | list[str] | None = None,
    ) -> None:
        instances = _as_instances(annotations)
        folder = existing_folder(images)
        paths = [_image_path(folder, instances, number) for number in instances.images]
        super().__init__(paths, [str(number) for number in instances.images], _classes(instances, classes))
        self._source = instances.source
        self._categories = instances.categories
        self._has_masks = any(item.get("segmentation") for items in instances.annotations.values() for item in items)
        self._records = Records([_size(instances, key), instances.annotations[key]] for key in instances.images)

    def fingerprint(self) -> str:
        """Return a digest of the images with their sizes and times, and of the annotations."""
        return super().fingerprint() + self._records.digest()

    def _annotation_files(self, index: int) -> Iterable[Path]:  # noqa: ARG002 - they are in the fingerprint as a whole
        return ()

    def _annotation(self, index: int, size: Size) -> tuple[Annotation, list[str]]:
        written, items = self._records[index]
        if written is not None and tuple(written) != size:
            own = " x ".join(map(str, size))
            wanted = " x ".join(map(str, written))
            text = f"the image is {own} pixels (height x width), {self._source} says {wanted}"
            return Annotation(None, None), [f"{self._image_path(index)}: {text}"]
        parts, problems = [], []
        for item in items:
            part, complaints = self._read(item, size)
            parts.append(part)
            where = f"{self._source}: image {self._ids[index]}: annotation {item.get('id')}"
            problems += [f"{where}: {text}" for text in complaints]
        if problems:
            return Annotation(None, None), problems
        objects = to_objects([part.found for part in parts if part.found], size)
        complete = self._has_masks and all(item.get("segmentation") for item in items)
        layers = [part.layer for part in parts if part.layer]
        return Annotation(paint(layers, size) if complete else None, objects), []

    def _read(self, item: dict[str, Any], size: Size) -> tuple[_Parts, list[str]]:
        """Return one annotation, and a sentence for each problem."""
        name = self._categories.get(item["category_id"]) if type(item.get("category_id")) is int else None
        if name is None:
            known = ", ".join(map(str, list(self._categories)[:24]))
            return _Parts(None, None), [f"unknown category id {item.get('category_id')!r}; known: {known}"]
        crowd = item.get("iscrowd", 0)
        if crowd not in (0, 1):
            return _Parts(None, None), [f"'iscrowd' must be 0 or 1, got {crowd!r}"]
        box, complaint = _box(item.get("bbox"), size)
        region, second = _region(item["segmentation"], size) if item.get("segmentation") else (None, "")
        problems = [text for text in (complaint, second) if text]
        has_box, has_pixels = name in self.classes.detection, name in self.classes.segmentation
        found = Found(box, self.classes.detection.index(name), bool(crowd)) if box and has_box else None
        value = VOID if crowd else self.classes.segmentation.index(name) if has_pixels else 0
        return _Parts(found, Layer(value, region) if region is not None and has_pixels else None), problems


@DATASETS.register("coco")
def coco(
    root: str | Path,
    split: str,
    *,
    annotations: Path | None = None,
    images: Path | None = None,
    classes: Path | list[str] | None = None,
) -> Coco:
    """A COCO instances JSON with its images: boxes, and masks of polygons and run lengths (Lin et al. 2014).

    See `Coco`.

    Args:
        root: the data set's folder.
        split: ``train``, ``val`` or ``test``.
        annotations: the JSON, relative to the root; None: ``annotations/instances_train2017.json`` or another year,
            ``annotations/instances_train.json``, ``annotations/train.json``, ``train.json`` or
            ``train/_annotations.coco.json``.
        images: the folder of the images, relative to the root; None: ``train2017``, ``images/train2017`` (the year of
            the JSON), ``train``, ``images/train``, ``images``, the JSON's folder or the root: the first with an image
            of the JSON.
        classes: names, or the path of a list of classes: a choice of the categories; None: all.
    """
    folder = existing_folder(root)
    file = folder / annotations.expanduser() if annotations else _find_annotations(folder, split)
    instances = read_instances(file)
    place = folder / images.expanduser() if images else _find_images(folder, split, file, instances)
    return Coco(instances, place, classes=classes)


def _as_instances(annotations: str | Path | Instances) -> Instances:
    return annotations if isinstance(annotations, Instances) else read_instances(Path(annotations).expanduser())


def _image_path(folder: Path, instances: Instances, number: int) -> Path:
    name = instances.images[number]["file_name"]
    path = inside(folder, name)
    if path is None:
        raise DataError(f"{instances.source}: image {number}: the file name '{name}' leads out of {folder}")
    return path


def _size(instances: Instances, number: int) -> list[int] | None:
    """Return the ``[H, W]`` that the file states for an image, None if it states none."""
    item = instances.images[number]
    size = [item.get("height"), item.get("width")]
    if size == [None, None]:
        return None
    if any(type(side) is not int for side in size):
        raise DataError(f"{instances.source}: image {number}: height and width must be whole numbers, got {size}")
    return size  # type: ignore[return-value]


def _classes(instances: Instances, chosen: str | Path | list[str] | None) -> Classes:
    names = list(instances.categories.values())
    if chosen is None:
        try:
            return classes_from_names(names)
        except DataError as error:
            raise DataError(f"{instances.source}: {error}") from None
    classes = chosen_classes(chosen)
    for name in (*classes.segmentation[1:], *classes.detection):
        if name not in names:
            known = ", ".join(names[:24]) + (", ..." if len(names) > 24 else "")
            raise DataError(f"{instances.source}: no category '{name}'.{did_you_mean(name, names)} Known: {known}")
    return classes


def _box(values: object, size: Size) -> tuple[tuple[float, float, float, float] | None, str]:
    """Return COCO's ``[x, y, width, height]`` as xyxy, or what is wrong with it."""
    numbers = finite(values)
    if numbers is None or len(numbers) != 4:
        return None, f"'bbox' must be 4 numbers, x, y, width and height; got {str(values)[:80]}"
    left, top, width, height = numbers.tolist()
    box = (left, top, left + width, top + height)
    complaint = box_problem(box, size)
    return (None if complaint else box), complaint


def _region(segmentation: object, size: Size) -> tuple[Region | None, str]:
    """Return the pixels of a segmentation, or what is wrong with it."""
    if isinstance(segmentation, dict):
        return run_length_region(segmentation, size)
    if not isinstance(segmentation, list):
        return None, f"'segmentation' must be polygons or run lengths, got {type(segmentation).__name__}"
    for polygon in segmentation:
        points = finite(polygon)
        complaint = "a polygon must be a list of numbers" if points is None else polygon_problem(points, size)
        if complaint:
            return None, complaint
    return polygon_region(segmentation, size), ""


def _find_annotations(folder: Path, split: str) -> Path:
    """Return the one JSON of a split."""
    if Path(split).name != split:
        raise DataError(f"{folder}: expected the name of a split without folder, got '{split}'")
    years = [path for path in _json_files(folder) if re.fullmatch(_YEAR.format(re.escape(split)), path.name)]
    names = (f"annotations/instances_{split}.json", f"annotations/{split}.json", f"{split}.json")
    others = [folder / name for name in (*names, f"{split}/_annotations.coco.json")]
    found = years + [path for path in others if path.is_file()]
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(path.relative_to(folder).as_posix() for path in found)
        raise DataError(f"{folder}: several files for the split '{split}' ({listed}); name one by 'annotations'")
    splits = sorted({re.sub(r"^instances_|\d{4}$", "", path.stem) for path in _json_files(folder)})
    raise DataError(
        f"{folder}: no COCO file of the split '{split}': expected {names[0]}, {names[1]}, {names[2]} or "
        f"{split}/_annotations.coco.json.{did_you_mean(split, splits)} Available: {', '.join(splits[:8]) or 'none'}"
    )


def _json_files(folder: Path) -> list[Path]:
    return sorted((folder / "annotations").glob("*.json")) + sorted(folder.glob("*.json"))


def _find_images(folder: Path, split: str, file: Path, instances: Instances) -> Path:
    """Return the first of the usual folders that has an image of the file."""
    year = "".join(re.findall(r"\d{4}$", file.stem))
    usual = dict.fromkeys((f"{split}{year}", f"images/{split}{year}", split, f"images/{split}", "images"))
    places = [folder / name for name in usual] + [file.parent, folder]
    names = [str(item["file_name"]) for item in instances.images.values()]
    for place in places:
        if place.is_dir() and any((path := inside(place, name)) and path.is_file() for name in names):
            return place
    listed = ", ".join(usual)
    raise DataError(f"{file}: none of its images, such as '{names[0]}', is in {folder} or its folders {listed}")
