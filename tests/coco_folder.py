"""A tiny COCO data set that tests can break."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as oracle_masks

from devkit_folder import write_image
from mtvision.registries import DATASETS
from mtvision.registry import Component

SIZE = (40, 60)


def instances(**changes: Any) -> dict[str, Any]:
    """Two images: a cat as a polygon below a smaller dog in run lengths, a crowd of cats, and an empty image."""
    dog = np.zeros(SIZE, np.uint8)
    dog[12:18, 14:22] = 1
    crowd = np.zeros(SIZE, np.uint8)
    crowd[10:40, 10:30] = 1
    content = {
        "images": [
            {"id": 7, "file_name": "b.png", "height": 40, "width": 60},
            {"id": 3, "file_name": "sub/a.png", "height": 40, "width": 60},
        ],
        "categories": [{"id": 18, "name": "dog"}, {"id": 17, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 3, "category_id": 18, "bbox": [14, 12, 8, 6], "iscrowd": 0}
            | {"segmentation": text_of(dog), "area": 48},
            {"id": 2, "image_id": 3, "category_id": 17, "bbox": [5.5, 8.25, 30, 20.5], "iscrowd": 0}
            | {"segmentation": [[5.5, 8.25, 35.5, 8.25, 35.5, 28.75, 5.5, 28.75]], "area": 615},
            {"id": 3, "image_id": 3, "category_id": 17, "bbox": [10, 10, 20, 30], "iscrowd": 1}
            | {"segmentation": {"size": list(SIZE), "counts": counts_of(crowd)}, "area": 600},
        ],
    }
    return content | changes


def counts_of(mask: np.ndarray) -> list[int]:
    values = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(values)) + 1
    counts = np.diff([0, *edges, len(values)]).tolist()
    return [0, *counts] if values[0] else counts


def text_of(mask: np.ndarray) -> dict[str, Any]:
    region = oracle_masks.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(region["size"]), "counts": region["counts"].decode()}


def write(root: Path, content: Any, name: str = "annotations/instances_train2017.json") -> Path:
    for folder in ("train2017", "train2017/sub"):
        for file in ("a.png", "b.png"):
            rgb = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
            write_image(root / folder / file, rgb)
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def read_with(root: Path, **options: Any) -> Any:
    return DATASETS.build(Component("coco", options), root, "train")


def read(root: Path, content: Any, **options: Any) -> Any:
    write(root, content)
    return read_with(root, **options)
