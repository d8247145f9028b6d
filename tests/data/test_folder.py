import csv
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import mtvision as mtv
from devkit_folder import errors_of, write_image, write_mask
from mtvision.data import Folder, Shapes
from mtvision.errors import DataError
from mtvision.registries import DATASETS
from mtvision.registry import Component
from mtvision.types import Sample

SIZE = (40, 60)
HEADER = "image,xmin,ymin,xmax,ymax,class\n"


def write(root: Path, table: str | None = None) -> Path:
    """Images a with mask and box, b with an empty label file, c without any; with ``table`` boxes are in that."""
    for name in "abc":
        write_image(root / "train" / "images" / f"{name}.png", np.full((*SIZE, 3), 90, np.uint8))
    mask = np.zeros(SIZE, np.uint8)
    mask[14:26, 23:37] = 2
    mask[0] = 255
    write_mask(root / "train" / "masks" / "a.png", mask)
    if table is None:
        (root / "train" / "labels").mkdir(exist_ok=True)
        (root / "train" / "labels" / "a.txt").write_text("1 0.5 0.5 0.25 0.3\n")
        (root / "train" / "labels" / "b.txt").write_text("")
    else:
        (root / "train" / "boxes.csv").write_text(table)
    (root / "classes.txt").write_text("cat\ntraffic light\n")
    return root


def test_hidden_files_are_no_images(tmp_path: Path):
    images = write(tmp_path) / "train" / "images"
    (images / ".ipynb_checkpoints").mkdir()
    for name in ("._a.png", ".ipynb_checkpoints/a-checkpoint.png"):
        (images / name).write_bytes((images / "a.png").read_bytes())
    assert Folder(tmp_path, "train").image_ids == ["a", "b", "c"]
    moved = tmp_path.rename(tmp_path.with_name(".hidden"))  # what is above counts for nothing
    assert Folder(moved, "train").image_ids == ["a", "b", "c"]


def test_masks_boxes_empty_and_missing(tmp_path: Path):
    dataset = DATASETS.build("folder", write(tmp_path), "train")
    assert dataset.image_ids == ["a", "b", "c"]
    assert dataset.classes == mtv.Classes(("background", "cat", "traffic light"), ("cat", "traffic light"))
    full, empty, unknown = dataset
    assert set(np.unique(full.mask)) == {0, 2, 255}
    assert np.abs(full.boxes - [[22.5, 14, 37.5, 26]]).max() < 1e-5
    assert full.labels.tolist() == [1]
    assert empty.mask is None
    assert empty.boxes.shape == (0, 4)
    assert unknown.mask is unknown.boxes is unknown.labels is unknown.difficult is None
    assert errors_of(dataset) == []


def test_a_table_of_boxes(tmp_path: Path):
    text = (
        "class,image,xmin,ymin,xmax,ymax,difficult\ncat,a.png,1.5,2,10,20.25,1\n\ntraffic light,a,0,0,61,40,\n,b,,,,,\n"
    )
    full, empty, unknown = Folder(write(tmp_path, text), "train")
    assert full.boxes.tolist() == [[1.5, 2, 10, 20.25], [0, 0, 60, 40]]
    assert full.labels.tolist() == [0, 1]
    assert full.difficult.tolist() == [True, False]
    assert empty.boxes.shape == (0, 4)
    assert unknown.boxes is None


LAYOUTS = {
    "split first": ("train/images", "train/masks", "train/labels", "train/boxes.csv"),
    "kind first": ("images/train", "masks/train", "labels/train", "boxes/train.csv"),
    "a list": ("images", "masks", "labels", "boxes.csv"),
}


def write_shapes(root: Path, layout: str, samples: list[Sample], in_table: bool, grey: bool) -> None:
    images, masks, labels, table = (root / name for name in LAYOUTS[layout])
    rows = []
    for folder in (labels, table.parent):
        folder.mkdir(parents=True, exist_ok=True)
    for sample in samples:
        height, width = sample.original_size
        write_image(images / f"{sample.image_id}.png", sample.image)
        masks.mkdir(parents=True, exist_ok=True)
        if grey:
            Image.fromarray(sample.mask).save(masks / f"{sample.image_id}.png")
        else:
            write_mask(masks / f"{sample.image_id}.png", sample.mask)
        lines = []
        for (left, top, right, bottom), name in zip(sample.boxes.tolist(), sample.labels.tolist(), strict=True):
            rows.append([f"{sample.image_id}.png", left, top, right, bottom, Shapes.classes.detection[name]])
            numbers = [(left + right) / 2 / width, (top + bottom) / 2 / height]
            numbers += [(right - left) / width, (bottom - top) / height]
            lines.append(f"{name} " + " ".join(f"{number:.6f}" for number in numbers))
        if not lines:
            rows.append([f"{sample.image_id}.png", "", "", "", "", ""])
        if not in_table:
            (labels / f"{sample.image_id}.txt").write_text("\n".join(lines))
    if in_table:
        labels.rmdir()
        with table.open("w", newline="") as file:
            csv.writer(file).writerows([HEADER.strip().split(","), *rows])
    (root / "train.txt").write_text("".join(f"{sample.image_id}.png\n" for sample in samples))
    (root / "classes.txt").write_text(
        "".join(f"{i} {n} {i > 0:d}\n" for i, n in enumerate(Shapes.classes.segmentation))
    )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("in_table", "grey"), [(False, False), (True, True)])
def test_generated_shapes_come_back_as_they_were(tmp_path: Path, layout: str, in_table: bool, grey: bool):
    samples = list(Shapes("train", num_images=24, image_size=(64, 96)))
    write_shapes(tmp_path, layout, samples, in_table, grey)
    dataset = Folder(tmp_path, "train")
    assert dataset.classes == Shapes.classes
    assert any(len(sample.boxes) == 0 for sample in samples)
    for sample, again in zip(samples, dataset, strict=True):
        assert again.image_id == sample.image_id
        assert np.array_equal(sample.image, again.image)
        assert np.array_equal(sample.mask, again.mask)
        assert np.abs(sample.boxes - again.boxes).max(initial=0) < 1e-3
        assert np.array_equal(sample.labels, again.labels)


def test_a_list_chooses_and_orders(tmp_path: Path):
    samples = list(Shapes("train", num_images=6, image_size=32))
    write_shapes(tmp_path, "a list", samples, in_table=True, grey=True)
    (tmp_path / "train.txt").write_text("train-00004\n\ntrain-00001.png\n")
    assert Folder(tmp_path, "train").image_ids == ["train-00004", "train-00001"]
    (tmp_path / "train.txt").write_text("train-00004\n../../secret\n")
    with pytest.raises(DataError, match=r"train\.txt:2: '../../secret' leads out of"):
        Folder(tmp_path, "train")
    (tmp_path / "train.txt").write_text("train-0004\n")
    with pytest.raises(DataError, match=r"train\.txt:1: no image 'train-0004' in .*Did you mean 'train-00004'\?"):
        Folder(tmp_path, "train")
    (tmp_path / "train.txt").write_text("\n")
    with pytest.raises(DataError, match=r"train\.txt: the split has no images"):
        Folder(tmp_path, "train")


def test_classes_by_argument(tmp_path: Path):
    write(tmp_path)
    (tmp_path / "classes.txt").unlink()
    with pytest.raises(DataError, match=r"classes\.txt: the list of classes is missing; give it or the names"):
        Folder(tmp_path, "train")
    by_config = DATASETS.build(Component("folder", {"classes": ["x", "y"]}), tmp_path, "train")
    assert by_config.classes.detection == ("x", "y")
    path = tmp_path / "names.txt"
    path.write_text("0 background 0\n1 sky 0\n2 cat 1\n")
    (problem,) = errors_of(Folder(tmp_path, "train", classes=path))
    assert re.search(r"a\.txt:1: the class 1 is outside 0 to 0", problem)
    path.write_text("cat\ncat\n")
    with pytest.raises(DataError, match=r"names\.txt: classes: the name 'cat' occurs twice"):
        Folder(tmp_path, "train", classes=path)


def test_folders_that_do_not_fit(tmp_path: Path):
    write(tmp_path)
    with pytest.raises(DataError, match=r"no split 'trian': expected trian/images.*Did you mean 'train'\?"):
        Folder(tmp_path, "trian")
    with pytest.raises(DataError, match="expected the name of a split without folder"):
        Folder(tmp_path, "../train")
    with pytest.raises(DataError, match="does not exist"):
        Folder(tmp_path / "nowhere", "train")
    (tmp_path / "train" / "boxes.csv").write_text(HEADER)
    with pytest.raises(DataError, match=r"boxes\.csv: boxes are in .*labels too; keep one of them"):
        Folder(tmp_path, "train")


def test_names_that_do_not_match_are_no_annotation(tmp_path: Path):
    write(tmp_path, "")
    (tmp_path / "train" / "boxes.csv").unlink()
    (tmp_path / "train" / "masks" / "a.png").rename(tmp_path / "train" / "masks" / "a_mask.png")
    with pytest.raises(
        DataError, match=r"none of the 3 images has an annotation: expected files such as .*masks/a\.png"
    ):
        Folder(tmp_path, "train")


TABLES = {
    "empty": ("", "the first line must name the columns image, xmin.*; image is missing"),
    "column": (HEADER.replace("xmin", "x_min"), r"'x_min' is unknown\. Did you mean 'xmin'\?"),
    "unknown": (HEADER.strip() + ",truncated\n", "'truncated' is unknown"),
    "twice": (HEADER.strip() + ",image\n", "'image' is there twice"),
    "cells": (HEADER + "a,1,2,3\n", r"boxes\.csv:2: expected 6 cells, got 4"),
    "image": (HEADER + "a,1,2,3,4,cat\naa,1,2,3,4,cat\n", r"boxes\.csv:3: no image 'aa'"),
    "upward": (HEADER + "../../a,1,2,3,4,cat\n", r"boxes\.csv:2: no image '\.\./\.\./a'"),
    "quotes": (HEADER + 'a,1,2,3,4,"cat\n', r"boxes\.csv:2: malformed CSV"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_a_bad_table_is_one_sentence(tmp_path: Path, kind: str):
    text, sentence = TABLES[kind]
    with pytest.raises(DataError, match=sentence) as caught:
        Folder(write(tmp_path, text), "train")
    assert len(str(caught.value).splitlines()) == 1


ROWS = {
    "number": ("a,1,wide,3,4,cat", "ymin is not a number: 'wide'"),
    "half": ("a,1,2,,,cat", "xmax is not a number: ''"),
    "not finite": ("a,1,nan,3,4,cat", "is empty"),
    "empty": ("a,3,2,3,4,cat", r"the box \(3, 2, 3, 4\) is empty"),
    "outside": ("a,70,2,80,4,cat", "lies outside the image of 40 x 60"),
    "reaching": ("a,1,2,3,42,cat", "reaches outside"),
    "class": ("a,1,2,3,4,cst", r"unknown class name 'cst'\. Did you mean 'cat'\? Known: cat, traffic light"),
}


@pytest.mark.parametrize("kind", ROWS)
def test_a_bad_line_is_named_with_its_number(tmp_path: Path, kind: str):
    line, sentence = ROWS[kind]
    (problem,) = errors_of(Folder(write(tmp_path, f"{HEADER}b,,,,,\n{line}\n"), "train"))
    assert re.search(rf"boxes\.csv:3: .*{sentence}", problem)


def test_difficult_is_0_or_1(tmp_path: Path):
    text = HEADER.strip() + ",difficult\na,1,2,3,4,cat,yes\n"
    (problem,) = errors_of(Folder(write(tmp_path, text), "train"))
    assert problem.endswith("boxes.csv:2: difficult must be 0 or 1, got 'yes'")


def test_problems_of_mask_and_labels_are_both_listed(tmp_path: Path):
    dataset = Folder(write(tmp_path), "train")
    write_mask(tmp_path / "train" / "masks" / "a.png", np.full((41, 60), 9))
    (tmp_path / "train" / "labels" / "a.txt").write_text("7 0.5 0.5 0.25 0.3\n")
    (tmp_path / "train" / "images" / "c.png").write_bytes(b"")
    size, ids, line, image = errors_of(dataset)
    assert "a.png: the mask is 41 x 60" in size
    assert "a.png: the mask has the class id 9" in ids
    assert "a.txt:1: the class 7" in line
    assert "c.png: not an image" in image


def test_the_fingerprint_follows_masks_labels_and_table(tmp_path: Path):
    dataset = Folder(write(tmp_path / "x"), "train")
    before = dataset.fingerprint()
    assert Folder(tmp_path / "x", "train").fingerprint() == before
    write_mask(tmp_path / "x" / "train" / "masks" / "b.png", np.zeros(SIZE, np.uint8))
    assert dataset.fingerprint() != before
    write(tmp_path / "y", HEADER + "a,1,2,3,4,cat\n")
    first = Folder(tmp_path / "y", "train").fingerprint()
    write(tmp_path / "y", HEADER + "a,1,2,3,5,cat\n")
    assert Folder(tmp_path / "y", "train").fingerprint() != first


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=40) | st.text('ab,"0123456789.- e\n', max_size=60))
def test_any_table_is_read_or_named(tmp_path: Path, text: str):
    if not (tmp_path / "classes.txt").exists():
        write(tmp_path, HEADER)
    (tmp_path / "train" / "boxes.csv").write_bytes((HEADER + text).encode("utf-8", "surrogatepass"))
    try:
        problems = errors_of(Folder(tmp_path, "train"))
    except DataError as error:
        problems = [str(error)]
    assert all("boxes.csv" in problem for problem in problems)
