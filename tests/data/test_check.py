from dataclasses import replace

import numpy as np

from mtvision.data import Shapes, check, sample_problems
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
