import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import mtvision as mtv
from devkit_folder import errors_of, write_image
from mtvision.data import CocoPanoptic
from mtvision.data.readers.coco_panoptic_json import parse_panoptic
from mtvision.errors import DataError
from mtvision.registries import DATASETS
from mtvision.registry import Component

SIZE = (4, 6)
# Ids that need one, two and three bytes; 0 is unlabelled.
SKY, CAT, DOG, CROWD = 7, 256 + 3, 65536 * 2 + 256 * 5 + 9, 16777215
IDS = np.array(
    [
        [SKY, SKY, SKY, SKY, 0, 0],
        [SKY, CAT, CAT, SKY, DOG, DOG],
        [CAT, CAT, CAT, SKY, DOG, DOG],
        [CROWD, CROWD, 0, SKY, SKY, SKY],
    ]
)
# The categories in the order of the file: sky (stuff) is mask id 1, dog (thing) 2 and label 0, cat (thing) 3 and 1.
MASK = [
    [1, 1, 1, 1, 255, 255],
    [1, 3, 3, 1, 2, 2],
    [3, 3, 3, 1, 2, 2],
    [255, 255, 255, 1, 1, 1],
]
# Rows of the boxes in the order of segments_info without stuff: dog, crowd of cats, cat.
INSTANCES = [
    [0, 0, 0, 0, 0, 0],
    [0, 3, 3, 0, 1, 1],
    [3, 3, 3, 0, 1, 1],
    [2, 2, 0, 0, 0, 0],
]


def content(**changes: Any) -> dict[str, Any]:
    """Two images, of which one has an annotation."""
    return {
        "images": [
            {"id": 9, "file_name": "b.png", "height": 4, "width": 6},
            {"id": 4, "file_name": "a.png", "height": 4, "width": 6},
        ],
        "categories": [
            {"id": 187, "name": "sky", "supercategory": "outdoor", "isthing": 0},
            {"id": 18, "name": "dog", "supercategory": "animal", "isthing": 1},
            {"id": 17, "name": "cat", "supercategory": "animal", "isthing": 1},
        ],
        "annotations": [
            {
                "image_id": 4,
                "file_name": "000000000004.png",
                "segments_info": [
                    {"id": SKY, "category_id": 187, "iscrowd": 0, "bbox": [0, 0, 6, 4], "area": 10},
                    {"id": DOG, "category_id": 18, "iscrowd": 0, "bbox": [4, 1, 2, 2], "area": 4},
                    {"id": CROWD, "category_id": 17, "iscrowd": 1, "bbox": [0, 3, 2, 1], "area": 2},
                    {"id": CAT, "category_id": 17, "iscrowd": 0, "bbox": [0, 1, 3, 2], "area": 5},
                ],
            }
        ],
    } | changes


def to_png(ids: np.ndarray) -> Image.Image:
    """The format's own rule: id = R + 256 G + 256^2 B."""
    return Image.fromarray(np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8))


def write(root: Path, written: Any, ids: np.ndarray = IDS) -> Path:
    for name in ("a", "b"):
        write_image(root / "val2017" / f"{name}.png", np.full((*SIZE, 3), 50, np.uint8))
    masks = root / "annotations" / "panoptic_val2017"
    masks.mkdir(parents=True, exist_ok=True)
    to_png(ids).save(masks / "000000000004.png")
    path = root / "annotations" / "panoptic_val2017.json"
    path.write_text(written if isinstance(written, str) else json.dumps(written))
    return path


def read(root: Path, written: Any, ids: np.ndarray = IDS, **options: Any) -> CocoPanoptic:
    write(root, written, ids)
    return DATASETS.build(Component("coco_panoptic", options), root, "val")


def first(written: dict[str, Any]) -> dict[str, Any]:
    return written["annotations"][0]


def test_every_number_of_a_case_by_hand(tmp_path: Path):
    dataset = read(tmp_path, content())
    assert dataset.classes == mtv.Classes(("background", "sky", "dog", "cat"), ("dog", "cat"))
    assert dataset.image_ids == ["4", "9"]
    assert dataset.category_ids == [18, 17]
    assert dataset.mask_category_ids == [187, 18, 17]
    sample, unknown = dataset
    assert sample.mask.tolist() == MASK
    assert sample.mask.dtype == sample.instances.dtype == np.uint8
    assert sample.instances.tolist() == INSTANCES
    assert sample.boxes.tolist() == [[4, 1, 6, 3], [0, 3, 2, 4], [0, 1, 3, 3]]
    assert sample.labels.tolist() == [0, 1, 1]
    assert sample.difficult.tolist() == [False, True, False]
    assert unknown.mask is unknown.boxes is unknown.instances is None
    assert errors_of(dataset) == []


def test_an_instances_file_beside_it_is_another_one(tmp_path: Path):
    write(tmp_path, content())
    (tmp_path / "annotations" / "instances_val2017.json").write_text("{}")
    assert len(DATASETS.build("coco_panoptic", tmp_path, "val")) == 2
    with pytest.raises(DataError, match=r"no COCO file of the split 'vla': expected annotations/panoptic_vla\.json\."):
        DATASETS.build("coco_panoptic", tmp_path, "vla")


def test_things_can_be_none_and_stuff_alone_is_looked_at(tmp_path: Path):
    written = content()
    first(written)["segments_info"] = first(written)["segments_info"][:1]
    sample = read(tmp_path, written, np.where(IDS == SKY, SKY, 0))[0]
    assert sample.boxes.shape == (0, 4)
    assert not sample.instances.any()
    assert set(np.unique(sample.mask)) == {1, 255}


def test_classes_choose_and_order(tmp_path: Path):
    dataset = read(tmp_path, content(), classes=["cat", "sky"])
    sample = dataset[0]
    assert dataset.classes == mtv.Classes(("background", "cat", "sky"), ("cat",))
    assert sample.mask.tolist() == np.array([0, 2, 0, 1] + [255] * 252)[np.array(MASK)].tolist()
    assert sample.labels.tolist() == [0, 0]
    assert sample.instances.tolist() == np.array([0, 0, 1, 2])[np.array(INSTANCES)].tolist()
    with pytest.raises(DataError, match=r"no category 'cta'\. Did you mean 'cat'\? Known: sky, dog, cat"):
        read(tmp_path, content(), classes=["cta"])
    (tmp_path / "names.txt").write_text("0 background 0\n1 sky 1\n2 dog 1\n3 cat 0\n")
    with pytest.raises(DataError, match=r"names\.txt: 'sky' shall have boxes, but in .*2017\.json it is stuff"):
        read(tmp_path, content(), classes=str(tmp_path / "names.txt"))


def test_folders_can_be_given(tmp_path: Path):
    write(tmp_path, content())
    (tmp_path / "annotations" / "panoptic_val2017").rename(tmp_path / "pngs")
    (tmp_path / "val2017").rename(tmp_path / "pictures")
    (tmp_path / "annotations" / "panoptic_val2017.json").rename(tmp_path / "my.json")
    options = {"annotations": "my.json", "masks": "pngs", "images": "pictures"}
    assert DATASETS.build(Component("coco_panoptic", options), tmp_path, "val")[0].mask.tolist() == MASK
    with pytest.raises(DataError, match="my: the data set's folder does not exist"):
        DATASETS.build(Component("coco_panoptic", options | {"masks": None}), tmp_path, "val")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ids=st.lists(st.integers(1, 256**3 - 1), min_size=1, max_size=8, unique=True), seed=st.integers(0, 99))
def test_ids_go_through_a_png_and_back(tmp_path: Path, ids: list[int], seed: int):
    cells = np.random.default_rng(seed).choice([0, *ids], SIZE)
    cells.flat[: len(ids)] = ids
    segments = [
        {"id": number, "category_id": 17 + row % 2, "bbox": [0, 0, 6, 4], "iscrowd": 0}
        for row, number in enumerate(ids)
    ]
    written = content()
    first(written)["segments_info"] = segments
    sample = read(tmp_path, written, cells)[0]
    assert np.array_equal(np.array([0, *ids])[sample.instances], cells)
    assert np.array_equal(sample.mask == 255, cells == 0)
    rows = sample.instances[cells > 0].astype(int) - 1
    assert np.array_equal(sample.mask[cells > 0], np.array([3, 2])[rows % 2])


def test_the_fingerprint_follows_the_pngs_and_the_json(tmp_path: Path):
    before = read(tmp_path, content()).fingerprint()
    assert before == DATASETS.build("coco_panoptic", tmp_path, "val").fingerprint()
    changed = content()
    first(changed)["segments_info"][1]["category_id"] = 17
    assert read(tmp_path, changed).fingerprint() != before
    grown = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8))
    write(tmp_path, content())
    grown.save(tmp_path / "annotations" / "panoptic_val2017" / "000000000004.png")
    assert DATASETS.build("coco_panoptic", tmp_path, "val").fingerprint() != before


def annotation(**changes: Any) -> list[dict[str, Any]]:
    return [first(content()) | changes]


NO_PANOPTIC = {
    "no JSON": ("{", "malformed JSON"),
    "nested": ("[" * 100_000, "malformed JSON"),
    "giant number": ('{"images": ' + "9" * 10_000 + "}", "malformed JSON"),
    "a list": ("[]", "expected a COCO panoptic file.*got list"),
    "no categories": (content(categories=None), "'categories' is missing or no list"),
    "empty": (content(categories=[], annotations=[]), "it has no categories"),
    "isthing": (content(categories=[{"id": 1, "name": "a"}]), "category 1: 'isthing' must be 0 or 1, got None"),
    "isthing's type": (content(categories=[{"id": 1, "name": "a", "isthing": [1]}]), "'isthing' must be 0 or 1, got"),
    "id": (content(images=[{"id": 10**30, "file_name": "a.png"}]), "the image at position 0 has no whole number"),
    "long name": (content(images=[{"id": 1, "file_name": "a" * 5000}]), "'file_name' has 5000 characters"),
    "image outside": (
        content(images=[{"id": 4, "file_name": "../../etc/passwd"}]),
        r"image 4: the file name '\.\./\.\./etc/passwd' leads out",
    ),
    "mask outside": (content(annotations=annotation(file_name="../../x.png")), "image 4: the file name .* leads out"),
    "mask absolute": (content(annotations=annotation(file_name="/etc/passwd")), "image 4: the file name .* leads out"),
    "mask with NUL": (content(annotations=annotation(file_name="a\0b")), "image 4: the file name .* leads out"),
    "no mask": (content(annotations=annotation(file_name=None)), "the annotation of image 4 has no 'file_name'"),
    "no segments": (content(annotations=annotation(segments_info={})), "image 4 has no list 'segments_info'"),
    "no image": (content(annotations=annotation(image_id=5)), "position 0 belongs to no listed image: 5"),
    "two": (content(annotations=2 * annotation()), "image 4 has two annotations"),
}


@pytest.mark.parametrize("kind", NO_PANOPTIC)
def test_a_file_that_is_no_panoptic_is_one_sentence(tmp_path: Path, kind: str):
    written, sentence = NO_PANOPTIC[kind]
    with pytest.raises(DataError, match=sentence) as caught:
        read(tmp_path, written, annotations="annotations/panoptic_val2017.json", images="val2017")
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 1000


def damaged(**changes: Any) -> dict[str, Any]:
    written = content()
    first(written)["segments_info"][1].update(changes)
    return written


def colour_of(mode: str, size: tuple[int, int] = SIZE) -> Any:
    return lambda path: Image.new(mode, size[::-1]).save(path)


BAD = {
    "category": (damaged(category_id=99), None, rf"segment {DOG}: unknown category id 99; known: 187, 18, 17"),
    "crowd": (damaged(iscrowd=2), None, "'iscrowd' must be 0 or 1, got 2"),
    "box": (damaged(bbox=[1, 2, 3]), None, "'bbox' must be 4 numbers"),
    "empty box": (damaged(bbox=[1, 2, 0, 3]), None, "is empty"),
    "box outside": (damaged(bbox=[10, 2, 3, 3]), None, "lies outside the image of 4 x 6"),
    "id zero": (
        damaged(id=0),
        None,
        "position 1: its id must be a whole number from 1 to 16777215, got 0",
    ),
    "id too large": (damaged(id=2**24), None, "must be a whole number from 1 to 16777215, got 16777216"),
    "id twice": (damaged(id=SKY), None, "the segment at position 1: its id 7 occurs twice"),
    "not in the PNG": (damaged(id=1000), None, rf"the segment id {DOG} is not in|no pixel has the segment id 1000"),
    "grey": (content(), colour_of("L"), r"0004\.png: expected a mask with three channels \(mode RGB\), got mode L"),
    "alpha": (content(), colour_of("RGBA"), r"0004\.png: expected a mask with three channels .* got mode RGBA"),
    "palette": (content(), colour_of("P"), r"0004\.png: expected a mask with three channels .* got mode P"),
    "size": (content(), colour_of("RGB", (5, 6)), r"0004\.png: the mask is 5 x 6 pixels .* but its image is 4 x 6"),
    "missing": (content(), Path.unlink, r"0004\.png: the mask is missing"),
    "no picture": (content(), lambda path: path.write_bytes(b"no"), r"0004\.png: the mask cannot be read"),
    "truncated": (content(), lambda path: path.write_bytes(path.read_bytes()[:-30]), "the mask cannot be read"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_segments_and_pngs_are_named(tmp_path: Path, kind: str):
    written, damage, sentence = BAD[kind]
    dataset = read(tmp_path, written)
    if damage:
        damage(tmp_path / "annotations" / "panoptic_val2017" / "000000000004.png")
    problems = errors_of(dataset)
    assert len(problems) == (2 if kind == "not in the PNG" else 1)
    assert all(re.search(sentence, problem) for problem in problems)
    with pytest.raises(DataError):
        dataset[0]


def test_an_image_of_another_size_is_named(tmp_path: Path):
    dataset = read(tmp_path, content())
    write_image(tmp_path / "val2017" / "a.png", np.zeros((6, 4, 3), np.uint8))
    (problem,) = errors_of(dataset)
    assert re.search(r"a\.png: the image is 6 x 4 pixels .*2017\.json says 4 x 6", problem)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(["id", "bbox", "x"]), inner),
    max_leaves=10,
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.sampled_from(["id", "category_id", "iscrowd", "bbox", "area", "whole"]), value=JSON)
def test_any_value_is_read_or_named(tmp_path: Path, key: str, value: Any):
    written = content()
    segments = first(written)["segments_info"]
    if key == "whole":
        segments[2] = value
    else:
        segments[2][key] = value
    if not (tmp_path / "val2017").exists():
        write(tmp_path, content())
    parsed = parse_panoptic(json.loads(json.dumps(written)), "some.json")
    dataset = CocoPanoptic(parsed, tmp_path / "annotations" / "panoptic_val2017", tmp_path / "val2017")
    assert all("some.json" in problem or "0004.png" in problem for problem in errors_of(dataset))
