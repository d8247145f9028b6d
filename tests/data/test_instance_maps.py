from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from pycocotools.coco import COCO
from test_coco import random_instances
from test_yolo import BOX, POLYGON, label
from test_yolo import write as write_yolo

from coco_folder import instances, read, text_of, write
from devkit_folder import errors_of, write_mask, write_xml
from mtvision.data import VOC, Coco, Shapes, Yolo
from mtvision.data.readers.instance_maps import agreeing, belonging

MAPS = arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 5))


def bounds_of(numbers: np.ndarray, count: int) -> list[list[int]]:
    """Pixel by pixel, xyxy; zeros for an object without a pixel."""
    found = []
    for number in range(1, count + 1):
        rows, columns = np.nonzero(numbers == number)
        bounds = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else [0] * 4
        found.append([int(edge) for edge in bounds])
    return found


def test_shapes_know_whose_pixel_is_whose():
    for sample in Shapes("train", num_images=30, image_size=(48, 64), max_objects=6):
        assert np.array_equal(sample.instances > 0, sample.mask > 0)
        assert bounds_of(sample.instances, len(sample.boxes)) == sample.boxes.tolist()
        ids = np.concatenate([[0], sample.labels + 1])
        assert np.array_equal(ids[sample.instances], sample.mask)
    assert errors_of(Shapes("train", num_images=4)) == []


@pytest.mark.parametrize("seed", range(4))
def test_coco_numbers_the_object_on_top(tmp_path: Path, seed: int):
    """The rule pixel by pixel with masks by pycocotools: the smallest that is no crowd, the last of equals; crowds."""
    path = write(tmp_path, random_instances(seed))
    official = COCO(str(path))
    for sample in Coco(path, tmp_path / "train2017"):
        annotations = official.loadAnns(official.getAnnIds(int(sample.image_id)))
        masks = [official.annToMask(item).astype(bool) for item in annotations]
        for row, column in np.argwhere(np.ones(sample.mask.shape, bool))[::7]:
            here = [index for index, mask in enumerate(masks) if mask[row, column]]
            objects = [index for index in here if not annotations[index]["iscrowd"]]
            order = [(-masks[index].sum(), index) for index in objects or here]
            assert sample.instances[row, column] == (max(order)[1] + 1 if order else 0)
        assert np.array_equal(sample.instances > 0, sample.mask > 0)


def test_coco_counts_the_boxes_that_are_there(tmp_path: Path):
    sample = read(tmp_path, instances(), classes=["cat"])[0]
    assert set(np.unique(sample.instances)) == {0, 1, 2}  # the cat and the crowd of cats; the dog has no row
    assert (sample.instances[sample.mask == 1] == 1).all()
    assert (sample.instances[sample.mask == 255] == 2).all()
    (tmp_path / "names.txt").write_text("0 background 0\n1 dog 0\n2 cat 1\n")
    by_file = read(tmp_path, instances(), classes=str(tmp_path / "names.txt"))[0]
    assert (by_file.instances[by_file.mask == 1] == 0).all()  # dogs are in the mask and have no boxes
    assert (by_file.instances[by_file.mask == 2] == 1).all()
    content = instances()
    del content["annotations"][1]["segmentation"]
    boxed, empty = read(tmp_path, content)
    assert boxed.instances is None
    assert not empty.instances.any()


def test_more_than_255_objects_take_16_bits(tmp_path: Path):
    content = instances(annotations=[])
    for number in range(300):
        pixels = np.zeros((40, 60), np.uint8)
        pixels.flat[number] = 1
        entry = {"id": number, "image_id": 3, "category_id": 17, "segmentation": text_of(pixels), "iscrowd": 0}
        content["annotations"].append(entry | {"bbox": [number % 60, number // 60, 1, 1]})
    sample = read(tmp_path, content)[0]
    assert sample.instances.dtype == np.uint16
    assert np.array_equal(sample.instances.ravel()[:300], np.arange(1, 301))
    content["annotations"] = content["annotations"][:255]
    assert read(tmp_path, content)[0].instances.dtype == np.uint8


def test_yolo_numbers_its_polygons(tmp_path: Path):
    write_yolo(tmp_path)
    label(tmp_path, "a", "1 0.6 0.6 0.9 0.6 0.9 0.9 0.6 0.9\n" + POLYGON)
    sample, empty = Yolo(tmp_path, "train")
    assert np.array_equal(sample.instances, np.array([0, 2, 1], np.uint8)[sample.mask])
    assert bounds_of(sample.instances, 2) == sample.boxes.round().astype(int).tolist()
    assert not empty.instances.any()
    label(tmp_path, "b", BOX)
    assert [item.instances is None for item in Yolo(tmp_path, "train")] == [False, True]


def two_cats(devkit: Path) -> np.ndarray:
    """Two cats and a person in image a; return the pixels of their numbers in the order of the XML."""
    numbers = np.zeros((20, 30), np.uint8)
    numbers[2:8, 4:10], numbers[2:8, 12:20], numbers[10:20, 5:12], numbers[9, 5:12] = 1, 2, 3, 255
    write_mask(devkit / "SegmentationClass" / "a.png", np.array([0, 8, 8, 15] + [255] * 252)[numbers])
    boxes = [("cat", (5, 3, 10, 8)), ("cat", (13, 3, 20, 8)), ("person", (6, 11, 12, 20))]
    write_xml(devkit / "Annotations" / "a.xml", boxes)
    return numbers


def without_void(numbers: np.ndarray) -> np.ndarray:
    return np.where(numbers == 255, 0, numbers)


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2), (9, 7, 254)])
def test_voc_finds_the_box_of_each_number(devkit: Path, order: tuple[int, ...]):
    numbers = two_cats(devkit)
    table = np.arange(256)
    table[1:4] = order
    write_mask(devkit / "SegmentationObject" / "a.png", table[numbers])
    sample, other, _ = VOC(devkit, "train")
    assert sample.instances.dtype == np.uint8
    assert np.array_equal(sample.instances, without_void(numbers))
    assert other.instances is None
    assert errors_of(VOC(devkit, "train")) == []


def test_voc_takes_an_object_that_others_cover_for_what_its_number_says(devkit: Path):
    numbers = two_cats(devkit)
    numbers[2:8, 12:19] = 0  # of the second cat a strip of one column is to be seen
    write_mask(devkit / "SegmentationObject" / "a.png", numbers)
    assert np.array_equal(VOC(devkit, "train")[0].instances, without_void(numbers))
    write_mask(devkit / "SegmentationObject" / "a.png", np.where(numbers == 2, 7, numbers))
    sample = VOC(devkit, "train")[0]
    assert not (sample.instances[numbers == 2]).any()  # number 7 overlaps no box enough
    assert (sample.instances[numbers == 3] == 3).all()


def test_voc_numbers_agree_with_the_mask(devkit: Path):
    numbers = two_cats(devkit)
    numbers[2:8, 20:22] = 2  # over the background of the mask
    write_mask(devkit / "SegmentationObject" / "a.png", numbers)
    sample = VOC(devkit, "train")[0]
    assert not sample.instances[:, 20:22].any()
    assert (sample.instances[2:8, 12:20] == 2).all()


def test_voc_without_boxes_or_with_bad_numbers(devkit: Path):
    write_mask(devkit / "SegmentationObject" / "a.png", np.zeros((21, 30)))
    (devkit / "SegmentationObject" / "b.png").write_bytes(b"no picture")
    problems = errors_of(VOC(devkit, "train"))
    assert len(problems) == 2
    assert "SegmentationObject/a.png: the mask is 21 x 30 pixels" in problems[0]
    assert "SegmentationObject/b.png: the mask cannot be read" in problems[1]
    (devkit / "SegmentationObject" / "b.png").unlink()
    (devkit / "Annotations" / "a.xml").unlink()
    (devkit / "ImageSets" / "Main" / "train.txt").write_text("b\nc\n")
    sample = next(item for item in VOC(devkit, "train") if item.image_id == "a")
    assert sample.boxes is sample.instances is None


def test_the_fingerprint_follows_the_numbers(devkit: Path):
    before = VOC(devkit, "train").fingerprint()
    write_mask(devkit / "SegmentationObject" / "a.png", np.zeros((20, 30)))
    after = VOC(devkit, "train").fingerprint()
    assert before != after == VOC(devkit, "train").fingerprint()
    write_xml(devkit / "Annotations" / "a.xml", [])
    assert VOC(devkit, "train").fingerprint() != after


@pytest.mark.parametrize("pack", ["coco_person", "coco_voc20"])
def test_the_numbers_of_the_real_packs_are_those_of_their_xml(real_pack, pack: str):
    dataset = VOC(real_pack(pack), "val")
    ids = [0, *(dataset.classes.segmentation.index(name) for name in dataset.classes.detection)]
    for sample in dataset[:40]:
        written = np.array(Image.open(dataset.root / "SegmentationObject" / f"{sample.image_id}.png"))
        assert np.array_equal(sample.instances, without_void(written))
        own = np.array([0, *(ids[label + 1] for label in sample.labels)])[sample.instances]
        known = (sample.instances > 0) & (sample.mask != 255)
        assert np.array_equal(own[known], sample.mask[known])


@settings(deadline=None)
@given(numbers=MAPS, order=st.permutations(range(1, 6)))
def test_any_order_of_numbers_gives_each_object_its_place(numbers: np.ndarray, order: list[int]):
    boxes = np.array(bounds_of(numbers, 5), np.float32)
    found = belonging(np.array([0, *order], np.uint8)[numbers], boxes)
    for row, bounds in enumerate(bounds_of(found, 5)):
        if bounds[2]:  # objects of nearly one box may change places
            assert bounds in boxes.tolist()
            low, high = np.maximum(bounds[:2], boxes[row, :2]), np.minimum(bounds[2:], boxes[row, 2:])
            assert (high > low).all()
    kept = agreeing(found, np.full(numbers.shape, 255, np.uint8), np.arange(1, 6, dtype=np.uint8))
    assert np.array_equal(kept, found)
    in_order = belonging(numbers, boxes)
    assert np.array_equal(in_order, numbers)
