"""Small data sets without any fault, one in each layout; all have the same three images of a cat and a dog."""

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from devkit_folder import write_image, write_lists, write_mask, write_xml
from mtvision.data import VOC, Coco, Folder, SampleDataset, Yolo
from mtvision.data.readers.coco_panoptic import CocoPanoptic

SIZE = (40, 60)
NAMES = ("a", "b", "c")
CAT, DOG = (4, 2, 24, 22), (30, 10, 50, 30)  # xyxy, continuous


def picture(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Return a smooth picture, since only of such do compressed and resized copies look the same."""
    rough = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return cv2.resize(rough, size[::-1], interpolation=cv2.INTER_CUBIC)


def write_grey_png(path: Path, ids: np.ndarray, bits: int) -> Path:
    """Write ids ``(H, W)`` as a grey PNG of few bits a pixel, which not every Pillow does."""
    height, width = ids.shape
    rows = np.packbits((ids[..., None] >> np.arange(bits)[::-1] & 1).reshape(height, -1).astype(np.uint8), axis=1)
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0),
        b"IDAT": zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)),
        b"IEND": b"",
    }
    chunks = [
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts.items()
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return path


def mask() -> np.ndarray:
    values = np.zeros(SIZE, np.uint8)
    for value, (left, top, right, bottom) in ((1, CAT), (2, DOG)):
        values[top:bottom, left:right] = value
    return values


def objects(cat: tuple[object, ...] = (5, 3, 24, 22), dog: tuple[object, ...] = (31, 11, 50, 30)) -> list[Any]:
    """Return the two objects of a VOC annotation, whose pixels count from 1 and are inclusive."""
    return [("cat", cat), ("dog", dog)]


def voc(root: Path) -> None:
    for seed, name in enumerate(NAMES):
        write_image(root / f"JPEGImages/{name}.jpg", picture(seed))
        write_mask(root / f"SegmentationClass/{name}.png", mask())
        write_xml(root / f"Annotations/{name}.xml", objects())
    write_lists(root, Main_train="a b c", Segmentation_train="a b c")
    (root / "classes.txt").write_text("0 background 0\n1 cat 1\n2 dog 1\n255 void 0\n")


def polygon(box: tuple[int, int, int, int]) -> list[int]:
    left, top, right, bottom = box
    return [left, top, right, top, right, bottom, left, bottom]


def coco_content() -> dict[str, Any]:
    return {
        "images": [
            {"id": seed, "file_name": f"{name}.png", "height": 40, "width": 60} for seed, name in enumerate(NAMES)
        ],
        "categories": [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}],
        "annotations": [
            {"id": 10 * seed + number, "image_id": seed, "category_id": number, "iscrowd": 0, "area": 400}
            | {"bbox": [box[0], box[1], 20, 20], "segmentation": [polygon(box)]}
            for seed in range(3)
            for number, box in ((17, CAT), (18, DOG))
        ],
    }


def coco(root: Path) -> None:
    for seed, name in enumerate(NAMES):
        write_image(root / f"train2017/{name}.png", picture(seed))
    (root / "annotations").mkdir()
    (root / "annotations/instances_train2017.json").write_text(json.dumps(coco_content()))


def panoptic_content() -> dict[str, Any]:
    segments = [(1, 17, CAT), (2, 18, DOG), (300, 90, (0, 0, 60, 40))]
    return {
        "images": coco_content()["images"],
        "categories": [
            {"id": 17, "name": "cat", "isthing": 1},
            {"id": 18, "name": "dog", "isthing": 1},
            {"id": 90, "name": "wall", "isthing": 0},
        ],
        "annotations": [
            {
                "image_id": seed,
                "file_name": f"{name}.png",
                "segments_info": [
                    {"id": number, "category_id": category, "iscrowd": 0, "area": 400}
                    | {"bbox": [left, top, right - left, bottom - top]}
                    for number, category, (left, top, right, bottom) in segments
                ],
            }
            for seed, name in enumerate(NAMES)
        ],
    }


def segment_colours() -> np.ndarray:
    """Return the colours of the segments 1, 2 and 300: the id is R + 256 G + 65536 B."""
    return np.array([(44, 1, 0), (1, 0, 0), (2, 0, 0)], dtype=np.uint8)[mask()]


def panoptic(root: Path) -> None:
    for seed, name in enumerate(NAMES):
        write_image(root / f"images/{name}.png", picture(seed))
        write_image(root / f"masks/{name}.png", segment_colours())
    (root / "panoptic.json").write_text(json.dumps(panoptic_content()))


def label_line(label: int, box: tuple[int, int, int, int]) -> str:
    values = np.array(polygon(box)) / np.resize([60, 40], 8)
    return " ".join([str(label), *(f"{value:.6f}" for value in values)])


def yolo(root: Path) -> None:
    for seed, name in enumerate(NAMES):
        write_image(root / f"images/train/{name}.png", picture(seed))
        path = root / f"labels/train/{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{label_line(0, CAT)}\n{label_line(1, DOG)}\n")
    (root / "data.yaml").write_text("train: images/train\nnames: [cat, dog]\n")


def table_lines() -> list[str]:
    boxes = (("cat", CAT), ("dog", DOG))
    return ["image,xmin,ymin,xmax,ymax,class"] + [
        f"{name},{','.join(map(str, box))},{label}" for name in NAMES for label, box in boxes
    ]


def folder(root: Path) -> None:
    for seed, name in enumerate(NAMES):
        write_image(root / f"train/images/{name}.png", picture(seed))
        write_mask(root / f"train/masks/{name}.png", mask())
    (root / "train/boxes.csv").write_text("\n".join(table_lines()) + "\n")
    (root / "classes.txt").write_text("cat\ndog\n")


def open_coco(root: Path) -> Coco:
    return Coco(root / "annotations/instances_train2017.json", root / "train2017")


LAYOUTS: dict[str, tuple[Callable[[Path], None], Callable[[Path], SampleDataset]]] = {
    "voc": (voc, lambda root: VOC(root, "train")),
    "coco": (coco, open_coco),
    "panoptic": (panoptic, lambda root: CocoPanoptic(root / "panoptic.json", root / "masks", root / "images")),
    "yolo": (yolo, lambda root: Yolo(root, "train")),
    "folder": (folder, lambda root: Folder(root, "train")),
}


def make(layout: str, root: Path) -> Path:
    """Write a data set and return its folder."""
    root.mkdir(parents=True, exist_ok=True)
    LAYOUTS[layout][0](root)
    return root


def read(layout: str, root: Path) -> SampleDataset:
    return LAYOUTS[layout][1](root)


def save(path: Path, rgb: np.ndarray, **options: Any) -> None:
    """Write an image by PIL, in the format that ``options`` or the name says."""
    Image.fromarray(rgb).save(path, **options)
