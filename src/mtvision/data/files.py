"""Reading one image, mask or annotation file. Each reader returns its value and a sentence for each problem found."""

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtvision.errors import did_you_mean
from mtvision.types import VOID

Size = tuple[int, int]

BOX_TOLERANCE = 1.0
"""By how many pixels a box may reach over the image's edge (off-by-one tools); it is clipped then."""

_EDGES = ("xmin", "ymin", "xmax", "ymax")


class Objects(NamedTuple):
    """Boxes ``(M, 4)`` float32 xyxy pixels, labels ``(M,)`` int64 0-based, difficult ``(M,)`` bool."""

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    difficult: NDArray[np.bool_]


class _Object(NamedTuple):
    box: tuple[float, ...]
    label: int
    difficult: bool


def read_image(path: Path) -> tuple[NDArray[np.uint8] | None, list[str]]:
    """Read an image as uint8 ``(H, W, 3)`` RGB, turned as its EXIF orientation says.

    A JPEG or PNG whose end is missing is a problem, where OpenCV alone would fill the rest with grey without a word. A
    JPEG that is damaged in its middle is not found: no decoder at hand tells of it but by a line on the standard error
    output. Within a PNG the decoder compares checksums.
    """
    import cv2

    try:
        data = path.read_bytes()
    except OSError as error:
        return None, [f"{path}: the image is missing or cannot be read ({error.strerror})"]
    if not _is_complete(data):
        return None, [f"{path}: the image is truncated: its end is missing"]
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error:  # of more pixels than it takes
        image = None
    if image is None:
        return None, [f"{path}: not an image that can be decoded (corrupt, too large, or of another format)"]
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8), []


def _is_complete(data: bytes) -> bool:
    """Tell whether a JPEG has its end-of-image marker, a PNG its last chunk; other formats are trusted."""
    if data.startswith(b"\xff\xd8"):
        # FF is stuffed within entropy-coded data, so the last FFDA is a true start of scan, also after a thumbnail.
        return data.find(b"\xff\xd9", max(data.rfind(b"\xff\xda"), 0)) >= 0
    if data.startswith(b"\x89PNG"):
        return b"IEND" in data[-64:]
    return True


def read_mask(path: Path, size: Size | None, num_classes: int) -> tuple[NDArray[np.uint8] | None, list[str]]:
    """Read a mask of class ids as uint8 ``(H, W)``: a palette or grey image, 255 = void.

    Args:
        path: of the mask.
        size: ``(H, W)`` of the image it belongs to, None if that is unknown.
        num_classes: ids must be below it, or 255.
    """
    from PIL import Image

    try:
        with Image.open(path) as file:
            mode = file.mode
            if mode not in ("P", "L"):
                return None, [f"{path}: expected a mask with one channel of class ids (mode P or L), got mode {mode}"]
            mask = np.array(file, dtype=np.uint8)
    except FileNotFoundError:
        return None, [f"{path}: the mask is missing"]
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return None, [f"{path}: the mask cannot be read ({_one_line(error)})"]
    return mask, [f"{path}: {text}" for text in mask_problems(mask, size, num_classes)]


def mask_problems(mask: NDArray[np.uint8], size: Size | None, num_classes: int) -> list[str]:
    """Return what is wrong with a mask ``(H, W)`` of class ids, without naming its file."""
    problems = []
    if size is not None and mask.shape != size:
        problems.append(f"the mask is {_by(mask.shape)} pixels (height x width) but its image is {_by(size)}")
    present = np.flatnonzero(np.bincount(mask.ravel(), minlength=VOID + 1))
    wrong = [int(value) for value in present if num_classes <= value != VOID]
    if wrong:
        ids = ", ".join(map(str, wrong[:8])) + (", ..." if len(wrong) > 8 else "")
        problems.append(f"the mask has the class id {ids}; valid are 0 to {num_classes - 1} and {VOID} (void)")
    return problems


def read_objects(path: Path, size: Size | None, names: Sequence[str]) -> tuple[Objects, list[str]]:
    """Read the objects of a Pascal VOC annotation, by defusedxml: entities are refused.

    VOC's pixels are 1-based and inclusive; in continuous xyxy the box is ``(xmin - 1, ymin - 1, xmax, ymax)``, clipped
    to the image. A missing ``difficult`` is 0.

    Args:
        path: of the XML.
        size: ``(H, W)`` of the image, None if that is unknown: then boxes are not compared with it.
        names: of the detection classes, in the order of their labels.
    """
    root, problems = _parse_xml(path)
    found = []
    for number, element in enumerate(root.findall("object") if root is not None else (), start=1):
        item, complaints = _read_object(element, size, names)
        problems += [f"{path}: object {number}: {text}" for text in complaints]
        if item is not None and not complaints:
            found.append(item)
    return _to_arrays(found, size), problems


def _parse_xml(path: Path) -> tuple[ElementTree.Element | None, list[str]]:
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import parse

    try:
        root: ElementTree.Element | None = parse(path).getroot()
    except FileNotFoundError:
        return None, [f"{path}: the annotation is missing"]
    except DefusedXmlException as error:
        return None, [
            f"{path}: the XML has entities or external references, which are refused ({type(error).__name__})"
        ]
    except (ElementTree.ParseError, OSError, ValueError, LookupError) as error:
        return None, [f"{path}: malformed XML ({_one_line(error)})"]
    if root is None or root.tag != "annotation":
        return None, [
            f"{path}: expected <annotation> as the outermost XML element, got <{root.tag if root is not None else ''}>"
        ]
    return root, []


def _read_object(
    element: ElementTree.Element, size: Size | None, names: Sequence[str]
) -> tuple[_Object | None, list[str]]:
    name = (element.findtext("name") or "").strip()
    box, problems = _read_box(element, size)
    if name not in names:
        known = ", ".join(names[:24]) + (", ..." if len(names) > 24 else "")
        problems.append(f"unknown class name '{name}'.{did_you_mean(name, names)} Known: {known}")
        return None, problems
    difficult = (element.findtext("difficult") or "0").strip()
    if difficult not in ("0", "1"):
        problems.append(f"<difficult> must be 0 or 1, got '{difficult}'")
    return (_Object(box, names.index(name), difficult == "1") if box else None), problems


def _read_box(element: ElementTree.Element, size: Size | None) -> tuple[tuple[float, ...] | None, list[str]]:
    if element.find("bndbox") is None:
        return None, ["has no <bndbox>"]
    texts = {edge: (element.findtext(f"bndbox/{edge}") or "").strip() for edge in _EDGES}
    values = {edge: _number(text) for edge, text in texts.items()}
    wrong = [f"{edge} is not a number: '{texts[edge]}'" for edge, value in values.items() if value is None]
    if wrong:
        return None, wrong
    xmin, ymin, xmax, ymax = (value for value in values.values() if value is not None)
    written = f"(xmin {xmin:g}, ymin {ymin:g}, xmax {xmax:g}, ymax {ymax:g})"
    if xmax <= xmin or ymax <= ymin:
        return None, [f"the box {written} is empty: xmax must be greater than xmin and ymax greater than ymin"]
    box = (xmin - 1, ymin - 1, xmax, ymax)
    place = _misplacement(box, size) if size is not None else ""
    return box, [f"the box {written} {place} of {_by(size)} pixels (height x width)"] if size and place else []


def _misplacement(box: tuple[float, float, float, float], size: Size) -> str:
    (left, top, right, bottom), (height, width) = box, size
    if left >= width or top >= height or right <= 0 or bottom <= 0:
        return "lies outside the image"
    if min(left, top) < -BOX_TOLERANCE or right > width + BOX_TOLERANCE or bottom > height + BOX_TOLERANCE:
        return "reaches outside the image"
    return ""


def _to_arrays(found: Sequence[_Object], size: Size | None) -> Objects:
    boxes = np.array([item.box for item in found], dtype=np.float32).reshape(-1, 4)  # (M, 4)
    if size is not None:
        height, width = size
        boxes = np.clip(boxes, 0, np.array([width, height, width, height], dtype=np.float32))
    labels = np.array([item.label for item in found], dtype=np.int64)
    return Objects(boxes, labels, np.array([item.difficult for item in found], dtype=np.bool_))


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _by(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
