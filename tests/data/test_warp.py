"""Affine maps of samples against torchvision's, and boxes that stay tight around their objects."""

from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import tv_tensors
from torchvision.transforms import v2

from mtvision.data import Shapes
from mtvision.data.augmentation.placing import place
from mtvision.data.augmentation.presets import large_scale_jitter
from mtvision.data.augmentation.warp import affine_matrix, flip, flip_matrix, moved_boxes, warp
from mtvision.data.instances import instance_bounds
from mtvision.registries import AUGMENTATIONS
from mtvision.types import VOID, Sample

SIZE = (60, 80)


@cache
def shapes(index: int = 0, size: tuple[int, int] = SIZE) -> Sample:
    return Shapes("train", num_images=12, image_size=size)[index]


angles = st.floats(-40, 40)
scales = st.floats(0.6, 1.6)
shares = st.floats(-0.2, 0.2)
shears = st.floats(-10, 10)
matrices = st.builds(
    lambda degrees, scale, x, y, across, down: affine_matrix(
        SIZE, degrees=degrees, scale=scale, shift=(x, y), shear_degrees=(across, down)
    ),
    *(angles, scales, shares, shares, shears, shears),
)


@pytest.mark.parametrize(
    ("degrees", "scale", "shift"), [(15, 1.0, (0, 0)), (-30, 0.8, (0.1, -0.05)), (0, 1.3, (0, 0.1))]
)
def test_image_mask_and_boxes_move_as_torchvision_moves_them(degrees: float, scale: float, shift: tuple[float, float]):
    sample = replace(shapes(), instances=None)
    moved = warp(sample, affine_matrix(SIZE, degrees=degrees, scale=scale, shift=shift))
    options = {
        "angle": degrees,
        "translate": [shift[0] * SIZE[1], shift[1] * SIZE[0]],
        "scale": scale,
        "shear": [0.0, 0.0],
    }
    image = torch.from_numpy(sample.image.copy()).permute(2, 0, 1)
    mask = tv_tensors.Mask(torch.from_numpy(sample.mask.copy()))
    boxes = tv_tensors.BoundingBoxes(torch.from_numpy(sample.boxes), format="XYXY", canvas_size=SIZE)
    expected = v2.functional.affine(image, **options, interpolation=v2.InterpolationMode.BILINEAR, fill=[0, 0, 0])
    expected_mask = v2.functional.affine(mask, **options, fill=VOID)
    expected_boxes = v2.functional.clamp_bounding_boxes(v2.functional.affine(boxes, **options)).numpy()
    inside = cv2.erode((moved.mask != VOID).astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    difference = np.abs(moved.image.astype(int) - expected.permute(1, 2, 0).numpy().astype(int)).max(-1)
    assert np.quantile(difference[inside], 0.98) <= 4  # OpenCV rounds positions to 1/32 pixel
    assert (moved.mask == expected_mask.numpy()).mean() > 0.985
    np.testing.assert_allclose(moved.boxes, expected_boxes, atol=1.0)


def test_no_movement_changes_nothing_and_a_shift_is_exact():
    sample = shapes()
    same = warp(sample, affine_matrix(SIZE))
    assert np.array_equal(same.image, sample.image)
    assert np.array_equal(same.mask, sample.mask)
    np.testing.assert_allclose(same.boxes, sample.boxes, atol=1e-4)
    shifted = warp(sample, affine_matrix(SIZE, shift=(8 / 80, 6 / 60)))
    assert np.array_equal(shifted.image[6:, 8:], sample.image[:-6, :-8])
    assert (shifted.mask[:6] == VOID).all()
    assert (shifted.mask[:, :8] == VOID).all()
    assert not shifted.instances[:6].any()


def test_the_flip_is_the_warp_by_its_matrix():
    sample = shapes(1)
    flipped, warped = flip(sample), warp(sample, flip_matrix(SIZE))
    for name in ("image", "mask", "instances"):
        assert np.array_equal(getattr(flipped, name), getattr(warped, name)), name
    np.testing.assert_allclose(flipped.boxes, warped.boxes, atol=1e-4)
    assert np.array_equal(flip(flipped).image, sample.image)
    assert np.array_equal(flip(flipped).boxes, sample.boxes)


@settings(max_examples=80, deadline=None)
@given(matrices, st.integers(0, 11))
def test_a_box_is_the_bound_of_its_objects_moved_pixels(matrix: np.ndarray, index: int):
    sample = shapes(index)
    moved = warp(sample, matrix)
    bounds = instance_bounds(moved.instances, len(moved.boxes))
    seen = ~np.isnan(bounds[:, 0])
    assert np.abs(moved.boxes[seen] - bounds[seen]).max(initial=0) <= 1.5
    # nothing that is still seen was dropped, and nobody got another one's label
    numbers = sample.instances.copy()
    expected = [label for k, label in enumerate(sample.labels, 1) if (warp_of(numbers == k, matrix)).sum() > 12]
    assert set(expected) <= set(moved.labels.tolist()) <= set(sample.labels.tolist())
    for row, label in enumerate(moved.labels):
        classes = set(np.unique(moved.mask[moved.instances == row + 1]).tolist())
        assert classes <= {label + 1}


def warp_of(pixels: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    image = np.zeros((*pixels.shape, 3), np.uint8)
    return warp(Sample(image, pixels.astype(np.uint8), None, None, None, "", pixels.shape), matrix).mask == 1


@settings(max_examples=60, deadline=None)
@given(matrices, st.integers(0, 11))
def test_without_instances_a_box_contains_its_object(matrix: np.ndarray, index: int):
    sample = shapes(index)
    moved = warp(replace(sample, instances=None), matrix)
    tight = warp(sample, matrix)
    assert len(moved.boxes) >= len(tight.boxes)
    for label, box in zip(tight.labels, tight.boxes, strict=True):
        outer = moved.boxes[moved.labels == label]
        assert ((outer[:, :2] <= box[:2] + 1.5).all(1) & (outer[:, 2:] >= box[2:] - 1.5).all(1)).any()


def test_rotation_makes_a_disc_no_larger_with_instances_and_much_larger_without():
    rows, columns = np.indices((100, 100))
    disc = (np.hypot(rows - 49.5, columns - 49.5) < 20).astype(np.uint8)
    box = np.array([[30, 30, 70, 70]], np.float32)
    sample = Sample(
        *(np.zeros((100, 100, 3), np.uint8), disc, box, np.array([0]), np.array([False]), "disc", (100, 100)),
        instances=disc,
    )
    turn = affine_matrix((100, 100), degrees=45)
    np.testing.assert_allclose(warp(sample, turn).boxes, box, atol=1)
    loose = warp(replace(sample, instances=None), turn).boxes
    np.testing.assert_allclose(loose, [[50 - 20 * 2**0.5] * 2 + [50 + 20 * 2**0.5] * 2], atol=1e-3)


def test_a_box_far_larger_than_the_pixels_that_are_seen_is_turned_by_its_corners():
    """Most of the object is hidden: its pixels do not tell where it ends."""
    sample = shapes(0)
    hidden = replace(
        sample,
        instances=np.where(np.indices(SIZE)[1] < sample.boxes[0, 0] + 3, sample.instances, 0).astype(np.uint8),
        boxes=sample.boxes[:1],
        labels=sample.labels[:1],
        difficult=sample.difficult[:1],
    )
    hidden = replace(hidden, instances=(hidden.instances == 1).astype(np.uint8))
    turn = affine_matrix(SIZE, degrees=20)
    np.testing.assert_allclose(warp(hidden, turn).boxes, warp(replace(hidden, instances=None), turn).boxes)


def test_the_slack_of_an_annotation_stays_when_it_is_moved():
    """Boxes drawn by hand are a little larger than the mask; turning must not change that."""
    square = np.zeros((100, 100), np.uint8)
    square[40:60, 30:60] = 1
    box = np.array([[28, 37, 62, 63]], np.float32)
    sample = Sample(
        *(np.zeros((100, 100, 3), np.uint8), square, box, np.array([0]), np.array([False]), "a", (100, 100)),
        instances=square,
    )
    flipped = warp(sample, flip_matrix((100, 100)))
    np.testing.assert_allclose(flipped.boxes, [[38, 37, 72, 63]], atol=1e-3)
    quarter = warp(sample, affine_matrix((100, 100), degrees=90)).boxes
    np.testing.assert_allclose(quarter, [[37, 28, 63, 62]], atol=1e-3)


def test_moved_boxes_of_a_quarter_turn_are_exact():
    boxes = np.array([[10, 20, 30, 25]], np.float32)
    turned = moved_boxes(boxes, affine_matrix((100, 100), degrees=90))
    np.testing.assert_allclose(turned, [[75, 10, 80, 30]], atol=1e-4)  # (x, y) -> (100 - y, x)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 11), st.integers(-30, 30), st.integers(-30, 30), st.integers(16, 90), st.integers(16, 90))
def test_a_window_shows_what_is_in_it(index: int, row: int, column: int, height: int, width: int):
    sample = shapes(index)
    seen = place(sample, (height, width), (row, column))
    padded = np.full((200, 240), VOID, np.uint8)
    padded[60 + row : 60 + row + SIZE[0], 60 + column : 60 + column + SIZE[1]] = sample.mask
    assert np.array_equal(seen.mask, padded[60 : 60 + height, 60 : 60 + width])
    bounds = instance_bounds(seen.instances, len(seen.boxes))
    assert np.abs(seen.boxes - bounds).max(initial=0) <= 1.0
    assert set(np.unique(seen.instances)) - {0} <= set(range(1, len(seen.boxes) + 1))
    assert (seen.image[seen.mask == VOID] == (124, 116, 104)).all()


def test_large_scale_jitter_enlarges_and_shrinks_within_its_limits():
    sample = shapes(0)
    whole = sample.boxes[:, 2:] - sample.boxes[:, :2]
    factors, void = [], []
    transform = large_scale_jitter(SIZE, smallest=0.25, largest=2.0)
    for seed in range(60):
        result = transform(sample, seed)
        assert result.image.shape == (*SIZE, 3)
        void.append((result.mask == VOID).mean())
        if len(result.boxes) == len(whole):
            factors += ((result.boxes[:, 2:] - result.boxes[:, :2]) / whole).ravel().tolist()
    assert 0.2 < min(factors) < 0.5
    assert 1.2 < max(factors) < 2.1
    assert min(void) == 0
    assert max(void) > 0.5
    with pytest.raises(Exception, match="largest"):
        AUGMENTATIONS.check_options(component("large_scale_jitter", largest=0.5))


def component(name: str, **options: object):
    from mtvision.registry import Component

    return Component(name, options)


@pytest.mark.parametrize("level", ["basic", "heavy", "robust", "large_scale_jitter"])
def test_instances_go_wherever_the_mask_goes(level: str):
    transform = AUGMENTATIONS.build(level, (48, 64))
    for index in range(6):
        for seed in range(6):
            result = transform(shapes(index), seed)
            classes = np.concatenate([[0], result.labels + 1]).astype(np.uint8)
            owned = result.instances > 0
            assert np.array_equal(classes[result.instances][owned], result.mask[owned])
            assert result.instances.max(initial=0) <= len(result.boxes)


def test_a_users_rotation_keeps_boxes_tight_where_there_are_instances():
    import albumentations

    from mtvision.config import Config

    compose = albumentations.Compose([albumentations.Rotate(limit=(45, 45), p=1.0)])
    level = Config(data={"augmentation_level": compose}).data.augmentation_level
    transform = AUGMENTATIONS.build(level, SIZE)
    gains = []
    for index in range(8):
        tight, loose = transform(shapes(index), 0), transform(replace(shapes(index), instances=None), 0)
        bounds = instance_bounds(tight.instances, len(tight.boxes))
        assert np.nanmax(np.abs(tight.boxes - bounds), initial=0) <= 1.5
        gains += [area(loose.boxes).sum() / max(area(tight.boxes).sum(), 1)] if len(tight.boxes) else []
    assert np.mean(gains) > 1.3


def area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2:] - boxes[:, :2]).prod(1)
