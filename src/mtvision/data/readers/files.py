"""Reading one image or mask file. Each reader returns its value and a sentence for each problem found."""

import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtvision.types import VOID

Size = tuple[int, int]

BOX_TOLERANCE = 1.0
"""By how many pixels a box may reach over the image's edge (off-by-one tools); it is clipped then."""

_LOSSLESS = ("PNG", "BMP", "TIFF", "GIF")  # JPEG changes ids; some others are read by programs outside of Python

_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)  # what Pillow raises

_TIFF = (b"II*\0", b"MM\0*")
_ALPHA_MODES = ("RGBA", "LA", "PA")
_JPEG, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers of the segment with height and width
_PNG_END = b"IEND\xaeB`\x82"  # the last chunk with its checksum
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")  # no stuffed byte, and no restart, which has no length
_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)  # of EXIF: those that swap height and width


class Objects(NamedTuple):
    """Boxes ``(M, 4)`` float32 xyxy pixels, labels ``(M,)`` int64 0-based, difficult ``(M,)`` bool."""

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    difficult: NDArray[np.bool_]


class Picture(NamedTuple):
    """An image uint8 ``(h, w, 3)`` RGB, and ``(H, W)`` of the file that it is from, which may be larger."""

    image: NDArray[np.uint8]
    size: Size


def read_image(path: Path) -> tuple[NDArray[np.uint8] | None, list[str]]:
    """Read an image as uint8 ``(H, W, 3)`` RGB, turned as its EXIF orientation says.

    A JPEG or PNG whose end is missing is a problem, where OpenCV alone would fill the rest with grey without a word. A
    JPEG that is damaged in its middle is not found: no decoder at hand tells of it but by a line on the standard error
    output. Within a PNG the decoder compares checksums.
    """
    picture, problems = read_picture(path)
    return (None if picture is None else picture.image), problems


def read_picture(path: Path, least: Size | None = None) -> tuple[Picture | None, list[str]]:
    """Read an image as `read_image` does.

    Args:
        path: of the image.
        least: ``(H, W)`` that is enough: a JPEG is decoded at a half, a fourth or an eighth where that is at least so
            large, which is faster and, as the decoder averages, free of aliasing; None: at its full size.
    """
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # a ValueError for a path with a NUL
        reason = error.strerror if isinstance(error, OSError) else error
        return None, [f"{path}: the image is missing or cannot be read ({reason})"]
    if not _is_complete(data):
        return None, [f"{path}: the image is truncated: its end is missing"]
    picture = _decoded(data, least) if data else None
    if picture is None:
        return None, [f"{path}: not an image that can be decoded (corrupt, too large, or of another format)"]
    return picture, []


def _decoded(data: bytes, least: Size | None) -> Picture | None:
    import cv2

    if data.startswith(_TIFF) and (plain := _without_alpha(data)) is not None:
        return Picture(plain, (plain.shape[0], plain.shape[1]))
    size = _jpeg_size(data) if least is not None and _may_be_reduced(data, least) else None
    factor = _reduction(size, least) if size is not None and least is not None else 1
    flags = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags.get(factor, cv2.IMREAD_REDUCED_COLOR_8))
    except cv2.error:  # of more pixels than it takes
        return None
    if image is None:
        return None
    if factor > 1 and size is not None and image.shape[:2] != tuple(-(-side // factor) for side in size):
        return _decoded(data, None)  # the header says otherwise than the decoder, perhaps of how it is turned
    pixels = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)
    return Picture(pixels, size if size is not None and factor > 1 else (pixels.shape[0], pixels.shape[1]))


def _without_alpha(data: bytes) -> NDArray[np.uint8] | None:
    """Return the colours of a TIFF with an alpha channel, by which OpenCV would multiply them; None if it has none."""
    from PIL import Image, ImageOps

    try:
        with Image.open(BytesIO(data), formats=("TIFF",)) as file:
            if file.mode not in _ALPHA_MODES:
                return None
            return np.array(ImageOps.exif_transpose(file).convert("RGB"), dtype=np.uint8)
    except (*_DAMAGED, Image.DecompressionBombError):
        return None


def _reduction(size: Sequence[int], least: Sequence[int]) -> int:
    """Return the largest of 8, 4, 2 and 1 of which a part of both sides is large enough still."""
    return next(
        (factor for factor in (8, 4, 2) if all(own // factor >= side for own, side in zip(size, least, strict=True))), 1
    )


def _may_be_reduced(data: bytes, least: Size) -> bool:
    """Tell whether a JPEG may be large enough, however it is turned: a look that costs less than to parse its EXIF."""
    if not data.startswith(_JPEG):
        return False
    frame = next((place for marker, place in _segments(data) if marker in _FRAMES), None)
    if frame is None:
        return False
    height, width = struct.unpack_from(">HH", data.ljust(frame + 7, b"\0"), frame + 3)  # behind length and precision
    return _reduction(sorted((height, width)), sorted(least)) > 1


def _jpeg_size(data: bytes) -> Size | None:
    """Return ``(H, W)`` of a JPEG from its header, turned as its EXIF orientation says; None if that cannot be read."""
    from PIL import Image

    try:
        with Image.open(BytesIO(data), formats=("JPEG",)) as file:
            width, height = file.size
            exif = Image.Exif()  # not getexif, which looks into XMP too, as OpenCV does not
            exif.load(file.info.get("exif", b""))
            turned = exif.get(_ORIENTATION, 1) in _TURNED
    except _DAMAGED:
        return None
    except Image.DecompressionBombError:
        return None
    return (width, height) if turned else (height, width)


def _is_complete(data: bytes) -> bool:
    """Tell whether a JPEG has its end-of-image marker, a PNG its last chunk; other formats are trusted."""
    if data.startswith(_JPEG):
        if data.endswith(_JPEG_END):
            return True
        # FF is stuffed within entropy-coded data, so the last FFDA is a true start of scan, also after a thumbnail; but
        # not where more than an image is in the file, such as the film of a motion photo.
        return data.find(_JPEG_END, max(data.rfind(b"\xff\xda"), 0)) >= 0 or _has_end(data)
    if data.startswith(b"\x89PNG"):
        return b"IEND" in data[-64:] or _PNG_END in data
    return True


def _has_end(data: bytes) -> bool:
    """Walk over a JPEG's segments, each as long as it says, until the end-of-image marker."""
    return any(marker == _JPEG_END[1] for marker, _ in _segments(data))


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield each marker of a JPEG, its second byte, and where its segment begins, the length first."""
    place = len(_JPEG)
    while found := _MARKER.search(data, place):
        yield found[1][0], found.end()
        place = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")


def read_mask(path: Path, size: Size | None, num_classes: int) -> tuple[NDArray[np.uint8] | None, list[str]]:
    """Read a mask of class ids as uint8 ``(H, W)``: a palette or grey image, 255 = void.

    Args:
        path: of the mask.
        size: ``(H, W)`` of the image it belongs to, None if that is unknown.
        num_classes: ids must be below it, or 255.
    """
    mask, problems = _read_pixels(path, ("P", "L"), "a mask with one channel of class ids (mode P or L)")
    if mask is None:
        return None, problems
    return mask, [f"{path}: {text}" for text in mask_problems(mask, size, num_classes)]


def read_colours(path: Path, size: Size) -> tuple[NDArray[np.uint8] | None, list[str]]:
    """Read a mask whose colours are numbers, such as COCO's panoptic PNGs, as uint8 ``(H, W, 3)``."""
    pixels, problems = _read_pixels(path, ("RGB",), "a mask with three channels (mode RGB)")
    if pixels is None or pixels.shape[:2] == size:
        return pixels, problems
    return None, [f"{path}: {_other_size(pixels.shape[:2], size)}"]


def _read_pixels(path: Path, modes: Sequence[str], expected: str) -> tuple[NDArray[np.uint8] | None, list[str]]:
    from PIL import Image

    try:
        with Image.open(path, formats=_LOSSLESS) as file:
            if file.mode not in modes:
                return None, [f"{path}: expected {expected}, got mode {file.mode}"]
            if (bits := _grey_bits(file)) < 8:
                return None, [f"{path}: expected {expected} of 8 bits, got grey of {bits} bits, which Pillow scales"]
            return np.array(file, dtype=np.uint8), []
    except FileNotFoundError:
        return None, [f"{path}: the mask is missing"]
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        struct.error,
        zlib.error,
        Image.DecompressionBombError,
    ) as error:
        return None, [f"{path}: the mask cannot be read ({one_line(error)})"]


def _grey_bits(file: Any) -> int:
    """Return the bits of a grey image's pixel before Pillow scales them to 8; of other images 8.

    Whether an id of such a mask is the number that is stored or the grey that it stands for, nobody can tell: tools
    that shrink PNGs store the greys 0, 17, ..., 255 as 0 to 15.
    """
    mode = file.tile[0][3] if file.mode == "L" and file.tile else ""
    found = re.match(r"L;([124])", str(mode if isinstance(mode, str) else mode[0]))
    return int(found[1]) if found else 8


def mask_problems(mask: NDArray[np.uint8], size: Size | None, num_classes: int) -> list[str]:
    """Return what is wrong with a mask ``(H, W)`` of class ids, without naming its file."""
    problems = []
    if size is not None and mask.shape != size:
        problems.append(_other_size(mask.shape, size))
    outside = (mask >= num_classes) & (mask != VOID)
    wrong = np.unique(mask[outside]).tolist() if outside.any() else []
    if wrong:
        ids = ", ".join(map(str, wrong[:8])) + (", ..." if len(wrong) > 8 else "")
        problems.append(f"the mask has the class id {ids}; valid are 0 to {num_classes - 1} and {VOID} (void)")
    return problems


def _other_size(own: Sequence[int], size: Size) -> str:
    return f"the mask is {_by(own)} pixels (height x width) but its image is {_by(size)}"


def _by(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))


def one_line(error: BaseException) -> str:
    """Return an error's message in one line."""
    return " ".join(str(error).split())
