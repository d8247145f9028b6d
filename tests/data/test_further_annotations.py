"""Maps and values: the annotations of tasks beside segmentation and detection."""

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtvision.data import Shapes, TransformedDataset, build_loader, check, collate, sample_problems
from mtvision.data.augmentation.augment import Augmentation, _compose, _load_library
from mtvision.data.geometry import pixel_positions, resize, take_pixels
from mtvision.errors import DataError
from mtvision.registries import AUGMENTATIONS
from mtvision.registry import Component
from mtvision.types import Batch, Classes, Sample

SIZE = (64, 72)


def as_real(mask: np.ndarray) -> np.ndarray:
    return np.where(mask == 255, np.nan, mask).astype(np.float32)


def with_maps(sample: Sample, **maps: np.ndarray | None) -> Sample:
    """Give a sample maps that are its mask in other forms, so that the mask tells what must become of them."""
    mask = sample.mask
    pair = np.stack([as_real(mask), 7 * as_real(mask) + 100], axis=-1)
    own = {"ids": mask, "wide": mask.astype(np.int32), "real": as_real(mask), "pair": pair, "unknown": None}
    return replace(sample, maps={**own, **maps}, values={"scene": np.array([0.0, np.nan]), "nobody": None})


def assert_maps_follow_the_mask(sample: Sample) -> None:
    real = as_real(sample.mask)
    expected = {"ids": sample.mask, "wide": sample.mask.astype(np.int32), "real": real}
    expected["pair"] = np.stack([real, 7 * real + 100], axis=-1)
    assert list(sample.maps) == [*expected, "unknown"]
    assert sample.maps["unknown"] is None
    for name, values in expected.items():
        assert sample.maps[name].dtype == values.dtype
        np.testing.assert_array_equal(sample.maps[name], values, err_msg=name)


def own_compose(library):
    transforms = [
        library.Rotate(limit=(-40, 40), fill_mask=255, p=1.0),
        library.RandomSizedCrop((30, 60), SIZE, p=0.5),
        library.ElasticTransform(p=0.5, border_mode=cv2.BORDER_CONSTANT, fill_mask=255),
        library.CoarseDropout(p=0.5, fill_mask=255),
        library.Transpose(p=0.5),
        library.RandomBrightnessContrast(p=0.5),
    ]
    return library.Compose(transforms).to_dict()


def without_occlusion() -> Callable[[Sample, int], Sample]:
    return AUGMENTATIONS.build("robust", SIZE)._transform


def transforms() -> dict[str, Callable[[Sample, int], Sample]]:
    own = Component("albumentations", {"transform": own_compose(_load_library())})
    named = {name: AUGMENTATIONS.build(name, SIZE) for name in ("none", "basic", "heavy")}
    return {**named, "robust": without_occlusion(), "own": AUGMENTATIONS.build(own, SIZE)}


@pytest.mark.parametrize("name", ["none", "basic", "heavy", "robust", "own"])
def test_maps_go_wherever_the_mask_goes(name: str):
    transform = transforms()[name]
    data = Shapes("train", num_images=4, image_size=(80, 96))
    borders = 0
    for index, sample in enumerate(data):
        for seed in range(4):
            result = transform(with_maps(sample), 100 * index + seed)
            assert result.mask.shape == SIZE
            assert_maps_follow_the_mask(result)
            borders += np.isnan(result.maps["real"]).any()
    assert (borders > 0) == (name not in ("none", "basic"))


@pytest.mark.parametrize("name", ["none", "basic", "heavy", "robust", "own"])
def test_maps_change_nothing_else_and_values_are_not_touched(name: str):
    transform = transforms()[name]
    for index, sample in enumerate(Shapes("train", num_images=4, image_size=(80, 96))):
        plain, full = transform(sample, index), transform(with_maps(sample), index)
        for part in ("image", "mask", "boxes", "labels", "difficult"):
            np.testing.assert_array_equal(getattr(plain, part), getattr(full, part), err_msg=part)
        assert plain.maps == plain.values == {}
        np.testing.assert_array_equal(full.values["scene"], [0.0, np.nan])
        assert full.values["nobody"] is None
        unknown = transform(replace(sample, maps={"depth": None}), index)
        assert unknown.maps == {"depth": None}


def test_maps_without_a_mask_are_moved_too():
    sample = with_maps(Shapes("train", num_images=2, image_size=(80, 96))[0])
    heavy = AUGMENTATIONS.build("heavy", SIZE)
    for seed in range(4):
        result = heavy(replace(sample, mask=None, boxes=None, labels=None, difficult=None), seed)
        assert result.mask is None
        np.testing.assert_array_equal(result.maps["ids"], heavy(sample, seed).mask)


def test_occlusion_leaves_maps_alone():
    sample = with_maps(Shapes("train", num_images=2, image_size=(80, 96))[0])
    covered, open_ = AUGMENTATIONS.build("robust", SIZE), without_occlusion()
    differ = 0
    for seed in range(12):
        one, other = covered(sample, seed), open_(sample, seed)
        differ += not np.array_equal(one.mask, other.mask)
        np.testing.assert_array_equal(one.maps["real"], other.maps["real"])
    assert differ > 2


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.integers(1, 40)] * 4), st.integers(0, 10_000))
def test_a_map_is_resized_as_opencv_does_a_mask(sizes: tuple[int, ...], seed: int):
    height, width, new_height, new_width = sizes
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 255, (height, width), dtype=np.uint8)
    image = np.zeros((height, width, 3), np.uint8)
    sample = Sample(image, values, None, None, None, "a", (height, width), {"ids": values, "real": as_real(values)})
    result = resize(sample, (new_height, new_width))
    np.testing.assert_array_equal(result.maps["ids"], result.mask)
    np.testing.assert_array_equal(result.maps["real"], as_real(result.mask))


@pytest.mark.parametrize("interpolation", [cv2.INTER_LINEAR, cv2.INTER_CUBIC])
@pytest.mark.parametrize("fill", [0, 100, 255])
def test_values_never_mix_however_a_transform_interpolates_and_fills(interpolation: int, fill: int):
    library = _load_library()

    def rotation():
        return _compose([library.Rotate(limit=(30, 30), mask_interpolation=interpolation, fill_mask=fill, p=1.0)])

    far = np.where(np.indices((64, 64))[1] < 32, np.float32(1.5), np.float32(80.25))
    sample = replace(Shapes("train", num_images=1, image_size=64)[0], maps={"depth": far})
    result = Augmentation((64, 64), rotation)(sample, 0).maps["depth"]
    assert set(np.unique(result[~np.isnan(result)])) == {1.5, 80.25}
    corners = result[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert np.isnan(corners).all()
    assert not np.isnan(result[16:48, 16:48]).any()
    assert 0.75 < (~np.isnan(result)).mean() < 0.95  # the square that is left of a square turned by 30 degrees


def test_a_reflecting_border_reflects_maps():
    library = _load_library()

    def shift():
        options = {"border_mode": cv2.BORDER_REFLECT_101, "translate_percent": {"x": (0.25, 0.25), "y": (0, 0)}}
        return _compose([library.Affine(**options, p=1.0)])

    columns = np.indices((64, 64))[1].astype(np.float32)
    sample = replace(Shapes("train", num_images=1, image_size=64)[0], maps={"column": columns})
    result = Augmentation((64, 64), shift)(sample, 0).maps["column"]
    assert result[5].tolist() == [*range(16, 0, -1), *range(48)]


def test_positions_that_were_not_warped_give_the_same_map():
    values = np.random.default_rng(0).normal(size=(5, 7, 2))
    taken = take_pixels({"a": values, "b": None}, pixel_positions((5, 7)))
    np.testing.assert_array_equal(taken["a"], values)
    assert taken["b"] is None
    taken["a"][:] = 0
    assert values.any()


def test_a_position_between_pixels_is_the_nearest_of_them():
    positions = pixel_positions((1, 4))
    positions[..., 1] += [0.4, 0.6, -0.4, -0.6]
    assert take_pixels({"a": np.arange(4.0)[None]}, positions)["a"].tolist() == [[0, 2, 2, 2]]


def test_collate_gives_a_list_with_an_entry_for_each_image():
    first, second = (resize(sample, (32, 40)) for sample in Shapes("train", num_images=2, image_size=(32, 40)))
    real = np.arange(1280, dtype=np.float64).reshape(32, 40)
    vectors = np.stack([real, -real, real + 1], axis=-1)
    first = replace(first, maps={"depth": real, "normals": vectors}, values={"count": np.array(3, np.int16)})
    second = replace(second, maps={"depth": None}, values={"tags": np.array([True, False])})
    targets = collate([first, second], [first, second]).targets
    assert set(targets) == {"seg", "det", "depth", "normals", "count", "tags"}
    assert torch.equal(targets["depth"][0], torch.arange(1280.0).view(32, 40))
    assert targets["depth"][0].dtype == torch.float32
    assert targets["normals"][0].shape == (3, 32, 40)
    assert torch.equal(targets["normals"][0][1], -targets["depth"][0])
    assert targets["depth"][1] is targets["normals"][1] is targets["count"][1] is targets["tags"][0] is None
    assert targets["count"][0] == torch.tensor(3)
    assert targets["count"][0].dtype == torch.int64
    assert targets["tags"][1].tolist() == [True, False]
    targets["depth"][0].zero_()
    assert real.any()


class WithDepth:
    """A user's data set: every second image has a depth."""

    classes = Shapes.classes

    def __init__(self, **changes: object) -> None:
        self.shapes, self.changes = Shapes("train", num_images=4, image_size=(80, 96)), changes

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Sample:
        sample = self.shapes[index]
        depth = None if index % 2 else 1 + as_real(sample.mask)
        return replace(sample, **{"maps": {"depth": depth}, "values": {"number": np.array([index])}, **self.changes})


def config(**data: object) -> dict:
    return {"training": {"batch_size": 4}, "data": {"image_size": SIZE, "augmentation_level": "heavy", **data}}


def test_truths_are_at_the_original_size_and_targets_at_that_of_the_image():
    batch = next(iter(build_loader(config(), WithDepth(), training=False)))
    assert [None if t is None else t.shape for t in batch.targets["depth"]] == [SIZE, None, SIZE, None]
    assert [None if t is None else t.shape for t in batch.truths["depth"]] == [(80, 96), None, (80, 96), None]
    assert torch.equal(batch.truths["depth"][0], batch.truths["seg"][0] + 1.0)
    assert [int(t) for t in batch.truths["number"]] == [0, 1, 2, 3]


def test_workers_change_nothing():
    batches = []
    for num_workers in (0, 2):
        loader = build_loader(config(num_workers=num_workers), WithDepth(), training=True)
        loader.set_epoch(1)
        batches.append(next(iter(loader)))
    one, other = batches
    assert isinstance(other, Batch)
    for mine, theirs in zip(one.targets["depth"], other.targets["depth"], strict=True):
        assert (mine is None) == (theirs is None)
        assert mine is None or torch.equal(mine.nan_to_num(-1), theirs.nan_to_num(-1))


def test_a_batch_moves_with_all_of_its_targets():
    batch = next(iter(build_loader(config(), WithDepth(), training=False))).to(torch.device("meta"))
    assert batch.targets["depth"][0].device.type == "meta"
    assert batch.targets["depth"][1] is None


@pytest.mark.parametrize("field", ["maps", "values"])
@pytest.mark.parametrize("name", ["seg", "det"])
def test_the_standard_names_are_refused(field: str, name: str):
    sample = replace(WithDepth()[0], **{field: {name: np.zeros((80, 96))}})
    sentence = f"image '{sample.image_id}': {field}: the name '{name}' is taken by a standard task; choose another"
    assert sample_problems(sample) == [sentence]
    with pytest.raises(DataError, match="is taken by a standard task"):
        collate([sample])


def test_one_name_in_both_is_refused():
    sample = replace(WithDepth()[0], values={"depth": np.zeros(2)})
    with pytest.raises(DataError, match="'depth' is in maps and in values"):
        collate([sample])


WRONG: dict[str, dict[str, object]] = {
    "the map 'depth' is 64 x 64 pixels (height x width) but its image is 80 x 96": {
        "maps": {"depth": np.zeros((64, 64))}
    },
    "expected the map 'depth' to be (H, W) or (H, W, K) of float or integer, got bool (80, 96)": {
        "maps": {"depth": np.zeros((80, 96), bool)}
    },
    "expected the map 'depth' to be (H, W) or (H, W, K) of float or integer, got float64 (96,)": {
        "maps": {"depth": np.zeros(96)}
    },
    "expected the map 'depth' to be (H, W) or (H, W, K) of float or integer, got Tensor": {
        "maps": {"depth": torch.zeros(80, 96)}
    },
    "the map 'ids' is of int8, which cannot hold 255 (void): choose uint8 or int16": {
        "maps": {"ids": np.zeros((80, 96), np.int8)}
    },
    "expected the value 'tags' to be an array of numbers, got list": {"values": {"tags": [0, 1]}},
    "expected the value 'tags' to be an array of numbers, got <U1 (2,)": {"values": {"tags": np.array(["a", "b"])}},
    "maps: expected a mapping from task names to arrays, got float64 (80, 96)": {"maps": np.zeros((80, 96))},
    "values: expected a mapping from task names to arrays, got NoneType": {"values": None},
    "values: expected a mapping from task names to arrays, got dict": {"values": {3: np.zeros(1)}},
}


@pytest.mark.parametrize("sentence", WRONG)
def test_what_breaks_the_contract_is_named(sentence: str):
    broken = WithDepth(**WRONG[sentence])
    assert [problem.partition(": ")[2] for problem in check(broken)] == [sentence] * 4
    with pytest.raises(DataError, match="item 0: image 'train-00000': "):
        next(iter(build_loader(config(), broken, training=False)))


def test_a_sound_set_has_no_problem():
    assert check(WithDepth()).errors == []
    scores = {"maps": {"h": np.zeros((80, 96, 3), np.float16)}, "values": {"tags": np.zeros(0), "n": np.array(1)}}
    assert check(WithDepth(**scores)).errors == []


def test_a_transform_of_ones_own_that_forgets_the_maps_is_named():
    def forgetful(sample: Sample, seed: int) -> Sample:
        return replace(resize(sample, SIZE), maps=sample.maps)

    with pytest.raises(DataError, match=r"its map 'depth' \(80, 96\): an augmentation must move the pixels"):
        TransformedDataset(WithDepth(), forgetful, 0, SIZE)[0]


def test_classes_of_further_tasks():
    classes = Classes(("background", "cat"), ("cat",), {"scene": ("indoor", "outdoor")})
    assert classes.names("scene") == ("indoor", "outdoor")
    assert classes.names("det") == ("cat",)
    assert classes.names("nothing") == ()
    assert classes.num_classes == {"seg": 2, "det": 1}
    assert classes != Classes(classes.segmentation, classes.detection)
    assert hash(classes) == hash(Classes(classes.segmentation, classes.detection))  # equal ones have equal hashes


@pytest.mark.parametrize(
    ("others", "sentence"),
    [({"seg": ("a",)}, "classes.others: 'seg' has a field of its own"), (("a",), "classes.others: expected a mapping")],
)
def test_wrong_classes_of_further_tasks_are_named(others: object, sentence: str):
    data = WithDepth()
    data.classes = Classes(("background",), (), others)
    assert check(data)[0].startswith(sentence)
