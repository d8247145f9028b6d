"""A tiny VOC devkit folder that tests can break, and the place of the real packs."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mtvision.data import check
from mtvision.types import Sample

Object = tuple[str, tuple[object, object, object, object]]


def write_xml(path: Path, objects: Sequence[Object], difficult: Sequence[int] | None = None) -> None:
    """Write a VOC annotation; ``difficult`` None leaves the element out."""
    parts = []
    for number, (name, box) in enumerate(objects):
        edges = "".join(
            f"<{edge}>{value}</{edge}>" for edge, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        )
        flag = "" if difficult is None else f"<difficult>{difficult[number]}</difficult>"
        parts.append(f"<object><name>{name}</name>{flag}<bndbox>{edges}</bndbox></object>")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<annotation>{''.join(parts)}</annotation>", encoding="utf-8")


def write_mask(path: Path, mask: np.ndarray) -> None:
    """Write a palette PNG whose colours are not its indices."""
    image = Image.fromarray(mask.astype(np.uint8), mode="P")
    image.putpalette([value for index in range(256) for value in (index * 7 % 256, index * 5 % 256, index * 3 % 256)])
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def write_image(path: Path, rgb: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), rgb[..., ::-1])


def write_lists(root: Path, **lists: str) -> None:
    """Write ``ImageSets/Main/train.txt`` for ``Main_train="a b"``."""
    for key, names in lists.items():
        folder, split = key.split("_")
        path = root / "ImageSets" / folder / f"{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(names.split()) + "\n")


def write_item(root: Path, name: str, size: tuple[int, int] = (20, 30)) -> None:
    """Write one image with a cat at the 1-based pixels 5..10 x 3..8 and its mask."""
    rgb = np.random.default_rng(len(name)).integers(0, 256, (*size, 3), dtype=np.uint8)
    write_image(root / "JPEGImages" / f"{name}.jpg", rgb)
    mask = np.zeros(size, np.uint8)
    mask[2:8, 4:10] = 8
    mask[0] = 255
    write_mask(root / "SegmentationClass" / f"{name}.png", mask)
    write_xml(root / "Annotations" / f"{name}.xml", [("cat", (5, 3, 10, 8))])


def errors_of(dataset: Sequence[Sample]) -> list[str]:
    """Return what is wrong with the items of a data set, without what only looks odd in one of three images."""
    return [str(finding) for finding in check(dataset, duplicates=False).errors]


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    """Three images in ``train`` and one in ``val``, all with masks and boxes of VOC's classes."""
    root = tmp_path / "VOC2012"
    for name in ("a", "b", "c", "d"):
        write_item(root, name)
    write_lists(root, Main_train="a b c", Segmentation_train="a b c", Main_val="d", Segmentation_val="d")
    return root


@pytest.fixture
def real_pack() -> Callable[[str], Path]:
    """Return the folder of a pack of real images by name; skip where it is absent."""

    def find(name: str) -> Path:
        default = Path(__file__).parents[1].parent / "shared" / "data"
        folder = Path(os.environ.get("MTVISION_REAL_DATA", default)) / name
        if not folder.is_dir():
            pytest.skip(f"no real images: {folder} does not exist (set MTVISION_REAL_DATA)")
        return folder

    return find
