"""Folders in the layout of the Pascal VOC devkit."""

import hashlib
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mtvision.data.base import ResizedDataset
from mtvision.data.readers.file_set import Annotation, file_state
from mtvision.data.readers.files import Size, read_mask, read_picture
from mtvision.data.readers.instance_maps import agreeing, belonging
from mtvision.data.readers.voc_download import download_voc
from mtvision.data.readers.voc_files import (
    IMAGE_SUFFIXES,
    SBD_FOLDER,
    choose_classes,
    choose_ids,
    find_devkit,
    find_devkits,
    is_devkit,
    split_lists,
)
from mtvision.data.readers.voc_xml import read_objects
from mtvision.errors import DataError
from mtvision.registries import DATASETS
from mtvision.types import VOID, Sample

_OWN_MASKS = ("val", "test")
_YEARS = range(2007, 2013)


class VOC(ResizedDataset):
    """The images of one split of a Pascal VOC devkit folder (Everingham et al., 2010).

    The layout is ``JPEGImages/*.jpg``, ``Annotations/*.xml``, ``SegmentationClass/*.png`` and
    ``ImageSets/{Main,Segmentation}/{split}.txt``. The split is the union of both lists, of which one may be missing:

    * an image that ``Main`` lists must have an XML, one that ``Segmentation`` lists must have a mask;
    * an image that is in one list only gets the other annotation too where its file exists, else None.

    ``train``, ``val`` and ``test`` do not overlap: in the real VOC 2012 some images for segmentation validation are in
    ``Main/train.txt``, so ``train`` leaves out all that any ``val`` or ``test`` list of the folder has, and ``val`` all
    of a ``test`` list. Any other split is taken as it is listed, such as ``trainval``, the union of both by definition.

    An image with boxes and ``SegmentationObject/*.png`` has an instance map too: which box its numbers belong to is
    told by `belonging`, and a pixel of another class in the mask belongs to none.

    Files are read when an item is, and checked then; `mtvision.data.check` walks all of them.

    Args:
        root: the devkit folder, or one above that contains exactly one (``VOCdevkit`` above ``VOC2012``).
        split: ``train``, ``val``, or any other that has a list.
        classes: a ``classes.txt`` or the names of the objects in the order of their ids; None: ``classes.txt`` in the
            root if there is one, else VOC's.
        sbd_masks: take the masks of the Semantic Boundaries Dataset (Hariharan et al., 2011) too: masks are those of
            ``SegmentationClassAug``, or of ``SegmentationClass`` where that has none, and the images of
            ``ImageSets/Segmentation/trainaug.txt`` (or ``train_aug.txt``, ``aug.txt``) are listed for segmentation as
            well. Splits other than ``train`` have lists of their own names; ``val`` and ``test`` stay VOC's own.
        download: fetch Pascal VOC into ``root`` (which is made) if there is no devkit yet; see `download_voc`.
        year: which devkit, where ``root`` holds several, and which to fetch; None: the only one; 2012 is fetched.

    Raises:
        DataError: if the folder is not laid out so, the split has no list, no image or an id with a path in it, the
            classes cannot be read, SBD's folder or list is missing, or the download fails.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        *,
        classes: str | Path | list[str] | None = None,
        sbd_masks: bool = False,
        download: bool = False,
        year: int | str | None = None,
    ) -> None:
        self.root = _devkit(Path(root).expanduser(), download, year)
        self.split = split
        self.classes = choose_classes(self.root, classes)
        self._has_sbd_masks = sbd_masks and split not in _OWN_MASKS
        boxes, masks = split_lists(self.root, split, self._has_sbd_masks)
        ids = choose_ids(self.root, split, boxes, masks)
        # Arrays, not lists: touching a Python object in a worker process copies its memory page.
        self._ids: NDArray[np.str_] = np.array(ids, dtype=np.str_)
        self._listed_for_boxes = np.isin(self._ids, list(boxes or ()))
        self._listed_for_masks = np.isin(self._ids, list(masks or ()))
        names = self.classes.segmentation
        self._mask_ids = np.array([names.index(name) for name in self.classes.detection], dtype=np.uint8)

    @property
    def image_ids(self) -> list[str]:
        """The file stems, in order."""
        return [str(name) for name in self._ids]

    def __len__(self) -> int:
        return len(self._ids)

    def image_path(self, index: int) -> Path:
        """Return the file of one image."""
        name, folder = str(self._ids[index]), self.root / "JPEGImages"
        candidates = (folder / (name + suffix) for suffix in IMAGE_SUFFIXES)
        return next((path for path in candidates if path.exists()), folder / (name + IMAGE_SUFFIXES[0]))

    def read(self, index: int, least: Size | None, with_instances: bool) -> tuple[Sample | None, list[str]]:
        """Read one image with its annotations; return it, or None and a sentence for each problem of its files."""
        name = str(self._ids[index])
        picture, problems = read_picture(self.image_path(index), least)
        size = picture.size if picture is not None else None
        (mask, objects, instances), found = self._annotation(index, size, with_instances)
        problems += found
        if picture is None or problems:
            return None, problems
        boxes, labels, difficult = objects or (None, None, None)
        return Sample(picture.image, mask, boxes, labels, difficult, name, picture.size, instances=instances), []

    def fingerprint(self) -> str:
        """Return a digest of the classes and the image ids with the sizes and times of the files of each."""
        digest = hashlib.sha256(f"{type(self).__name__} {self.root.resolve()} {self.classes}".encode())
        for index, name in enumerate(self.image_ids):
            paths = (self.image_path(index), self._mask_path(name), self._objects_path(name), self._xml_path(name))
            digest.update(f"\n{name} {paths[1].parent.name} {[file_state(path) for path in paths]}".encode())
        return digest.hexdigest()

    def _annotation(self, index: int, size: Size | None, with_instances: bool) -> tuple[Annotation, list[str]]:
        name = str(self._ids[index])
        mask_path, xml_path = self._mask_path(name), self._xml_path(name)
        mask = objects = instances = None
        problems: list[str] = []
        if self._listed_for_masks[index] or mask_path.exists():
            mask, found = read_mask(mask_path, size, len(self.classes.segmentation))
            problems += found
        if self._listed_for_boxes[index] or xml_path.exists():
            objects, found = read_objects(xml_path, size, self.classes.detection)
            problems += found
        if with_instances and objects is not None and self._objects_path(name).exists():
            numbers, found = read_mask(self._objects_path(name), size, VOID)
            problems += found
            if numbers is not None and not problems:
                instances = belonging(numbers, objects.boxes)
        if instances is not None and objects is not None and mask is not None:
            instances = agreeing(instances, mask, self._mask_ids[objects.labels])
        return Annotation(mask, objects, instances), problems

    def _mask_path(self, name: str) -> Path:
        extra = self.root / SBD_FOLDER / f"{name}.png"
        if self._has_sbd_masks and extra.exists():
            return extra
        return self.root / "SegmentationClass" / f"{name}.png"

    def _objects_path(self, name: str) -> Path:
        return self.root / "SegmentationObject" / f"{name}.png"

    def _xml_path(self, name: str) -> Path:
        return self.root / "Annotations" / f"{name}.xml"


@DATASETS.register("voc")
def voc(
    root: str | Path,
    split: str,
    *,
    classes: Path | list[str] | None = None,
    sbd_masks: bool = False,
    download: bool = False,
    year: Annotated[int, Field(ge=_YEARS[0], le=_YEARS[-1])] | None = None,
) -> VOC:
    """A folder in the layout of the Pascal VOC devkit: images, XML boxes, palette masks (Everingham et al. 2010).

    See `VOC`.

    Args:
        root: the devkit's folder, or one that holds a single devkit.
        split: ``train``, ``val`` or ``test``.
        classes: names, or the path of a list ``id name has_boxes``; None: the folder's ``classes.txt``, else VOC's.
        sbd_masks: train on the masks of SBD too: ``SegmentationClassAug``, for the images of ``trainaug.txt``.
        download: fetch Pascal VOC into the root if it is not there yet.
        year: which devkit, of several in the root or to fetch; None: the only one; 2012 is fetched.
    """
    return VOC(root, split, classes=classes, sbd_masks=sbd_masks, download=download, year=year)


def _devkit(root: Path, download: bool, year: int | str | None) -> Path:
    """Return the devkit's folder, fetched first where that is wanted."""
    wanted = None if year is None else str(year)
    if wanted is not None and wanted not in map(str, _YEARS):
        raise DataError(f"year: expected {_YEARS[0]} to {_YEARS[-1]}, got '{wanted[:20]}'")
    if download and not is_devkit(root) and not find_devkits(root, wanted):
        download_voc(root, wanted or str(_YEARS[-1]))
    return find_devkit(root, wanted)
