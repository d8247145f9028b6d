import logging
import re
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from devkit_folder import errors_of, write_image, write_item, write_lists, write_mask, write_xml
from mtvision.data import VOC
from mtvision.errors import DataError
from mtvision.registries import DATASETS


def test_a_sample_has_the_image_mask_and_continuous_boxes(devkit: Path):
    dataset = VOC(devkit, "train")
    sample = dataset[0]
    assert dataset.image_ids == ["a", "b", "c"]
    assert sample.image_id == "a"
    assert sample.original_size == (20, 30)
    assert np.array_equal(sample.image, np.array(Image.open(devkit / "JPEGImages" / "a.jpg").convert("RGB"))) or (
        np.abs(sample.image.astype(int) - np.array(Image.open(devkit / "JPEGImages" / "a.jpg").convert("RGB"))).max()
        <= 4
    )
    # 1-based inclusive (5, 3, 10, 8) covers pixels 4..9 x 2..7: exactly where the mask is class 8, cat.
    assert sample.boxes.tolist() == [[4, 2, 10, 8]]
    rows, columns = np.nonzero(sample.mask == 8)
    assert [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] == sample.boxes[0].tolist()
    assert sample.labels.tolist() == [dataset.classes.detection.index("cat")] == [7]
    assert dataset.classes.segmentation[8] == "cat"
    assert set(np.unique(sample.mask)) == {0, 8, 255}
    assert sample.boxes.dtype == np.float32
    assert sample.labels.dtype == np.int64
    assert errors_of(dataset) == []


def test_channels_are_rgb(devkit: Path):
    red = np.zeros((20, 30, 3), np.uint8)
    red[..., 0] = 250
    write_image(devkit / "JPEGImages" / "a.jpg", red)
    assert VOC(devkit, "train")[0].image.mean(axis=(0, 1)).argmax() == 0


def test_exif_orientation_is_honoured(devkit: Path):
    # An Exif segment with orientation 6 (turn by 90 degrees) before the rest of the file.
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    path = devkit / "JPEGImages" / "a.jpg"
    data = path.read_bytes()
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])
    problems = errors_of(VOC(devkit, "train"))
    assert len(problems) == 1
    assert "the mask is 20 x 30 pixels (height x width) but its image is 30 x 20" in problems[0]


def test_difficult_is_read_and_missing_is_zero(devkit: Path):
    objects = [("cat", (5, 3, 10, 8)), ("dog", (1, 1, 30, 20))]
    write_xml(devkit / "Annotations" / "a.xml", objects, difficult=[0, 1])
    dataset = VOC(devkit, "train")
    assert dataset[0].difficult.tolist() == [False, True]
    assert dataset[1].difficult.tolist() == [False]


def test_an_image_without_objects_is_empty_and_not_unknown(devkit: Path):
    write_xml(devkit / "Annotations" / "a.xml", [])
    sample = VOC(devkit, "train")[0]
    assert sample.boxes.shape == (0, 4)
    assert sample.labels.shape == sample.difficult.shape == (0,)


def test_one_annotation_only_leaves_the_other_none(devkit: Path):
    write_lists(devkit, Main_train="a", Segmentation_train="b")
    (devkit / "SegmentationClass" / "a.png").unlink()
    (devkit / "Annotations" / "b.xml").unlink()
    boxed, masked = VOC(devkit, "train")
    assert boxed.mask is None
    assert boxed.boxes is not None
    assert masked.boxes is masked.labels is masked.difficult is None
    assert masked.mask is not None


def test_an_existing_xml_is_used_for_an_image_listed_for_segmentation_only(devkit: Path):
    write_lists(devkit, Main_train="a", Segmentation_train="b")
    assert VOC(devkit, "train")[1].boxes.tolist() == [[4, 2, 10, 8]]


def test_train_never_contains_what_a_val_list_holds(devkit: Path, caplog: pytest.LogCaptureFixture):
    write_lists(devkit, Main_train="a b c", Main_val="d", Segmentation_train="a", Segmentation_val="b d")
    with caplog.at_level(logging.INFO, logger="mtvision.data.readers.voc_files"):
        train = VOC(devkit, "train")
    assert train.image_ids == ["a", "c"]
    assert "1 of 3 images of 'train' are held out" in caplog.text
    assert not set(train.image_ids) & set(VOC(devkit, "val").image_ids)
    assert VOC(devkit, "val").image_ids == ["d", "b"]


@pytest.mark.parametrize("missing", ["Main", "Segmentation"])
def test_one_of_the_lists_may_be_missing(devkit: Path, missing: str):
    (devkit / "ImageSets" / missing / "train.txt").unlink()
    assert len(VOC(devkit, "train")) == 3


def test_the_root_may_be_one_level_up(devkit: Path):
    assert VOC(devkit.parent, "train").root == devkit


def test_several_devkits_are_named(devkit: Path):
    write_item(devkit.parent / "VOC2007", "x")
    with pytest.raises(DataError, match=r"several VOC folders \(VOC2007, VOC2012\)"):
        VOC(devkit.parent, "train")


def test_classes_by_file_argument_and_registry(devkit: Path, tmp_path: Path):
    file = tmp_path / "names.txt"
    file.write_text(
        "0 background 0\n8 sky 0\n" + "".join(f"{i} thing{i} 1\n" for i in range(1, 8)) + "9 cat 1\n255 void 0\n"
    )
    dataset = DATASETS.build("voc", devkit, "train")
    assert dataset.classes.num_classes == {"seg": 21, "det": 20}
    by_file = VOC(devkit, "train", classes=file)
    assert by_file.classes.num_classes == {"seg": 10, "det": 8}
    assert by_file[0].labels.tolist() == [7]
    (devkit / "classes.txt").write_text(file.read_text())
    assert VOC(devkit, "train").classes == by_file.classes
    by_names = VOC(devkit, "train", classes=[f"thing{i}" for i in range(8)] + ["cat"])
    assert by_names[0].labels.tolist() == [8]


def test_slices_and_indices_behave_as_a_sequence(devkit: Path):
    dataset = VOC(devkit, "train")
    assert dataset[-1].image_id == "c"
    assert [sample.image_id for sample in dataset[1:]] == ["b", "c"]
    assert len(dataset) == len(list(dataset)) == 3
    with pytest.raises(IndexError):
        dataset[3]


def test_folders_that_are_no_devkit(devkit: Path, tmp_path: Path):
    with pytest.raises(DataError, match="nowhere: the data set's folder does not exist"):
        VOC(tmp_path / "nowhere", "train")
    (devkit / "JPEGImages").rename(devkit / "JPEGImage")
    with pytest.raises(DataError, match=r"JPEGImages is missing; it has .*JPEGImage.*Did you mean 'JPEGImage'\?"):
        VOC(devkit, "train")


def test_unknown_and_empty_splits(devkit: Path):
    with pytest.raises(DataError, match=r"no split 'trian'.*Did you mean 'train'\? Available: train, val"):
        VOC(devkit, "trian")
    write_lists(devkit, Main_train="", Segmentation_train="")
    with pytest.raises(DataError, match="the split 'train' has no images: its lists are empty"):
        VOC(devkit, "train")


def test_an_id_may_not_leave_the_folder(devkit: Path):
    write_lists(devkit, Main_train="../../secret")
    with pytest.raises(DataError, match=r"train\.txt: expected the name of an image without folder"):
        VOC(devkit, "train")


def test_a_box_of_one_pixel_is_one_pixel_wide(devkit: Path):
    write_xml(devkit / "Annotations/b.xml", [("cat", (5, 3, 5, 3)), ("cat", (30, 1, 30, 20))])
    assert VOC(devkit, "train")[1].boxes.tolist() == [[4, 2, 5, 3], [29, 0, 30, 20]]


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-60])


ENTITIES = '<!DOCTYPE a [<!ENTITY e "cat">]><annotation><object><name>&e;</name></object></annotation>'

BREAKAGES = {
    "missing image": (lambda r: (r / "JPEGImages/b.jpg").unlink(), r"b\.jpg: the image is missing"),
    "truncated image": (lambda r: _truncate(r / "JPEGImages/b.jpg"), r"b\.jpg: the image is truncated"),
    "corrupt image": (lambda r: (r / "JPEGImages/b.jpg").write_bytes(b"no image"), r"b\.jpg: not an image"),
    "empty image": (lambda r: (r / "JPEGImages/b.jpg").write_bytes(b""), r"b\.jpg: not an image"),
    "missing mask": (lambda r: (r / "SegmentationClass/b.png").unlink(), r"b\.png: the mask is missing"),
    "truncated mask": (lambda r: _truncate(r / "SegmentationClass/b.png"), r"b\.png: the mask cannot be read"),
    "size of mask": (
        lambda r: write_mask(r / "SegmentationClass/b.png", np.zeros((20, 31))),
        r"b\.png: the mask is 20 x 31 pixels \(height x width\) but its image is 20 x 30",
    ),
    "colour mask": (
        lambda r: write_image(r / "SegmentationClass/b.png", np.zeros((20, 30, 3), np.uint8)),
        r"b\.png: expected a mask with one channel of class ids \(mode P or L\), got mode RGB",
    ),
    "class id": (
        lambda r: write_mask(r / "SegmentationClass/b.png", np.full((20, 30), 21)),
        r"b\.png: the mask has the class id 21; valid are 0 to 20 and 255",
    ),
    "missing xml": (lambda r: (r / "Annotations/b.xml").unlink(), r"b\.xml: the annotation is missing"),
    "malformed xml": (lambda r: (r / "Annotations/b.xml").write_text("<annotation>"), r"b\.xml: malformed XML"),
    "other xml": (lambda r: (r / "Annotations/b.xml").write_text("<svg/>"), r"b\.xml: expected <annotation>.*<svg>"),
    "entities": (lambda r: (r / "Annotations/b.xml").write_text(ENTITIES), r"b\.xml: the XML has entities.*refused"),
    "unknown class": (
        lambda r: write_xml(r / "Annotations/b.xml", [("persn", (1, 1, 5, 5))]),
        r"b\.xml: object 1: unknown class name 'persn'\. Did you mean 'person'\?",
    ),
    "empty box": (
        lambda r: write_xml(r / "Annotations/b.xml", [("cat", (5, 1, 4, 5))]),
        r"b\.xml: object 1: the box \(xmin 5, .* is empty: xmax must be at least xmin",
    ),
    "box outside": (
        lambda r: write_xml(r / "Annotations/b.xml", [("cat", (40, 1, 50, 5))]),
        r"b\.xml: object 1: the box .* lies outside the image of 20 x 30 pixels",
    ),
    "box reaching outside": (
        lambda r: write_xml(r / "Annotations/b.xml", [("cat", (1, 1, 32, 5))]),
        r"b\.xml: object 1: the box .* reaches outside the image",
    ),
    "no number": (
        lambda r: write_xml(r / "Annotations/b.xml", [("cat", (1, "wide", 5, 5))]),
        r"b\.xml: object 1: ymin is not a number: 'wide'",
    ),
    "not finite": (
        lambda r: write_xml(r / "Annotations/b.xml", [("cat", (1, 1, "nan", 5))]),
        r"b\.xml: object 1: xmax is not a number: 'nan'",
    ),
    "difficult": (
        lambda r: write_xml(r / "Annotations/b.xml", [("cat", (1, 1, 5, 5))], difficult=[2]),
        r"b\.xml: object 1: <difficult> must be 0 or 1, got '2'",
    ),
}


@pytest.mark.parametrize("kind", BREAKAGES)
def test_bad_data_is_one_sentence_with_the_file(devkit: Path, kind: str):
    damage, sentence = BREAKAGES[kind]
    dataset = VOC(devkit, "train")
    damage(devkit)
    with pytest.raises(DataError, match=sentence):
        dataset[1]
    problems = errors_of(dataset)
    assert len(problems) == 1
    assert re.search(sentence, problems[0])
    assert str(devkit) in problems[0]


def test_check_lists_all_problems_of_all_files(devkit: Path):
    write_xml(devkit / "Annotations" / "a.xml", [("persn", (5, 3, 4, 8)), ("cat", (1, 1, 99, 5))])
    write_mask(devkit / "SegmentationClass" / "a.png", np.full((21, 30), 99))
    (devkit / "JPEGImages" / "c.jpg").unlink()
    problems = errors_of(VOC(devkit, "train"))
    assert len(problems) == 6, problems
    assert sum("a.xml" in problem for problem in problems) == 3
    assert sum("a.png" in problem for problem in problems) == 2


@pytest.mark.parametrize(("box", "clipped"), [((0, 1, 5, 5), [0, 0, 5, 5]), ((5, 3, 31, 21), [4, 2, 30, 20])])
def test_one_pixel_over_the_edge_is_clipped(devkit: Path, box: tuple[int, ...], clipped: list[int]):
    write_xml(devkit / "Annotations" / "a.xml", [("cat", box)])
    assert VOC(devkit, "train")[0].boxes.tolist() == [clipped]


def test_a_thumbnail_does_not_hide_a_truncation(devkit: Path):
    path = devkit / "JPEGImages" / "a.jpg"
    data = path.read_bytes()
    small = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    with_thumbnail = data[:2] + b"\xff\xe2" + struct.pack(">H", len(small) + 2) + small + data[2:]
    path.write_bytes(with_thumbnail)
    assert errors_of(VOC(devkit, "train")) == []
    path.write_bytes(with_thumbnail[:-60])
    assert "a.jpg: the image is truncated" in errors_of(VOC(devkit, "train"))[0]


def test_bytes_after_the_end_are_no_truncation(devkit: Path):
    path = devkit / "JPEGImages" / "a.jpg"
    path.write_bytes(path.read_bytes() + b"\0" * 500)
    assert errors_of(VOC(devkit, "train")) == []


@pytest.mark.parametrize(("pack", "train", "val", "boxes"), [("coco_person", 545, 136, 1), ("coco_voc20", 139, 44, 20)])
def test_the_real_packs_are_sound(real_pack, pack: str, train: int, val: int, boxes: int):
    root = real_pack(pack)
    splits = {split: VOC(root, split) for split in ("train", "val")}
    assert {split: len(dataset) for split, dataset in splits.items()} == {"train": train, "val": val}
    assert splits["val"].classes.num_classes == {"seg": boxes + 1, "det": boxes}
    assert errors_of(splits["val"]) == []
    found = difficult = empty = 0
    for sample in splits["val"]:
        for box, label, flag in zip(sample.boxes, sample.labels, sample.difficult, strict=True):
            left, top, right, bottom = box.astype(int)
            inside = sample.mask[top:bottom, left:right]
            wanted = 255 if flag else label + 1
            found, difficult = found + 1, difficult + int(flag)
            empty += not np.any(inside == wanted)
    xml = "".join((root / "Annotations" / f"{name}.xml").read_text() for name in splits["val"].image_ids)
    assert found == xml.count("<object>") > 0
    assert difficult == xml.count("<difficult>1</difficult>") > 0
    assert empty <= 0.02 * found, f"{empty} of {found} boxes contain no pixel of their class"


def test_trainval_is_taken_as_it_is_listed(devkit: Path):
    write_lists(devkit, Main_trainval="a b c d", Segmentation_trainval="a d", Main_test="c", Segmentation_test="c")
    assert VOC(devkit, "trainval").image_ids == ["a", "b", "c", "d"]
    assert VOC(devkit, "train").image_ids == ["a", "b"]
