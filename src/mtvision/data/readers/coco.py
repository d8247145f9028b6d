"""Images with the instances of a COCO JSON file, as boxes and as masks of their classes."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from mtvision.data.classes import classes_from_names
from mtvision.data.readers.coco_files import (
    crowd_flag,
    find_annotations,
    find_images,
    ids_of,
    item_problem,
    path_within,
    size_problem,
    stated_size,
    xyxy,
)
from mtvision.data.readers.coco_instances import Instances, read_instances
from mtvision.data.readers.file_set import Annotation, FileSet, Records, chosen_classes, existing_folder
from mtvision.data.readers.files import Size
from mtvision.data.readers.regions import (
    Found,
    Layer,
    Region,
    finite,
    paint,
    polygon_problem,
    polygon_region,
    run_length_region,
    to_objects,
)
from mtvision.errors import DataError, choices_hint
from mtvision.registries import DATASETS
from mtvision.types import VOID, Classes


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
    COCO) is left out, with a warning. One bad polygon makes its annotation, and so the image, an error, also where the
    object has good ones.

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
        source = instances.source
        paths = [path_within(folder, item["file_name"], source, number) for number, item in instances.images.items()]
        super().__init__(paths, [str(number) for number in instances.images], _classes(instances, classes))
        self._source = source
        self._categories = instances.categories
        self._has_masks = any(item.get("segmentation") for items in instances.annotations.values() for item in items)
        self._records = Records(
            [stated_size(item, source, number), instances.annotations[number]]
            for number, item in instances.images.items()
        )

    @property
    def category_ids(self) -> list[int]:
        """COCO's ids of the labels 0, 1, ..., as a file of results has them."""
        return ids_of(self.classes.detection, self._categories)

    @property
    def mask_category_ids(self) -> list[int]:
        """COCO's ids of the mask ids 1, 2, ..., as a file of results has them."""
        return ids_of(self.classes.segmentation[1:], self._categories)

    def fingerprint(self) -> str:
        """Return a digest of the images with their sizes and times, and of the annotations."""
        return super().fingerprint() + self._records.digest()

    def _annotation_files(self, index: int) -> Iterable[Path]:  # noqa: ARG002 - they are in the fingerprint as a whole
        return ()

    def _annotation(self, index: int, size: Size) -> tuple[Annotation, list[str]]:
        written, items = self._records[index]
        problems = size_problem(self.image_path(index), self._source, written, size)
        if problems:
            return Annotation(None, None), problems
        parts = []
        for item in items:
            part, complaints = self._read(item, size)
            parts.append(part)
            where = f"{self._source}: image {self._ids[index]}: annotation {item.get('id')}"
            problems += [f"{where}: {text}" for text in complaints]
        if problems:
            return Annotation(None, None), problems
        objects = to_objects([part.found for part in parts if part.found], size)
        if not (self._has_masks and all(item.get("segmentation") for item in items)):
            return Annotation(None, objects), []
        mask, instances = paint(_numbered(parts), size)
        return Annotation(mask, objects, instances), []

    def _read(self, item: dict[str, Any], size: Size) -> tuple[_Parts, list[str]]:
        """Return one annotation, and a sentence for each problem."""
        problem = item_problem(item, self._categories)
        if problem:
            return _Parts(None, None), [problem]
        name, crowd = self._categories[item["category_id"]], crowd_flag(item)
        box, complaint = xyxy(item.get("bbox"), size)
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
    others = (f"annotations/{split}.json", f"{split}.json", f"{split}/_annotations.coco.json")
    file = folder / annotations.expanduser() if annotations else find_annotations(folder, split, "instances", others)
    instances = read_instances(file)
    names = (str(item["file_name"]) for item in instances.images.values())
    place = folder / images.expanduser() if images else find_images(folder, split, file, names)
    return Coco(instances, place, classes=classes)


def _numbered(parts: Iterable[_Parts]) -> list[Layer]:
    """Return the layers, each with the row of its box plus one."""
    layers, rows = [], 0
    for found, layer in parts:
        rows += found is not None
        if layer is not None:
            layers.append(layer._replace(number=rows if found else 0))
    return layers


def _as_instances(annotations: str | Path | Instances) -> Instances:
    return annotations if isinstance(annotations, Instances) else read_instances(Path(annotations).expanduser())


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
            raise DataError(f"{instances.source}: no category '{name}'{choices_hint(name, names)}")
    return classes


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
