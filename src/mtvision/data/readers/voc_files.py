"""Where things are in a Pascal VOC devkit folder: the folder itself, its lists of images, SBD's extra ones."""

import logging
from pathlib import Path

from mtvision.data.classes import classes_from_names, read_classes, voc_classes
from mtvision.data.readers.file_set import existing_folder, is_hidden, is_plain_name
from mtvision.errors import DataError, did_you_mean
from mtvision.types import Classes

logger = logging.getLogger(__name__)

LISTS = ("Main", "Segmentation")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
SBD_FOLDER = "SegmentationClassAug"
"""Where DeepLab and those after it keep the masks of the Semantic Boundaries Dataset beside VOC's own."""

_LISTED_PLACE = "/JPEGImages/"
_FOLDERS = ("JPEGImages", "ImageSets")
_KNOWN_FOLDERS = (*_FOLDERS, "Annotations", "SegmentationClass", "SegmentationObject", SBD_FOLDER)
_HELD_OUT = {"train": ("val", "test"), "val": ("test",)}
_PLACES = ("*", "*/*", "*/*/*")  # VOC2012, VOCdevkit/VOC2012, TrainVal/VOCdevkit/VOC2011


def find_devkits(root: Path, year: str | None = None) -> list[Path]:
    """Return the devkit folders at or below ``root``, those named ``VOC{year}`` where a year is given.

    Hidden folders are none: a download that was cut off, or what a writer has not finished, looks like a devkit.
    """
    if is_devkit(root):
        return [root] if year is None or root.name == f"VOC{year}" else []
    inner = sorted(path.parent for place in _PLACES for path in root.glob(f"{place}/JPEGImages") if path.is_dir())
    seen = [path for path in inner if not is_hidden(path.relative_to(root))]
    return [path for path in seen if year is None or path.name == f"VOC{year}"]


def is_devkit(root: Path) -> bool:
    """Tell whether a folder is a devkit itself, not one above."""
    return (root / "JPEGImages").is_dir() or (root / "ImageSets").is_dir()


def find_devkit(root: Path, year: str | None) -> Path:
    """Return the only devkit folder at or below ``root``, that of a year where one is given.

    Raises:
        DataError: if there is no such folder, or more than one.
    """
    found = find_devkits(existing_folder(root), year)
    if len(found) > 1:
        names = ", ".join(path.relative_to(root).as_posix() for path in found)
        raise DataError(f"{root}: contains several VOC folders ({names}); give the path of one of them, or the year")
    if not found and year is not None and find_devkits(root):
        if is_devkit(root):
            expected = f"it is a VOC folder itself but not named VOC{year}"
            raise DataError(f"{root}: {expected}; leave out the year, or give the path of another folder")
        others = ", ".join(path.name for path in find_devkits(root))
        raise DataError(f"{root}: expected a folder VOC{year}, found {others}")
    return _checked_devkit(found[0] if found else root)


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


def choose_classes(root: Path, classes: str | Path | list[str] | None) -> Classes:
    """Return the classes of an option: names or a file; None: the root's ``classes.txt``, else VOC's."""
    if isinstance(classes, list):
        return classes_from_names(classes)
    if classes is not None:
        return read_classes(Path(classes).expanduser())
    path = root / "classes.txt"
    return read_classes(path) if path.exists() else voc_classes()


def read_list(path: Path) -> dict[str, None] | None:
    """Return the ids of a list in order (the keys of a dict: each once), None if there is no such list.

    An id is the first field of a line; of ``/JPEGImages/a.jpg`` it is ``a``.

    Raises:
        DataError: if it cannot be read, or an id is no plain file name.
    """
    if not path.is_file():
        return None
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: the list of images cannot be read ({error})") from None
    ids = dict.fromkeys(_id_of(line.split()[0]) for line in lines if line.strip())
    for name in ids:
        if not is_plain_name(name):
            raise DataError(f"{path}: expected the name of an image without folder and suffix, got {name[:80]!r}")
    return ids


def _id_of(field: str) -> str:
    """Return the id of a line's first field; a list of SBD that many pass on has ``/JPEGImages/2007_000032.jpg``."""
    if not field.startswith(_LISTED_PLACE):
        return field
    name = field.removeprefix(_LISTED_PLACE)
    return name.removesuffix(next((suffix for suffix in IMAGE_SUFFIXES if name.endswith(suffix)), ""))


def split_lists(root: Path, split: str, sbd_masks: bool) -> tuple[dict[str, None] | None, dict[str, None] | None]:
    """Return the ids of a split that are listed for boxes and for masks, None for a list that is missing.

    Raises:
        DataError: if the split is no plain name, a list cannot be read, or SBD's masks or their list are missing.
    """
    if not is_plain_name(split):
        raise DataError(f"{root}: expected the name of a split without folder, got {split[:80]!r}")
    boxes, masks = (read_list(root / "ImageSets" / name / f"{split}.txt") for name in LISTS)
    return boxes, {**(masks or {}), **_sbd_list(root, split)} if sbd_masks else masks


def _sbd_list(root: Path, split: str) -> dict[str, None]:
    if not (root / SBD_FOLDER).is_dir():
        raise DataError(f"{root}: 'sbd_masks' needs the folder {SBD_FOLDER} with the masks of SBD, which is missing")
    place = root / "ImageSets" / "Segmentation"
    names = [f"{split}aug.txt", f"{split}_aug.txt", *(["aug.txt"] if split == "train" else [])]
    found = next((ids for name in names if (ids := read_list(place / name)) is not None), None)
    if found is None:
        wanted = ", ".join(names[:-1]) + f" or {names[-1]}"
        raise DataError(f"{place}: 'sbd_masks' needs the list of images that have one: {wanted}; none is there")
    return found


def choose_ids(root: Path, split: str, boxes: dict[str, None] | None, masks: dict[str, None] | None) -> list[str]:
    """Return the ids of a split: both lists without what is held out.

    Raises:
        DataError: if both lists are missing, or no image is left.
    """
    if boxes is None and masks is None:
        raise DataError(_unknown_split(root, split))
    ids = list({**(boxes or {}), **(masks or {})})
    held_out: set[str] = set()
    for other in _HELD_OUT.get(split, ()):
        for name in LISTS:
            held_out |= set(read_list(root / "ImageSets" / name / f"{other}.txt") or ())
    kept = [name for name in ids if name not in held_out]
    if len(kept) < len(ids):
        logger.info("%s: %d of %d images of '%s' are held out: left out", root, len(ids) - len(kept), len(ids), split)
    if not kept:
        reason = "all of its images are in a held-out split" if ids else "its lists are empty"
        raise DataError(f"{root / 'ImageSets'}: the split '{split}' has no images: {reason}")
    return kept


def _unknown_split(root: Path, split: str) -> str:
    stems = {path.stem for name in LISTS for path in (root / "ImageSets" / name).glob("*.txt")}
    # Main also holds lists of one class each, such as aeroplane_train.txt.
    splits = sorted(stem for stem in stems if "_" not in stem)
    suggestion = did_you_mean(split, splits)
    return (
        f"{root / 'ImageSets'}: no split '{split}': expected Main/{split}.txt or Segmentation/{split}.txt.{suggestion} "
        f"Available: {', '.join(splits) or 'none'}"
    )
