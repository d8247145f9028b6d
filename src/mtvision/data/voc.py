"""Folders in the layout of the Pascal VOC devkit."""

import hashlib
import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtvision.data.base import ExaminedDataset
from mtvision.data.classes import classes_from_names, read_classes, voc_classes
from mtvision.data.files import read_image, read_mask, read_objects
from mtvision.errors import DataError, did_you_mean
from mtvision.registries import DATASETS
from mtvision.types import Classes, Sample

logger = logging.getLogger(__name__)

_LISTS = ("Main", "Segmentation")
_FOLDERS = ("JPEGImages", "ImageSets")
_KNOWN_FOLDERS = (*_FOLDERS, "Annotations", "SegmentationClass", "SegmentationObject")
_HELD_OUT = {"train": ("val", "test"), "val": ("test",)}
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


class VOC(ExaminedDataset):
    """The images of one split of a Pascal VOC devkit folder (Everingham et al., 2010).

    The layout is ``JPEGImages/*.jpg``, ``Annotations/*.xml``, ``SegmentationClass/*.png`` and
    ``ImageSets/{Main,Segmentation}/{split}.txt``. The split is the union of both lists, of which one may be missing:

    * an image that ``Main`` lists must have an XML, one that ``Segmentation`` lists must have a mask;
    * an image that is in one list only gets the other annotation too where its file exists, else None.

    ``train``, ``val`` and ``test`` do not overlap: in the real VOC 2012 some images for segmentation validation are in
    ``Main/train.txt``, so ``train`` leaves out all that any ``val`` or ``test`` list of the folder has, and ``val`` all
    of a ``test`` list. Any other split is taken as it is listed, such as ``trainval``, the union of both by definition.

    Files are read when an item is, and checked then; `mtvision.data.check` walks all of them.

    Args:
        root: the devkit folder, or one above that contains exactly one (``VOCdevkit`` above ``VOC2012``).
        split: ``train``, ``val``, or any other that has a list.
        classes: a ``classes.txt`` or the names of the objects in the order of their ids; None: ``classes.txt`` in the
            root if there is one, else VOC's.

    Raises:
        DataError: if the folder is not laid out so, the split has no list, no image or an id with a path in it, or the
            classes cannot be read.
    """

    def __init__(self, root: str | Path, split: str, *, classes: str | Path | list[str] | None = None) -> None:
        self.root = _find_devkit(Path(root).expanduser())
        self.split = split
        self.classes = _choose_classes(self.root, classes)
        boxes, masks = (_read_list(self.root / "ImageSets" / name / f"{split}.txt") for name in _LISTS)
        ids = _choose_ids(self.root, split, boxes, masks)
        # Arrays, not lists: touching a Python object in a worker process copies its memory page.
        self._ids: NDArray[np.str_] = np.array(ids, dtype=np.str_)
        self._listed_for_boxes = np.isin(self._ids, list(boxes or ()))
        self._listed_for_masks = np.isin(self._ids, list(masks or ()))

    @property
    def image_ids(self) -> list[str]:
        """The file stems, in order."""
        return [str(name) for name in self._ids]

    def __len__(self) -> int:
        return len(self._ids)

    def examine(self, index: int) -> tuple[Sample | None, list[str]]:
        """Read one image with its annotations; return it, or None and a sentence for each problem of its files."""
        name = str(self._ids[index])
        mask_path = self._mask_path(name)
        xml_path = self.root / "Annotations" / f"{name}.xml"
        image, problems = read_image(self._image_path(name))
        size = (image.shape[0], image.shape[1]) if image is not None else None
        mask = boxes = labels = difficult = None
        if self._listed_for_masks[index] or mask_path.exists():
            mask, found = read_mask(mask_path, size, len(self.classes.segmentation))
            problems += found
        if self._listed_for_boxes[index] or xml_path.exists():
            (boxes, labels, difficult), found = read_objects(xml_path, size, self.classes.detection)
            problems += found
        if image is None or size is None or problems:
            return None, problems
        return Sample(image, mask, boxes, labels, difficult, name, size), []

    def fingerprint(self) -> str:
        """Return a digest of the image ids with the sizes and times of their image and mask files."""
        digest = hashlib.sha256(f"{type(self).__name__} {self.root.resolve()}".encode())
        for name in self.image_ids:
            states = [
                path.stat() if path.exists() else None for path in (self._image_path(name), self._mask_path(name))
            ]
            seen = [state and (state.st_size, state.st_mtime_ns) for state in states]
            digest.update(f"\n{name} {seen}".encode())
        return digest.hexdigest()

    def _mask_path(self, name: str) -> Path:
        return self.root / "SegmentationClass" / f"{name}.png"

    def _image_path(self, name: str) -> Path:
        candidates = [self.root / "JPEGImages" / (name + suffix) for suffix in _IMAGE_SUFFIXES]
        return next((path for path in candidates if path.exists()), candidates[0])


@DATASETS.register("voc")
def voc(root: str | Path, split: str, *, classes: Path | list[str] | None = None) -> VOC:
    """A folder in the layout of the Pascal VOC devkit: images, XML boxes, palette masks (Everingham et al. 2010).

    See `VOC`.

    Args:
        root: the devkit's folder, or one that holds a single devkit.
        split: ``train``, ``val`` or ``test``.
        classes: names, or the path of a list ``id name has_boxes``; None: the folder's ``classes.txt``, else VOC's.
    """
    return VOC(root, split, classes=classes)


def _find_devkit(root: Path) -> Path:
    if not root.is_dir():
        raise DataError(f"{root}: the data set's folder does not exist")
    if (root / "JPEGImages").is_dir() or (root / "ImageSets").is_dir():
        return _checked_devkit(root)
    inner = sorted(path.parent for path in root.glob("*/JPEGImages") if path.is_dir())
    if len(inner) > 1:
        names = ", ".join(path.name for path in inner)
        raise DataError(f"{root}: contains several VOC folders ({names}); give the path of one of them")
    return _checked_devkit(inner[0] if inner else root)


def _checked_devkit(root: Path) -> Path:
    present = sorted(path.name for path in root.iterdir() if path.is_dir())
    for name in _FOLDERS:
        if name not in present:
            found = f"it has {', '.join(present[:8])}." if present else "it has no folders."
            raise DataError(
                f"{root}: expected a VOC folder with JPEGImages, Annotations, SegmentationClass and ImageSets, but "
                f"{name} is missing; {found}{did_you_mean(name, set(present) - set(_KNOWN_FOLDERS))}"
            )
    return root


def _choose_classes(root: Path, classes: str | Path | list[str] | None) -> Classes:
    if isinstance(classes, list):
        return classes_from_names(classes)
    if classes is not None:
        return read_classes(Path(classes).expanduser())
    path = root / "classes.txt"
    return read_classes(path) if path.exists() else voc_classes()


def _read_list(path: Path) -> dict[str, None] | None:
    """Return the ids of a list in order (the keys of a dict: each once), None if there is no such list."""
    if not path.is_file():
        return None
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: the list of images cannot be read ({error})") from None
    ids = dict.fromkeys(line.split()[0] for line in lines if line.strip())
    for name in ids:
        if Path(name).name != name:
            raise DataError(f"{path}: expected the name of an image without folder and suffix, got '{name}'")
    return ids


def _choose_ids(root: Path, split: str, boxes: dict[str, None] | None, masks: dict[str, None] | None) -> list[str]:
    if boxes is None and masks is None:
        raise DataError(_unknown_split(root, split))
    ids = list({**(boxes or {}), **(masks or {})})
    held_out: set[str] = set()
    for other in _HELD_OUT.get(split, ()):
        for name in _LISTS:
            held_out |= set(_read_list(root / "ImageSets" / name / f"{other}.txt") or ())
    kept = [name for name in ids if name not in held_out]
    if len(kept) < len(ids):
        logger.info("%s: %d of %d images of '%s' are held out: left out", root, len(ids) - len(kept), len(ids), split)
    if not kept:
        reason = "all of its images are in a held-out split" if ids else "its lists are empty"
        raise DataError(f"{root / 'ImageSets'}: the split '{split}' has no images: {reason}")
    return kept


def _unknown_split(root: Path, split: str) -> str:
    stems = {path.stem for name in _LISTS for path in (root / "ImageSets" / name).glob("*.txt")}
    # Main also holds lists of one class each, such as aeroplane_train.txt.
    splits = sorted(stem for stem in stems if "_" not in stem)
    suggestion = did_you_mean(split, splits)
    return (
        f"{root / 'ImageSets'}: no split '{split}': expected Main/{split}.txt or Segmentation/{split}.txt.{suggestion} "
        f"Available: {', '.join(splits) or 'none'}"
    )
