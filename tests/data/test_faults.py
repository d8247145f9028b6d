"""A catalogue of faults, each made here, each found and named by the check; and formats that must be read right."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest

from devkit_folder import write_lists, write_mask, write_xml
from mtvision.data import check
from mtvision.data.checking.check_report import WARNING_KINDS
from mtvision.data.checking.problem_kinds import OTHER, error_kinds
from mtvision.errors import DataError
from sound_folders import (
    CAT,
    LAYOUTS,
    coco_content,
    label_line,
    make,
    mask,
    objects,
    panoptic_content,
    picture,
    read,
    save,
    segment_colours,
    table_lines,
    write_grey_png,
)


class Fault(NamedTuple):
    """What is broken in a sound data set, the expected kind (None: it cannot even be opened), and what is named."""

    layout: str
    damage: Callable[[Path], Any]
    kind: str | None
    named: str
    sentence: str = ""


def with_mask(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], Any]:
    return lambda root: write_mask(root / "SegmentationClass/b.png", change(mask()))


def painted(value: int, where: tuple[slice, slice]) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values[where] = value
        return values

    return change


def with_box(cat: tuple[object, ...]) -> Callable[[Path], Any]:
    return lambda root: write_xml(root / "Annotations/b.xml", objects(cat=cat))


def with_xml(text: str) -> Callable[[Path], Any]:
    return lambda root: (root / "Annotations/b.xml").write_text(text)


def with_file(path: str, content: bytes) -> Callable[[Path], Any]:
    return lambda root: (root / path).write_bytes(content)


def without(path: str) -> Callable[[Path], Any]:
    return lambda root: (root / path).unlink()


def cut(path: str, keep: float) -> Callable[[Path], Any]:
    def damage(root: Path) -> None:
        data = (root / path).read_bytes()
        (root / path).write_bytes(data[: int(len(data) * keep)])

    return damage


def flipped_bytes(path: str) -> Callable[[Path], Any]:
    def damage(root: Path) -> None:
        data = bytearray((root / path).read_bytes())
        middle = len(data) // 2
        data[middle : middle + 8] = bytes(value ^ 0xFF for value in data[middle : middle + 8])
        (root / path).write_bytes(data)

    return damage


def with_annotation(**changes: Any) -> Callable[[Path], Any]:
    """Change the first annotation of COCO's image 1, which is b.png."""

    def damage(root: Path) -> None:
        content = coco_content()
        content["annotations"][2] |= changes
        (root / "annotations/instances_train2017.json").write_text(json.dumps(content))

    return damage


def with_coco(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Any]:
    def damage(root: Path) -> None:
        content = coco_content()
        change(content)
        (root / "annotations/instances_train2017.json").write_text(json.dumps(content))

    return damage


def with_panoptic(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Any]:
    def damage(root: Path) -> None:
        content = panoptic_content()
        change(content)
        (root / "panoptic.json").write_text(json.dumps(content))

    return damage


def with_segment(**changes: Any) -> Callable[[Path], Any]:
    """Change the first segment of image 1, which is b.png."""
    return with_panoptic(lambda content: content["annotations"][1]["segments_info"][0].update(changes))


def with_labels(*lines: str) -> Callable[[Path], Any]:
    return lambda root: (root / "labels/train/b.txt").write_text("\n".join([label_line(0, CAT), *lines]) + "\n")


def with_table(change: Callable[[list[str]], Any]) -> Callable[[Path], Any]:
    def damage(root: Path) -> None:
        lines = table_lines()
        change(lines)
        (root / "train/boxes.csv").write_text("\n".join(lines) + "\n")

    return damage


def line(number: int, text: str) -> Callable[[Path], Any]:
    return with_table(lambda lines: lines.__setitem__(number, text))


def as_png(root: Path) -> None:
    path = root / "JPEGImages/b.jpg"
    save(path, picture(1), format="PNG")


def grey_of_4_bits(root: Path) -> None:
    write_grey_png(root / "SegmentationClass/b.png", mask(), bits=4)


def copied(source: str, target: str) -> Callable[[Path], Any]:
    return lambda root: (root / target).write_bytes((root / source).read_bytes())


def recompressed(root: Path) -> None:
    save(root / "JPEGImages/c.jpg", cv2.imread(str(root / "JPEGImages/b.jpg"))[..., ::-1], quality=40)


def resized(root: Path) -> None:
    small = cv2.resize(cv2.imread(str(root / "train/images/b.png")), (30, 20), interpolation=cv2.INTER_AREA)
    big = cv2.resize(small, (60, 40))
    assert cv2.imwrite(str(root / "train/images/c.png"), big)


BOMB = "<!DOCTYPE a [<!ENTITY x 'xxxxxxxx'><!ENTITY y '&x;&x;&x;&x;'>]><annotation>&y;</annotation>"
OUTSIDE = "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><annotation>&x;</annotation>"
NO_BOX = "<annotation><object><name>cat</name></object></annotation>"
ONE_CAT = (
    "<object><name>cat</name><bndbox><xmin>5</xmin><ymin>3</ymin><xmax>24</xmax><ymax>22</ymax></bndbox>{}</object>"
)

FAULTS = {
    # images
    "an empty file": Fault("voc", with_file("JPEGImages/b.jpg", b""), "unreadable-image", "b.jpg"),
    "a text as an image": Fault("voc", with_file("JPEGImages/b.jpg", b"<html>404</html>"), "unreadable-image", "b.jpg"),
    "a JPEG without its end": Fault("voc", cut("JPEGImages/b.jpg", 0.7), "truncated-image", "b.jpg"),
    "a PNG without its end": Fault("folder", cut("train/images/b.png", 0.7), "truncated-image", "b.png"),
    "only the first bytes of a JPEG": Fault(
        "voc", with_file("JPEGImages/b.jpg", b"\xff\xd8\xff"), "truncated-image", "b.jpg"
    ),
    "a PNG that is damaged within": Fault("folder", flipped_bytes("train/images/b.png"), "unreadable-image", "b.png"),
    "another format than the name says": Fault("voc", as_png, "wrong-suffix", "b.jpg", "the format PNG"),
    "no image": Fault("voc", without("JPEGImages/b.jpg"), "missing-image", "b.jpg"),
    # masks
    "no mask": Fault("voc", without("SegmentationClass/b.png"), "missing-mask", "b.png"),
    "a mask of colours": Fault(
        "voc", lambda root: save(root / "SegmentationClass/b.png", picture(1)), "mask-mode", "b.png", "mode RGB"
    ),
    "a mask of 16 bits": Fault(
        "voc", lambda root: save(root / "SegmentationClass/b.png", mask().astype(np.uint16)), "mask-mode", "b.png"
    ),
    "a grey mask of 4 bits": Fault("voc", grey_of_4_bits, "mask-mode", "b.png", "got grey of 4 bits"),
    "a mask of another size": Fault(
        "voc", with_mask(lambda values: values[:39]), "mask-size", "b.png", "39 x 60 pixels (height x width)"
    ),
    "an id that is no class": Fault(
        "voc", with_mask(painted(7, np.s_[35:38, 55:58])), "mask-class", "b.png", "class id 7; valid are 0 to 2 and 255"
    ),
    "a text as a mask": Fault("voc", with_file("SegmentationClass/b.png", b"none"), "unreadable-mask", "b.png"),
    "an empty mask file": Fault("folder", with_file("train/masks/b.png", b""), "unreadable-mask", "b.png"),
    "a mask without its end": Fault("folder", cut("train/masks/b.png", 0.5), "unreadable-mask", "b.png"),
    # XML
    "no XML": Fault("voc", without("Annotations/b.xml"), "missing-annotation", "b.xml"),
    "entities that grow": Fault("voc", with_xml(BOMB), "xml-entities", "b.xml", "refused"),
    "an entity that is another file": Fault("voc", with_xml(OUTSIDE), "xml-entities", "b.xml", "refused"),
    "an XML that is not closed": Fault("voc", with_xml("<annotation><object>"), "malformed-annotation", "b.xml"),
    "an empty XML": Fault("voc", with_xml(""), "malformed-annotation", "b.xml"),
    "another XML": Fault("voc", with_xml("<html></html>"), "malformed-annotation", "b.xml", "got <html>"),
    "a misspelled class": Fault(
        "voc",
        lambda root: write_xml(root / "Annotations/b.xml", [*objects(), ("catt", (5, 3, 24, 22))]),
        "unknown-class",
        "b.xml",
        "object 3: unknown class name 'catt'. Did you mean 'cat'?",
    ),
    "an object without a box": Fault("voc", with_xml(NO_BOX), "malformed-box", "b.xml", "object 1"),
    "a word as a coordinate": Fault("voc", with_box(("left", 3, 24, 22)), "malformed-box", "b.xml", "xmin"),
    "NaN as a coordinate": Fault("voc", with_box((5, "nan", 24, 22)), "malformed-box", "b.xml", "ymin"),
    "infinity as a coordinate": Fault("voc", with_box((5, 3, "inf", 22)), "malformed-box", "b.xml", "xmax"),
    "a huge coordinate": Fault("voc", with_box((5, 3, "1e300", 22)), "box-outside", "b.xml"),
    "xmin and xmax changed places": Fault("voc", with_box((24, 3, 5, 22)), "empty-box", "b.xml", "xmax must be"),
    "a box that is narrower than a pixel": Fault("voc", with_box((5, 3, 4.9, 22)), "empty-box", "b.xml"),
    "a box of which nothing is left": Fault(
        "coco", with_annotation(bbox=[59.9999999, 2, 5e-7, 20]), "empty-box", "image 1", "single precision"
    ),
    "a box outside": Fault("voc", with_box((70, 3, 90, 22)), "box-outside", "b.xml", "lies outside"),
    "a box far over the edge": Fault("voc", with_box((5, 3, 24, 60)), "box-outside", "b.xml", "reaches outside"),
    "difficult 2": Fault(
        "voc",
        with_xml(f"<annotation>{ONE_CAT.format('<difficult>2</difficult>')}</annotation>"),
        "invalid-flag",
        "b.xml",
    ),
    # what does not fit together
    "a box without pixels": Fault("voc", with_mask(painted(0, np.s_[:22, :24])), "box-without-mask", "'b'", "of 'cat'"),
    "a box with another class's pixels": Fault(
        "voc", with_mask(painted(2, np.s_[2:22, 4:24])), "box-without-mask", "'b'"
    ),
    "pixels without a box": Fault(
        "voc",
        with_xml(f"<annotation>{ONE_CAT.format('')}</annotation>"),
        "mask-without-box",
        "'b'",
        "400 pixels of 'dog'",
    ),
    "the same box twice": Fault(
        "voc",
        lambda root: write_xml(root / "Annotations/b.xml", [*objects(), objects()[0]]),
        "duplicate-box",
        "'b'",
        "cat",
    ),
    "an image without any annotation": Fault(
        "folder",
        lambda root: (
            (root / "train/masks/b.png").unlink(),
            with_table(lambda lines: lines.__delitem__(np.s_[3:5]))(root),
        ),
        "not-annotated",
        "'b'",
    ),
    # duplicates
    "the same file twice": Fault(
        "voc", copied("JPEGImages/a.jpg", "JPEGImages/b.jpg"), "duplicate-image", "'b'", "'a'"
    ),
    "an image compressed again": Fault("voc", recompressed, "near-duplicate-image", "'c'", "image 'b'"),
    "an image at half the size": Fault("folder", resized, "near-duplicate-image", "'c'", "image 'b'"),
    # COCO
    "an unknown category": Fault("coco", with_annotation(category_id=3), "unknown-class", "image 1", "known: 17, 18"),
    "a negative width": Fault("coco", with_annotation(bbox=[4, 2, -5, 20]), "empty-box", "image 1"),
    "a box of three numbers": Fault("coco", with_annotation(bbox=[4, 2, 5]), "malformed-box", "image 1"),
    "a box of words": Fault("coco", with_annotation(bbox=["4", "2", "20", "20"]), "malformed-box", "image 1"),
    "a COCO box outside": Fault("coco", with_annotation(bbox=[80, 2, 20, 20]), "box-outside", "image 1"),
    "run lengths of another size": Fault(
        "coco", with_annotation(segmentation={"size": [60, 40], "counts": [0, 2400]}), "invalid-run-lengths", "image 1"
    ),
    "run lengths that do not add up": Fault(
        "coco", with_annotation(segmentation={"size": [40, 60], "counts": [0, 2399]}), "invalid-run-lengths", "image 1"
    ),
    "broken compressed run lengths": Fault(
        "coco", with_annotation(segmentation={"size": [40, 60], "counts": "zz\u00ff"}), "invalid-run-lengths", "image 1"
    ),
    "an odd polygon": Fault(
        "coco", with_annotation(segmentation=[[4, 2, 24, 2, 24]]), "invalid-polygon", "image 1", "odd"
    ),
    "a polygon of two points": Fault(
        "coco", with_annotation(segmentation=[[4, 2, 24, 2]]), "invalid-polygon", "image 1"
    ),
    "a polygon of words": Fault(
        "coco", with_annotation(segmentation=[["4", 2, 24, 2, 4, 9]]), "invalid-polygon", "image 1"
    ),
    "a polygon far outside": Fault(
        "coco", with_annotation(segmentation=[[4, 2, 900, 2, 4, 9]]), "invalid-polygon", "image 1"
    ),
    "iscrowd 2": Fault("coco", with_annotation(iscrowd=2), "invalid-flag", "image 1"),
    "another size than the file says": Fault(
        "coco", with_coco(lambda content: content["images"][1].update(height=41)), "image-size", "b.png", "41 x 60"
    ),
    # COCO panoptic
    "a PNG of segments that is missing": Fault("panoptic", without("masks/b.png"), "missing-mask", "b.png"),
    "a grey PNG of segments": Fault("panoptic", lambda root: save(root / "masks/b.png", mask()), "mask-mode", "b.png"),
    "a PNG of segments of another size": Fault(
        "panoptic", lambda root: save(root / "masks/b.png", segment_colours()[:39]), "mask-size", "b.png", "39 x 60"
    ),
    "pixels of a segment that the JSON lacks": Fault(
        "panoptic",
        lambda root: save(root / "masks/b.png", painted(9, np.s_[:2, :2])(segment_colours())),
        "invalid-segments",
        "b.png",
        str(9 + 9 * 256 + 9 * 65536),
    ),
    "a segment without pixels": Fault(
        "panoptic",
        lambda root: save(
            root / "masks/b.png", np.where(mask()[..., None] == 1, [2, 0, 0], segment_colours()).astype(np.uint8)
        ),
        "invalid-segments",
        "b.png",
    ),
    "a segment of an unknown category": Fault("panoptic", with_segment(category_id=5), "unknown-class", "image 1"),
    "a segment with an id that no colour has": Fault("panoptic", with_segment(id=-3), "invalid-segments", "image 1"),
    "a segment's box of words": Fault("panoptic", with_segment(bbox="all"), "malformed-box", "image 1"),
    "a PNG of segments that leads out of the folder": Fault(
        "panoptic",
        with_panoptic(lambda content: content["annotations"][1].update(file_name="../b.png")),
        None,
        "image 1",
    ),
    # YOLO
    "four fields": Fault("yolo", with_labels("1 0.5 0.5 0.1"), "malformed-annotation", "b.txt:2", "got 4 fields"),
    "an odd number of coordinates": Fault(
        "yolo", with_labels("1 0.1 0.1 0.2 0.2 0.3"), "malformed-annotation", "b.txt:2"
    ),
    "a label that is no class": Fault("yolo", with_labels("2 0.5 0.5 0.1 0.1"), "unknown-class", "b.txt:2", "0 to 1"),
    "a negative label": Fault("yolo", with_labels("-1 0.5 0.5 0.1 0.1"), "malformed-annotation", "b.txt:2"),
    "words in a label file": Fault("yolo", with_labels("1 0.5 half 0.1 0.1"), "malformed-annotation", "b.txt:2"),
    "NaN in a label file": Fault("yolo", with_labels("1 0.5 nan 0.1 0.1"), "malformed-annotation", "b.txt:2"),
    "pixels in place of fractions": Fault("yolo", with_labels("1 30 10 20 20"), "box-outside", "b.txt:2"),
    "a YOLO box without an area": Fault("yolo", with_labels("1 0.5 0.5 0 0.1"), "empty-box", "b.txt:2"),
    "a label file of other bytes": Fault(
        "yolo", with_file("labels/train/b.txt", b"\xff\xfe\x00"), "malformed-annotation", "b.txt"
    ),
    # the table of a folder
    "a misspelled class in the table": Fault(
        "folder", line(3, "b,4,2,24,22,kat"), "unknown-class", "boxes.csv:4", "Did you mean 'cat'?"
    ),
    "a word as an edge in the table": Fault(
        "folder", line(3, "b,4,top,24,22,cat"), "malformed-box", "boxes.csv:4", "ymin"
    ),
    "an edge that is left out": Fault("folder", line(3, "b,4,,24,22,cat"), "malformed-box", "boxes.csv:4", "ymin"),
    "a table's box outside": Fault("folder", line(3, "b,4,2,24,90,cat"), "box-outside", "boxes.csv:4"),
    # what keeps a data set from being opened at all
    "an id that leads out of the folder": Fault(
        "voc",
        lambda root: write_lists(root, Main_train="a ../../etc/passwd c"),
        None,
        "Main/train.txt",
        "../../etc/passwd",
    ),
    "a split without a list": Fault(
        "voc", lambda root: [path.unlink() for path in root.glob("ImageSets/*/train.txt")], None, "ImageSets", "'train'"
    ),
    "a list without images": Fault(
        "voc", lambda root: write_lists(root, Main_train="", Segmentation_train=""), None, "ImageSets", "empty"
    ),
    "no folder of images": Fault(
        "voc", lambda root: (root / "JPEGImages").rename(root / "JPEGImage"), None, "JPEGImages is missing", "JPEGImage"
    ),
    "classes with a gap": Fault(
        "voc", with_file("classes.txt", b"0 background 0\n2 dog 1\n"), None, "classes.txt", "gap"
    ),
    "a class of whose boxes nothing is said": Fault(
        "voc", with_file("classes.txt", b"0 background 0\n1 cat\n"), None, "classes.txt:2", "id name has_boxes"
    ),
    "no JSON": Fault("coco", with_file("annotations/instances_train2017.json", b"{"), None, "instances_train2017.json"),
    "JSON of another kind": Fault(
        "coco", with_file("annotations/instances_train2017.json", b"[]"), None, "instances_train2017.json"
    ),
    "JSON nested too deeply": Fault(
        "coco", with_file("annotations/instances_train2017.json", b"[" * 200_000), None, "instances_train2017.json"
    ),
    "an annotation of no image": Fault("coco", with_annotation(image_id=9), None, "instances_train2017.json", "9"),
    "the same image id twice": Fault(
        "coco", with_coco(lambda content: content["images"][1].update(id=0)), None, "instances_train2017.json", "twice"
    ),
    "a file name that leads out of the folder": Fault(
        "coco",
        with_coco(lambda content: content["images"][1].update(file_name="../x.png")),
        None,
        "image 1",
        "leads out",
    ),
    "a data.yaml without names": Fault(
        "yolo", with_file("data.yaml", b"train: images/train\n"), None, "data.yaml", "names"
    ),
    "a data.yaml with another number of classes": Fault(
        "yolo",
        with_file("data.yaml", b"train: images/train\nnames: [cat, dog]\nnc: 3\n"),
        None,
        "data.yaml",
        "'nc' is 3",
    ),
    "a data.yaml that is no YAML": Fault("yolo", with_file("data.yaml", b"train: [\n"), None, "data.yaml", "malformed"),
    "a data.yaml with code in it": Fault(
        "yolo", with_file("data.yaml", b"train: !!python/object/apply:os.getcwd []\n"), None, "data.yaml", "malformed"
    ),
    "a data.yaml that leads out of the folder": Fault(
        "yolo", with_file("data.yaml", b"train: ../../secret\nnames: [cat, dog]\n"), None, "data.yaml", "../../secret"
    ),
    "a table without a column": Fault(
        "folder", line(0, "image,xmin,ymin,xmax,ymax"), None, "boxes.csv", "class is missing"
    ),
    "a table with a misspelled column": Fault(
        "folder", line(0, "image,xmin,ymin,xmx,ymax,class"), None, "boxes.csv", "'xmx' is unknown"
    ),
    "a line of the table with too few cells": Fault("folder", line(3, "b,4,2,24"), None, "boxes.csv:4", "got 4"),
    "a line of the table for no image": Fault(
        "folder", line(3, "x,4,2,24,22,cat"), None, "boxes.csv:4", "no image 'x'"
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_sound_has_no_finding(tmp_path: Path, layout: str):
    report = check(read(layout, make(layout, tmp_path)))
    assert report == []
    assert report.num_items == 3


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_and_named(tmp_path: Path, name: str):
    fault = FAULTS[name]
    root = make(fault.layout, tmp_path / "data")
    fault.damage(root)
    if fault.kind is None:
        with pytest.raises(DataError) as caught:
            read(fault.layout, root)
        assert fault.named in str(caught.value)
        assert fault.sentence in str(caught.value)
        return
    report = check(read(fault.layout, root))
    (finding,) = [finding for finding in report if finding.kind == fault.kind]
    assert set(report.counts) <= {fault.kind, "absent-class"}, report
    assert fault.named in finding
    assert fault.sentence in finding
    assert finding.severity == ("warning" if fault.kind in WARNING_KINDS else "error")
    assert finding.index == (2 if fault.named == "'c'" else 1)
    assert finding.image_id == {"'c'": "c"}.get(fault.named, "1" if fault.layout in ("coco", "panoptic") else "b")


def test_the_catalogue_has_every_kind_of_a_reader():
    kinds = {fault.kind for fault in FAULTS.values()} - {None}
    elsewhere = {"contract", "invalid-box", "unreadable-item", OTHER}  # of data sets of a user's own, see test_check
    of_the_whole = {"absent-class", "exif-ignored", "duplicate-across-splits", "near-duplicate-across-splits"}
    assert kinds == (set(error_kinds()) | WARNING_KINDS) - elsewhere - of_the_whole
    assert len(FAULTS) >= 40
