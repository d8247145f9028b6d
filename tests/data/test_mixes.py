"""Mosaic, mixup and copy-paste: mask, boxes and instances stay consistent, and nothing appears that nobody labelled."""

from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtvision.config import Config
from mtvision.data import AugmentedDataset, KeyedSampler, Recipe, SampleKey, Shapes, build_loader, sample_problems
from mtvision.data.augmentation.copy_paste import copy_paste
from mtvision.data.augmentation.mixing import Mix, mixup
from mtvision.data.augmentation.mosaic import mosaic
from mtvision.data.augmentation.presets import resize_only
from mtvision.data.checking.check import checked_reader
from mtvision.data.geometry import resize
from mtvision.data.instances import instance_bounds
from mtvision.data.loading.loader import scaled_sizes
from mtvision.errors import ConfigError, DataError
from mtvision.registries import MIXES
from mtvision.types import VOID, Sample

SIZE = (48, 64)
seeds = st.integers(0, 2**32)
rows = st.integers(0, 19)


@cache
def shapes(index: int) -> Sample:
    return Shapes("train", num_images=20, image_size=SIZE)[index]


def without_boxes(sample: Sample) -> Sample:
    return replace(sample, boxes=None, labels=None, difficult=None, instances=None)


def mixed(mix: Mix, samples: list[Sample], seed: int) -> Sample:
    before = [(each.image.copy(), None if each.boxes is None else each.boxes.copy()) for each in samples]
    result = mix.combine(samples[0], samples[1 : 1 + mix.num_partners], np.random.default_rng(seed))
    for sample, (image, boxes) in zip(samples, before, strict=True):
        assert np.array_equal(sample.image, image)  # nothing given is changed
        assert sample.boxes is boxes is None or np.array_equal(sample.boxes, boxes)
    assert sample_problems(result, Shapes.classes) == []
    assert result.image.shape == samples[0].image.shape
    return result


def assert_consistent(sample: Sample, slack: float = 1.5, tiny: float = 0) -> None:
    """The pixels of each object are of its class, and its box is their bound, but for ``slack`` pixels.

    Boxes with a side of at most ``tiny`` pixels need no pixels: nearest neighbours may have passed over them.
    """
    bounds = instance_bounds(sample.instances, len(sample.boxes))
    for row, (label, box) in enumerate(zip(sample.labels, sample.boxes, strict=True)):
        pixels = sample.instances == row + 1
        if (box[2:] - box[:2]).min() <= tiny:
            assert set(np.unique(sample.mask[pixels]).tolist()) <= {label + 1}
            continue
        assert pixels.any()
        assert set(np.unique(sample.mask[pixels]).tolist()) == {label + 1}
        assert np.abs(box - bounds[row]).max() <= slack


@settings(max_examples=60, deadline=None)
@given(st.tuples(rows, rows, rows, rows), seeds)
def test_a_mosaic_is_four_consistent_quarters(indices: tuple[int, ...], seed: int):
    parts = [shapes(index) for index in indices]
    result = mixed(mosaic(), parts, seed)
    assert_consistent(result, slack=3, tiny=3)  # resizing loses thin tips of a star, cutting rounds
    ownerless = ((result.mask > 0) & (result.instances == 0)).astype(np.uint8)
    assert not cv2.erode(ownerless, np.ones((3, 3), np.uint8)).any()  # but slices too thin for a box
    assert set(result.labels.tolist()) <= {label for part in parts for label in part.labels.tolist()}


@pytest.mark.parametrize("seed", range(6))
def test_each_quarter_of_a_mosaic_shows_one_image_and_they_meet_in_the_middle_half(seed: int):
    parts = [
        Sample(np.full((*SIZE, 3), 40 * (k + 1), np.uint8), np.full(SIZE, k, np.uint8), None, None, None, "", SIZE)
        for k in range(4)
    ]
    result = mosaic().combine(parts[0], parts[1:], np.random.default_rng(seed))
    row, column = int((result.mask[:, 0] == 0).sum()), int((result.mask[0] == 0).sum())
    assert SIZE[0] / 4 <= row <= SIZE[0] * 3 / 4
    assert SIZE[1] / 4 <= column <= SIZE[1] * 3 / 4
    expected = np.repeat(np.repeat([[0, 1], [2, 3]], [row, SIZE[0] - row], 0), [column, SIZE[1] - column], 1)
    assert np.array_equal(result.mask, expected)
    assert np.array_equal(result.image[..., 0], 40 * (expected + 1))


@settings(max_examples=60, deadline=None)
@given(rows, rows, seeds)
def test_mixup_keeps_all_objects_and_a_pixel_of_two_classes_is_void(first: int, second: int, seed: int):
    one, other = shapes(first), shapes(second)
    result = mixed(mixup(), [one, other], seed)
    assert np.array_equal(result.boxes, np.concatenate([one.boxes, other.boxes]))
    assert np.array_equal(result.labels, np.concatenate([one.labels, other.labels]))
    for row in range(SIZE[0]):
        for column in range(0, SIZE[1], 7):
            a, b, c = (each.mask[row, column] for each in (one, other, result))
            expected = a if a == b else b if a == 0 else a if b == 0 else VOID
            assert c == expected
    low, high = np.minimum(one.image, other.image), np.maximum(one.image, other.image)
    assert (result.image >= low).all()
    assert (result.image <= high).all()
    assert result.instances is None


def test_the_share_of_mixup_is_near_a_half_for_a_high_concentration_and_anything_for_one():
    black, white = (replace(shapes(0), image=np.full((*SIZE, 3), value, np.uint8)) for value in (0, 255))

    def shares(concentration: float) -> np.ndarray:
        mix = mixup(concentration=concentration)
        return np.array(
            [mix.combine(black, [white], np.random.default_rng(seed)).image[0, 0, 0] / 255 for seed in range(200)]
        )

    assert shares(32).mean() == pytest.approx(0.5, abs=0.02)
    assert shares(32).std() == pytest.approx(0.5 / (2 * 32 + 1) ** 0.5, rel=0.2)  # of Beta(a, a)
    assert shares(1).std() == pytest.approx(12**-0.5, rel=0.2)


@settings(max_examples=80, deadline=None)
@given(rows, rows, seeds)
def test_pasted_objects_are_in_front_and_what_they_hide_is_gone(first: int, second: int, seed: int):
    one, other = shapes(first), shapes(second)
    result = mixed(copy_paste(), [one, other], seed)
    assert_consistent(result)
    front = [row for row, whole in enumerate(pasted(result, other)) if whole]
    covered = np.isin(other.instances, np.array(front) + 1) if front else np.zeros(SIZE, bool)
    assert np.array_equal(result.mask[covered], other.mask[covered])
    assert np.array_equal(result.mask[~covered], one.mask[~covered])
    assert np.array_equal(result.image[~covered], one.image[~covered])
    assert len(front) <= len(result.boxes) <= len(one.boxes) + len(front)
    untouched = [row for row in range(len(one.boxes)) if not (covered & (one.instances == row + 1)).any()]
    assert {tuple(one.boxes[row]) for row in untouched} <= {tuple(box) for box in result.boxes}


def pasted(result: Sample, other: Sample) -> list[bool]:
    """For each object of the other sample, whether all of its pixels are seen in the result."""
    found = []
    for row in range(len(other.boxes)):
        pixels = other.instances == row + 1
        same = np.array_equal(result.image[pixels], other.image[pixels])
        found.append(bool(same and len(set(result.instances[pixels].tolist())) == 1 and pixels.sum() >= 16))
    return found


def test_an_object_that_is_nearly_covered_is_dropped_and_a_partly_covered_one_shrinks():
    def scene(left: int, right: int, label: int) -> Sample:
        pixels = np.zeros(SIZE, np.uint8)
        pixels[10:30, left:right] = 1
        image = np.repeat(pixels[..., None] * 200, 3, axis=2).astype(np.uint8)
        box = np.array([[left, 10, right, 30]], np.float32)
        return Sample(
            *(image, pixels * np.uint8(label + 1), box, np.array([label]), np.zeros(1, bool), "a", SIZE),
            instances=pixels,
        )

    back = scene(10, 50, 0)
    seed = next(seed for seed in range(20) if np.random.default_rng(seed).random(1)[0] < 0.5)  # the object is chosen
    half = mixed(copy_paste(), [back, scene(30, 60, 1)], seed)
    assert half.boxes.tolist() == [[10, 10, 30, 30], [30, 10, 60, 30]]
    assert half.labels.tolist() == [0, 1]
    covered = mixed(copy_paste(min_visible=0.1), [back, scene(12, 60, 1)], seed)
    assert covered.labels.tolist() == [1]  # 2 of 40 columns are left
    assert mixed(copy_paste(min_visible=0.04), [back, scene(12, 60, 1)], seed).labels.tolist() == [0, 1]
    # without instances the box stays as it is while enough of it can be seen
    plain = mixed(copy_paste(), [replace(back, instances=None), scene(30, 60, 1)], seed)
    assert plain.boxes.tolist() == [[10, 10, 50, 30], [30, 10, 60, 30]]
    assert plain.instances is None


def test_difficult_objects_and_specks_are_not_pasted():
    other = shapes(1)
    hard = replace(other, difficult=np.ones(len(other.boxes), bool))
    for seed in range(8):
        assert mixed(copy_paste(), [shapes(0), hard], seed) is not None
        assert np.array_equal(mixed(copy_paste(), [shapes(0), hard], seed).image, shapes(0).image)


def test_what_is_not_annotated_is_void_in_the_mask_and_never_an_empty_image():
    full, masks_only = shapes(0), without_boxes(shapes(1))
    boxes_only = replace(shapes(2), mask=None)
    assert not mosaic().suits(full, masks_only)
    assert not mixup().suits(full, masks_only)
    assert mosaic().suits(masks_only, full)
    assert mosaic().suits(full, boxes_only)
    assert not mixup().suits(full, boxes_only)  # half of each pixel is an image that nobody segmented: all void
    assert mixup().suits(boxes_only, full)
    four = mixed(mosaic(), [full, boxes_only, full, full], 3)
    assert (four.mask == VOID).any()
    assert (four.mask != VOID).any()
    none = mixed(mosaic(), [boxes_only] * 4, 3)
    assert none.mask is None
    unknown = mixed(mosaic(), [masks_only, full, full, full], 3)
    assert unknown.boxes is unknown.labels is unknown.difficult is None
    pasted_into = mixed(copy_paste(), [masks_only, shapes(1)], 1)
    assert pasted_into.boxes is None


@pytest.mark.parametrize("make", [mosaic, mixup, copy_paste])
def test_void_stays_void_and_maps_follow(make):
    void = replace(shapes(0), mask=np.full(SIZE, VOID, np.uint8), maps={"depth": np.full(SIZE, 3.0, np.float32)})
    other = replace(shapes(1), maps={"depth": np.full(SIZE, 7.0, np.float32)}, values={"scene": np.array(1.0)})
    mix = make()
    seed = next(seed for seed in range(20) if np.random.default_rng(seed).random(len(other.boxes)).min() < 0.5)
    result = mixed(mix, [void] + [other] * mix.num_partners, seed)
    depth = result.maps["depth"]
    if make is mixup:
        assert (result.mask == VOID).all()
        assert depth is None
        assert result.values == {"scene": None}
    elif make is mosaic:
        assert set(np.unique(depth).tolist()) == {3.0, 7.0}
        assert ((depth == 3.0) == (result.mask == VOID)).all()
        assert result.values == {"scene": None}
    else:
        own = depth == 3.0
        assert result.values == {"scene": None}
        assert (result.mask[own] == VOID).all()
        assert (result.instances[~own] > 0).all()


class Partly(Shapes):
    """Shapes of which every third has no boxes and every third no mask."""

    def sample(self, index: int) -> Sample:
        sample = super().sample(index)
        return (sample, without_boxes(sample), replace(sample, mask=None))[index % 3]


def dataset(mixes: tuple[Mix, ...], data: Shapes, **recipe: object) -> AugmentedDataset:
    from mtvision.data.augmentation.presets import heavy

    return AugmentedDataset(data, checked_reader(data), Recipe(heavy, mixes, **recipe), seed=5, image_size=SIZE)


def test_mixed_samples_are_a_function_of_the_key_and_stay_honest():
    data = Partly("train", num_images=12, image_size=(56, 70))
    mixes = (mosaic(probability=0.7), copy_paste(probability=0.7), mixup(probability=0.5))
    augmented = dataset(mixes, data)
    plain = dataset((), data)
    changed = 0
    for index in range(12):
        sample, again = (augmented[SampleKey(1, index)].sample for _ in range(2))
        assert np.array_equal(sample.image, again.image)
        assert sample_problems(replace(sample, original_size=SIZE), data.classes) == []
        assert (sample.boxes is None) == (index % 3 == 1)  # what nobody looked for is never made up or forgotten
        changed += not np.array_equal(sample.image, plain[SampleKey(1, index)].sample.image)
    assert changed > 6


def test_probability_is_how_often_a_mix_acts():
    data = Shapes("train", num_images=16, image_size=SIZE)
    for probability in (0.25, 1.0):
        recipe = Recipe(resize_only, (mixup(probability=probability),))
        augmented = AugmentedDataset(data, checked_reader(data), recipe, seed=0, image_size=SIZE)
        acted = [
            len(augmented[SampleKey(epoch, index)].sample.boxes) > len(data[index].boxes)
            for epoch in range(12)
            for index in range(16)
            if len(data[index].boxes)
        ]
        assert np.mean(acted) == pytest.approx(probability, abs=0.12)


def test_the_last_epochs_are_calm():
    data = Shapes("train", num_images=6, image_size=SIZE)
    augmented = dataset((mosaic(probability=1.0),), data, calm_from=3, calm=resize_only)
    for index in range(6):
        calm = augmented[SampleKey(3, index)].sample
        assert np.array_equal(calm.image, data[index].image)
        assert not np.array_equal(augmented[SampleKey(2, index)].sample.image, data[index].image)


def config(**data: object) -> Config:
    shapes_of = {"name": "shapes", "num_images": 12, "image_size": 48}
    return Config(
        system={"epochs": 4}, training={"batch_size": 4}, data={"dataset": shapes_of, "image_size": 64, **data}
    )


def test_the_config_chooses_mixes_and_when_they_end(caplog):
    cfg = config(augmentation_level="heavy", mixes=["mosaic", {"name": "mixup", "probability": 0.3}], calm_epochs=1)
    data = Shapes("train", num_images=12, image_size=48)
    loader = build_loader(cfg, data, training=True)
    recipe = loader.dataset.recipe
    assert [type(mix).__name__ for mix in recipe.mixes] == ["Mosaic", "MixUp"]
    assert [mix.probability for mix in recipe.mixes] == [0.5, 0.3]
    assert (recipe.calm_from, recipe.is_calm(2), recipe.is_calm(3)) == (3, False, True)
    loader.set_epoch(3)
    (first, *_) = list(loader)
    basic = build_loader(config(augmentation_level="basic"), data, training=True)
    basic.set_epoch(3)
    assert np.array_equal(first.images, next(iter(basic)).images)
    assert "does nothing" not in caplog.text
    build_loader(config(augmentation_level="basic", calm_epochs=2), data, training=True)
    assert "data.calm_epochs does nothing" in caplog.text


def test_a_wrong_mix_or_option_is_refused_when_the_config_is_read():
    with pytest.raises(ConfigError, match=r"data\.mixes.*'mosaik'.*Did you mean 'mosaic'"):
        config(mixes=["mosaik"])
    with pytest.raises(ConfigError, match=r"data\.mixes\.0\.probability"):
        config(mixes=[{"name": "mixup", "probability": 1.5}])
    assert MIXES.names() == ["copy_paste", "mixup", "mosaic"]


def test_workers_and_processes_see_the_same_mixed_batches():
    cfg = config(augmentation_level="robust", mixes=["mosaic", "copy_paste", "mixup"], multi_scale=[0.5, 1.5])
    data = Shapes("train", num_images=12, image_size=48)

    def batches(workers: int, shares: int = 1) -> list[np.ndarray]:
        parts = []
        for rank in range(shares):
            loader = build_loader(cfg.replace({"data.num_workers": workers}), data, training=True)
            loader.set_epoch(1)
            loader.share(rank, shares)
            parts.append([batch.images.numpy() for batch in loader])
        return [np.concatenate(of_batch) for of_batch in zip(*parts, strict=True)]

    alone = batches(0)
    for others in (batches(2), batches(0, shares=2)):
        assert all(np.array_equal(one, other) for one, other in zip(alone, others, strict=True))


def test_each_batch_has_a_size_of_its_own_within_the_scales():
    cfg = config(multi_scale=[0.5, 1.5])
    data = Shapes("train", num_images=12, image_size=48)
    loader = build_loader(cfg, data, training=True)
    sizes = set()
    for epoch in range(8):
        loader.set_epoch(epoch)
        batches = list(loader)
        sizes |= {tuple(batch.images.shape[2:]) for batch in batches}
        assert all(batch.targets["seg"].shape[1:] == batch.images.shape[2:] for batch in batches)
    assert sizes == {(32, 32), (64, 64), (96, 96)}
    for image_size, scales, expected in (
        ((256, 256), (0.9, 1.1), [256]),
        ((256, 256), (0.75, 1.25), [192, 224, 256, 288, 320]),
        ((100, 100), (0.5, 1.5), [64, 96, 128]),
        ((32, 32), (0.5, 1.5), [32]),
    ):
        assert [size[0] for size in scaled_sizes(image_size, scales)] == expected  # never beyond the factors
    with pytest.raises(
        ConfigError, match=r"data\.multi_scale: between 0\.9 and 1\.1 times \(64, 64\) there are not two"
    ):
        build_loader(config(multi_scale=[0.9, 1.1]), data, training=True)
    # resumed inside an epoch: the rest is the same
    loader.set_epoch(2)
    whole = [batch.images for batch in loader]
    loader.set_epoch(2, start=1)
    rest = [batch.images for batch in loader]
    assert all(np.array_equal(one, other) for one, other in zip(whole[1:], rest, strict=True))
    assert {tuple(batch.images.shape[2:]) for batch in build_loader(cfg, data, training=False)} == {(64, 64)}
    with pytest.raises(ConfigError, match=r"data\.multi_scale: must be \[smallest, largest\]"):
        config(multi_scale=[1.5, 0.5])


def test_partners_are_read_at_the_size_of_the_batch():
    data = Shapes("train", num_images=6, image_size=(40, 90))
    augmented = AugmentedDataset(
        data, checked_reader(data), Recipe(resize_only, (mosaic(probability=1.0),)), seed=0, image_size=SIZE
    )
    key = SampleKey(0, 2, (96, 32))
    assert augmented[key].sample.image.shape == (96, 32, 3)
    assert resize(data[2], (96, 32)).image.shape == (96, 32, 3)


def test_an_image_that_comes_several_times_an_epoch_is_augmented_anew_each_time():
    data = Shapes("train", num_images=6, image_size=SIZE)
    augmented = dataset((), data)
    sampler = KeyedSampler(6, seed=0, order=lambda seed, epoch: np.array([4, 2, 4, 4, 2, 0]))
    keys = list(sampler)
    assert [(key.index, key.repeat) for key in keys] == [(4, 0), (2, 0), (4, 1), (4, 2), (2, 1), (0, 0)]
    first, second, third = (augmented[key].sample.image for key in keys if key.index == 4)
    assert np.array_equal(first, augmented[SampleKey(0, 4)].sample.image)
    assert not np.array_equal(first, second)
    assert not np.array_equal(second, third)


@pytest.mark.parametrize("order", [[0, 1, 2], [0, 1, 2, 3, 4, 9], np.zeros(6), np.arange(12)])
def test_a_sampler_that_returns_something_else_is_told_what_is_expected(order):
    sampler = KeyedSampler(6, seed=0, order=lambda seed, epoch: order)
    with pytest.raises(DataError, match=r"data\.sampler: order\(\) must return 6 indices from 0 to 5, got"):
        list(sampler)
    assert [key.index for key in KeyedSampler(3, 0, order=lambda seed, epoch: [2, 0, 1])] == [2, 0, 1]


def test_a_mix_that_says_when_in_another_word_is_refused():
    class Late(type(mosaic())):
        when = "later"

    with pytest.raises(ValueError, match=r"Late\.when must be 'before' or 'after', got 'later'"):
        Late(0.5)


def test_a_covered_object_without_pixels_is_dropped():
    small = replace(
        shapes(0),
        boxes=np.array([[4, 4, 8, 8], [40, 30, 44, 34]], np.float32),
        labels=np.array([0, 0]),
        difficult=np.zeros(2, bool),
        instances=np.zeros(SIZE, np.uint8),
    )
    pixels = np.zeros(SIZE, np.uint8)
    pixels[2:12, 2:12] = 1
    front = replace(
        shapes(0),
        mask=pixels * np.uint8(2),
        boxes=np.array([[2, 2, 12, 12]], np.float32),
        labels=np.array([1]),
        difficult=np.zeros(1, bool),
        instances=pixels,
    )
    seed = next(seed for seed in range(20) if np.random.default_rng(seed).random(1)[0] < 0.5)
    assert mixed(copy_paste(), [small, front], seed).boxes.tolist() == [[40, 30, 44, 34], [2, 2, 12, 12]]
