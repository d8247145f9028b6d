"""Image formats that must be read right, against PIL, and what the check notes of them."""

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from mtvision.data import check
from mtvision.data.readers.files import read_image
from sound_folders import make, picture, read


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(Image.fromarray(picture(1)), "JPEG", exif=exif, quality=95)


RGB = Image.fromarray(picture(1))
ALPHA = Image.fromarray(np.dstack([picture(1), picture(2)[..., 0]]))
DEEP = np.random.default_rng(0).integers(0, 1 << 16, (40, 60), dtype=np.uint16)

FORMATS: dict[str, tuple[bytes, str, set[str], int]] = {
    **{
        f"EXIF orientation {number}": (turned(number), "jpg", {"exif-orientation"} if number > 1 else set(), 0)
        for number in range(1, 9)
    },
    "grey JPEG": (encoded(RGB.convert("L"), "JPEG"), "jpg", {"grey"}, 0),
    "grey PNG": (encoded(RGB.convert("L"), "PNG"), "png", {"grey"}, 0),
    "black-and-white PNG": (encoded(RGB.convert("1"), "PNG"), "png", {"grey"}, 0),
    "grey PNG with alpha": (encoded(ALPHA.convert("LA"), "PNG"), "png", {"grey", "alpha"}, 0),
    "RGBA PNG": (encoded(ALPHA, "PNG"), "png", {"alpha"}, 0),
    "palette PNG": (encoded(RGB.quantize(16), "PNG"), "png", {"palette"}, 0),
    "palette PNG with a transparent colour": (
        encoded(RGB.quantize(16), "PNG", transparency=3),
        "png",
        {"palette", "alpha"},
        0,
    ),
    "16-bit grey PNG": (encoded(Image.fromarray(DEEP), "PNG"), "png", {"grey", "16-bit"}, 0),
    "16-bit RGB PNG": (cv2.imencode(".png", np.dstack([DEEP] * 3))[1].tobytes(), "png", {"16-bit"}, 0),
    "CMYK JPEG": (encoded(RGB.convert("CMYK"), "JPEG", quality=95), "jpg", {"cmyk"}, 2),  # levels, by rounding
    "progressive JPEG": (encoded(RGB, "JPEG", progressive=True), "jpg", set(), 0),
    "WebP": (encoded(RGB, "WEBP", lossless=True), "webp", set(), 0),
    "TIFF": (encoded(RGB, "TIFF"), "tif", set(), 0),
    "BMP": (encoded(RGB, "BMP"), "bmp", set(), 0),
}


def expected(data: bytes) -> np.ndarray:
    """Return the pixels as PIL has them, upright and as RGB; of 16 bits the upper 8, which PIL leaves to its caller."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.mode.startswith("I"):
        return np.dstack([(np.array(image) >> 8).astype(np.uint8)] * 3)
    return np.array(image.convert("RGB"))


@pytest.mark.parametrize("name", FORMATS)
def test_formats_are_read_right_and_noted(tmp_path: Path, name: str):
    data, suffix, kinds, tolerance = FORMATS[name]
    root = make("folder", tmp_path)
    (root / "train/images/b.png").unlink()
    path = root / f"train/images/b.{suffix}"
    path.write_bytes(data)
    image, problems = read_image(path)
    assert problems == []
    assert image.shape == expected(data).shape
    assert np.abs(image.astype(int) - expected(data)).max() <= tolerance
    report = check(read("folder", root))
    assert {note.kind for note in report.notes} == kinds
    assert all((note.count, note.examples) == (1, ("b",)) for note in report.notes)
    swapped = name.startswith("EXIF") and int(name[-1]) > 4  # mask and boxes are of the image as it lies in the file
    assert set(report.counts) == ({"mask-size", "box-outside"} if swapped else set())
    assert all("the EXIF orientation" in finding for finding in report)
