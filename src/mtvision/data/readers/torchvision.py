"""Data sets of torchvision as samples."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtvision.data.base import ExaminedDataset, SampleDataset, Subset
from mtvision.data.classes import classes_from_names, voc_classes
from mtvision.data.readers.coco import Coco
from mtvision.data.readers.coco_instances import parse_instances
from mtvision.data.readers.file_set import Annotation, FileSet, inside
from mtvision.data.readers.files import Size, read_mask
from mtvision.data.readers.voc_xml import read_objects
from mtvision.errors import DataError
from mtvision.types import VOID, Sample

_PET, _AROUND, _BORDER = 1, 2, 3
"""The values of the Oxford-IIIT Pet data set's trimaps."""


def from_torchvision(dataset: Any) -> SampleDataset:
    """Return a data set of torchvision as one of samples, in the same order, with the annotations that it has.

    ================== ============================================================= =====
    torchvision        annotation                                                    boxes
    ================== ============================================================= =====
    VOCSegmentation    masks of VOC's 20 classes                                     None
    VOCDetection       None                                                          VOC's
    CocoDetection      masks of polygons and run lengths, see `Coco`                 COCO's
    OxfordIIITPet      masks: background, pet; the border that nobody decided: void  None
    ================== ============================================================= =====

    Files are read as everywhere here: turned as their EXIF orientation says, checked as they are read. Pets are read
    by torchvision. `VOC` reads boxes and masks together from the same folder.

    Args:
        dataset: of exactly one of these types, made without transforms (which would move the image without its boxes;
            mtvision's augmentations move both), ``OxfordIIITPet`` with ``target_types="segmentation"``.

    Raises:
        DataError: for any other data set, or one with transforms.

    Example:
        >>> from torchvision.datasets import FakeData
        >>> from_torchvision(FakeData())  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        mtvision.errors.DataError: from_torchvision: expected VOCSegmentation, VOCDetection, CocoDetection or ...
    """
    make = _maker(dataset)
    if dataset.transforms is not None:
        raise DataError(
            f"from_torchvision: make {type(dataset).__name__} without transforms: they would not move the boxes and "
            "masks; choose augmentations by data.augmentation_level"
        )
    return make(dataset)


def _maker(dataset: object) -> Callable[[Any], SampleDataset]:
    from torchvision import datasets

    makers: dict[Any, Callable[[Any], SampleDataset]] = {
        datasets.VOCSegmentation: _VocPart,
        datasets.VOCDetection: _VocPart,
        datasets.CocoDetection: _from_coco,
        datasets.OxfordIIITPet: _Pets,
    }
    # Exactly these: a subclass, such as CocoCaptions, may return something else.
    if type(dataset) not in makers:
        raise DataError(
            "from_torchvision: expected VOCSegmentation, VOCDetection, CocoDetection or OxfordIIITPet, got "
            f"{type(dataset).__name__}; wrap others in a class with __len__ and __getitem__(int) -> mtvision.Sample"
        )
    return makers[type(dataset)]


class _VocPart(FileSet):
    """The images of VOCSegmentation or VOCDetection with the one annotation that these have."""

    def __init__(self, dataset: Any) -> None:
        images = [Path(path) for path in dataset.images]
        targets = [Path(path) for path in dataset.targets]
        for path in (*images, *targets):
            if inside(Path(dataset.root), str(path.absolute())) is None or path.stem in ("", ".."):
                raise DataError(f"{path}: the list of images leads out of {dataset.root}")
        super().__init__(images, [path.stem for path in images], voc_classes())
        self._targets: NDArray[np.str_] = np.array([str(path) for path in targets], dtype=np.str_)

    def _annotation_files(self, index: int) -> Iterable[Path]:
        return (Path(str(self._targets[index])),)

    def _annotation(self, index: int, size: Size) -> tuple[Annotation, list[str]]:
        path = Path(str(self._targets[index]))
        if path.suffix == ".xml":
            objects, problems = read_objects(path, size, self.classes.detection)
            return Annotation(None, objects), problems
        mask, problems = read_mask(path, size, len(self.classes.segmentation))
        return Annotation(mask, None), problems


def _from_coco(dataset: Any) -> SampleDataset:
    whole = Coco(parse_instances(dataset.coco.dataset, "the annotations of CocoDetection"), dataset.root)
    order = {name: index for index, name in enumerate(whole.image_ids)}
    indices = [order[str(number)] for number in dataset.ids]
    return whole if indices == list(range(len(whole))) else Subset(whole, indices)


class _Pets(ExaminedDataset):
    """OxfordIIITPet with its trimaps as masks."""

    classes = classes_from_names(["pet"])

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        if len(dataset) and not hasattr(dataset[0][1], "filename"):
            raise DataError("from_torchvision: make OxfordIIITPet with target_types='segmentation'")

    def __len__(self) -> int:
        return len(self._dataset)

    def examine(self, index: int) -> tuple[Sample | None, list[str]]:
        """Read one image with its mask; return it, or None and a sentence for each problem."""
        from PIL import Image

        try:
            picture, trimap = self._dataset[index]
            name = Path(trimap.filename)
            image, values = np.array(picture, dtype=np.uint8), np.array(trimap)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            return None, [f"OxfordIIITPet: item {index} cannot be read ({' '.join(str(error).split())})"]
        if values.shape != image.shape[:2]:
            own = f"{values.shape} (height, width) but its image {image.shape[:2]}"
            return None, [f"{name}: the trimap is {own}"]
        if not np.isin(values, (_PET, _AROUND, _BORDER)).all():
            return None, [f"{name}: expected a trimap of the values 1, 2 and 3, got {np.unique(values)[:8].tolist()}"]
        ids = np.array([0, 1, 0, VOID], dtype=np.uint8)  # of the values 0 (none), 1, 2, 3
        size = (image.shape[0], image.shape[1])
        return Sample(image, ids[values], None, None, None, name.stem, size), []
