import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as oracle_masks

from coco_folder import instances, read, write
from devkit_folder import errors_of
from mtvision.data import Coco
from mtvision.data.readers.coco_instances import parse_instances
from mtvision.data.readers.regions import Layer, paint, run_length_region
from mtvision.errors import DataError


def image(**changes: Any) -> dict[str, Any]:
    return {"id": 3, "file_name": "a.png", "height": 40, "width": 60} | changes


def category(number: int, name: Any) -> dict[str, Any]:
    return {"id": number, "name": name}


NO_COCO = {
    "no JSON": ("{", "malformed JSON"),
    "nested": ("[" * 100_000, "malformed JSON"),
    "giant number": ('{"images": ' + "9" * 10_000 + "}", "malformed JSON"),
    "giant id": (instances(images=[image(id=10**30)]), "the image at position 0 has no whole number as 'id'"),
    "giant size": (instances(images=[image(width=10**30)], annotations=[]), "must be whole numbers, got"),
    "long name": (instances(images=[image(file_name="a" * 5000)]), "image 3: 'file_name' has 5000 characters"),
    "NUL": (instances(images=[image(file_name="a\0b")], annotations=[]), r"image 3: the file name .* leads out of"),
    "a list": ("[]", "expected a COCO instances file.*got list"),
    "captions": ({"images": [], "annotations": []}, "'categories' is missing or no list"),
    "an object": (instances(images={}), "'images' is missing or no list"),
    "no images": (instances(images=[], annotations=[]), "it lists no images"),
    "no id": (instances(images=[image(id="3")]), "the image at position 0 has no whole number as 'id'"),
    "id twice": (instances(images=[image(), image()]), "the image id 3 occurs twice"),
    "no name": (instances(images=[image(file_name=None)]), "image 3 has no 'file_name'"),
    "half a character": (instances(images=[image(file_name="\ud800.png")], annotations=[]), "image 3: .*leads out of"),
    "outside": (instances(images=[image(file_name="../../secret.png")], annotations=[]), r"image 3: .*leads out of"),
    "absolute": (instances(images=[image(file_name="/etc/passwd")], annotations=[]), "image 3: .*leads out of"),
    "size": (instances(images=[image(width="60")], annotations=[]), "image 3: height and width must be whole numbers"),
    "category": (instances(categories=[category(17, None)]), "category 17 has no 'name'"),
    "same names": (instances(categories=[category(1, "a"), category(2, "a")]), "two categories have the same name"),
    "no categories": (instances(categories=[], annotations=[]), "at least one class"),
    "too many": (instances(categories=[category(i, f"c{i}") for i in range(255)]), "at most 254 classes, got 255"),
    "no image": (instances(annotations=[{"id": 1, "image_id": 99}]), "position 0 belongs to no listed image: 99"),
    "no annotation": (instances(annotations=[7]), "position 0 belongs to no listed image"),
}


@pytest.mark.parametrize("kind", NO_COCO)
def test_a_file_that_is_no_coco_is_one_sentence(tmp_path: Path, kind: str):
    content, sentence = NO_COCO[kind]
    path = write(tmp_path, content)
    with pytest.raises(DataError, match=sentence) as caught:
        Coco(path, tmp_path / "train2017")
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("flag", [None, 0, False])
def test_an_annotation_that_is_no_crowd(tmp_path: Path, flag: Any):
    content = instances()
    content["annotations"][1]["iscrowd"] = flag
    assert read(tmp_path, content)[0].difficult.tolist() == [False, False, True]


BAD = {
    "category": ({"category_id": 99}, "unknown category id 99; known: 18, 17"),
    "category's type": ({"category_id": [17]}, r"unknown category id \[17\]"),
    "crowd": ({"iscrowd": 2}, "'iscrowd' must be 0 or 1, got 2"),
    "no box": ({"bbox": None}, "'bbox' must be 4 numbers"),
    "text": ({"bbox": [1, 2, "3", 4]}, "'bbox' must be 4 numbers"),
    "not finite": ({"bbox": [1, 2, float("nan"), 4]}, "'bbox' must be 4 numbers"),
    "huge": ({"bbox": [1, 2, 10**400, 4]}, "'bbox' must be 4 numbers"),
    "negative": ({"bbox": [5, 5, -2, 4]}, r"the box \(5, 5, 3, 9\) is empty"),
    "outside": ({"bbox": [70, 5, 5, 4]}, "lies outside the image of 40 x 60"),
    "nothing in a float32": ({"bbox": [20.0000001, 5, 1e-7, 4]}, "the box .* is empty: within the image"),
    "reaching": ({"bbox": [50, 5, 12, 4]}, "reaches outside the image"),
    "two points": ({"segmentation": [[1, 1, 5, 5]]}, "the polygon has 2 points; at least 3"),
    "odd": ({"segmentation": [[1, 1, 5, 5, 1]]}, "odd number of coordinates, 5"),
    "far": ({"segmentation": [[1, 1, 5, 5, 1e9, 7]]}, "reaches far outside"),
    "no numbers": ({"segmentation": [["a"] * 6]}, "a polygon must be a list of numbers"),
    "flat": ({"segmentation": [1, 1, 5, 5, 2, 2]}, "a polygon must be a list of numbers"),
    "kind": ({"segmentation": "mask.png"}, "'segmentation' must be polygons or run lengths, got str"),
    "other size": ({"segmentation": {"size": [41, 60], "counts": [2460]}}, r"run lengths are of size \[41, 60\]"),
    "sum": ({"segmentation": {"size": [40, 60], "counts": [2399]}}, "add up to the image's 2400"),
    "sign": ({"segmentation": {"size": [40, 60], "counts": [2500, -100]}}, "add up to the image's 2400"),
    "letters": ({"segmentation": {"size": [40, 60], "counts": "zzz~~~"}}, "add up to the image's 2400"),
    "endless": ({"segmentation": {"size": [40, 60], "counts": "o" * 5000}}, "add up to the image's 2400"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_annotations_are_named(tmp_path: Path, kind: str):
    changes, sentence = BAD[kind]
    content = instances()
    content["annotations"][1].update(changes)
    dataset = read(tmp_path, content)
    (problem,) = errors_of(dataset)
    assert re.search(rf"instances_train2017\.json: image 3: annotation 2: .*{sentence}", problem)
    with pytest.raises(DataError, match=sentence):
        dataset[0]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(st.sampled_from(["size", "counts", "x"]), inner),
    max_leaves=12,
)
KEYS = ("bbox", "segmentation", "iscrowd", "category_id", "id", "image_id")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.sampled_from(KEYS), value=JSON | st.fixed_dictionaries({"size": st.just([40, 60]), "counts": JSON}))
def test_any_value_is_read_or_named(tmp_path: Path, key: str, value: Any):
    content = instances()
    content["annotations"][1][key] = value
    if not (tmp_path / "train2017").exists():
        write(tmp_path, content)
    try:
        problems = errors_of(
            Coco(parse_instances(json.loads(json.dumps(content)), "some.json"), tmp_path / "train2017")
        )
    except DataError as error:
        problems = [str(error)]
    assert all(problem.startswith("some.json: ") for problem in problems)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(min_codepoint=40, max_codepoint=115), max_size=12))
def test_any_compressed_text_is_read_as_the_tools_or_refused(text: str):
    region, problem = run_length_region({"size": [4, 5], "counts": text}, (4, 5))
    assert (region is None) == bool(problem)
    if region is not None:
        expected = oracle_masks.decode({"size": [4, 5], "counts": text.encode()})
        assert np.array_equal(paint([Layer(1, region)], (4, 5)).mask, expected)
