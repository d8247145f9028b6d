"""Annotations of Pascal VOC: an XML file an image."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mtvision.data.readers.files import Objects, Size, one_line
from mtvision.data.readers.regions import Found, box_problem, to_objects
from mtvision.errors import choices_hint

if TYPE_CHECKING:
    from xml.etree import ElementTree

_PLAIN_HEAD = re.compile(rb"""<\?xml version=["']1\.0["']( encoding=["'](?i:utf-8|us-ascii)["'])? ?\?>""")

_EDGES = ("xmin", "ymin", "xmax", "ymax")


def read_objects(path: Path, size: Size | None, names: Sequence[str]) -> tuple[Objects, list[str]]:
    """Read the objects of a Pascal VOC annotation, by defusedxml: entities are refused.

    VOC's pixels are 1-based and inclusive; in continuous xyxy the box is ``(xmin - 1, ymin - 1, xmax, ymax)``, clipped
    to the image; where xmin and xmax are equal it is one pixel wide. A missing ``difficult`` is 0.

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
    return to_objects(found, size), problems


def _parse_xml(path: Path) -> tuple["ElementTree.Element | None", list[str]]:
    from xml.etree import ElementTree

    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        data = path.read_bytes()
        # No entity without a declaration; defusedxml, which looks at every event, takes three times as long.
        root: ElementTree.Element | None = ElementTree.fromstring(data) if _is_plain_xml(data) else fromstring(data)
    except FileNotFoundError:
        return None, [f"{path}: the annotation is missing"]
    except DefusedXmlException as error:
        return None, [
            f"{path}: the XML has entities or external references, which are refused ({type(error).__name__})"
        ]
    except (ElementTree.ParseError, OSError, ValueError, LookupError) as error:
        return None, [f"{path}: malformed XML ({one_line(error)})"]
    if root is None or root.tag != "annotation":
        tag = root.tag[:40] if root is not None else ""
        return None, [f"{path}: expected <annotation> as the outermost XML element, got <{tag}>"]
    return root, []


def _is_plain_xml(data: bytes) -> bool:
    """Tell whether a document, as any parser reads it, has no declaration but perhaps that of its version."""
    if not data.isascii() or b"<!" in data or b"\0" in data:
        return False
    head = data.lstrip()
    return not head.startswith(b"<?") or _PLAIN_HEAD.match(head) is not None


def _read_object(
    element: "ElementTree.Element", size: Size | None, names: Sequence[str]
) -> tuple[Found | None, list[str]]:
    name = (element.findtext("name") or "").strip()
    box, problems = _read_box(element, size)
    if name not in names:
        problems.append(f"unknown class name '{name[:40]}'{choices_hint(name, names)}")
        return None, problems
    difficult = (element.findtext("difficult") or "0").strip()
    if difficult not in ("0", "1"):
        problems.append(f"<difficult> must be 0 or 1, got '{difficult[:40]}'")
    return (Found(box, names.index(name), difficult == "1") if box else None), problems


def _read_box(
    element: "ElementTree.Element", size: Size | None
) -> tuple[tuple[float, float, float, float] | None, list[str]]:
    edges = element.find("bndbox")
    if edges is None:
        return None, ["has no <bndbox>"]
    texts = {edge: (edges.findtext(edge) or "").strip() for edge in _EDGES}
    values = {edge: _number(text) for edge, text in texts.items()}
    wrong = [f"{edge} is not a number: '{texts[edge][:40]}'" for edge, value in values.items() if value is None]
    if wrong:
        return None, wrong
    xmin, ymin, xmax, ymax = (value for value in values.values() if value is not None)
    written = f"the box (xmin {xmin:g}, ymin {ymin:g}, xmax {xmax:g}, ymax {ymax:g})"
    if xmax < xmin or ymax < ymin:
        return None, [f"{written} is empty: xmax must be at least xmin and ymax at least ymin"]
    box = (xmin - 1, ymin - 1, xmax, ymax)
    complaint = box_problem(box, size, written)
    return (None if complaint else box), [complaint] if complaint else []


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
