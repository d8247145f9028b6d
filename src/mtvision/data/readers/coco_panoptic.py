"""Images with the segments of a COCO panoptic JSON and its PNGs: masks of things and stuff, boxes of things."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtvision.data.classes import BACKGROUND
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
from mtvision.data.readers.coco_panoptic_json import Category, Panoptic, read_panoptic
from mtvision.data.readers.file_set import Annotation, FileSet, Records, chosen_classes, existing_folder
from mtvision.data.readers.files import Size, read_colours
from mtvision.data.readers.instance_maps import number_type
from mtvision.data.readers.regions import Found, to_objects
from mtvision.errors import DataError, choices_hint
from mtvision.registries import DATASETS
from mtvision.types import VOID, Classes

_LARGEST = 256**3 - 1


class _Segment(NamedTuple):
    """A segment: its id in the PNG, the value of its pixels in the mask, its box if it is a thing that is detected."""

    id: int
    value: int
    found: Found | None


class CocoPanoptic(FileSet):
    """The images of a COCO panoptic JSON (Kirillov et al. 2019, arXiv 1801.00868), in the order of their ids.

    Each category is a class of the mask, things and stuff alike, in the order of the file: mask ids 1, 2, ...; things
    are also classes of the boxes, whose labels count them alone. A pixel of the PNG names its segment by
    ``R + 256 G + 65536 B``. 0 is, by the format, *unlabelled*: it is void in the mask, so mask id 0 (the background)
    has no pixel unless ``classes`` leaves some categories out, whose pixels it gets.

    A thing's box is its ``bbox``; a crowd (``iscrowd`` 1) is a difficult box and void in the mask. The instance map has
    all things that have a box. An image without an annotation in the file is not annotated: mask and boxes are None.

    ``image_id`` is the image's id in the file, as text.

    Args:
        annotations: the JSON file.
        masks: the folder of the PNGs.
        images: the folder of the images.
        classes: names, or the path of a list of classes: a choice of the categories, in that order. Stuff has no boxes,
            also where a list gives boxes to all of its classes. None: all.

    Raises:
        DataError: if the file is no such JSON, a file name leads out of its folder, or a class is no category, or is
            one of stuff and shall have boxes.
    """

    def __init__(
        self,
        annotations: str | Path | Panoptic,
        masks: str | Path,
        images: str | Path,
        *,
        classes: str | Path | list[str] | None = None,
    ) -> None:
        file = annotations if isinstance(annotations, Panoptic) else read_panoptic(Path(annotations).expanduser())
        folder, source = existing_folder(images), file.source
        paths = [path_within(folder, item["file_name"], source, number) for number, item in file.images.items()]
        super().__init__(paths, [str(number) for number in file.images], _classes(file, classes))
        self._source = source
        self._categories = file.categories
        self._masks = existing_folder(masks)
        for number, item in file.annotations.items():
            path_within(self._masks, item["file_name"], source, number)
        self._records = Records(
            [stated_size(item, source, number), _slim(file.annotations.get(number))]
            for number, item in file.images.items()
        )

    @property
    def category_ids(self) -> list[int]:
        """COCO's ids of the labels 0, 1, ..., as a file of results has them."""
        return ids_of(self.classes.detection, self._names)

    @property
    def mask_category_ids(self) -> list[int]:
        """COCO's ids of the mask ids 1, 2, ..., as a file of results has them."""
        return ids_of(self.classes.segmentation[1:], self._names)

    @property
    def _names(self) -> dict[int, str]:
        return {number: category.name for number, category in self._categories.items()}

    def fingerprint(self) -> str:
        """Return a digest of the images and PNGs with their sizes and times, and of the annotations."""
        return super().fingerprint() + self._records.digest()

    def _annotation_files(self, index: int) -> Iterable[Path]:
        annotation = self._records[index][1]
        return () if annotation is None else (self._masks / annotation[0],)

    def _annotation(self, index: int, size: Size) -> tuple[Annotation, list[str]]:
        written, annotation = self._records[index]
        problems = size_problem(self.image_path(index), self._source, written, size)
        if problems or annotation is None:
            return Annotation(None, None), problems
        name, items = annotation
        segments, complaints = self._segments(items, size)
        problems = [f"{self._source}: image {self._ids[index]}: {text}" for text in complaints]
        path = self._masks / name
        colours, found = read_colours(path, size)
        if colours is None or problems:
            return Annotation(None, None), problems + found
        result, complaints = _paint(colours, segments)
        objects = to_objects([segment.found for segment in segments if segment.found], size)
        return Annotation(result.mask, objects, result.instances), [f"{path}: {text}" for text in complaints]

    def _segments(self, items: list[Any], size: Size) -> tuple[list[_Segment], list[str]]:
        segments, problems = [], []
        seen: set[int] = set()
        for position, item in enumerate(items):
            number = item.get("id") if isinstance(item, Mapping) else None
            if type(number) is not int or not 0 < number <= _LARGEST:
                expected = f"its id must be a whole number from 1 to {_LARGEST}, got {str(number)[:40]}"
                problems.append(f"the segment at position {position}: {expected}")
                continue
            if number in seen:
                problems.append(f"the segment at position {position}: its id {number} occurs twice")
                continue
            seen.add(number)
            segment, complaint = self._segment(number, item, size)
            if segment is not None:
                segments.append(segment)
            if complaint:
                problems.append(f"segment {number}: {complaint}")
        return segments, problems

    def _segment(self, number: int, item: Mapping[str, Any], size: Size) -> tuple[_Segment | None, str]:
        problem = item_problem(item, self._categories)
        if problem:
            return None, problem
        name, crowd = self._categories[item["category_id"]].name, crowd_flag(item)
        if name not in self.classes.segmentation:
            return _Segment(number, 0, None), ""
        value = VOID if crowd else self.classes.segmentation.index(name)
        if name not in self.classes.detection:
            return _Segment(number, value, None), ""
        box, complaint = xyxy(item.get("bbox"), size)
        found = Found(box, self.classes.detection.index(name), bool(crowd)) if box else None
        return _Segment(number, value, found), complaint


@DATASETS.register("coco_panoptic")
def coco_panoptic(
    root: str | Path,
    split: str,
    *,
    annotations: Path | None = None,
    masks: Path | None = None,
    images: Path | None = None,
    classes: Path | list[str] | None = None,
) -> CocoPanoptic:
    """A COCO panoptic JSON with its PNGs: masks of things and stuff, boxes of things (Kirillov et al. 2019).

    See `CocoPanoptic`.

    Args:
        root: the data set's folder.
        split: ``train``, ``val`` or ``test``.
        annotations: the JSON, relative to the root; None: ``annotations/panoptic_train2017.json``, another year or
            none.
        masks: the folder of the PNGs, relative to the root; None: the one beside the JSON that is named like it.
        images: the folder of the images, relative to the root; None: found as that of `coco`.
        classes: names, or the path of a list of classes: a choice of the categories; None: all.
    """
    folder = existing_folder(root)
    file = folder / annotations.expanduser() if annotations else find_annotations(folder, split, "panoptic")
    content = read_panoptic(file)
    names = (str(item["file_name"]) for item in content.images.values())
    place = folder / images.expanduser() if images else find_images(folder, split, file, names)
    return CocoPanoptic(content, folder / masks.expanduser() if masks else file.with_suffix(""), place, classes=classes)


def _slim(annotation: Mapping[str, Any] | None) -> tuple[str, list[Any]] | None:
    return None if annotation is None else (annotation["file_name"], annotation["segments_info"])


def _classes(file: Panoptic, chosen: str | Path | list[str] | None) -> Classes:
    """Return the classes: of the mask all categories or the chosen ones, of the boxes those that are things."""
    known = {category.name: category for category in file.categories.values()}
    if chosen is None:
        return _of(list(known), known, file.source)
    classes = chosen_classes(chosen)
    for name in classes.segmentation[1:]:
        if name not in known:
            raise DataError(f"{file.source}: no category '{name}'{choices_hint(name, known)}")
    if isinstance(chosen, list) or classes.detection == classes.segmentation[1:]:  # nothing is said of boxes
        return _of(list(classes.segmentation[1:]), known, file.source)
    stuff = [name for name in classes.detection if not known[name].is_thing]
    if stuff:
        raise DataError(f"{chosen}: '{stuff[0]}' shall have boxes, but in {file.source} it is stuff, which has none")
    return classes


def _of(names: list[str], known: Mapping[str, Category], source: str) -> Classes:
    if not names:
        raise DataError(f"{source}: it has no categories")
    return Classes((BACKGROUND, *names), tuple(name for name in names if known[name].is_thing))


class _Result(NamedTuple):
    mask: NDArray[np.uint8]
    instances: NDArray[Any] | None


def _paint(colours: NDArray[np.uint8], segments: list[_Segment]) -> tuple[_Result, list[str]]:
    """Return mask and instance map of a PNG ``(H, W, 3)``, and a sentence for each segment that is on one side only."""
    order = sorted(segments)
    ids = np.array([0, *(segment.id for segment in order)], dtype=np.int64)
    rows = {segment.id: row for row, segment in enumerate((s for s in segments if s.found), start=1)}
    values = np.array([VOID, *(segment.value for segment in order)], dtype=np.uint8)
    numbers = np.array([0, *(rows.get(segment.id, 0) for segment in order)], dtype=np.int64)
    flat = colours.reshape(-1, 3).astype(np.int32) @ np.array([1, 256, 65536], dtype=np.int32)  # (H * W,)
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))  # of runs, far fewer than pixels
    seen = flat[starts]
    places = np.searchsorted(ids, seen).clip(0, len(ids) - 1)
    unknown = sorted(set(seen[ids[places] != seen].tolist()))
    missing = sorted(set(ids[1:].tolist()) - set(seen.tolist()))
    problems = [f"the segment id {number} is not in 'segments_info' of the JSON" for number in unknown[:8]]
    problems += [f"no pixel has the segment id {number} of the JSON" for number in missing[:8]]
    shape = colours.shape[:2]
    owners = np.repeat(places, np.diff(starts, append=len(flat))).reshape(shape)
    kind = number_type(len(rows))
    return _Result(np.take(values, owners), None if kind is None else np.take(numbers.astype(kind), owners)), problems
