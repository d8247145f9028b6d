"""Folders in the layout of YOLO: a data.yaml, images, and a label file each."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mtvision.data.classes import classes_from_names
from mtvision.data.readers.file_set import (
    Annotation,
    FileSet,
    existing_folder,
    ids_below,
    inside,
    is_folder,
    list_images,
    read_lines,
)
from mtvision.data.readers.files import Size
from mtvision.data.readers.regions import paint
from mtvision.data.readers.yolo_labels import has_polygon, read_labels
from mtvision.errors import DataError, did_you_mean
from mtvision.registries import DATASETS
from mtvision.types import Classes


class Yolo(FileSet):
    """The images of one split of a ``data.yaml`` as Ultralytics' YOLO reads it.

    Its keys ``train``, ``val`` and ``test`` name folders of images or lists of them, relative to ``path``, which is
    relative to the file and by default its folder; ``names`` has the classes. All of it lies in the data set's folder.
    The labels of ``images/a.jpg`` are in ``labels/a.txt`` (the last ``images`` of the path is replaced), else beside
    the image; a line an object, in fractions of the image: ``class x y width height``, or a segment's polygon
    ``class x1 y1 x2 y2 x3 y3 ...``, whose box is that of its points.

    An empty label file says that there is no object; an image without one is not annotated (where Ultralytics takes it
    as empty). Polygons are rasterised as the COCO tools do, smaller ones on top. Mask ids are labels plus one.

    Args:
        root: the data set's folder.
        split: ``train``, ``val`` or ``test``, a key of the file.
        data: the file, relative to the root; None: ``data.yaml``, or the only ``.yaml`` in the root.
        masks: whether the polygons are masks too. True: all objects must be polygons. None: if any label file of the
            split has a polygon (to find none, all are read), but an image with a box among its objects has no mask.

    Raises:
        DataError: if the folder or file is no such, the split has no images, or a path leads out of the folder.
    """

    def __init__(self, root: str | Path, split: str, *, data: Path | None = None, masks: bool | None = None) -> None:
        folder = existing_folder(root)
        file = folder / data.expanduser() if data else _find_file(folder)
        from mtvision.data.readers.yolo_yaml import read_yaml

        content = read_yaml(file)
        self.split = split
        base = _base(folder, file, content)
        images = _images(folder, base, file, content, split)
        common = Path(os.path.commonpath([path.parent for path in images]))
        super().__init__(images, ids_below(common, images), _classes(file, content))
        self._folder = Path(os.path.normpath(folder.absolute()))
        self._strict = masks is True
        found = any(has_polygon(self._label_path(index)) for index in range(len(self))) if masks is None else masks
        self._has_masks = found

    def _annotation_files(self, index: int) -> Iterable[Path]:
        return (self._label_path(index),)

    def _annotation(self, index: int, size: Size) -> tuple[Annotation, list[str]]:
        path = self._label_path(index)
        if not path.exists():
            return Annotation(None, None), []
        labels, problems = read_labels(path, size, len(self.classes.detection))
        if self._strict and not problems:
            problems = [f"{path}:{line}: expected a polygon, got a box: it has no mask" for line in labels.boxes]
        if problems or labels.boxes or not self._has_masks:
            return Annotation(None, labels.objects), problems
        mask, instances = paint(labels.layers, size)
        return Annotation(mask, labels.objects, instances), []

    def _label_path(self, index: int) -> Path:
        image = self.image_path(index)
        parts = list(image.relative_to(self._folder).with_suffix(".txt").parts)
        folders = [position for position, part in enumerate(parts[:-1]) if part == "images"]
        if folders:
            parts[folders[-1]] = "labels"
        return self._folder.joinpath(*parts)


@DATASETS.register("yolo")
def yolo(root: str | Path, split: str, *, data: Path | None = None, masks: bool | None = None) -> Yolo:
    """A data.yaml with images and label files of boxes or segment polygons (Jocher et al. 2023, Ultralytics).

    See `Yolo`.

    Args:
        root: the data set's folder.
        split: ``train``, ``val`` or ``test``.
        data: the YAML file, relative to the root; None: ``data.yaml``, or the only one in the root.
        masks: whether polygons are masks too; None: if there are any.
    """
    return Yolo(root, split, data=data, masks=masks)


def _find_file(folder: Path) -> Path:
    if (folder / "data.yaml").is_file():
        return folder / "data.yaml"
    files = sorted((*folder.glob("*.yaml"), *folder.glob("*.yml")))
    if len(files) != 1:
        names = ", ".join(path.name for path in files[:8]) or "none"
        raise DataError(f"{folder}: expected a data.yaml or a single other YAML file, found {names}")
    return files[0]


def _classes(file: Path, content: Mapping[Any, Any]) -> Classes:
    names = content.get("names")
    if isinstance(names, Mapping) and all(type(key) is int for key in names):
        if sorted(names) != list(range(len(names))):
            raise DataError(f"{file}: 'names' must have the ids 0, 1, 2, ... without a gap")
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or any(type(name) not in (str, int) for name in names):
        raise DataError(f"{file}: 'names' must be a list of class names or names by id (yes, no, on, off in quotes)")
    count = content.get("nc", len(names))
    if type(count) is not int or count != len(names):
        written = count if isinstance(count, int) else type(count).__name__
        raise DataError(f"{file}: 'nc' is {written}, but 'names' has {len(names)} classes")
    try:
        return classes_from_names(["background", *map(str, names)])
    except DataError as error:
        raise DataError(f"{file}: {error}") from None


def _base(folder: Path, file: Path, content: Mapping[Any, Any]) -> Path:
    """Return the folder that a file's paths are relative to."""
    name = content.get("path") or "."
    if not isinstance(name, str):
        raise DataError(f"{file}: 'path' must be a folder, got {type(name).__name__}")
    root = Path(os.path.normpath(folder.absolute()))
    places = [Path(os.path.normpath(start.absolute() / name)) for start in (file.parent, folder)]
    found = [place for place in places if place.is_relative_to(root) and is_folder(place)]
    if not found:
        raise DataError(
            f"{file}: the 'path' '{name}' is no folder in {root}; leave it out where train and val are relative to it"
        )
    return found[0]


def _images(folder: Path, base: Path, file: Path, content: Mapping[Any, Any], split: str) -> list[Path]:
    value = content.get(split) if split not in ("path", "names", "nc") else None
    if value is None:
        splits = [str(key) for key in ("train", "val", "test") if content.get(key)]
        raise DataError(
            f"{file}: no split '{split}'.{did_you_mean(split, splits)} Available: {', '.join(splits) or 'none'}"
        )
    places = value if isinstance(value, list) else [value]
    images: dict[Path, None] = {}
    for place in places:
        if not isinstance(place, str):
            raise DataError(
                f"{file}: '{split}' must be a folder, a list of images or several, got {type(place).__name__}"
            )
        images.update(dict.fromkeys(_images_at(folder, base, file, place)))
    if not images:
        raise DataError(f"{file}: the split '{split}' has no images")
    return list(images)


def _images_at(folder: Path, base: Path, file: Path, name: str) -> list[Path]:
    place = _place(folder, base, name)
    if place is None:
        raise DataError(f"{file}: '{name}' is no folder and no list of images in {folder}")
    if place.is_dir():
        return list_images(place)
    found = []
    for number, line in enumerate(read_lines(place, "the list of images"), start=1):
        if not line.strip():
            continue
        start = place.parent if line.startswith("./") else base
        path = inside(folder, str(start / line.strip()))
        if path is None:
            raise DataError(f"{place}:{number}: '{line.strip()[:80]}' leads out of {folder}")
        found.append(path)
    return found


def _place(folder: Path, base: Path, name: str) -> Path | None:
    """Return where a split's images are; Roboflow writes ``../train/images`` for a folder beside the file."""
    names = [name, name.removeprefix("../")]
    paths = [base if part in (".", "./") else inside(folder, str(base / part)) for part in names]
    return next((path for path in paths if path is not None and path.exists()), None)
