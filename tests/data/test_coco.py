import json
import logging
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as oracle_masks
from pycocotools.coco import COCO

import mtvision as mtv
from coco_folder import SIZE, counts_of, instances, read, read_with, text_of, write
from devkit_folder import errors_of, write_image
from mtvision.data import Coco, Shapes
from mtvision.data.readers.regions import Layer, paint, polygon_problem, polygon_region
from mtvision.errors import DataError
from mtvision.registries import DATASETS
from mtvision.types import Sample


def test_boxes_masks_crowds_and_order(tmp_path: Path):
    dataset = read(tmp_path, instances())
    assert dataset.image_ids == ["3", "7"]
    assert dataset.classes == mtv.Classes(("background", "dog", "cat"), ("dog", "cat"))
    assert errors_of(dataset) == []
    sample, empty = dataset
    assert sample.boxes.tolist() == [[14, 12, 22, 18], [5.5, 8.25, 35.5, 28.75], [10, 10, 30, 40]]
    assert sample.labels.tolist() == [0, 1, 1]
    assert sample.difficult.tolist() == [False, False, True]
    assert (sample.mask[12:18, 14:22] == 1).all()  # the dog, though it is listed before the cat
    assert sample.mask[10, 12] == 2  # the cat, though the crowd covers it
    assert (sample.mask[30:40, 10:30] == 255).all()
    assert sample.mask[30, 31] == sample.mask[2, 2] == 0
    assert empty.boxes.shape == (0, 4)
    assert not empty.mask.any()


def random_instances(seed: int) -> dict[str, Any]:
    """Polygons of several parts, run lengths of both kinds and crowds at random, partly beyond the image's edge."""
    numbers = random.Random(seed)
    content = instances(annotations=[])
    for number in range(12):
        left, top = numbers.uniform(-1, 45), numbers.uniform(-1, 30)
        corners = [[left, top]] + [[left + numbers.uniform(0, 16), top + numbers.uniform(0, 11)] for _ in range(5)]
        polygons = [np.array(corners).ravel().tolist(), np.array(corners[::-1]).ravel().tolist()]
        pixels = np.random.default_rng([seed, number]).random(SIZE) < numbers.random()
        shape = [polygons, text_of(pixels), {"size": list(SIZE), "counts": counts_of(pixels)}][number % 3]
        annotation = {"id": number, "image_id": numbers.choice([3, 7]), "category_id": numbers.choice([17, 18])}
        box = [max(left, 0), max(top, 0), numbers.uniform(1, 12), numbers.uniform(1, 8)]
        content["annotations"].append(annotation | {"bbox": box, "segmentation": shape, "iscrowd": number % 4 == 1})
    return content


@pytest.mark.parametrize("seed", range(6))
def test_masks_and_boxes_are_those_of_pycocotools(tmp_path: Path, seed: int):
    path = write(tmp_path, random_instances(seed))
    official = COCO(str(path))
    dataset = Coco(path, tmp_path / "train2017")
    assert errors_of(dataset) == []
    for sample in dataset:
        annotations = official.loadAnns(official.getAnnIds(int(sample.image_id)))
        boxes = np.array([item["bbox"] for item in annotations])
        boxes[:, 2:] += boxes[:, :2]
        assert np.abs(sample.boxes - np.clip(boxes, 0, [60, 40, 60, 40])).max() < 1e-4
        assert sample.difficult.tolist() == [bool(item["iscrowd"]) for item in annotations]
        names = [official.loadCats(item["category_id"])[0]["name"] for item in annotations]
        assert [dataset.classes.detection[label] for label in sample.labels] == names
        assert np.array_equal(sample.mask, expected_mask(official, annotations, dataset.classes.segmentation))


def expected_mask(official: COCO, annotations: list[dict[str, Any]], names: tuple[str, ...]) -> np.ndarray:
    """The rule pixel by pixel: the smallest object that is no crowd, of equal ones the last; else void; else 0."""
    owners = np.zeros(SIZE, np.uint8)
    smallest = np.full(SIZE, np.inf)
    for item in annotations:
        pixels = official.annToMask(item).astype(bool)
        if item["iscrowd"]:
            owners[pixels & np.isinf(smallest)] = 255
            continue
        wins = pixels & (pixels.sum() <= smallest)
        owners[wins] = names.index(official.loadCats(item["category_id"])[0]["name"])
        smallest[wins] = pixels.sum()
    return owners


def test_polygons_of_any_place_are_those_of_pycocotools():
    rng = np.random.default_rng(0)
    for _ in range(300):
        height, width = rng.integers(1, 40, 2).tolist()
        corners = [rng.uniform(-1, 2, (rng.integers(3, 8), 2)) * [width, height] for _ in range(2)]
        polygons = [points.round(rng.integers(0, 4)).ravel() for points in corners]
        if any(polygon_problem(points, (height, width)) for points in polygons):
            continue  # by rounding
        lists = [points.tolist() for points in polygons]
        expected = oracle_masks.decode(oracle_masks.merge(oracle_masks.frPyObjects(lists, height, width)))
        ours = paint([Layer(1, polygon_region(lists, (height, width)))], (height, width)).mask
        assert np.array_equal(ours, expected)


def as_coco(samples: list[Sample], root: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """Write generated samples as images and instances: the mask in the object's box is the object where it is alone."""
    content: dict[str, Any] = {"images": [], "annotations": []}
    content["categories"] = [{"id": 10 * number + 5, "name": name} for number, name in enumerate(names)]
    for number, sample in enumerate(samples):
        write_image(root / "images" / f"{sample.image_id}.png", sample.image)
        height, width = sample.original_size
        entry = {"id": number, "file_name": f"{sample.image_id}.png", "height": height, "width": width}
        content["images"].append(entry)
        for box, label in zip(sample.boxes.tolist(), sample.labels.tolist(), strict=True):
            left, top, right, bottom = map(int, box)
            pixels = np.zeros((height, width), np.uint8)
            pixels[top:bottom, left:right] = sample.mask[top:bottom, left:right] == label + 1
            content["annotations"].append(
                {"id": len(content["annotations"]) + 1, "image_id": number, "category_id": 10 * label + 5, "iscrowd": 0}
                | {"bbox": [left, top, right - left, bottom - top], "segmentation": text_of(pixels)}
            )
    return content


def test_generated_shapes_come_back_as_they_were(tmp_path: Path):
    samples = list(Shapes("train", num_images=40, image_size=64))
    path = tmp_path / "annotations" / "train.json"
    path.parent.mkdir()
    path.write_text(json.dumps(as_coco(samples, tmp_path, Shapes.classes.detection)))
    dataset = DATASETS.build("coco", tmp_path, "train")
    assert dataset.classes == Shapes.classes
    assert sum(len(sample.boxes) == 0 for sample in samples) > 0
    for sample, again in zip(samples, dataset, strict=True):
        assert np.array_equal(sample.image, again.image)
        assert np.array_equal(sample.mask, again.mask)
        assert np.abs(sample.boxes - again.boxes).max(initial=0) < 1e-3
        assert np.array_equal(sample.labels, again.labels)


def test_without_segmentations_nobody_looked_at_pixels(tmp_path: Path):
    content = instances()
    del content["annotations"][1]["segmentation"]
    boxed, empty = read(tmp_path, content)
    assert boxed.mask is None
    assert len(boxed.boxes) == 3
    assert empty.mask is not None
    for item in content["annotations"]:
        item["segmentation"] = []
    assert [sample.mask for sample in read(tmp_path, content)] == [None, None]


def test_classes_choose_and_order_the_categories(tmp_path: Path):
    dataset = read(tmp_path, instances(), classes=["cat"])
    sample = dataset[0]
    assert dataset.classes.detection == ("cat",)
    assert dataset.category_ids == dataset.mask_category_ids == [17]
    assert sample.labels.tolist() == [0, 0]
    assert set(np.unique(sample.mask)) == {0, 1, 255}
    (tmp_path / "names.txt").write_text("0 background 0\n1 dog 0\n2 cat 1\n")
    by_file = read(tmp_path, instances(), classes=str(tmp_path / "names.txt"))[0]
    assert by_file.labels.tolist() == [0, 0]
    assert set(np.unique(by_file.mask)) == {0, 1, 2, 255}
    with pytest.raises(DataError, match=r"no category 'dgo'\. Did you mean 'dog'\? Known: dog, cat"):
        read(tmp_path, instances(), classes=["dgo"])


def test_an_empty_box_is_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    content = instances()
    content["annotations"][1]["bbox"] = [296.65, 388.33, 1.03, 0.0]  # as in COCO's image 200365
    with caplog.at_level(logging.WARNING):
        dataset = read(tmp_path, content)
    assert len(dataset[0].boxes) == 2
    assert re.search(r"1 annotations have an empty box: left out \(ids \[2\]\)", caplog.text)


@pytest.mark.parametrize(
    ("file", "folder"),
    [
        ("annotations/instances_train.json", "train2017"),
        ("train.json", "train2017"),
        ("train2017/_annotations.coco.json", "train2017"),
    ],
)
def test_files_and_folders_can_be_given(tmp_path: Path, file: str, folder: str):
    write(tmp_path, instances(), file)
    dataset = read_with(tmp_path, annotations=file, images=folder)
    assert len(dataset) == 2


def test_the_folder_of_an_export_with_its_json(tmp_path: Path):
    write(tmp_path, instances(), "train/_annotations.coco.json")
    (tmp_path / "train2017" / "b.png").rename(tmp_path / "train" / "b.png")
    dataset = DATASETS.build("coco", tmp_path, "train")
    assert dataset[1].image_id == "7"
    assert "a.png: the image is missing" in errors_of(dataset)[0]


def test_splits_that_are_missing_or_ambiguous(tmp_path: Path):
    write(tmp_path, instances())
    with pytest.raises(DataError, match=r"no COCO file of the split 'trian'.*Did you mean 'train'\? Available: train"):
        DATASETS.build("coco", tmp_path, "trian")
    write(tmp_path, instances(), "train.json")
    with pytest.raises(DataError, match=r"several files for the split 'train' \(.*2017.json, train.json\)"):
        DATASETS.build("coco", tmp_path, "train")
    with pytest.raises(DataError, match="expected the name of a split without folder"):
        DATASETS.build("coco", tmp_path, "../train")
    with pytest.raises(DataError, match="nowhere: the data set's folder does not exist"):
        DATASETS.build("coco", tmp_path / "nowhere", "train")


def test_a_picture_of_another_size_and_missing_pictures(tmp_path: Path):
    dataset = read(tmp_path, instances())
    write_image(tmp_path / "train2017" / "b.png", np.zeros((60, 40, 3), np.uint8))
    (tmp_path / "train2017" / "sub" / "a.png").unlink()
    missing, other = errors_of(dataset)
    assert "sub/a.png: the image is missing" in missing
    assert re.search(r"b\.png: the image is 60 x 40 pixels .*train2017\.json says 40 x 60", other)
    (tmp_path / "train2017" / "b.png").unlink()
    for name in ("train2017/a.png", "train2017/sub/b.png"):
        (tmp_path / name).unlink()
    with pytest.raises(DataError, match=r"none of its images, such as 'sub/a\.png'"):
        DATASETS.build("coco", tmp_path, "train")


def test_the_fingerprint_follows_annotations_and_images(tmp_path: Path):
    first = read(tmp_path, instances()).fingerprint()
    assert Coco(tmp_path / "annotations/instances_train2017.json", tmp_path / "train2017").fingerprint() == first
    content = instances()
    content["annotations"][0]["category_id"] = 17
    assert read(tmp_path, content).fingerprint() != first
