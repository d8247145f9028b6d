"""What the header of an image file tells: format, orientation, channels, bits; no pixel is decoded."""

import warnings
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from mtvision.data.checking.check_report import Note

_ORIENTATION = 0x0112  # the EXIF tag
_NUM_EXAMPLES = 3

_FORMATS = {
    ".jpg": ("JPEG", "MPO"),
    ".jpeg": ("JPEG", "MPO"),
    ".png": ("PNG",),
    ".bmp": ("BMP", "DIB"),
    ".webp": ("WEBP",),
    ".tif": ("TIFF",),
    ".tiff": ("TIFF",),
}

_NOTES = {
    "exif-orientation": "{} turned or mirrored as the EXIF orientation says",
    "grey": "{} grey: read as RGB with three equal channels",
    "alpha": "{} an alpha channel, which is left out",
    "palette": "{} a palette: read as RGB",
    "16-bit": "{} 16 bits a channel: the upper 8 are kept",
    "cmyk": "{} CMYK: read as RGB",
}
_VERBS = {"alpha": ("has", "have"), "palette": ("has", "have"), "16-bit": ("has", "have")}


class ImageFacts(NamedTuple):
    """What the header tells.

    Attributes:
        format: PIL's name of it, such as ``JPEG``.
        size: ``(H, W)`` as stored, before the orientation is applied.
        orientation: EXIF's, 1 to 8; 1 is upright.
        kinds: the kinds of notes that fit.
    """

    format: str
    size: tuple[int, int]
    orientation: int
    kinds: tuple[str, ...]


def image_facts(path: Path) -> ImageFacts | None:
    """Read the header of an image file; None if it cannot be read, which reading the image tells in a sentence."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes and damaged tags: reading the image decides
            with Image.open(path) as file:
                orientation = _orientation(file)
                kinds = _kinds(file.mode, "transparency" in file.info, _bits(path, file), orientation)
                return ImageFacts(file.format or "", (file.height, file.width), orientation, kinds)
    except Exception:  # noqa: BLE001 - a damaged header can fail with anything
        return None


def _orientation(file: Any) -> int:
    from PIL import Image

    if file.format == "PNG":  # its getexif would decode the whole image
        exif = Image.Exif()
        exif.load(file.info.get("exif", b""))
    else:
        exif = file.getexif()
    value = exif.get(_ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _bits(path: Path, file: Any) -> int:
    """Return the bits of a channel; PIL's mode tells them of one channel only."""
    if file.format == "PNG":
        with path.open("rb") as raw:
            return raw.read(25)[24]  # of the header chunk, which always comes first
    if file.format == "TIFF":
        bits = file.tag_v2.get(258, (1,))
        return max(bits) if isinstance(bits, tuple) else int(bits)
    return 8


def _kinds(mode: str, has_transparency: bool, bits: int, orientation: int) -> tuple[str, ...]:
    fits = {
        "exif-orientation": orientation != 1,
        "grey": mode in ("1", "L", "LA", "La") or mode.startswith(("I", "F")),
        "alpha": mode in ("RGBA", "RGBa", "LA", "La", "PA") or has_transparency,
        "palette": mode in ("P", "PA"),
        "16-bit": bits > 8,
        "cmyk": mode == "CMYK",
    }
    return tuple(kind for kind, fit in fits.items() if fit)


def suffix_problem(path: Path, facts: ImageFacts) -> str:
    """Return a sentence if a file's name promises another format than it has, empty if not."""
    expected = _FORMATS.get(path.suffix.lower())
    if expected is None or facts.format in expected:
        return ""
    return f"{path}: the name says {path.suffix}, but the file is in the format {facts.format}; it is read as that"


def orientation_problem(path: Path, facts: ImageFacts, size: tuple[int, ...]) -> str:
    """Return a sentence if an image of ``size`` (H, W) as read is not turned as its file says, empty if not.

    Only a quarter turn of an image that is not square can be seen so.
    """
    height, width = facts.size
    if facts.orientation < 5 or height == width or size != facts.size:
        return ""
    return (
        f"{path}: the EXIF orientation {facts.orientation} turns the image to {width} x {height} pixels (height x "
        "width), but the data set returns it as stored; its annotations may be for the other one"
    )


def turned_hint(facts: ImageFacts) -> str:
    """Return what may explain that an annotation is of another size than its image, empty if nothing does."""
    if facts.orientation < 5:
        return ""
    return f"; the EXIF orientation {facts.orientation} turns the image: the annotation may be of the image as stored"


class FactsTally:
    """Counts the images to which something applies, and remembers the first ones."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = defaultdict(list)

    def add(self, facts: ImageFacts, name: str) -> None:
        """Count one image."""
        for kind in facts.kinds:
            self._counts[kind] += 1
            if len(self._examples[kind]) < _NUM_EXAMPLES:
                self._examples[kind].append(name)

    def notes(self) -> list[Note]:
        """Return a note for each kind that occurred."""
        return [
            Note(kind, text.format(_subject(kind, count)), count, tuple(self._examples[kind]))
            for kind, text in _NOTES.items()
            if (count := self._counts[kind])
        ]


def _subject(kind: str, count: int) -> str:
    one, several = _VERBS.get(kind, ("is", "are"))
    return f"{count:,} image {one}" if count == 1 else f"{count:,} images {several}"
