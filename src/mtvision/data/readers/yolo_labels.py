"""YOLO's label files: a line an object, its class and a box or the polygon of a segment, in fractions of the image."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtvision.data.readers.file_set import read_lines
from mtvision.data.readers.files import Objects, Size
from mtvision.data.readers.regions import Found, Layer, bounds, box_problem, polygon_problem, polygon_region, to_objects
from mtvision.errors import DataError

_BOX_FIELDS = 5


class Labels(NamedTuple):
    """The objects of a file, the layers of those that are polygons, the numbers of the lines that are boxes."""

    objects: Objects
    layers: list[Layer]
    boxes: list[int]


class _Line(NamedTuple):
    label: int
    values: NDArray[np.float64]


def read_labels(path: Path, size: Size, num_classes: int) -> tuple[Labels, list[str]]:
    """Read a label file and a sentence for each problem; the box of a polygon is that of its points.

    Args:
        path: of the file; an empty one says that there is no object.
        size: ``(H, W)`` of the image.
        num_classes: labels must be below it.
    """
    found: list[Found] = []
    layers: list[Layer] = []
    boxes: list[int] = []
    problems: list[str] = []
    try:
        lines = read_lines(path, "the label file")
    except DataError as error:
        lines, problems = [], [str(error)]
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        item, layer, complaint = _read_object(text, size, num_classes)
        if item is None:
            problems.append(f"{path}:{number}: {complaint}")
            continue
        found.append(item)
        if layer is None:
            boxes.append(number)
        else:
            layers.append(layer._replace(number=len(found)))
    return Labels(to_objects(found, size), layers, boxes), problems


def has_polygon(path: Path) -> bool:
    """Tell whether a label file has a polygon; one that is missing or cannot be read has none."""
    try:
        return any(len(line.split()) > _BOX_FIELDS for line in read_lines(path, "the label file"))
    except DataError:
        return False


def _read_object(text: str, size: Size, num_classes: int) -> tuple[Found | None, Layer | None, str]:
    line, complaint = _parse(text, num_classes)
    if line is None:
        return None, None, complaint
    height, width = size
    values = line.values * np.resize(np.array([width, height], dtype=np.float64), len(line.values))
    if len(values) > _BOX_FIELDS - 1:
        complaint = polygon_problem(values, size)
        box = bounds(values)
    else:
        x, y, across, down = values.tolist()
        box = (x - across / 2, y - down / 2, x + across / 2, y + down / 2)
    complaint = complaint or box_problem(box, size)
    if complaint:
        return None, None, complaint
    is_polygon = len(values) > _BOX_FIELDS - 1
    layer = Layer(line.label + 1, polygon_region([values.tolist()], size)) if is_polygon else None
    return Found(box, line.label), layer, ""


def _parse(text: str, num_classes: int) -> tuple[_Line | None, str]:
    fields = text.split()
    expected = "expected 'class x y width height' or 'class x1 y1 x2 y2 x3 y3 ...'"
    if len(fields) < _BOX_FIELDS or (len(fields) > _BOX_FIELDS and len(fields) % 2 == 0):
        return None, f"{expected}, got {len(fields)} fields"
    try:
        values = [float(field) for field in fields[1:]]
    except ValueError:
        return None, f"{expected}, got '{text.strip()[:60]}'"
    if not fields[0].isascii() or not fields[0].isdecimal() or not all(map(math.isfinite, values)):
        return None, f"{expected}, got '{text.strip()[:60]}'"
    if len(fields[0]) > 9 or int(fields[0]) >= num_classes:
        return None, f"the class {fields[0][:20]} is outside 0 to {num_classes - 1}"
    return _Line(int(fields[0]), np.array(values, dtype=np.float64)), ""
