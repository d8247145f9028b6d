"""Loading as the manuals of torchvision and albumentations write it, from a folder in Pascal VOC's layout."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset

import mtvision as mtv
from mtvision.data.loading.training_reader import prepare_worker

Item: TypeAlias = tuple[Any, Any, Any]
Transform: TypeAlias = Callable[[Path, Path, NDArray[np.float32], list[int]], Item]

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_COLOURS = {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.02}


class Files(Dataset[Item]):
    """Image, mask and boxes of each file, through a function; what every pipeline outside of mtvision shares."""

    def __init__(self, data: mtv.data.VOC, transform: Transform) -> None:
        self.data, self.transform = data, transform
        self.names = data.image_ids

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Item:
        root, name = self.data.root, self.names[index]
        boxes, labels = read_xml(root / "Annotations" / f"{name}.xml")
        image, mask = root / "JPEGImages" / f"{name}.jpg", root / "SegmentationClass" / f"{name}.png"
        return self.transform(image, mask, boxes, labels)


def read_xml(path: Path) -> tuple[NDArray[np.float32], list[int]]:
    objects = ElementTree.parse(path).getroot().findall("object")
    edges = ("xmin", "ymin", "xmax", "ymax")
    boxes = [[float(each.findtext(f"bndbox/{edge}", "0")) for edge in edges] for each in objects]
    array = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    array[:, :2] -= 1
    return array, [0] * len(objects)


def torchvision_pipeline(size: int, level: str) -> Transform:
    from torchvision import io, tv_tensors
    from torchvision.transforms import v2

    geometry = [v2.RandomAffine(15, (0.1, 0.1), (0.8, 1.2), (-5, 5, -5, 5), fill={tv_tensors.Mask: 255, "others": 0})]
    transform = v2.Compose(
        [
            v2.Resize((size, size), antialias=True),
            v2.RandomHorizontalFlip(),
            *([v2.RandomApply(geometry, 0.8)] if level == "heavy" else []),
            v2.RandomApply([v2.ColorJitter(**_COLOURS)], 0.8),
            v2.ClampBoundingBoxes(),
            v2.SanitizeBoundingBoxes(),
            v2.ToDtype({tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64, "others": None}, scale=True),
            v2.Normalize(MEAN, DEVIATION),
        ]
    )

    def read(image: Path, mask: Path, boxes: NDArray[np.float32], labels: list[int]) -> Item:
        picture = tv_tensors.Image(io.decode_image(str(image), mode="RGB"))
        sample = {
            "image": picture,
            "mask": tv_tensors.Mask(torch.from_numpy(np.array(Image.open(mask)))),
            "boxes": tv_tensors.BoundingBoxes(torch.from_numpy(boxes), format="XYXY", canvas_size=picture.shape[1:]),
            "labels": torch.tensor(labels),
        }
        result = transform(sample)
        return result["image"], result["mask"], result["boxes"]

    return read


def albumentations_pipeline(size: int, level: str) -> Transform:
    import albumentations

    shear, shift = {"x": (-5, 5), "y": (-5, 5)}, {"x": (-0.1, 0.1), "y": (-0.1, 0.1)}
    affine = albumentations.Affine(
        scale=(0.8, 1.2), translate_percent=shift, rotate=(-15, 15), shear=shear, fill_mask=255, p=0.8
    )
    colours = {name: (1 - limit, 1 + limit) if name != "hue" else (-limit, limit) for name, limit in _COLOURS.items()}
    transform = albumentations.Compose(
        [
            albumentations.Resize(size, size),
            albumentations.HorizontalFlip(p=0.5),
            *([affine] if level == "heavy" else []),
            albumentations.ColorJitter(**colours, p=0.8),
            albumentations.Normalize(),
        ],
        bbox_params=albumentations.BboxParams(format="pascal_voc", label_fields=["labels"], clip=True, min_width=1),
    )

    def read(image: Path, mask: Path, boxes: NDArray[np.float32], labels: list[int]) -> Item:
        picture = cv2.cvtColor(cv2.imread(str(image)), cv2.COLOR_BGR2RGB)
        result = transform(image=picture, mask=np.array(Image.open(mask)), bboxes=boxes, labels=labels)
        tensor = torch.from_numpy(result["image"].transpose(2, 0, 1))
        return tensor, torch.from_numpy(result["mask"].astype(np.int64)), torch.from_numpy(np.array(result["bboxes"]))

    return read


def peer_loader(files: Files, batch: int, workers: int) -> DataLoader[Item]:
    options: dict[str, Any] = {"num_workers": workers, "persistent_workers": workers > 0}
    return DataLoader(
        files, batch, shuffle=True, drop_last=True, collate_fn=_joined, worker_init_fn=prepare_worker, **options
    )


def _joined(items: list[Item]) -> Item:
    images, masks, boxes = zip(*items, strict=True)
    return torch.stack(images), torch.stack(masks), list(boxes)
