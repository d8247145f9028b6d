"""What people have as an image becomes the same pixels, or one sentence."""

import io

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mtvision.data.images import as_sample
from mtvision.data.readers.files import read_image, read_mask
from mtvision.errors import DataError
from sound_folders import write_grey_png


def colours(height=20, width=30):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_alike_as_a_path_and_as_a_pil_image(tmp_path, orientation):
    path = tmp_path / "photo.png"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(colours()).save(path, exif=exif)
    with Image.open(path) as image:
        sample = as_sample(image)
    assert np.array_equal(sample.image, as_sample(path).image)
    assert sample.original_size == ((20, 30) if orientation <= 4 else (30, 20))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_scaled_alike_as_a_path_and_as_a_pil_image(tmp_path, suffix):
    values = np.linspace(0, 65535, 600).astype(np.uint16).reshape(20, 30)
    path = tmp_path / f"deep{suffix}"
    assert cv2.imwrite(str(path), values)
    expected = np.repeat((values >> 8).astype(np.uint8)[..., None], 3, axis=2)
    assert np.array_equal(as_sample(path).image, expected)
    with Image.open(path) as image:
        assert image.mode == "I;16"
        assert np.array_equal(as_sample(image).image, expected)
        assert np.array_equal(as_sample(image.convert("I")).image, expected)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "LA"])
def test_modes_of_files_give_the_same_pixels_as_a_path_and_as_a_pil_image(tmp_path, mode):
    path = tmp_path / "image.png"
    Image.fromarray(colours()).convert(mode).save(path)
    with Image.open(path) as image:
        assert image.mode == mode
        assert np.array_equal(as_sample(image).image, as_sample(path).image)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGB", "L", "1", "P"])
def test_modes_of_tiffs_give_the_same_pixels_as_a_path_and_as_a_pil_image(tmp_path, mode):
    path, exif = tmp_path / "image.tif", Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(colours()).convert(mode)
    if mode.endswith("A"):
        image.putalpha(Image.fromarray(colours()[..., 0]))
    image.save(path, exif=exif, compression="tiff_lzw")  # without, Pillow 13 mixes the rows up where it turns
    expected = np.rot90(np.array(image.convert("RGB")), -1)
    assert np.array_equal(as_sample(path).image, expected)
    with Image.open(path) as image:
        assert image.mode == mode
        assert np.array_equal(as_sample(image).image, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_float_tensor_in_0_to_1_is_accepted(dtype):
    tensor = torch.tensor([0.0, 0.25, 1.0]).view(3, 1, 1).expand(3, 4, 5).to(dtype)
    assert as_sample(tensor).image[0, 0].tolist() == [0, 64, 255]
    assert as_sample(tensor.clone().requires_grad_()).image.shape == (4, 5, 3)


def test_a_float_array_in_0_to_1_is_accepted():
    assert np.array_equal(as_sample(colours() / 255).image, colours())
    assert np.array_equal(as_sample((colours() / 255).astype(np.float32)).image, colours())


def test_a_reversed_view_is_an_image_like_any_other():
    image = as_sample(colours()[..., ::-1]).image
    assert np.array_equal(image, colours()[..., ::-1])
    assert image.flags.c_contiguous


def truncated_pil_image():
    buffer = io.BytesIO()
    Image.fromarray(colours(200, 200)).save(buffer, "JPEG")
    return Image.open(io.BytesIO(buffer.getvalue()[:2000]))


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (lambda: np.zeros((4, 4), np.uint8), r"array: expected \(H, W, 3\).*got uint8 \(4, 4\)"),
        (lambda: np.zeros((4, 4, 4), np.uint8), r"array: expected \(H, W, 3\).*got uint8 \(4, 4, 4\)"),
        (lambda: np.zeros((0, 4, 3), np.uint8), r"array: expected .* got uint8 \(0, 4, 3\), which is empty"),
        (lambda: np.zeros((4, 4, 3), np.int64), r"array: expected uint8 or float in \[0, 1\], got int64"),
        (lambda: np.full((4, 4, 3), 255.0), r"array: expected uint8 or float in \[0, 1\], got float64 in \[255, 255\]"),
        (lambda: torch.zeros(3, 4, 0), r"tensor: expected .* got float32 \(3, 4, 0\), which is empty"),
        (lambda: torch.full((3, 4, 4), float("nan")), r"tensor: expected .* got float32 in \[nan, nan\]"),
        (lambda: torch.zeros(3, 4, 4, dtype=torch.bool), r"tensor: expected uint8 or float in \[0, 1\], got bool"),
        (lambda: torch.zeros(4, 4, 3), r"tensor: expected \(3, H, W\)"),
        (lambda: Image.new("RGB", (0, 5)), "PIL image.*empty"),
        (lambda: Image.new("F", (4, 4)), "PIL image: .*mode F"),
        (lambda: Image.fromarray(np.full((4, 4), 70000, np.int32)), r"PIL image: .*0 to 65535"),
        (truncated_pil_image, "PIL image cannot be read.*truncated"),
        (lambda: None, "got NoneType"),
    ],
)
def test_what_is_no_image_is_one_sentence(image, sentence):
    with pytest.raises(DataError, match=sentence) as caught:
        as_sample(image())
    assert "\n" not in str(caught.value)


def test_an_image_that_opencv_refuses_for_its_size_is_a_problem_and_not_an_exception(tmp_path):
    whole = cv2.imencode(".png", colours())[1].tobytes()
    path = tmp_path / "bomb.png"
    huge = (200_000).to_bytes(4, "big") * 2
    path.write_bytes(whole[:16] + huge + whole[24:])
    image, problems = read_image(path)
    assert image is None
    assert len(problems) == 1
    assert problems[0].startswith(f"{path}: not an image that can be decoded")


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 3}])
def test_a_jpeg_with_data_behind_it_is_whole_and_one_that_is_cut_is_not(tmp_path, options):
    buffer, path = io.BytesIO(), tmp_path / "photo.jpg"
    Image.fromarray(colours(60, 90)).save(buffer, "JPEG", **options)
    whole = buffer.getvalue()
    expected = read_image_of(path, whole)
    for seed in range(10):  # a film, such as that of a motion photo, has all markers somewhere
        film = np.random.default_rng(seed).integers(0, 256, 200_000, dtype=np.uint8).tobytes()
        assert np.array_equal(read_image_of(path, whole + film), expected)
    for length in np.random.default_rng(0).integers(2, len(whole) - 2, 40).tolist():
        path.write_bytes(whole[:length])
        assert read_image(path)[1] == [f"{path}: the image is truncated: its end is missing"]


def test_a_png_with_data_behind_it_is_whole(tmp_path):
    whole = cv2.imencode(".png", colours())[1].tobytes()
    assert np.array_equal(read_image_of(tmp_path / "a.png", whole + bytes(1000))[..., ::-1], colours())


@pytest.mark.parametrize("bits", [2, 4])
def test_a_grey_mask_of_few_bits_is_refused_and_one_with_a_palette_is_read(tmp_path, bits):
    ids = np.arange(2**bits, dtype=np.uint8).reshape(2, -1)
    for mode in ("P", "L"):
        path = write_grey_png(tmp_path / f"{mode}.png", ids, bits)
        if mode == "P":
            image = Image.fromarray(ids)
            image.putpalette(list(range(3 * 2**bits)))
            image.save(path, bits=bits)
        assert path.read_bytes()[24] == bits  # in the header
        with Image.open(path) as image:
            assert image.mode == mode
        found, problems = read_mask(path, ids.shape, 2**bits)
        if mode == "P":
            assert np.array_equal(found, ids)
            assert problems == []
        else:
            sentence = f"mode P or L) of 8 bits, got grey of {bits} bits, which Pillow scales"
            assert found is None
            assert problems == [f"{path}: expected a mask with one channel of class ids ({sentence}"]


def read_image_of(path, data):
    path.write_bytes(data)
    image, problems = read_image(path)
    assert problems == []
    return image


def damaged(path):
    """Write a picture with zeros in the middle of its data."""
    data = bytearray(cv2.imencode(path.suffix, colours(200, 300))[1].tobytes())
    middle = len(data) // 2
    data[middle : middle + 40] = bytes(40)
    path.write_bytes(data)
    return path


def test_a_png_damaged_in_its_middle_is_a_problem(tmp_path):
    image, (problem,) = read_image(damaged(tmp_path / "a.png"))
    assert image is None
    assert "a.png: not an image that can be decoded" in problem


def test_a_jpeg_damaged_in_its_middle_is_not_found(tmp_path):
    """As docs/data.md says; should a decoder tell of it one day, say so there."""
    image, problems = read_image(damaged(tmp_path / "a.jpg"))
    assert problems == []
    assert image.shape == (200, 300, 3)
