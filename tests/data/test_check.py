from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from mtvision.data import VOC, Shapes, check, sample_problems
from mtvision.types import Sample

CLASSES = Shapes.classes


class Broken:
    """Items that fail in every way a user's code can fail."""

    classes = CLASSES

    def __init__(self, items: list[Sample | Exception]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Sample:
        item = self.items[index]
        if isinstance(item, Exception):
            raise item
        return item


def good() -> Sample:
    return next(sample for sample in Shapes("train", num_images=9, image_size=48) if len(sample.boxes) > 1)


def test_a_sound_sample_has_no_problem():
    assert sample_problems(good(), CLASSES) == []
    assert sample_problems(replace(good(), mask=None, boxes=None, labels=None, difficult=None), CLASSES) == []


def test_nothing_raises_and_everything_is_listed():
    sample = good()
    items = [
        sample,
        KeyError("shard 7"),
        replace(sample, image_id="x", mask=np.full((48, 48), 9, np.uint8), labels=sample.labels + 5),
        OSError("disk"),
        sample,
    ]
    problems = check(Broken(items))
    assert [problem for problem in problems if "item 1" in problem and "shard 7" in problem]
    assert [problem for problem in problems if "item 3" in problem and "disk" in problem]
    assert any("'x': the mask has the class id 9; valid are 0 to 5" in problem for problem in problems)
    assert any("outside 0 to 4" in problem for problem in problems)
    assert f"image id '{sample.image_id}' occurs 2 times" in problems


def test_an_empty_set_is_a_problem():
    assert check([]) == ["the data set is empty"]


def test_each_breach_of_the_contract_is_named():
    sample = good()
    boxes = sample.boxes.copy()
    boxes[0] = [5, 5, 5, 9]
    breaches = {
        "expected uint8 (H, W, 3), got float64": replace(sample, image=sample.image / 255),
        "got uint8 (48, 48)": replace(sample, image=sample.image[..., 0]),
        "expected a mask of uint8 (H, W), got int64": replace(sample, mask=sample.mask.astype(np.int64)),
        "the mask is 40 x 48 pixels": replace(sample, mask=sample.mask[:40]),
        "must be None together": replace(sample, labels=None),
        "expected boxes (M, 4)": replace(sample, labels=sample.labels[1:]),
        "the box [5.0, 5.0, 5.0, 9.0] is empty or outside": replace(sample, boxes=boxes),
        "is empty or outside the image": replace(sample, boxes=sample.boxes + 40),
    }
    for sentence, broken in breaches.items():
        problems = sample_problems(broken, CLASSES)
        assert any(sentence in problem for problem in problems), (sentence, problems)


def test_a_subset_is_checked_like_the_whole():
    assert check(Shapes("train", num_images=6, image_size=32)[1:4]) == []


class OddError(Exception):
    """What a user's own library may raise."""


WRONG_TYPES: dict[str, Callable[[Sample], object]] = {
    "expected an mtvision.Sample, got tuple": lambda sample: (sample.image, sample.mask),
    "expected an mtvision.Sample, got NoneType": lambda sample: None,
    "expected uint8 (H, W, 3), got Tensor": lambda sample: replace(sample, image=torch.from_numpy(sample.image)),
    "expected uint8 (H, W, 3), got list": lambda sample: replace(sample, image=sample.image.tolist()),
    "expected a mask of uint8 (H, W), got list": lambda sample: replace(sample, mask=sample.mask.tolist()),
    "expected boxes (M, 4) of float, got list": lambda sample: replace(sample, boxes=sample.boxes.tolist()),
    "expected boxes (M, 4) of float, got int64": lambda sample: replace(sample, boxes=sample.boxes.astype(np.int64)),
    "expected boxes (M, 4) of float, got <U": lambda sample: replace(sample, boxes=sample.boxes.astype(np.str_)),
    "labels (M,) of integer, got list": lambda sample: replace(sample, labels=sample.labels.tolist()),
    "labels (M,) of integer, got float64": lambda sample: replace(sample, labels=sample.labels.astype(np.float64)),
    "labels (M,) of integer, got int64 (1, ": lambda sample: replace(sample, labels=sample.labels[None]),
    "difficult (M,) of bool, got int64": lambda sample: replace(sample, difficult=sample.difficult.astype(np.int64)),
    "difficult (M,) of bool, got list": lambda sample: replace(sample, difficult=sample.difficult.tolist()),
    "image_id: expected a text, got list": lambda sample: replace(sample, image_id=["a"]),
    "original_size: expected (48, 48), the image's own (H, W), got (480, 640)": lambda sample: replace(
        sample, original_size=(480, 640)
    ),
    "original_size: expected (48, 48), the image's own (H, W), got None": lambda sample: replace(
        sample, original_size=None
    ),
    "item 0: cannot be read (OddError: strange)": lambda sample: OddError("strange"),
}


@pytest.mark.parametrize("sentence", WRONG_TYPES)
def test_wrong_types_are_listed_and_never_raised(sentence: str):
    problems = check(Broken([WRONG_TYPES[sentence](good())]))
    assert len(problems) == 1, problems
    assert sentence in problems[0]


def test_boxes_that_are_no_numbers_are_a_problem():
    sample = good()
    boxes = sample.boxes.copy()
    boxes[0, 1] = np.nan
    (problem,) = sample_problems(replace(sample, boxes=boxes), CLASSES)
    assert "is empty or outside the image" in problem


def test_classes_that_are_none_are_a_problem():
    dataset = Broken([good()])
    dataset.classes = ["cat", "dog"]
    assert check(dataset) == ["classes: expected an mtvision.Classes, got list"]


def test_what_a_subclass_does_to_the_samples_is_checked(devkit):
    class Remapped(VOC):
        def sample(self, index):
            return replace(super().sample(index), mask=np.full((20, 30), 77, np.uint8))

    problems = check(Remapped(devkit, "val"))
    assert len(problems) == 1
    assert "class id 77" in problems[0]


def test_a_set_that_cannot_be_measured_is_a_problem():
    class Endless:
        def __len__(self):
            raise OddError("no end")

    assert check(Endless()) == ["the data set's length cannot be told (OddError: no end)"]


@pytest.mark.parametrize(("over", "problems"), [(0.02, 0), (1.0, 0), (1.5, 1)])
def test_a_box_may_reach_over_the_edge_by_a_pixel_as_for_voc(over: float, problems: int):
    sample = good()
    boxes = sample.boxes.copy()
    boxes[0] = [-over, 10, 20, 48 + over]
    assert len(sample_problems(replace(sample, boxes=boxes), CLASSES)) == problems
