import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mtvision.data import VOC, Shapes, compute_statistics, fingerprint
from mtvision.errors import ConfigError, DataError
from mtvision.registries import PREPROCESSING
from mtvision.registry import Component
from mtvision.types import Sample


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


def test_statistics_are_those_of_all_pixels_of_all_images(devkit: Path):
    """Images of different sizes: every pixel counts the same, not every image."""
    samples = [Shapes("train", num_images=2, image_size=size)[1] for size in (32, (64, 48))]
    pixels = np.concatenate([sample.image.reshape(-1, 3) for sample in samples]) / 255.0
    result = compute_statistics(samples)
    assert np.allclose(result.mean, pixels.mean(axis=0), atol=1e-12)
    assert np.allclose(result.std, pixels.std(axis=0), atol=1e-12)


def test_they_are_computed_once_and_kept_outside_the_data(cache: Path):
    dataset = Counting("train", num_images=5, image_size=32)
    first = compute_statistics(dataset)
    assert Counting.reads == 5
    assert compute_statistics(dataset) == first
    assert Counting.reads == 5
    assert [path.name for path in cache.iterdir()] == [f"statistics-{fingerprint(dataset)}.json"]
    compute_statistics(dataset, cache=False)
    assert Counting.reads == 10


def test_other_parameters_and_files_have_another_fingerprint(devkit: Path):
    prints = [fingerprint(Shapes("train", num_images=n, seed=s)) for n, s in ((4, 0), (5, 0), (4, 1))]
    prints += [fingerprint(Shapes("val", num_images=16)), fingerprint(Shapes("train", num_images=4, max_objects=3))]
    prints += [
        fingerprint(VOC(devkit, "train")),
        fingerprint(VOC(devkit, "val")),
        fingerprint(VOC(devkit, "train")[:2]),
    ]
    for path in (devkit / "JPEGImages" / "a.jpg", next((devkit / "SegmentationClass").glob("a.png"))):
        path.write_bytes(path.read_bytes() + b"\0")
        prints.append(fingerprint(VOC(devkit, "train")))
    assert len(set(prints)) == len(prints)
    assert fingerprint(VOC(devkit, "train")) == prints[-1]


def test_a_data_set_without_a_fingerprint_is_not_cached(cache: Path):
    samples: Sequence[Sample] = list(Shapes("train", num_images=2, image_size=32))
    assert fingerprint(samples) is None
    assert compute_statistics(samples).is_known
    assert not cache.exists()


@pytest.mark.parametrize("content", ["{", "[]", '{"mean": [0, 0, 0]}', '{"mean": [0, 0, 0], "std": [0, 1, 1]}', "\x00"])
def test_a_damaged_cache_file_is_computed_anew(cache: Path, content: str, caplog: pytest.LogCaptureFixture):
    dataset = Counting("train", num_images=3, image_size=32)
    right = compute_statistics(dataset)
    (path,) = cache.iterdir()
    path.write_text(content)
    with caplog.at_level(logging.WARNING):
        assert compute_statistics(dataset) == right
    assert "computed anew" in caplog.text
    assert json.loads(path.read_text())["mean"] == list(right.mean)
    assert len(list(cache.iterdir())) == 1


def test_a_cache_that_cannot_be_written_is_no_error(cache: Path, caplog: pytest.LogCaptureFixture):
    cache.write_text("a file where the folder should be")
    assert compute_statistics(Shapes("train", num_images=2, image_size=32)).is_known
    assert "could not be cached" in caplog.text


def test_the_places_of_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MTVISION_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    compute_statistics(Shapes("train", num_images=2, image_size=32))
    assert len(list((tmp_path / "xdg" / "mtvision").iterdir())) == 1
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    compute_statistics(Shapes("train", num_images=2, image_size=32))
    assert len(list((tmp_path / "home" / ".cache" / "mtvision").iterdir())) == 1


def test_uniform_images_have_a_usable_deviation():
    sample = Shapes("train", num_images=1, image_size=32)[0]
    result = compute_statistics([replace(sample, image=np.full((32, 32, 3), 51, np.uint8))])
    assert result.mean == pytest.approx((0.2, 0.2, 0.2))
    assert result.std == pytest.approx((1 / 255,) * 3)


def test_an_empty_data_set_is_refused():
    with pytest.raises(DataError, match="empty data set"):
        compute_statistics([])


def test_the_entries_of_the_registry():
    # https://docs.pytorch.org/vision/stable/models.html: the constants of the ImageNet weights.
    assert PREPROCESSING.build("standardize").mean == (0.485, 0.456, 0.406)
    assert PREPROCESSING.build("standardize").std == (0.229, 0.224, 0.225)
    assert PREPROCESSING.build("none").mean == (0, 0, 0)
    assert PREPROCESSING.build("none").std == (1, 1, 1)
    assert not PREPROCESSING.build("normalize").is_known
    given = PREPROCESSING.build(Component("normalize", {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}))
    assert (given.mean, given.std) == ((0.5,) * 3, (0.2,) * 3)
    with pytest.raises(ConfigError, match="mean and std together or neither; std is missing"):
        PREPROCESSING.build(Component("normalize", {"mean": [0.5, 0.5, 0.5]}))
