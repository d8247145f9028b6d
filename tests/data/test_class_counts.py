import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mtvision.data import VOC, Shapes, compute_statistics, fingerprint
from mtvision.data.statistics.class_counts import ClassCounts, class_pixel_counts
from mtvision.errors import DataError
from mtvision.types import VOID, Sample


class Counting(Shapes):
    """Counts how often an image is read."""

    reads = 0

    def sample(self, index: int) -> Sample:
        type(self).reads += 1
        return super().sample(index)

    def fingerprint(self) -> str:
        return super().fingerprint()  # of its own: what is read is still the same


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("MTVISION_CACHE", str(folder))
    monkeypatch.setattr(Counting, "reads", 0)
    return folder


def by_hand(samples: list[Sample], num_classes: int) -> ClassCounts:
    """Go through classes and masks one by one."""
    pixels, image_pixels = [0] * num_classes, [0] * num_classes
    for c in range(num_classes):
        for sample in samples:
            if sample.mask is not None and (sample.mask == c).any():
                pixels[c] += int((sample.mask == c).sum())
                image_pixels[c] += int((sample.mask != VOID).sum())
    return ClassCounts(np.array(pixels), np.array(image_pixels))


def assert_equal(counts: ClassCounts, expected: ClassCounts) -> None:
    for values, right in zip(counts, expected, strict=True):
        assert values.dtype == np.int64
        np.testing.assert_array_equal(values, right)


def test_counts_are_those_of_all_masks_without_void():
    samples = list(Shapes("train", num_images=6, image_size=(32, 48)))
    samples[1].mask[:9] = VOID
    samples[2].mask[:] = VOID
    samples[3] = replace(samples[3], mask=None)
    assert_equal(class_pixel_counts(samples, 6), by_hand(samples, 6))
    assert_equal(class_pixel_counts(samples, 9), by_hand(samples, 9))


def test_of_files(devkit: Path):
    data = VOC(devkit, "train")
    expected = by_hand(list(data), len(data.classes.segmentation))
    assert expected.pixels.any()
    assert_equal(class_pixel_counts(data, len(data.classes.segmentation)), expected)


def test_they_are_counted_once_for_each_number_of_classes_beside_the_other_statistics(cache: Path):
    dataset = Counting("train", num_images=5, image_size=32)
    first = class_pixel_counts(dataset, 6)
    assert Counting.reads == 5
    assert_equal(class_pixel_counts(dataset, 6), first)
    assert Counting.reads == 5
    assert_equal(class_pixel_counts(dataset, 6, cache=False), first)
    assert Counting.reads == 10
    assert class_pixel_counts(dataset, 7).pixels.shape == (7,)
    compute_statistics(dataset)
    key = fingerprint(dataset)
    assert {path.name for path in cache.iterdir()} == {
        f"class-counts-6-{key}.json",
        f"class-counts-7-{key}.json",
        f"statistics-{key}.json",
    }


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"pixels": [1, 2], "image_pixels": [2, 2]}',
        '{"pixels": [-1, 0, 0, 0, 0, 0], "image_pixels": [1, 1, 1, 1, 1, 1]}',
        '{"pixels": [2, 0, 0, 0, 0, 0], "image_pixels": [1, 1, 1, 1, 1, 1]}',
    ],
)
def test_a_damaged_cache_file_is_counted_anew(cache: Path, content: str, caplog: pytest.LogCaptureFixture):
    dataset = Shapes("train", num_images=3, image_size=32)
    right = class_pixel_counts(dataset, 6)
    (path,) = cache.iterdir()
    path.write_text(content)
    with caplog.at_level(logging.WARNING):
        assert_equal(class_pixel_counts(dataset, 6), right)
    assert "computed anew" in caplog.text
    assert json.loads(path.read_text())["pixels"] == right.pixels.tolist()


def test_a_data_set_without_masks_or_images_has_no_pixels():
    samples = [replace(sample, mask=None) for sample in Shapes("train", num_images=2, image_size=32)]
    for data in (samples, []):
        counts = class_pixel_counts(data, 3)
        assert counts.pixels.tolist() == counts.image_pixels.tolist() == [0, 0, 0]


def test_a_class_that_there_is_not_is_named():
    samples = list(Shapes("train", num_images=2, image_size=32))
    samples[1].mask[0, 0] = 9
    with pytest.raises(DataError, match="image 'train-00001': its mask has class 9, but the classes are 0 to 5"):
        class_pixel_counts(samples, 6)
