from pathlib import Path

import pytest

from mtvision.data import classes_from_names, read_classes, voc_classes
from mtvision.errors import DataError


def test_vocs_classes_are_the_devkits():
    # VOC devkit, VOCinit.m: 20 classes in alphabetical order, mask ids 1 to 20.
    classes = voc_classes()
    assert classes.num_classes == {"seg": 21, "det": 20}
    assert list(classes.detection) == sorted(classes.detection)
    assert classes.segmentation[15] == classes.detection[14] == "person"


def test_a_file_maps_ids_and_labels(tmp_path: Path):
    path = tmp_path / "classes.txt"
    path.write_text("2 road 0\n0 background 0\n\n1 cat 1\n3 dog 1\n255 void 0\n")
    classes = read_classes(path)
    assert classes.segmentation == ("background", "cat", "road", "dog")
    assert classes.detection == ("cat", "dog")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("0 background 0\n2 cat 1\n", r"expected ids 0 .* without a gap .*, got \[0, 2\]"),
        ("1 cat 1\n2 dog 1\n", r"got \[1, 2\]"),
        ("0 background 0\n", "at least one object"),
        ("", "at least one object"),
        ("0 background 0\n1 cat\n", r":2: expected 'id name has_boxes' such as '15 person 1', got '1 cat'"),
        ("0 background 0\n1 cat yes\n", ":2: expected"),
        ("0 background 0\n1 cat 1\n2 cat 1\n", "'cat' occurs twice"),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path: Path, text: str, sentence: str):
    path = tmp_path / "classes.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=sentence) as caught:
        read_classes(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"gone\.txt: the list of classes cannot be read"):
        read_classes(tmp_path / "gone.txt")


def test_names_with_or_without_the_background():
    assert classes_from_names(["background", "cat"]) == classes_from_names(["cat"])
    assert classes_from_names(["cat"]).segmentation == ("background", "cat")
    for names, sentence in (([], "at least one"), (["background"], "at least one"), (["a", "a"], "'a' occurs twice")):
        with pytest.raises(DataError, match=sentence):
            classes_from_names(names)
