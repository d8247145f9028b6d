"""Plain folders: images, masks as PNG, and boxes as label files or in one table."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from mtvision.data.readers.boxes_table import read_table, to_found
from mtvision.data.readers.file_set import (
    Annotation,
    FileSet,
    Records,
    chosen_classes,
    existing_folder,
    ids_below,
    inside,
    is_plain_name,
    list_images,
    read_class_list,
    read_lines,
)
from mtvision.data.readers.files import Objects, Size, read_mask
from mtvision.data.readers.regions import to_objects
from mtvision.data.readers.yolo_labels import read_labels
from mtvision.errors import DataError, did_you_mean
from mtvision.registries import DATASETS
from mtvision.types import Classes


class _Places(NamedTuple):
    images: Path
    masks: Path
    labels: Path
    table: Path
    listed: Path | None


class Folder(FileSet):
    """The images of one split with a mask, boxes or both: what lies on a disk without any standard.

    Three layouts are known, of which the first that fits is taken::

        train/images/a.jpg    train/masks/a.png    train/labels/a.txt    or train/boxes.csv
        images/train/a.jpg    masks/train/a.png    labels/train/a.txt    or boxes/train.csv
        images/a.jpg          masks/a.png          labels/a.txt          or boxes.csv, and train.txt: a name a line

    Masks are palette or grey PNGs of class ids, 0 background and 255 void. Label files are YOLO's: a line an object,
    ``class x y width height`` in fractions of the image, classes from 0; of a polygon the box is taken. A table has the
    columns ``image,xmin,ymin,xmax,ymax,class`` and maybe ``difficult``: the image's name with or without suffix, edges
    in pixels with the first pixel from 0 to 1, the class's name; a line with an image alone says that it has no object.

    An image without a mask file is not annotated for segmentation; one without a label file, or that the table does not
    mention, is not annotated for detection. An empty label file says that there is no object.

    Args:
        root: the data set's folder.
        split: ``train``, ``val`` or any other that is there.
        classes: names of the objects, or the path of a list of classes: ``id name has_boxes`` or a name a line. None:
            ``classes.txt`` in the root.

    Raises:
        DataError: if no layout fits, the split has no images or none with an annotation, boxes are in label files and a
            table, or the classes or the table cannot be read.
    """

    def __init__(self, root: str | Path, split: str, *, classes: str | Path | list[str] | None = None) -> None:
        folder = existing_folder(root)
        self.split = split
        self._places = _find_places(folder, split)
        images = _find_images(self._places)
        super().__init__(
            images, ids_below(self._places.images, images), chosen_classes(classes) if classes else _own_classes(folder)
        )
        rows = _read_rows(self._places)
        # For each image the numbers and cells of its lines in the table.
        self._rows = Records(rows.get(path) for path in images)
        files = (path for index in range(len(self)) for path in self._annotation_files(index))
        if not any(path in rows for path in images) and not any(path.is_file() for path in files):
            self._complain()

    def _complain(self) -> None:
        masks, labels = self._annotation_files(0)
        raise DataError(
            f"{self._places.images}: none of the {len(self)} images has an annotation: expected files such as "
            f"{masks} or {labels}, or the table {self._places.table}"
        )

    def fingerprint(self) -> str:
        """Return a digest of the image ids with the sizes and times of the files of each, and of the table."""
        return super().fingerprint() + self._rows.digest()

    def _annotation_files(self, index: int) -> Iterable[Path]:
        name = str(self._ids[index])
        return self._places.masks / f"{name}.png", self._places.labels / f"{name}.txt"

    def _annotation(self, index: int, size: Size) -> tuple[Annotation, list[str]]:
        mask_path, label_path = self._annotation_files(index)
        mask = None
        problems: list[str] = []
        if mask_path.exists():
            mask, problems = read_mask(mask_path, size, len(self.classes.segmentation))
        if label_path.exists():
            labels, found = read_labels(label_path, size, len(self.classes.detection))
            return Annotation(mask, labels.objects), problems + found
        objects, found = self._from_table(index, size)
        return Annotation(mask, objects), problems + found

    def _from_table(self, index: int, size: Size) -> tuple[Objects | None, list[str]]:
        rows = self._rows[index]
        if rows is None:
            return None, []
        items, problems = [], []
        for number, cells in rows:
            item, complaint = to_found(cells, size, self.classes.detection)
            if item:
                items.append(item)
            if complaint:
                problems.append(f"{self._places.table}:{number}: {complaint}")
        return to_objects(items, size), problems


@DATASETS.register("folder")
def folder(root: str | Path, split: str, *, classes: Path | list[str] | None = None) -> Folder:
    """Images with masks as PNG and boxes as YOLO label files or in one CSV (mtvision).

    See `Folder`.

    Args:
        root: the data set's folder, with ``train/images`` or ``images/train`` or a list ``train.txt``.
        split: ``train``, ``val`` or any other that is there.
        classes: names, or the path of a list of classes; None: the folder's ``classes.txt``.
    """
    return Folder(root, split, classes=classes)


def _own_classes(root: Path) -> Classes:
    path = root / "classes.txt"
    if not path.is_file():
        raise DataError(f"{path}: the list of classes is missing; give it or the names by 'classes'")
    return read_class_list(path)


def _find_places(root: Path, split: str) -> _Places:
    if not is_plain_name(split):
        raise DataError(f"{root}: expected the name of a split without folder, got {split[:80]!r}")
    own = root / split
    if (own / "images").is_dir():
        return _Places(own / "images", own / "masks", own / "labels", own / "boxes.csv", None)
    names = ("images", "masks", "labels")
    if (root / "images" / split).is_dir():
        images, masks, labels = (root / name / split for name in names)
        return _Places(images, masks, labels, root / "boxes" / f"{split}.csv", None)
    images, masks, labels = (root / name for name in names)
    listed = root / f"{split}.txt"
    if images.is_dir() and listed.is_file():
        return _Places(images, masks, labels, root / "boxes.csv", listed)
    splits = sorted(_splits(root))
    raise DataError(
        f"{root}: no split '{split}': expected {split}/images, images/{split}, or images and a list {split}.txt."
        f"{did_you_mean(split, splits)} Available: {', '.join(splits[:8]) or 'none'}"
    )


def _splits(root: Path) -> set[str]:
    nested = {path.parent.name for path in root.glob("*/images") if path.is_dir()}
    below = {path.name for path in (root / "images").glob("*") if path.is_dir()}
    return nested | below | {path.stem for path in root.glob("*.txt") if path.stem != "classes"}


def _find_images(places: _Places) -> list[Path]:
    images = list_images(places.images)
    if places.listed is not None:
        images = _listed_images(places.listed, places.images, images)
    if not images:
        raise DataError(f"{places.listed or places.images}: the split has no images")
    return images


def _listed_images(listed: Path, place: Path, images: list[Path]) -> list[Path]:
    by_name = _by_name(images, place)
    found: dict[Path, None] = {}
    for number, line in enumerate(read_lines(listed, "the list of images"), start=1):
        name = line.strip()
        if not name:
            continue
        if inside(place, name) is None:
            raise DataError(f"{listed}:{number}: '{name[:80]}' leads out of {place}")
        if name not in by_name:
            raise DataError(f"{listed}:{number}: no image '{name[:80]}' in {place}.{did_you_mean(name, by_name)}")
        found[by_name[name]] = None
    return list(found)


def _by_name(images: list[Path], place: Path) -> dict[str, Path]:
    """Return the images by their names with and without suffix."""
    names = {path.relative_to(place).with_suffix("").as_posix(): path for path in images}
    return names | {path.relative_to(place).as_posix(): path for path in images}


def _read_rows(places: _Places) -> dict[Path, list[tuple[int, dict[str, str]]]]:
    """Return the lines of the table, if there is one, by image."""
    found: dict[Path, list[tuple[int, dict[str, str]]]] = {}
    if not places.table.is_file():
        return found
    if places.labels.is_dir():
        raise DataError(f"{places.table}: boxes are in {places.labels} too; keep one of them")
    by_name = _by_name(list_images(places.images), places.images)
    for number, cells in read_table(places.table):
        name = cells["image"]
        if name not in by_name:
            where = f"{places.table}:{number}"
            raise DataError(f"{where}: no image '{name[:80]}' in {places.images}.{did_you_mean(name, by_name)}")
        found.setdefault(by_name[name], []).append((number, cells))
    return found
