import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from test_coco import random_instances
from test_coco import write as write_json
from torchvision import datasets

import mtvision as mtv
from devkit_folder import errors_of, write_item, write_lists, write_mask, write_xml
from mtvision.data import VOC, Coco, SampleDataset, Shapes, Subset, write_coco, write_voc
from mtvision.data.writers.writing import voc_palette
from mtvision.errors import DataError
from mtvision.registries import DATASETS
from mtvision.types import Classes, Sample


class Own(SampleDataset):
    """Samples in a list."""

    def __init__(self, samples: Sequence[Sample], classes: Classes = Shapes.classes):
        self.samples, self.classes = list(samples), classes

    def __len__(self) -> int:
        return len(self.samples)

    def sample(self, index: int) -> Sample:
        return self.samples[index]


def assert_equal(one: Sample, other: Sample, instances: bool = True) -> None:
    fields = ["image", "mask", "boxes", "labels", "difficult"] + ["instances"] * instances
    for field in fields:
        ours, theirs = getattr(one, field), getattr(other, field)
        assert (ours is None) == (theirs is None), field
        if ours is not None:
            assert ours.dtype == theirs.dtype, field
            assert np.array_equal(ours, theirs), field
    assert one.original_size == other.original_size


def test_voc_of_generated_shapes_reads_back_as_it_was(tmp_path: Path):
    dataset = Shapes("train", num_images=30, image_size=(40, 56), max_objects=6)
    write_voc(dataset, tmp_path, "train")
    again = VOC(tmp_path, "train")
    assert again.classes == Shapes.classes
    assert again.image_ids == dataset.image_ids
    assert errors_of(again) == []
    for one, other in zip(dataset, again, strict=True):
        assert_equal(one, other)


def partly_labelled(devkit: Path) -> None:
    """Image a has boxes alone, b a mask alone, c both with numbers and difficult, fractional and edge boxes."""
    numbers = np.zeros((20, 30), np.uint8)
    numbers[2:8, 4:10], numbers[0], numbers[10:15, 3:9] = 1, 255, 2
    write_mask(devkit / "SegmentationObject" / "c.png", numbers)
    mask = np.array([0, 8, 12] + [255] * 253, np.uint8)[numbers]
    write_mask(devkit / "SegmentationClass" / "c.png", mask)
    objects = [("cat", (5, 3, 10, 8)), ("dog", (4.25, 10.7, 9.1, 15.5)), ("person", (1, 1, 30, 20))]
    write_xml(devkit / "Annotations" / "c.xml", objects, difficult=[0, 0, 1])
    (devkit / "SegmentationClass" / "a.png").unlink()
    (devkit / "Annotations" / "b.xml").unlink()
    write_lists(devkit, Main_train="a c", Segmentation_train="b c")


def test_voc_of_voc_is_the_same_bit_for_bit(devkit: Path, tmp_path: Path):
    partly_labelled(devkit)
    dataset = VOC(devkit, "train")
    target = tmp_path / "copy"
    write_voc(dataset, target, "train")
    write_voc(VOC(devkit, "val"), target, "val")
    again = VOC(target, "train")
    assert sorted(again.image_ids) == ["a", "b", "c"]
    originals = {sample.image_id: sample for sample in dataset}
    for sample in again:
        assert_equal(originals[sample.image_id], sample)
        name = f"{sample.image_id}.jpg"
        assert (target / "JPEGImages" / name).read_bytes() == (devkit / "JPEGImages" / name).read_bytes()
    assert VOC(target, "val").image_ids == ["d"]
    assert errors_of(again) == []
    numbers = [np.array(Image.open(place / "SegmentationObject" / "c.png")) for place in (devkit, target)]
    assert np.array_equal(*numbers)  # with the void around the objects
    by_torchvision = datasets.VOCSegmentation(str(_as_torchvision_wants(target)), image_set="train")
    masks = {
        Path(path).stem: np.array(mask) for path, (_, mask) in zip(by_torchvision.masks, by_torchvision, strict=True)
    }
    assert set(masks) == {"b", "c"}
    assert all(np.array_equal(mask, originals[name].mask) for name, mask in masks.items())


def _as_torchvision_wants(devkit: Path) -> Path:
    place = devkit.parent / "official" / "VOCdevkit" / "VOC2012"
    place.parent.mkdir(parents=True)
    place.symlink_to(devkit)
    return place.parent.parent


@pytest.mark.parametrize("pack", ["coco_voc20", "coco_person"])
def test_real_images_go_through_both_formats(real_pack, tmp_path: Path, pack: str):
    dataset = VOC(real_pack(pack), "val")[:12]
    write_voc(dataset, tmp_path / "voc", "val")
    for one, other in zip(dataset, VOC(tmp_path / "voc", "val"), strict=True):
        assert_equal(one, other)
    numbers = write_coco(dataset, tmp_path / "coco", "val")
    again = DATASETS.build("coco", tmp_path / "coco", "val")
    assert errors_of(again) == []
    for one, other in zip(dataset, again, strict=True):
        assert str(numbers[one.image_id]) == other.image_id
        assert_equal(replace(one, mask=None), replace(other, mask=None), instances=False)
        objects = (other.instances > 0) & (one.mask != 255)  # all others are seen as they were
        assert np.array_equal(one.mask[objects], other.mask[objects])


# A float32 holds them exactly, and small ones are a pixel from each other at times.
edges = (st.integers(0, 60 * 2**16) | st.integers(0, 9).map(lambda value: value * 2**16)).map(lambda v: v / 2**16)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    corners=st.lists(st.tuples(edges, edges, edges, edges), max_size=6),
    difficult=st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_any_box_is_the_same_after_both_formats(
    tmp_path: Path, corners: list[tuple[float, ...]], difficult: list[bool]
):
    boxes = np.array(corners, np.float32).reshape(-1, 2, 2)
    boxes = np.concatenate([boxes.min(axis=1), boxes.max(axis=1)], axis=1).clip(0, [60, 40, 60, 40])
    boxes = boxes[((boxes[:, 2:].astype(float) - boxes[:, :2]) >= 1).all(axis=1)].astype(np.float32)
    labels = np.arange(len(boxes), dtype=np.int64) % 5
    flags = np.array(difficult[: len(boxes)], np.bool_)
    image = np.zeros((40, 60, 3), np.uint8)
    sample = Sample(image, None, boxes, labels, flags, "x", (40, 60))
    write_voc(Own([sample]), tmp_path / "voc", "train", overwrite=True)
    write_coco(Own([sample]), tmp_path / "coco", "train", overwrite=True)
    assert_equal(sample, VOC(tmp_path / "voc", "train")[0])
    assert_equal(sample, DATASETS.build("coco", tmp_path / "coco", "train")[0])


def test_coco_of_generated_shapes_reads_back_as_it_was(tmp_path: Path, caplog: Any):
    dataset = Shapes("train", num_images=30, image_size=(40, 56), max_objects=6)
    with caplog.at_level(logging.WARNING):
        numbers = write_coco(dataset, tmp_path, "train")
    assert caplog.text == ""  # nothing is left out
    assert numbers == {name: index for index, name in enumerate(dataset.image_ids, start=1)}
    again = DATASETS.build("coco", tmp_path, "train")
    assert again.classes == Shapes.classes
    for one, other in zip(dataset, again, strict=True):
        assert_equal(one, other)


@pytest.mark.parametrize("seed", range(4))
def test_coco_of_coco_is_the_same(tmp_path: Path, seed: int):
    """Polygons, run lengths and crowds over each other; ids of the images and files stay."""
    path = write_json(tmp_path / "one", random_instances(seed))
    dataset = Coco(path, tmp_path / "one" / "train2017")
    assert write_coco(dataset, tmp_path / "two", "train") == {"3": 3, "7": 7}
    again = DATASETS.build("coco", tmp_path / "two", "train")
    assert again.image_ids == dataset.image_ids
    assert again.category_ids == [1, 2]
    assert dataset.category_ids == [18, 17]
    for one, other in zip(dataset, again, strict=True):
        assert_equal(one, other)
    entry = json.loads((tmp_path / "two" / "annotations" / "instances_train.json").read_text())["images"][0]
    copied = (tmp_path / "two" / "train" / entry["file_name"]).read_bytes()
    assert copied == (tmp_path / "one" / "train2017" / "sub" / "a.png").read_bytes()


def test_voc_as_coco_keeps_objects_and_says_what_it_cannot(devkit: Path, tmp_path: Path, caplog: Any):
    partly_labelled(devkit)
    dataset = VOC(devkit, "train")
    with caplog.at_level(logging.WARNING):
        numbers = write_coco(dataset, tmp_path / "coco", "train")
    assert numbers == {"a": 1, "c": 2}  # b has no boxes
    assert "1 images were not annotated for boxes and are left out (b)" in caplog.text
    assert "pixels" not in caplog.text
    _, sample = DATASETS.build("coco", tmp_path / "coco", "train")
    original = dataset[dataset.image_ids.index("c")]
    assert_equal(replace(original, mask=None), replace(sample, mask=None), instances=False)
    # The void row is within the box of the person, who is difficult and has no pixels: it is a crowd's region now.
    assert np.array_equal(original.mask == 255, sample.mask == 255)
    assert np.array_equal(np.where(original.mask == 255, 3, original.instances), sample.instances)
    assert np.array_equal(original.mask > 0, sample.mask > 0)


def test_void_pixels_go_to_the_first_crowd_without_any(tmp_path: Path, caplog: Any):
    boxes = np.array([[2, 3, 10, 12], [4.5, 3, 20, 12], [4, 3, 30, 12.5], [40, 3, 50, 12]], np.float32)
    numbers, mask = np.zeros((2, 40, 60), np.uint8)
    numbers[3:6, 2:5] = mask[3:6, 2:5] = 1
    mask[8:16, :25], numbers[9, 5] = 255, 2
    flags = {"labels": np.array([0, 1, 1, 2]), "difficult": np.array([False, True, True, True])}
    with caplog.at_level(logging.WARNING):
        write_coco(Own([one_sample(boxes=boxes, mask=mask, instances=numbers, **flags)]), tmp_path, "train")
    assert "1 images have pixels of their masks that belong to no object" in caplog.text
    (sample,) = DATASETS.build("coco", tmp_path, "train")
    expected = numbers.copy()
    expected[8:13, 4:25] = 3  # of the void within its box, which touches pixel 4 and row 12
    expected[9, 5] = 2  # has a pixel of its own, and no other
    assert np.array_equal(sample.instances, expected)
    assert np.array_equal(sample.mask, np.where(expected > 1, 255, expected))
    assert sample.difficult.tolist() == flags["difficult"].tolist()


def one_sample(**changes: Any) -> Sample:
    boxes = np.array([[2, 3, 20, 22]], np.float32)
    flags = (np.zeros(1, np.int64), np.zeros(1, np.bool_))
    return replace(Sample(np.zeros((40, 60, 3), np.uint8), None, boxes, *flags, "x", (40, 60)), **changes)


def test_what_voc_cannot_say_is_said(tmp_path: Path, caplog: Any):
    boxes = np.array([[2, 3, 20, 22], [5, 5, 5.75, 20], [30, 3, 31, 4]], np.float32)
    numbers = np.zeros((40, 60), np.uint8)
    numbers[3:22, 2:20], numbers[5:20, 5:6], numbers[3, 30] = 1, 2, 3
    fields = {"labels": np.arange(3), "difficult": np.zeros(3, np.bool_), "mask": np.where(numbers, numbers, 0)}
    many = np.tile(boxes[:1], (255, 1))
    samples = [
        one_sample(boxes=boxes, instances=numbers, **fields),
        one_sample(image_id="y", boxes=None, labels=None, difficult=None),
        one_sample(
            image_id="z",
            boxes=many,
            labels=np.zeros(255, np.int64),
            difficult=np.zeros(255, np.bool_),
            instances=np.zeros((40, 60), np.uint8),
        ),
    ]
    with caplog.at_level(logging.WARNING):
        write_voc(Own(samples), tmp_path, "train")
    first, last = VOC(tmp_path, "train")
    assert first.boxes.tolist() == boxes[[0, 2]].tolist()
    assert first.labels.tolist() == [0, 2]
    assert np.array_equal(first.instances, np.array([0, 1, 0, 2])[numbers])
    assert len(last.boxes) == 255
    assert last.instances is None
    assert "1 images have neither boxes nor a mask and are left out (y)" in caplog.text
    assert "1 images have boxes narrower or lower than a pixel, which are left out (x)" in caplog.text
    assert "1 images have more than 254 objects and are written without an instance map (z)" in caplog.text


@pytest.mark.parametrize("write", [write_voc, write_coco])
def test_targets_are_not_overwritten_unasked(tmp_path: Path, write: Any):
    write(Own([one_sample()]), tmp_path, "train")
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(DataError, match=r"train\.(txt|json): it is already there; .*overwrite=True"):
        write(Own([one_sample()]), tmp_path, "train")
    write(Own([one_sample(image_id="v")]), tmp_path, "val")
    assert all(path.read_bytes() == content for path, content in files.items())
    write(
        Own(
            [
                one_sample(
                    boxes=np.zeros((0, 4), np.float32), labels=np.zeros(0, np.int64), difficult=np.zeros(0, np.bool_)
                )
            ]
        ),
        tmp_path,
        "train",
        overwrite=True,
    )
    again = DATASETS.build("voc" if write is write_voc else "coco", tmp_path, "train")
    assert [len(sample.boxes) for sample in again] == [0]


def test_an_image_of_another_split_is_not_overwritten(tmp_path: Path):
    write_voc(Own([one_sample()]), tmp_path, "train")
    with pytest.raises(DataError, match=r"x\.png: it is already there"):
        write_voc(Own([one_sample()]), tmp_path, "val")
    assert not (tmp_path / "ImageSets" / "Main" / "val.txt").exists()


LEFT_BEHIND = ("JPEGImages/x.jpg", "Annotations/x.xml", "SegmentationClass/x.png", "SegmentationObject/x.png")


@pytest.mark.parametrize("name", LEFT_BEHIND)
def test_a_file_that_the_new_image_would_not_replace_is_kept_too(tmp_path: Path, name: str):
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(DataError, match=f"{name}: it is already there"):
        write_voc(Own([one_sample()]), tmp_path, "train")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]
    assert (tmp_path / name).read_bytes() == b"mine"


def test_overwriting_that_fails_removes_nothing(devkit: Path, monkeypatch: pytest.MonkeyPatch):
    files = {path: path.read_bytes() for path in devkit.rglob("*") if path.is_file()}

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(DataError, match="No space left on device"):
        write_voc(Own([one_sample(image_id="a")], VOC(devkit, "train").classes), devkit, "train", overwrite=True)
    assert {path: path.read_bytes() for path in devkit.rglob("*") if path.is_file()} == files


def test_overwriting_leaves_nothing_of_what_was(devkit: Path):
    """The former image is a JPEG with a mask, the new one has pixels of its own and no mask."""
    write_voc(Own([one_sample(image_id="a")], VOC(devkit, "train").classes), devkit, "train", overwrite=True)
    (sample,) = VOC(devkit, "train")
    assert sample.mask is None
    assert sample.image.max() == 0


class Failing(Own):
    def sample(self, index: int) -> Sample:
        if index == 1:
            raise DataError("the second image is damaged")
        return super().sample(index)


@pytest.mark.parametrize("write", [write_voc, write_coco])
def test_a_failure_leaves_nothing(tmp_path: Path, write: Any):
    with pytest.raises(DataError, match="the second image is damaged"):
        write(Failing([one_sample(), one_sample(image_id="y")]), tmp_path / "new", "train")
    assert list((tmp_path / "new").rglob("*")) == []


@pytest.mark.parametrize("write", [write_voc, write_coco])
@pytest.mark.parametrize("name", ["../x", "/etc/x", "..", "a\0b", "a\\b", "two words", ""])
def test_ids_that_lead_elsewhere_are_refused(tmp_path: Path, write: Any, name: str):
    with pytest.raises(DataError, match="cannot be the name of a file"):
        write(Own([one_sample(image_id=name)]), tmp_path / "deep" / "new", "train")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("write", [write_voc, write_coco])
def test_other_mistakes_are_one_sentence(tmp_path: Path, write: Any):
    with pytest.raises(DataError, match="two images have the name 'a_b'"):
        write(Own([one_sample(image_id="a/b"), one_sample(image_id="a_b")]), tmp_path, "train")
    with pytest.raises(DataError, match=r"expected the name of a split without folder, got '\.\./train'"):
        write(Own([one_sample()]), tmp_path, "../train")
    with pytest.raises(DataError, match="list has no attribute 'classes'; give the classes"):
        write([one_sample()], tmp_path, "train")
    write([one_sample(image_id="a/b")], tmp_path, "train", classes=Shapes.classes)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file: it cannot be written"):
        write(Own([one_sample()]), tmp_path / "file", "train")


@pytest.mark.parametrize("write", [write_voc, write_coco])
def test_items_that_break_the_contract_are_named(tmp_path: Path, write: Any):
    for changes, sentence in (
        ({"labels": np.array([7])}, "item 0: image 'x': label 7 is outside 0 to 4"),
        ({"mask": np.full((40, 60), 9, np.uint8)}, "item 0: image 'x': the mask has the class id 9"),
        ({"boxes": np.array([[2, 3, 99, 22]], np.float32)}, "item 0: image 'x': the box .* outside the image"),
    ):
        with pytest.raises(DataError, match=sentence):
            write(Own([one_sample(**changes)]), tmp_path, "train")
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("write", [write_voc, write_coco])
def test_annotations_of_further_tasks_are_said_to_be_left_out(tmp_path: Path, write: Any, caplog: Any):
    plain, deep = one_sample(maps={"depth": None}), one_sample(image_id="y", maps={"depth": np.zeros((40, 60), "f4")})
    classes = Classes(Shapes.classes.segmentation, Shapes.classes.detection, {"scene": ("in", "out")})
    with caplog.at_level(logging.WARNING):
        write(Own([plain, deep], classes), tmp_path, "train")
        write(Own([replace(plain, image_id="v")], classes), tmp_path, "val")
    assert "1 images have annotations of further tasks, which are left out (y)" in caplog.text


def test_classes_that_voc_cannot_name(tmp_path: Path):
    write_voc(Own([one_sample()], Classes(("background", "traffic light"), ("traffic light",))), tmp_path, "train")
    assert VOC(tmp_path, "train").classes.detection == ("traffic light",)
    with pytest.raises(DataError, match=r"classes\.txt: the folder has other classes than the data set"):
        write_voc(Own([one_sample(image_id="v")]), tmp_path, "val")
    with pytest.raises(DataError, match="must be classes of the masks, in the same order"):
        write_voc(Own([one_sample()], Classes(("background", "a", "b"), ("b", "a"))), tmp_path / "n", "train")
    with pytest.raises(DataError, match=r"the class name 'a\\nb' cannot stand"):
        write_voc(Own([one_sample()], Classes(("background", "a\nb"), ("a\nb",))), tmp_path / "n", "train")


def test_an_image_that_is_not_its_file_is_written_anew(devkit: Path, tmp_path: Path):
    """A data set that changes its pixels is not written as the file they came from."""

    class Inverted(VOC):
        def examine(self, index: int) -> Any:
            sample, problems = super().examine(index)
            return replace(sample, image=255 - sample.image), problems

    write_voc(Inverted(devkit, "val"), tmp_path / "new", "val")
    assert [path.name for path in (tmp_path / "new" / "JPEGImages").iterdir()] == ["d.png"]
    assert np.array_equal(VOC(tmp_path / "new", "val")[0].image, 255 - VOC(devkit, "val")[0].image)


def test_an_image_turned_by_exif_is_copied_and_read_the_same(devkit: Path, tmp_path: Path):
    path = devkit / "JPEGImages" / "d.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(path).save(path, exif=exif)
    (devkit / "SegmentationClass" / "d.png").unlink()
    write_lists(devkit, Segmentation_val="")
    dataset = VOC(devkit, "val")
    assert dataset[0].original_size == (30, 20)
    write_voc(dataset, tmp_path / "new", "val")
    assert_equal(dataset[0], VOC(tmp_path / "new", "val")[0])
    assert (tmp_path / "new" / "JPEGImages" / "d.jpg").read_bytes() == path.read_bytes()


def test_a_part_of_a_data_set_copies_the_files_of_its_images(devkit: Path, tmp_path: Path):
    write_voc(Subset(VOC(devkit, "train"), [2, 0]), tmp_path / "new", "train")
    assert VOC(tmp_path / "new", "train").image_ids == ["c", "a"]
    assert (tmp_path / "new" / "JPEGImages" / "c.jpg").read_bytes() == (devkit / "JPEGImages" / "c.jpg").read_bytes()


def test_the_palette_is_that_of_voc():
    """Colours of the devkit's legend: aeroplane, bicycle, person, tvmonitor, void."""
    colours = np.array(voc_palette()).reshape(256, 3)
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}
    assert {number: tuple(colours[number].tolist()) for number in known} == known


def test_a_mask_shows_in_colours_and_holds_ids(devkit: Path, tmp_path: Path):
    write_item(devkit, "d")
    write_voc(VOC(devkit, "val"), tmp_path / "new", "val")
    path = tmp_path / "new" / "SegmentationClass" / "d.png"
    with Image.open(path) as image:
        assert image.mode == "P"
    assert cv2.imread(str(path))[4, 6].tolist() == [0, 0, 64]  # BGR of a cat
    assert mtv.data.check(VOC(tmp_path / "new", "val"), duplicates=False).errors == []
    assert torch.from_numpy(np.array(Image.open(path))).unique().tolist() == [0, 8, 255]
