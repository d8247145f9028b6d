import io
import json
import pickle
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

import mtvision as mtv
from mtvision.data import VOC, Shapes, check, sample_problems
from mtvision.data.checking.check_report import Finding
from mtvision.data.checking.problem_kinds import problem_kind
from mtvision.errors import DataError
from mtvision.types import Classes, Sample
from sound_folders import picture

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


def test_a_text_is_no_data_set():
    model = mtv.build_model({"model": {"backbone": "test_resnet"}, "data": {"image_size": 32}})
    with pytest.raises(mtv.DataError, match="expected a data set, got the text 'val'; build_dataset"):
        mtv.evaluate(model, "val")
    with pytest.raises(mtv.DataError, match="expected a data set, got the text 'val'"):
        mtv.data.stats("val", classes=CLASSES)
    for given in ("val", Path("val")):
        (finding,) = check(given)
        assert str(finding).startswith("expected a data set, got the text 'val'")


def test_a_sound_sample_has_no_problem():
    assert sample_problems(good(), CLASSES) == []
    nothing = replace(good(), mask=None, boxes=None, labels=None, difficult=None, instances=None)
    assert sample_problems(nothing, CLASSES) == []


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
    assert check(Shapes("train", num_images=12, image_size=32)[1:11]) == []
    report = check(Shapes("train", num_images=12, image_size=32)[1:3])
    assert {finding.kind for finding in report} == {"absent-class"}
    assert report.errors == []


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
    (problem,) = check(Broken([WRONG_TYPES[sentence](good())])).errors
    assert sentence in problem
    assert problem.kind == ("unreadable-item" if "cannot be read" in sentence else "contract")
    assert problem.index == 0


def test_boxes_that_are_no_numbers_are_a_problem():
    sample = good()
    boxes = sample.boxes.copy()
    boxes[0, 1] = np.nan
    (problem,) = sample_problems(replace(sample, boxes=boxes), CLASSES)
    assert "is empty or outside the image" in problem


def test_classes_that_are_none_are_a_problem():
    dataset = Broken([good()])
    dataset.classes = ["cat", "dog"]
    report = check(dataset)
    assert report == ["classes: expected an mtvision.Classes, got list"]
    assert report.counts == {"invalid-classes": 1}


def test_what_a_subclass_does_to_the_samples_is_checked(devkit):
    class Remapped(VOC):
        def sample(self, index):
            return replace(super().sample(index), mask=np.full((20, 30), 77, np.uint8))

    (problem,) = check(Remapped(devkit, "val"))
    assert "class id 77" in problem
    assert (problem.kind, problem.image_id) == ("mask-class", "d")


def test_a_set_that_cannot_be_measured_is_a_problem():
    class Endless:
        def __len__(self):
            raise OddError("no end")

    assert check(Endless()) == ["the data set's length cannot be told (OddError: no end)"]
    (problem,) = check(Shapes("train", num_images=12, image_size=32), against={"val": Endless()})
    assert problem == "'val' cannot be compared: the data set's length cannot be told (OddError: no end)"


@pytest.mark.parametrize(("over", "problems"), [(0.02, 0), (1.0, 0), (1.5, 1)])
def test_a_box_may_reach_over_the_edge_by_a_pixel_as_for_voc(over: float, problems: int):
    sample = good()
    boxes = sample.boxes.copy()
    boxes[0] = [-over, 10, 20, 48 + over]
    assert len(sample_problems(replace(sample, boxes=boxes), CLASSES)) == problems


class Pair(Broken):
    """Samples of a cat and a dog."""

    classes = Classes(("background", "cat", "dog"), ("dog", "cat"))  # a label is not its mask id less one


def pair(**changes: object) -> Sample:
    """Return a sample with a dog (label 0, mask id 2) and a cat (label 1, mask id 1), each with its pixels."""
    mask = np.zeros((40, 60), np.uint8)
    mask[5:15, 5:15], mask[20:30, 30:50] = 2, 1
    boxes = np.array([[5, 5, 15, 15], [30, 20, 50, 30]], np.float32)
    fields = {"mask": mask, "boxes": boxes, "labels": np.array([0, 1]), "difficult": np.zeros(2, np.bool_)}
    return Sample(**({"image": picture(5), "image_id": "x", "original_size": (40, 60)} | fields | changes))


def without_pixels(value: int) -> np.ndarray:
    """Return the mask of `pair` in which the dog's pixels are of another value."""
    mask = pair().mask
    return np.where(mask == 2, np.uint8(value), mask)


def test_boxes_and_mask_that_fit_are_no_finding():
    assert check(Pair([pair()])) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"mask": without_pixels(0)}, {"box-without-mask": 1}),
        ({"mask": without_pixels(1)}, {"box-without-mask": 1}),
        ({"mask": without_pixels(255)}, {}),  # void: nobody can tell
        ({"mask": without_pixels(0), "difficult": np.array([True, False])}, {}),
        ({"difficult": np.array([True, True])}, {}),  # a difficult box is a reason for pixels
        ({"labels": np.array([1, 1])}, {"box-without-mask": 1, "mask-without-box": 1}),
        (
            {
                "boxes": np.zeros((0, 4), np.float32),
                "labels": np.array([], np.int64),
                "difficult": np.array([], np.bool_),
            },
            {"mask-without-box": 2},
        ),
        ({"boxes": None, "labels": None, "difficult": None}, {}),
        ({"mask": None}, {}),
        ({"mask": None, "boxes": None, "labels": None, "difficult": None}, {"not-annotated": 1}),
        ({"mask": None, "boxes": None, "labels": None, "difficult": None, "values": {"age": np.array(3)}}, {}),
        ({"mask": None, "boxes": pair().boxes[[0, 0]], "labels": np.array([0, 0])}, {"duplicate-box": 1}),
        ({"mask": None, "boxes": pair().boxes[[0, 0]]}, {}),  # of two classes
    ],
)
def test_what_does_not_fit_together(changes: dict[str, object], expected: dict[str, int]):
    report = check(Pair([pair(**changes)]))
    assert {kind: count for kind, count in report.counts.items() if kind != "absent-class"} == expected
    assert report.errors == []
    assert all("'x'" in finding for finding in report if finding.index is not None)


def test_a_class_of_one_task_alone_is_not_compared():
    dataset = Pair([pair(mask=without_pixels(0))])
    dataset.classes = Classes(("background", "cat", "sky"), ("dog", "cat"))
    assert {finding.kind for finding in check(dataset)} == {"absent-class"}


def test_classes_that_never_occur_are_told_by_task():
    dataset = Pair([pair()])
    dataset.classes = Classes(("background", "cat", "dog", "cow", "sky"), ("dog", "cat", "cow"))
    assert check(dataset) == [
        "no mask has a pixel of 'cow', 'sky': nothing can be learned of it",
        "no box is of 'cow': nothing can be learned of it",
    ]
    assert [
        finding
        for finding in check(Pair([pair(mask=None, boxes=None, labels=None, difficult=None)])).warnings
        if finding.kind == "absent-class"
    ] == []


def test_an_orientation_that_a_data_set_of_a_users_own_ignores_is_found(tmp_path: Path):
    path = tmp_path / "x.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(5)).save(path, exif=exif)

    class Own(Pair):
        def image_path(self, index: int) -> Path:
            return path

    with Image.open(path) as file:
        stored, upright = np.array(file), np.array(ImageOps.exif_transpose(file))
    (finding,) = [finding for finding in check(Own([pair(image=stored)])) if finding.kind == "exif-ignored"]
    assert "turns the image to 60 x 40 pixels (height x width)" in finding
    empty = {"mask": None, "boxes": None, "labels": None, "difficult": None}
    report = check(Own([pair(image=upright, original_size=(60, 40), **empty)]))
    assert set(report.counts) == {"not-annotated"}
    assert [note.kind for note in report.notes] == ["exif-orientation"]


class Spiteful(Pair):
    """Whatever it is asked beside its items fails."""

    @property
    def image_ids(self) -> list[str]:
        raise OddError("no ids")

    def image_path(self, index: int) -> Path:
        raise OddError("no files")


def test_what_fails_beside_the_items_does_not_raise():
    assert check(Spiteful([pair()])) == []


def test_an_unreadable_item_has_the_id_that_the_set_tells():
    dataset = Broken([good(), OddError("strange")])
    dataset.image_ids = ["train-00000", "second"]
    (finding,) = check(dataset).errors
    assert (finding.index, finding.image_id, finding.severity) == (1, "second", "error")


def test_findings_come_in_the_order_of_the_items_and_then_of_the_whole():
    items = [pair(image_id="a"), pair(image_id="b", mask=without_pixels(0)), OddError("strange"), pair(image_id="a")]
    report = check(Pair(items))
    assert [finding.index for finding in report] == [1, 1, 2, 3, None]
    assert report[-1] == "image id 'a' occurs 2 times"
    assert report.counts == {"unreadable-item": 1, "repeated-id": 1, "duplicate-image": 2, "box-without-mask": 1}
    assert list(report)[:2] == report[:2]


def test_a_report_is_a_text_and_a_file(tmp_path: Path):
    report = check(Pair([OddError(f"strange {number}") for number in range(5)] + [pair()]))
    text = str(report)
    assert text.startswith("6 images: 5 errors in 5 images, 0 warnings\n")
    assert "strange 2" in text
    assert "strange 3" not in text
    assert "... and 2 more" in text
    report.save(tmp_path / "report.json")
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["num_errors"] == 5
    assert content["counts"] == {"unreadable-item": 5}
    assert content["findings"][4] == {
        "kind": "unreadable-item",
        "severity": "error",
        "index": 4,
        "image_id": None,
        "text": "item 4: cannot be read (OddError: strange 4)",
    }
    report.save(tmp_path / "new" / "folder" / "report.json")
    assert json.loads((tmp_path / "new" / "folder" / "report.json").read_text()) == content
    with pytest.raises(DataError, match="cannot be written"):
        report.save(tmp_path / "report.json" / "report.json")


def test_the_sum_tells_how_many_images_have_an_error():
    mask = without_pixels(0)
    bad = pair(image_id="y", mask=np.where(mask, 9, mask).astype(np.uint8), labels=np.array([7, 8]))
    assert str(check(Pair([pair(), bad]), duplicates=False)).startswith("2 images: 3 errors in 1 image, 0 warnings\n")


def test_a_finding_travels_between_processes():
    finding = Finding("a.jpg: odd", kind="other", severity="warning", index=3, image_id="a")
    copy = pickle.loads(pickle.dumps(finding))
    assert copy == finding
    assert copy.as_dict() == finding.as_dict()


def test_a_sentence_has_the_kind_of_what_it_says_and_not_of_its_file():
    assert problem_kind("/the image is truncated/a.xml: object 1: has no <bndbox>") == "malformed-box"
    assert problem_kind("my own reader says no") == "other"


class Terminal(io.StringIO):
    """A standard error output that somebody looks at."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("progress", "num_images", "shown"), [(True, 3, True), (None, 3, False), (False, 3, False)])
def test_a_bar_is_shown_where_it_is_wanted(
    monkeypatch: pytest.MonkeyPatch, progress: bool | None, num_images: int, shown: bool
):
    monkeypatch.setenv("TERM", "xterm")
    terminal, log = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    check(Shapes("train", num_images=num_images, image_size=32), progress=progress)
    assert (f"{num_images}/{num_images}" in terminal.getvalue()) == shown
    monkeypatch.setattr(sys, "stderr", log)  # a file: no bar, whatever is wanted
    check(Shapes("train", num_images=num_images, image_size=32), progress=progress)
    assert log.getvalue() == ""
