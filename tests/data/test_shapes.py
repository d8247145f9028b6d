import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mtvision.data import Shapes, check
from mtvision.data.readers.drawing import NAMES, draw_outline, paint_object
from mtvision.data.readers.shapes import _place_objects
from mtvision.errors import DataError
from mtvision.registries import DATASETS
from mtvision.registry import Component


def test_an_image_is_a_function_of_seed_split_and_index():
    first, again = Shapes("train", num_images=6, seed=3), Shapes("train", num_images=500, seed=3)
    for index in (5, 0, 3):
        assert np.array_equal(first[index].image, again[index].image)
        assert np.array_equal(first[index].mask, again[index].mask)
        assert np.array_equal(first[index].boxes, again[index].boxes)
    assert not np.array_equal(first[0].image, first[1].image)
    assert not np.array_equal(first[0].image, Shapes("train", num_images=6, seed=4)[0].image)
    assert not np.array_equal(first[0].image, Shapes("val", num_images=6, seed=3)[0].image)


def test_splits_have_their_own_lengths_and_ids():
    lengths = {split: len(Shapes(split, num_images=40)) for split in ("train", "val", "test")}
    assert lengths == {"train": 40, "val": 10, "test": 10}
    assert len(Shapes("val", num_images=1)) == 1
    ids = [name for split in lengths for name in Shapes(split, num_images=40).image_ids]
    assert len(set(ids)) == 60


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), height=st.integers(32, 100), width=st.integers(32, 100))
def test_boxes_are_tight_around_the_visible_pixels(seed: int, height: int, width: int):
    size = (height, width)
    rng = np.random.default_rng(seed)
    scene = _place_objects(size, 6, rng)
    for number, area in enumerate(scene.areas, start=1):
        assert np.sum(scene.owners == number) >= 0.6 * area > 0
    sample = Shapes("train", num_images=4, image_size=size, seed=seed)[0]
    assert sample.image.shape == (*size, 3)
    assert sample.image.dtype == sample.mask.dtype == np.uint8
    assert set(np.unique(sample.mask)) == {0, *(sample.labels + 1)} or not len(sample.labels)
    covered = np.zeros(size, bool)
    for (left, top, right, bottom), label in zip(sample.boxes.astype(int), sample.labels, strict=True):
        own = sample.mask[top:bottom, left:right] == label + 1
        assert own[0].any()
        assert own[-1].any()
        assert own[:, 0].any()
        assert own[:, -1].any()
        covered[top:bottom, left:right] = True
    assert not sample.mask[~covered].any()


def test_the_set_is_sound_and_varied():
    dataset = Shapes("train", num_images=200, image_size=64)
    assert check(dataset) == []
    samples = list(dataset)
    counts = np.bincount(np.concatenate([sample.labels for sample in samples]), minlength=len(NAMES))
    assert counts.min() > 0.6 * counts.mean()
    assert 1 <= sum(len(sample.boxes) == 0 for sample in samples) <= 30
    assert max(len(sample.boxes) for sample in samples) == 4
    assert max(len(sample.boxes) for sample in Shapes("train", num_images=50, max_objects=1)) == 1


def test_sizes_go_from_an_eighth_to_two_fifths_of_the_side():
    boxes = np.concatenate([sample.boxes for sample in Shapes("train", num_images=200, max_objects=1)])
    sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) / 128
    assert 0.08 < sides.min() < 0.16
    assert 0.34 < sides.max() <= 1 / 2.5 + 2 / 128


@pytest.mark.parametrize(
    ("kind", "area"),
    [
        ("disc", np.pi),
        ("square", 2.0),
        ("triangle", 3 * np.sqrt(3) / 4),
        ("star", 5 * 0.45 * np.sin(np.pi / 5)),
        ("ring", np.pi * 0.75),
    ],
)
def test_outlines_have_their_analytic_area(kind: str, area: float):
    pixels = draw_outline(NAMES.index(kind), (200, 200), np.array([100.0, 100.0]), 80, 0.3)
    assert pixels.sum() == pytest.approx(area * 80**2, rel=0.04)
    assert pixels[100, 100] == (kind != "ring")


def test_classes_have_hues_that_overlap_but_differ():
    """Hue alone is a strong and not a certain sign, so that a network must look at the outline too."""
    import cv2

    rng = np.random.default_rng(0)
    pixels = np.ones((1, 1), bool)
    right = 0
    for kind in range(5):
        colours = np.concatenate([paint_object(kind, pixels, rng) for _ in range(100)]).clip(0, 255).astype(np.uint8)
        hues = cv2.cvtColor(colours[None], cv2.COLOR_RGB2HSV)[0, :, 0].astype(int)
        right += np.sum(((hues + 18) // 36) % 5 == kind)
    assert 0.85 * 500 < right < 500


def test_another_split_is_refused_with_the_nearest():
    with pytest.raises(DataError, match=r"no split 'trian'\. Did you mean 'train'\? Available: train, val, test"):
        Shapes("trian")


def test_options_are_checked():
    dataset = DATASETS.build(Component("shapes", {"num_images": 8, "image_size": [32, 48]}), "nowhere", "val")
    assert (len(dataset), dataset[0].image.shape) == (2, (32, 48, 3))
    for options in ({"num_images": 0}, {"image_size": 8}, {"seed": -1}, {"max_objects": 0}, {"banana": 1}):
        with pytest.raises(ValidationError):
            DATASETS.check_options(Component("shapes", options))
