"""Images that occur twice: against brute force, against PIL's own copies, and across data sets."""

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from mtvision.data import VOC, Shapes, check
from mtvision.data.checking import duplicates
from mtvision.data.checking.check import check_splits
from mtvision.data.checking.duplicates import NEAR_BITS, close_pairs, num_different_bits, signature
from mtvision.types import Classes, Sample
from sound_folders import make, picture

CODES = st.integers(0, (1 << 64) - 1)


class Pictures:
    """Images without annotations that matter."""

    classes = Classes(("background", "thing"), ("thing",))

    def __init__(self, *images: np.ndarray) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        image = self.images[index]
        size = image.shape[:2]
        return Sample(image, np.ones(size, np.uint8), None, None, None, f"image{index}", size)


def found(*images: np.ndarray) -> list[tuple[int | None, str]]:
    return [(finding.index, finding.kind) for finding in check(Pictures(*images))]


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.array(Image.open(buffer))


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.lists(CODES, max_size=12), st.lists(st.lists(st.integers(0, 63), max_size=10, unique=True), max_size=12))
def test_the_search_finds_what_brute_force_finds(codes: list[int], turns: list[list[int]]):
    near = [code ^ sum(1 << bit for bit in bits) for code, bits in zip(codes, turns, strict=False)]
    first, second = np.array(codes, np.uint64), np.array([*near, *codes[:3]], np.uint64)
    pairs = {
        pair
        for rows, columns in close_pairs(first, second)
        for pair in zip(rows.tolist(), columns.tolist(), strict=True)
    }
    wanted = {
        (row, column)
        for row, one in enumerate(codes)
        for column, other in enumerate([*near, *codes[:3]])
        if (one ^ other).bit_count() <= NEAR_BITS
    }
    assert pairs == wanted


def test_the_search_finds_what_brute_force_finds_among_many():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 1 << 64, 3000, dtype=np.uint64)
    codes[:1500] &= np.uint64(0xF0F0)  # many that share bands
    distances = np.bitwise_count(codes[:, None] ^ codes) if hasattr(np, "bitwise_count") else None
    if distances is None:
        pytest.skip("NumPy 1 has no bitwise_count to compare with")
    seen = np.zeros(distances.shape, np.bool_)
    for rows, columns in close_pairs(codes, codes):
        seen[rows, columns] = True
    assert (seen == (distances <= NEAR_BITS)).all()


@given(CODES, CODES)
@settings(deadline=None, max_examples=100, derandomize=True)
def test_different_bits_are_counted(first: int, second: int):
    assert num_different_bits(np.array([first], np.uint64), np.array([second], np.uint64)) == [
        (first ^ second).bit_count()
    ]


COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "compressed": lambda image: jpeg(image, 30),
    "half the size": lambda image: np.array(Image.fromarray(image).resize((60, 40), Image.Resampling.BOX)),
    "stretched": lambda image: np.array(Image.fromarray(image).resize((96, 96), Image.Resampling.BICUBIC)),
    "smaller and compressed": lambda image: jpeg(np.array(Image.fromarray(image).resize((90, 60))), 50),
    "brighter": lambda image: np.array(ImageEnhance.Brightness(Image.fromarray(image)).enhance(1.1)),
    "with little noise": lambda image: np.clip(
        image + np.random.default_rng(3).normal(0, 3, image.shape), 0, 255
    ).astype(np.uint8),
}


@pytest.mark.parametrize("name", COPIES)
def test_copies_are_found(name: str):
    images = [picture(seed, (80, 120)) for seed in range(6)]
    assert found(*images) == []
    assert found(*images, COPIES[name](images[2])) == [(6, "near-duplicate-image")]


def test_many_copies_are_found_without_comparing_all_pairs(monkeypatch: pytest.MonkeyPatch):
    image, count = picture(1, (64, 64)), 600
    own = duplicates.Signatures()
    for index in range(count):
        image[0, 0] = index // 3, index % 3, 0
        own.add(index, str(index), image)
    compared: list[int] = []

    def counted(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        compared.append(len(first))
        return num_different_bits(first, second)

    monkeypatch.setattr(duplicates, "num_different_bits", counted)
    findings = duplicates.duplicate_findings(own, {}, within=True)
    assert {finding.index for finding in findings} == set(range(1, count))
    assert sum(compared) < 200 * count  # of 360,000 pairs, those of 180,000 both ways


def test_the_same_pixels_are_told_once_for_each_further_image():
    first, other = picture(1), picture(2)
    assert found(first, other, first, first) == [(2, "duplicate-image"), (3, "duplicate-image")]
    report = check(Pictures(first, other, first.copy()))
    assert report == ["image 'image2': it has the same pixels as image 'image0'"]
    assert check(Pictures(first, first), duplicates=False) == []


def test_the_same_bytes_in_another_shape_are_another_image():
    image = np.random.default_rng(0).integers(0, 256, (4, 9, 3), dtype=np.uint8)
    assert signature(image).digest != signature(image.reshape(9, 4, 3)).digest


@pytest.mark.parametrize("noise", [0, 1, 2])
def test_plain_images_do_not_look_the_same(noise: int):
    rng = np.random.default_rng(noise)
    plain = [np.full((40, 60, 3), level, np.uint8) for level in (0, 40, 128, 250)]
    noisy = [np.clip(image + rng.normal(0, noise, image.shape), 0, 255).astype(np.uint8) for image in plain]
    assert found(*noisy) == []
    assert found(*noisy, noisy[1]) == [(4, "duplicate-image")]  # the very same still is


def test_the_same_hash_is_not_enough():
    """Draw two pictures whose frequencies have the same signs, of which the hash is made, and other strengths."""
    rng = np.random.default_rng(0)
    signs, images = np.where(rng.random((8, 8)) < 0.5, -1.0, 1.0), []
    for _ in range(2):
        spectrum = np.zeros((32, 32), np.float32)
        spectrum[:8, :8] = signs * rng.exponential(size=(8, 8))
        grey = cv2.idct(spectrum)
        grey = (grey - grey.min()) / (grey.max() - grey.min()) * 255
        images.append(np.dstack([grey.astype(np.uint8)] * 3))
    codes = [signature(image).code for image in images]
    assert (codes[0] ^ codes[1]).bit_count() <= NEAR_BITS
    assert found(*images) == []


def test_generated_images_are_no_copies_of_each_other():
    assert {finding.kind for finding in check(Shapes("train", num_images=200, image_size=48))} == set()


def test_images_of_another_set_are_found_whether_it_is_read_or_its_report_is_given():
    images = [picture(seed, (80, 120)) for seed in range(5)]
    train = Pictures(images[0], images[1], images[2], images[2])
    val = Pictures(jpeg(images[1], 40), images[2], images[4])
    expected = [
        (1, "near-duplicate-across-splits"),
        (2, "duplicate-across-splits"),
        (3, "duplicate-image"),
        (3, "duplicate-across-splits"),
    ]
    for other in (val, check(val)):
        report = check(train, against={"val": other})
        assert [(finding.index, finding.kind) for finding in report] == expected
        assert "image 'image1' of 'val'" in report[1]
        assert {finding.severity for finding in report} == {"warning"}
    assert [finding.kind for finding in check(train, against={"val": val}, duplicates=False)] == [
        kind for _, kind in expected if "across" in kind
    ]


def test_each_of_several_copies_is_near_the_other_sets_image():
    image = picture(1, (80, 120))
    report = check(Pictures(image, image), against={"val": Pictures(jpeg(image, 40))}, duplicates=False)
    assert [(finding.index, finding.kind) for finding in report] == [
        (0, "near-duplicate-across-splits"),
        (1, "near-duplicate-across-splits"),
    ]


def test_splits_are_compared_with_those_named_after_them():
    images = [picture(seed) for seed in range(4)]
    splits = {
        "train": Pictures(images[0], images[1]),
        "val": Pictures(images[1], images[2]),
        "test": Pictures(images[2]),
    }
    reports = check_splits(splits)
    assert list(reports) == ["train", "val", "test"]
    assert {name: [str(finding) for finding in report] for name, report in reports.items()} == {
        "train": ["image 'image1': it has the same pixels as image 'image0' of 'val'"],
        "val": ["image 'image1': it has the same pixels as image 'image0' of 'test'"],
        "test": [],
    }
    assert not any(check_splits(splits, duplicates=False).values())


def test_what_cannot_be_read_of_another_set_is_noted(tmp_path: Path):
    root = make("voc", tmp_path)
    (root / "JPEGImages/c.jpg").write_bytes(b"")
    broken = VOC(root, "train")
    for other in (broken, check(broken)):
        report = check(Pictures(picture(8)), against={"old": other})
        assert report == []
        (note,) = report.notes
        assert note.text == "1 image of 'old' could not be read and was not compared"
        text = str(report)
        assert "not compared:\n  1 image of 'old'" in text
        assert "nothing to be done" not in text


def test_the_real_packs_share_images(real_pack):
    person, voc20 = (VOC(real_pack(name), "val") for name in ("coco_person", "coco_voc20"))
    train = VOC(real_pack("coco_voc20"), "train")
    common = {name for name in train.image_ids if name in person.image_ids}
    report = check(train, against={"person": person, "val": voc20})
    assert common
    # COCO's own ids are the oracle: the same image has the same id in both packs.
    assert {finding.image_id for finding in report if "across" in finding.kind} == common
    assert {finding.kind for finding in report if "across" in finding.kind} <= {"duplicate-across-splits"}


def test_compressed_copies_of_real_images_are_found(real_pack):
    dataset = VOC(real_pack("coco_person"), "val")
    images = [dataset[index].image for index in range(40)]
    small = [cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for image in images]
    report = check(Pictures(*images), against={"copies": Pictures(*(jpeg(image, 50) for image in small))})
    assert {finding.index for finding in report} == set(range(40))
    assert all(finding.split("'")[1] == finding.split("'")[3] for finding in report)  # each its own
