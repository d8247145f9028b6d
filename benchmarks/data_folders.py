"""Folders in Pascal VOC's layout with images of VOC's usual size, for benchmarks of loading.

They have no instance masks: mtvision would read those too, to keep boxes tight when it turns an image. The peers do not
know them, and what is compared must be the same work on the same files.
"""

import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from PIL import Image

from mtvision.data.readers.shapes import Shapes
from mtvision.data.writers.write_voc import write_voc

SIZE = (500, 375)
"""Width and height, in pixels."""

_QUALITY = 90
_INSTANCES = "SegmentationObject"
_EDGES = ("xmin", "ymin", "xmax", "ymax")


def generated(folder: Path, num_images: int, size: tuple[int, int] = SIZE) -> Path:
    """Write generated shapes as JPEGs with masks and boxes, the split ``train``."""
    write_voc(Shapes("train", num_images=num_images, image_size=size[::-1]), folder, "train")
    for path in (folder / "JPEGImages").glob("*.png"):
        Image.open(path).save(path.with_suffix(".jpg"), quality=_QUALITY)
        path.unlink()
    shutil.rmtree(folder / _INSTANCES)
    return folder


def enlarged(source: Path, folder: Path, size: tuple[int, int] = SIZE) -> Path:
    """Copy a VOC folder with all images, masks and boxes at one size (width, height)."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns(_INSTANCES))
    for path in (folder / "JPEGImages").glob("*.jpg"):
        Image.open(path).convert("RGB").resize(size).save(path, quality=_QUALITY)
    for path in (folder / "SegmentationClass").glob("*.png"):
        Image.open(path).resize(size, Image.Resampling.NEAREST).save(path)
    for path in (folder / "Annotations").glob("*.xml"):
        _rescale_xml(path, size)
    return folder


def _rescale_xml(path: Path, size: tuple[int, int]) -> None:
    tree = ElementTree.parse(path)
    root = tree.getroot()
    old = [int(root.findtext(f"size/{side}", "1")) for side in ("width", "height")]
    for element in root.findall("object"):
        values = {}
        for edge in _EDGES:
            axis = "xy".index(edge[0])
            scaled = round(float(element.findtext(f"bndbox/{edge}", "1")) * size[axis] / old[axis])
            values[edge] = min(max(scaled, 1), size[axis])
        if values["xmax"] <= values["xmin"] or values["ymax"] <= values["ymin"]:
            root.remove(element)
            continue
        for edge, value in values.items():
            element.find(f"bndbox/{edge}").text = str(value)  # type: ignore[union-attr]
    for side, length in zip(("width", "height"), size, strict=True):
        root.find(f"size/{side}").text = str(length)  # type: ignore[union-attr]
    tree.write(path)
