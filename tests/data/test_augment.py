import os
import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mtvision.config import Config
from mtvision.data import Shapes
from mtvision.data.augmentation.augment import Augmentation, _compose
from mtvision.data.augmentation.occlusion import hide
from mtvision.data.augmentation.presets import resize_only
from mtvision.data.geometry import resize
from mtvision.errors import ConfigError
from mtvision.registries import AUGMENTATIONS
from mtvision.registry import Component
from mtvision.types import Sample

LEVELS = ("none", "basic", "heavy", "robust")
SIZE = (64, 64)


def two_rectangles(size: tuple[int, int] = (96, 80)) -> Sample:
    """Two rectangles of classes 1 and 2 whose boxes are exactly those of the mask; the second is difficult."""
    boxes = np.array([[10, 20, 40, 50], [50, 60, 75, 90]], np.float32)
    mask = np.zeros(size, np.uint8)
    image = np.full((*size, 3), 90, np.uint8)
    for value, (left, top, right, bottom) in enumerate(boxes.astype(int), start=1):
        mask[top:bottom, left:right] = value
        image[top:bottom, left:right] = 200
    return Sample(image, mask, boxes, np.array([0, 1]), np.array([False, True]), "two", size)


def mask_box(mask: np.ndarray, value: int) -> np.ndarray | None:
    rows, columns = np.nonzero(mask == value)
    if not len(rows):
        return None
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float32)


def same(first: Sample, second: Sample) -> bool:
    return all(
        np.array_equal(getattr(first, name), getattr(second, name))
        for name in ("image", "mask", "boxes", "labels", "difficult")
    )


def flip_always(library):
    return lambda: _compose([library.HorizontalFlip(p=1.0)])


@pytest.fixture(scope="module")
def library():
    from mtvision.data.augmentation.augment import _load_library

    return _load_library()


@pytest.mark.parametrize("level", LEVELS)
def test_the_result_has_the_size_and_keeps_id_and_types(level: str):
    sample = Shapes("train", num_images=1, image_size=(48, 80))[0]
    result = AUGMENTATIONS.build(level, (40, 72))(sample, 3)
    assert result.image.shape == (40, 72, 3)
    assert result.image.dtype == result.mask.dtype == np.uint8
    assert result.mask.shape == (40, 72)
    assert result.boxes.dtype == np.float32
    assert result.labels.dtype == np.int64
    assert result.difficult.dtype == np.bool_
    assert (result.image_id, result.original_size) == ("train-00000", (48, 80))
    assert sample.image.shape == (48, 80, 3)


@pytest.mark.parametrize("level", LEVELS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**63))
def test_the_box_of_the_transformed_mask_lies_within_the_transformed_box(level: str, seed: int):
    result = AUGMENTATIONS.build(level, SIZE)(two_rectangles(), seed)
    for label, box in zip(result.labels, result.boxes, strict=True):
        inner = mask_box(result.mask, label + 1)
        if inner is None:
            continue  # covered, or thinner than the pixel grid
        assert (inner[:2] >= box[:2] - 1).all()
        assert (inner[2:] <= box[2:] + 1).all()
    assert (result.boxes >= 0).all()
    assert (result.boxes <= 64).all()
    assert (result.difficult == (result.labels == 1)).all()
    dropped = {0, 1} - set(result.labels.tolist())
    if level in ("none", "basic"):
        assert not dropped
        for label, box in zip(result.labels, result.boxes, strict=True):
            assert np.abs(mask_box(result.mask, label + 1) - box).max() <= 1


@pytest.mark.parametrize("level", ["heavy", "robust"])
def test_a_box_goes_only_when_little_of_its_object_is_left(level: str):
    transform = AUGMENTATIONS.build(level, SIZE)
    before = [np.count_nonzero(resize(two_rectangles(), SIZE).mask == value) for value in (1, 2)]
    for seed in range(60):
        result = transform(two_rectangles(), seed)
        for label in {0, 1} - set(result.labels.tolist()):
            assert np.count_nonzero(result.mask == label + 1) <= 0.25 * before[label]


def test_flipping_twice_is_the_identity(library):
    sample = resize(two_rectangles(), SIZE)
    flip = Augmentation(SIZE, flip_always(library))
    once = flip(sample, 0)
    assert np.array_equal(once.image, sample.image[:, ::-1])
    assert np.array_equal(once.mask, sample.mask[:, ::-1])
    assert np.allclose(once.boxes[:, [2, 0]], 64 - sample.boxes[:, [0, 2]], atol=1e-3)
    twice = flip(once, 1)
    assert np.allclose(twice.boxes, sample.boxes, atol=1e-3)
    assert same(replace(twice, boxes=None), replace(sample, boxes=None))


def test_resizing_is_exact_for_whole_factors_and_up_and_down_is_the_identity():
    sample = two_rectangles()
    large = resize(sample, (192, 160))
    assert np.array_equal(large.boxes, sample.boxes * 2)
    assert np.array_equal(large.mask, sample.mask.repeat(2, 0).repeat(2, 1))
    small = resize(large, (96, 80))
    assert np.array_equal(small.mask, sample.mask)
    assert np.array_equal(small.boxes, sample.boxes)


def test_the_mask_is_resized_centre_on_centre():
    mask = np.arange(81, dtype=np.uint8).reshape(9, 9)
    sample = replace(two_rectangles((9, 9)), mask=mask, boxes=None, labels=None, difficult=None)
    assert np.array_equal(resize(sample, (3, 3)).mask, mask[1::3, 1::3])


@pytest.mark.parametrize("level", LEVELS)
def test_the_same_seed_gives_the_same_pixels_and_another_does_not(level: str):
    sample = two_rectangles()
    transform = AUGMENTATIONS.build(level, SIZE)
    first = transform(sample, 7)
    transform(sample, 8)  # must leave no trace
    assert same(first, transform(sample, 7))
    assert same(first, pickle.loads(pickle.dumps(transform))(sample, 7))
    if level != "none":
        assert any(not same(first, transform(sample, seed)) for seed in range(8, 14))


def test_the_transforms_of_one_sample_draw_independently():
    """With one seed for all of them an image would be flipped exactly when its colours change."""
    sample = replace(two_rectangles(), boxes=None, labels=None, difficult=None)
    basic = AUGMENTATIONS.build("basic", SIZE)
    flipped, coloured = np.zeros(80, bool), np.zeros(80, bool)
    plain = resize(sample, SIZE)
    for seed in range(80):
        result = basic(sample, seed)
        flipped[seed] = not np.array_equal(result.mask, plain.mask)
        coloured[seed] = not np.array_equal(np.sort(result.image.ravel()), np.sort(plain.image.ravel()))
    assert 20 < flipped.sum() < 60
    assert {(a, b) for a, b in zip(flipped.tolist(), coloured.tolist(), strict=True)} == {
        (False, False),
        (False, True),
        (True, False),
        (True, True),
    }


@pytest.mark.parametrize("level", LEVELS)
def test_unannotated_stays_unannotated_and_empty_stays_empty(level: str):
    transform = AUGMENTATIONS.build(level, SIZE)
    unknown = replace(two_rectangles(), mask=None, boxes=None, labels=None, difficult=None)
    empty = replace(
        two_rectangles(), boxes=np.zeros((0, 4), np.float32), labels=np.zeros(0, np.int64), difficult=np.zeros(0, bool)
    )
    for seed in range(8):
        result = transform(unknown, seed)
        assert result.mask is result.boxes is result.labels is result.difficult is None
        result = transform(empty, seed)
        assert result.boxes.shape == (0, 4)
        assert result.labels.shape == result.difficult.shape == (0,)


def test_what_rotates_in_is_void_and_not_a_class():
    sample = replace(two_rectangles(), mask=np.ones((96, 80), np.uint8))
    heavy = AUGMENTATIONS.build("heavy", SIZE)
    values = set()
    for seed in range(20):
        values |= set(np.unique(heavy(sample, seed).mask).tolist())
    assert values == {1, 255}


def test_all_boxes_leaving_gives_shape_0_4(library):
    def shift():
        return _compose([library.Affine(translate_percent={"x": (1.5, 1.5), "y": (0, 0)}, fill_mask=255, p=1.0)])

    result = Augmentation(SIZE, shift)(two_rectangles(), 0)
    assert result.boxes.shape == (0, 4)
    assert result.labels.shape == result.difficult.shape == (0,)
    assert (result.mask == 255).all()


def test_boxes_without_area_or_over_the_edge_do_not_raise():
    boxes = np.array([[5, 5, 5, 30], [-3, 10, 40, 120], [200, 5, 220, 9], [1, 1, 30, 30]], np.float32)
    sample = replace(two_rectangles(), boxes=boxes, labels=np.arange(4), difficult=np.array([1, 0, 1, 0], bool))
    for level in LEVELS:
        result = AUGMENTATIONS.build(level, (96, 80))(sample, 1)
        assert set(result.labels.tolist()) <= {1, 3}
        assert not result.difficult.any()
    assert AUGMENTATIONS.build("none", (96, 80))(sample, 0).boxes.tolist() == [[0, 10, 40, 96], [1, 1, 30, 30]]


def test_a_box_below_one_pixel_is_dropped():
    sample = replace(two_rectangles(), boxes=np.array([[0, 0, 4, 40], [0, 0, 6, 40]], np.float32))
    result = resize_only((16, 16))(sample, 0)  # 80 -> 16 columns: 0.8 and 1.2 pixels
    assert result.labels.tolist() == [1]
    assert result.difficult.tolist() == [True]


def test_hidden_pixels_are_void_and_only_hidden_boxes_go():
    sample = two_rectangles()
    hidden = np.zeros((96, 80), bool)
    hidden[18:60, 8:25] = True
    half = hide(sample, hidden, 0.2)
    assert np.array_equal(half.boxes, sample.boxes)
    assert (half.mask[hidden] == 255).all()
    assert np.array_equal(half.mask[~hidden], sample.mask[~hidden])
    hidden[18:60, 25:38] = True  # with the first part 28 of 30 columns of the first box
    assert hide(sample, hidden, 0.2).labels.tolist() == [1]
    assert hide(sample, hidden, 0.06).labels.tolist() == [0, 1]
    assert hide(sample, hidden, 0.07).labels.tolist() == [1]
    assert sample.mask[20, 10] == 1  # the input is untouched


def test_robust_covers_parts_of_about_half_of_the_samples():
    sample = replace(two_rectangles(), boxes=None, labels=None, difficult=None, mask=np.zeros((96, 80), np.uint8))
    heavy, robust = AUGMENTATIONS.build("heavy", SIZE), AUGMENTATIONS.build("robust", SIZE)
    more = [np.sum(robust(sample, seed).mask == 255) > np.sum(heavy(sample, seed).mask == 255) for seed in range(60)]
    assert 15 < sum(more) < 45


def test_a_compose_in_the_config_becomes_a_component_and_works(library):
    compose = library.Compose(
        [library.Rotate(limit=(40, 40), p=1.0), library.RandomBrightnessContrast(p=1.0)],
        bbox_params=library.BboxParams(format="coco", label_fields=["category"]),
    )
    config = Config(data={"augmentation_level": compose})
    again = Config(data=yaml.safe_load(yaml.safe_dump(config.dump()["data"])))
    assert again.data == config.data
    transform = AUGMENTATIONS.build(again.data.augmentation_level, SIZE)
    result = transform(two_rectangles(), 5)
    assert result.mask.shape == SIZE
    assert 255 in result.mask  # the rotated-in border, though Rotate's own default is 0
    assert result.difficult.tolist() == [label == 1 for label in result.labels]
    for label, box in zip(result.labels, result.boxes, strict=True):
        inner = mask_box(result.mask, label + 1)
        assert (inner[:2] >= box[:2] - 1.5).all()
        assert (inner[2:] <= box[2:] + 1.5).all()
    assert same(result, pickle.loads(pickle.dumps(transform))(two_rectangles(), 5))


def test_a_single_transform_of_the_user_works(library):
    component = Component("albumentations", {"transform": library.HorizontalFlip(p=1.0).to_dict()})
    sample = two_rectangles(SIZE)
    assert np.array_equal(AUGMENTATIONS.build(component, SIZE)(sample, 0).mask, sample.mask[:, ::-1])


@pytest.mark.parametrize(
    ("transform", "sentence"),
    [
        ({"transform": {"__class_fullname__": "HorizontalFlip", "p": 0.5, "banana": 1}}, "banana"),
        ({"transform": {"__class_fullname__": "HorizontalFlp", "p": 0.5}}, r"Did you mean 'HorizontalFlip'\?"),
        ({"HorizontalFlip": {}}, r"to_dict\(\) returns"),
        ({"transform": {"__class_fullname__": "Compose", "transforms": ["HorizontalFlip"]}}, "got 'HorizontalFlip'"),
        ({"transform": {"__class_fullname__": "Rotate", "limit": "wide", "p": 1.0}}, "limit|wide"),
    ],
)
def test_a_wrong_description_is_refused_when_the_config_is_read(transform: dict, sentence: str):
    with pytest.raises(ValidationError, match=sentence):
        AUGMENTATIONS.check_options(Component("albumentations", {"transform": transform}))
    with pytest.raises(ConfigError, match=sentence):
        Config(data={"augmentation_level": {"name": "albumentations", "transform": transform}})


def test_normalizing_in_the_users_transform_is_refused(library):
    component = Component("albumentations", {"transform": library.Compose([library.Normalize()]).to_dict()})
    with pytest.raises(ConfigError, match=r"must stay uint8 .*, got float32 .*leave out Normalize"):
        AUGMENTATIONS.build(component, SIZE)(two_rectangles(), 0)


def test_importing_the_data_layer_loads_no_image_library_and_asks_no_network():
    code = (
        "import os, sys, mtvision.data\n"
        "names = {'albumentations', 'cv2', 'PIL', 'torchvision', 'timm', 'matplotlib', 'defusedxml'}\n"
        "heavy = names & set(sys.modules)\n"
        "from mtvision.data.augmentation.augment import _load_library\n"
        "_load_library()\n"
        "print(sorted(heavy), os.environ['NO_ALBUMENTATIONS_UPDATE'])"
    )
    environment = {key: value for key, value in os.environ.items() if key != "NO_ALBUMENTATIONS_UPDATE"}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["[]", "1"]
