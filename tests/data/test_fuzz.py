"""Whatever a parser of foreign files is given, it reads it or says what is wrong: nothing else escapes."""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mtvision import Config
from mtvision.config_yaml import parse_yaml
from mtvision.data import Coco, SampleDataset, Yolo
from mtvision.data.checking.exclusion import read_exclusions
from mtvision.data.classes import read_classes
from mtvision.data.readers.boxes_table import read_table
from mtvision.data.readers.coco_instances import parse_instances, read_instances
from mtvision.data.readers.coco_panoptic import CocoPanoptic
from mtvision.data.readers.coco_panoptic_json import parse_panoptic
from mtvision.data.readers.file_set import read_class_list
from mtvision.data.readers.files import read_image, read_mask
from mtvision.data.readers.folder import Folder
from mtvision.data.readers.voc import VOC
from mtvision.data.readers.voc_xml import read_objects
from mtvision.data.readers.yolo_labels import has_polygon, read_labels
from mtvision.errors import DataError, MtvisionError
from mtvision.registries import DATASETS
from mtvision.registry import Component
from sound_folders import NAMES, SIZE, coco_content, make, panoptic_content, table_lines

FUZZ = settings(
    deadline=None,
    max_examples=100,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

XML = (
    b"<annotation><size><width>60</width></size><object><name>cat</name><difficult>0</difficult><bndbox><xmin>5</xmin>"
    b"<ymin>3</ymin><xmax>24</xmax><ymax>22</ymax></bndbox></object></annotation>"
)
PIECES = [
    *(
        b"",
        b"\0",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\n",
        b"\r",
        b"\t",
        b",",
        b":",
        b"-",
        b"'",
        b'"',
        b"\\",
        b"#",
        b"{",
        b"[",
        b"%",
    ),
    *(
        b"nan",
        b"inf",
        b"-1",
        b"1e999",
        b"9" * 400,
        b"1_0",
        "٣".encode(),
        b"0x1",
        b"null",
        b"true",
        b"../..",
        b"/",
        b"\x1b",
    ),
    *(
        b"<",
        b">",
        b"&x;",
        b"<!DOCTYPE a>",
        b"<!ENTITY x 'y'>",
        b"<object>",
        b"<bndbox/>",
        b"<?xml version='1.0' encoding='utf-7'?>",
    ),
    *(
        b"!!python/name:os.system ",
        b"&a [*a]",
        b"<<: *a",
        b"? ",
        b"---\n",
        b"2001-01-01",
        b"1:2:3",
        b"!!binary x",
        b"!!set {a}",
        b'"\\ud800"',
    ),
]


@st.composite
def mutated(draw: st.DrawFn, valid: bytes) -> bytes:
    """Return a valid file with up to four of its parts replaced, left out or repeated."""
    data = valid
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 12))
        piece = draw(st.sampled_from(PIECES) | st.binary(max_size=4) | st.just(data[start : start + 3 * length]))
        data = data[:start] + piece + data[start + length :]
    return data


def files(valid: bytes) -> st.SearchStrategy[bytes]:
    text = st.text(max_size=80).map(lambda value: value.encode("utf-8", "surrogatepass"))
    return mutated(valid) | mutated(valid) | st.binary(max_size=80) | text


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def sentences_name(path: Path, problems: list[str]) -> None:
    assert all(str(path) in problem and problem.isprintable() for problem in problems), problems


def walked(dataset: SampleDataset) -> None:
    """Read all of it: a problem is listed, nothing is raised."""
    for index in range(len(dataset)):
        sample, problems = dataset.examine(index)
        assert (sample is None) == bool(problems)


@FUZZ
@given(files(XML))
def test_xml(place: Path, data: bytes):
    path = place / "a.xml"
    path.write_bytes(data)
    found, problems = read_objects(path, SIZE, ["cat", "dog"])
    sentences_name(path, problems)
    assert len(found.boxes) == len(found.labels) == len(found.difficult)
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all() or problems


@FUZZ
@given(files(b"0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.3 0.1 0.3 0.4\n"))
def test_yolo_labels(place: Path, data: bytes):
    path = place / "a.txt"
    path.write_bytes(data)
    _, problems = read_labels(path, SIZE, 2)
    assert all(str(path) in problem for problem in problems)
    assert has_polygon(path) in (True, False)


def complaint(read: Callable[[], Any]) -> str:
    """Return what is wrong with a file, empty if nothing is."""
    try:
        read()
    except DataError as error:
        return str(error)
    return ""


def reads(read: Callable[[], Any], path: Path) -> None:
    """Read a file: what is wrong with it names it."""
    said = complaint(read)
    assert not said or path.name in said


@FUZZ
@given(files("\n".join(table_lines()).encode()))
def test_tables(place: Path, data: bytes):
    path = place / "boxes.csv"
    path.write_bytes(data)
    reads(lambda: list(read_table(path)), path)


@FUZZ
@given(files(b"0 background 0\n1 cat 1\n2 dog 0\n255 void 0\n"))
def test_lists_of_classes(place: Path, data: bytes):
    path = place / "classes.txt"
    path.write_bytes(data)
    reads(lambda: read_classes(path), path)
    reads(lambda: read_class_list(path), path)


@FUZZ
@given(files(b'# some\na\ttruncated-image: a.jpg\nb\n"c\\td"\twhy\n'))
def test_lists_of_exclusions(place: Path, data: bytes):
    path = place / "exclude.txt"
    path.write_bytes(data)
    reads(lambda: read_exclusions(path), path)


@FUZZ
@given(files(json.dumps(coco_content()).encode()))
def test_json(place: Path, data: bytes):
    path = place / "train.json"
    path.write_bytes(data)
    reads(lambda: read_instances(path), path)


@FUZZ
@given(files(b"train: images/train\nval: [images/val]\npath: .\nnames: {0: cat, 1: dog}\nnc: 2\n"))
def test_data_yaml(tmp_path: Path, data: bytes):
    assume(b"9" * 200 not in data)  # longer names are below
    root = make("yolo", tmp_path) if not (tmp_path / "images").exists() else tmp_path
    (root / "data.yaml").write_bytes(data)
    with suppress(DataError):
        walked(Yolo(root, "train"))


@FUZZ
@given(files(b"a\nb\nc\n"))
def test_lists_of_images(tmp_path: Path, data: bytes):
    assume(max(map(len, data.split(b"\n"))) < 200)  # longer ones are below
    if not (tmp_path / "voc").exists():
        make("voc", tmp_path / "voc")
        make("folder", tmp_path / "folder")
        (tmp_path / "folder/train").rename(tmp_path / "folder/all")
        (tmp_path / "folder/all/images").rename(tmp_path / "folder/images")
    for listed, read in (
        (tmp_path / "voc/ImageSets/Main/train.txt", lambda: VOC(tmp_path / "voc", "train")),
        (tmp_path / "folder/train.txt", lambda: Folder(tmp_path / "folder", "train", classes=["cat"])),
    ):
        listed.write_bytes(data)
        with suppress(DataError):
            dataset = read()
            assert all(tmp_path in dataset.image_path(index).resolve().parents for index in range(len(dataset)))
            walked(dataset)


def places_in(content: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of each value of a nested content."""
    keys = content.keys() if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ()
    return [before, *(path for key in keys for path in places_in(content[key], (*before, key)))]


def replaced(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    if isinstance(content, dict):
        return {**content, path[0]: replaced(content[path[0]], path[1:], value)}
    return [replaced(item, path[1:], value) if place == path[0] else item for place, item in enumerate(content)]


LONG = "x" * 300  # longer than the name of a file can be
LONG_NAMES = {
    "voc": ("ImageSets/Main/train.txt", f"{LONG}\n"),
    "yolo": ("data.yaml", f"train: {LONG}\nnames: [cat, dog]\n"),
    "yolo, path": ("data.yaml", f"train: images/train\npath: {LONG}\nnames: [cat, dog]\n"),
    "coco": (
        "annotations/instances_train2017.json",
        json.dumps(replaced(coco_content(), ("images", 0, "file_name"), f"{LONG}.png")),
    ),
}


@pytest.mark.parametrize("case", LONG_NAMES)
def test_names_that_no_file_can_have(tmp_path: Path, case: str):
    layout, (file, text) = case.split(",")[0], LONG_NAMES[case]
    root = make(layout, tmp_path)
    (root / file).write_text(text)
    with suppress(DataError):
        walked(DATASETS.build(Component(layout, {}), root, "train"))


@pytest.mark.parametrize("layout", ["voc", "yolo", "coco", "folder", "coco_panoptic"])
def test_roots_and_splits_that_no_file_can_have(tmp_path: Path, layout: str):
    root = make(layout, tmp_path) if layout != "coco_panoptic" else tmp_path
    for place, split in ((tmp_path / LONG, "train"), (Path("a\0b"), "train"), (root, LONG), (root, "a\0b")):
        with pytest.raises(DataError):
            DATASETS.build(Component(layout, {}), place, split)


# Halves of surrogate pairs, which JSON and YAML can have.
HALVES = st.text(st.sampled_from("a./\ud800\udce9\udfff"), max_size=6)
TEXTS = st.text(max_size=6) | HALVES
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.sampled_from([1, 17, "cat", [0, 2400]]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def mutated_content(draw: st.DrawFn, valid: Any) -> Any:
    """Return nested values of which up to three are others."""
    content = valid
    for _ in range(draw(st.integers(1, 3))):
        content = replaced(content, draw(st.sampled_from(places_in(content))), draw(VALUES))
    return content


@FUZZ
@given(mutated_content(coco_content()) | mutated_content(coco_content()) | VALUES)
def test_coco_content(tmp_path: Path, content: Any):
    if not (tmp_path / "train2017").exists():
        make("coco", tmp_path)
    said = complaint(lambda: walked(Coco(parse_instances(content, "some.json"), tmp_path / "train2017")))
    assert not said or "some.json" in said or said.startswith("classes: ")


@FUZZ
@given(mutated_content(panoptic_content()) | mutated_content(panoptic_content()) | VALUES)
def test_panoptic_content(tmp_path: Path, content: Any):
    if not (tmp_path / "masks").exists():
        make("panoptic", tmp_path)
    folders = tmp_path / "masks", tmp_path / "images"
    said = complaint(lambda: walked(CocoPanoptic(parse_panoptic(content, "some.json"), *folders)))
    assert not said or "some.json" in said or said.startswith("classes: ")


SEGMENTATIONS = (
    st.lists(st.lists(st.floats(-100, 200) | st.integers(-100, 200) | VALUES, max_size=9), max_size=3)
    | st.fixed_dictionaries(
        {"size": st.just([40, 60]), "counts": st.text(max_size=12) | st.lists(st.integers(-5, 2400), max_size=5)}
    )
    | st.fixed_dictionaries({"size": VALUES, "counts": VALUES})
)


@FUZZ
@given(SEGMENTATIONS, st.lists(st.floats() | st.integers(), min_size=4, max_size=4))
def test_segmentations_and_boxes(tmp_path: Path, segmentation: Any, box: list[float]):
    if not (tmp_path / "train2017").exists():
        make("coco", tmp_path)
    content = coco_content()
    content["annotations"][0] |= {"segmentation": segmentation, "bbox": box}
    walked(Coco(parse_instances(content, "some.json"), tmp_path / "train2017"))


@FUZZ
@given(st.data())
def test_images_and_masks(tmp_path: Path, data: st.DataObject):
    if not (tmp_path / "JPEGImages").exists():
        make("voc", tmp_path)
    image = tmp_path / "JPEGImages" / f"{NAMES[0]}.jpg"
    mask = tmp_path / "SegmentationClass" / f"{NAMES[0]}.png"
    path = data.draw(st.sampled_from([image, mask]))
    broken = tmp_path / "broken"
    broken.write_bytes(data.draw(mutated(path.read_bytes())))
    pixels, problems = read_image(broken)
    assert (pixels is None) == bool(problems)
    sentences_name(broken, problems)
    _, problems = read_mask(broken, SIZE, 3)
    sentences_name(broken, problems)


CONFIG = {
    "system": {"epochs": 2, "device": "cpu", "seed": 1},
    "model": {
        "backbone": "resnet18",
        "segmentation_head": "fcn",
        "detection_head": "fpn",
        "num_classes": {"seg": 3, "det": 2},
    },
    "training": {"lr": 0.01, "batch_size": 4, "loss_weights": {"seg": 1.0, "det": 1.0}, "det_loss": {"name": "ciou"}},
    "data": {"dataset": {"name": "shapes", "num_images": 8}, "image_size": [64, 64], "augmentation_level": "basic"},
}


@settings(FUZZ, max_examples=40)
@given(mutated_content(CONFIG))
def test_configs(content: Any):
    with suppress(MtvisionError):
        Config(**content) if isinstance(content, dict) else Config(data=content)


@FUZZ
@given(
    files(
        b"data: {dataset: shapes, image_size: [64, 64]}\ntraining:\n  lr: 1e-3\n  loss_weights: &w {seg: 1, det: 1}\n"
    )
)
def test_config_files(place: Path, data: bytes):
    path = place / "run.yaml"
    path.write_bytes(data)
    with suppress(MtvisionError):
        Config.load(path)
    with suppress(MtvisionError):
        parse_yaml(data.decode("utf-8", "replace"))


ODD_YAML = {
    "no date": "2001-99-99",
    "no number": "!!float abc",
    "no time": "!!timestamp x",
    "thousands of brackets": "[" * 3000,
    "thousands of digits": "9" * 5000,
}


@pytest.mark.parametrize("name", ODD_YAML)
def test_odd_values_in_a_config_file(tmp_path: Path, name: str):
    path = tmp_path / "run.yaml"
    path.write_text(f"data: {ODD_YAML[name]}\n")
    with suppress(MtvisionError):
        Config.load(path)


@pytest.mark.parametrize("name", ODD_YAML)
def test_odd_values_in_a_data_yaml(tmp_path: Path, name: str):
    root = make("yolo", tmp_path)
    (root / "data.yaml").write_text(f"train: {ODD_YAML[name]}\nnames: [cat, dog]\n")
    assert "data.yaml" in complaint(lambda: Yolo(root, "train"))
