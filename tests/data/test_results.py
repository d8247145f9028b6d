import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as oracle_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import mtvision as mtv
from mtvision.data import (
    Coco,
    Shapes,
    voc_classes,
    write_coco,
    write_coco_results,
    write_coco_segmentation_results,
    write_voc_results,
)
from mtvision.data.writers.writing import voc_palette
from mtvision.errors import DataError
from mtvision.types import Classes, Prediction

SIZE = (48, 64)


def prediction(
    boxes: Any = ((1.5, 2.25, 20, 30),), scores: Any = (0.75,), labels: Any = (1,), mask: Any = None
) -> Prediction:
    detections = {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "scores": torch.tensor(scores, dtype=torch.float32),
        "labels": torch.tensor(labels, dtype=torch.int64),
    }
    return {"det": detections} | ({} if mask is None else {"seg": torch.as_tensor(mask, dtype=torch.int64)})


def guesses(dataset: Any, seed: int) -> Iterator[Prediction]:
    """What a mediocre model would say: moved boxes, some of another class, some of nothing."""
    rng = np.random.default_rng(seed)
    for sample in dataset:
        near = sample.boxes + rng.normal(0, 2.5, sample.boxes.shape)
        corners = rng.uniform(0, 40, (3, 2))
        boxes = np.concatenate([near, np.concatenate([corners, corners + rng.uniform(2, 20, (3, 2))], axis=1)])
        labels = np.concatenate([sample.labels, rng.integers(0, 5, 3)])
        labels = np.where(rng.random(len(labels)) < 0.2, rng.integers(0, 5, len(labels)), labels)
        yield prediction(boxes.tolist(), rng.random(len(labels)).tolist(), labels.tolist())


def scores_of(truth: COCO, results: Any) -> np.ndarray:
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


def test_the_coco_tools_score_the_file_as_the_arrays(tmp_path: Path):
    dataset = Shapes("train", num_images=25, image_size=SIZE, max_objects=5)
    numbers = write_coco(dataset, tmp_path, "train")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(tmp_path / "annotations" / "instances_train.json"))
    file = tmp_path / "results.json"
    write_coco_results(guesses(dataset, 0), (numbers[name] for name in dataset.image_ids), file)
    rows = []
    for name, guess in zip(dataset.image_ids, guesses(dataset, 0), strict=True):
        found = guess["det"]
        sides = torch.cat([found["boxes"][:, :2], found["boxes"][:, 2:] - found["boxes"][:, :2]], dim=1).double()
        for box, score, label in zip(sides.tolist(), found["scores"].tolist(), found["labels"].tolist(), strict=True):
            rows.append([numbers[name], *box, score, label + 1])
    by_file, by_arrays = scores_of(truth, str(file)), scores_of(truth, np.array(rows))
    assert np.allclose(by_file, by_arrays, rtol=0, atol=1e-12)
    assert 0.05 < by_file[0] < 0.95
    perfect = (prediction(sample.boxes, np.ones(len(sample.boxes)), sample.labels) for sample in dataset)
    write_coco_results(perfect, list(numbers.values()), file, overwrite=True)
    assert scores_of(truth, str(file))[0] == 1


def test_category_ids_are_those_of_the_annotations(tmp_path: Path):
    dataset = Shapes("train", num_images=3, image_size=SIZE)
    write_coco(dataset, tmp_path, "train")
    path = tmp_path / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    for item in content["categories"]:
        item["id"] *= 10
    for item in content["annotations"]:
        item["category_id"] *= 10
    path.write_text(json.dumps(content))
    read = Coco(path, tmp_path / "train")
    write_coco_results([prediction()] * 3, read.image_ids, tmp_path / "r.json", category_ids=read.category_ids)
    entries = json.loads((tmp_path / "r.json").read_text())
    assert [entry["category_id"] for entry in entries] == [20] * 3
    assert [entry["image_id"] for entry in entries] == [1, 2, 3]
    assert entries[0]["bbox"] == [1.5, 2.25, 18.5, 27.75]
    assert entries[0]["score"] == 0.75


def test_what_a_model_predicts_is_written_in_all_formats(tmp_path: Path):
    images = [sample.image for sample in Shapes("train", num_images=2, image_size=SIZE)]
    config = {"backbone": "test_resnet", "num_classes": Shapes.classes.num_classes, "segmentation_head": "fcn"}
    predictions = mtv.build_model({"model": config | {"detection_head": "fcos"}}).predict(images)
    write_coco_results(predictions, [1, 2], tmp_path / "boxes.json")
    write_coco_segmentation_results(predictions, [1, 2], tmp_path / "masks.json")
    write_voc_results(predictions, ["a", "b"], tmp_path, Shapes.classes)
    boxes = json.loads((tmp_path / "boxes.json").read_text())
    assert len(boxes) == sum(len(found["det"]["boxes"]) for found in predictions)
    lines = [path.read_text().splitlines() for path in (tmp_path / "results/VOC2012/Main").iterdir()]
    assert sum(map(len, lines)) == len(boxes)
    for name, found in zip("ab", predictions, strict=True):
        with Image.open(tmp_path / f"results/VOC2012/Segmentation/comp6_test_cls/{name}.png") as image:
            assert np.array_equal(np.array(image), found["seg"].numpy())
    masks = json.loads((tmp_path / "masks.json").read_text())
    assert sum(oracle_masks.area(item["segmentation"]) for item in masks) == sum(
        int((found["seg"] > 0).sum()) for found in predictions
    )


def test_no_detections_are_an_empty_list(tmp_path: Path):
    write_coco_results([prediction([], [], [])] * 2, [1, 2], tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text()) == []
    write_coco_results([], [], tmp_path / "none.json")
    assert json.loads((tmp_path / "none.json").read_text()) == []


def test_masks_come_back_from_run_lengths(tmp_path: Path):
    masks = np.random.default_rng(1).choice([0, 1, 4, 255], (2, *SIZE))
    write_coco_segmentation_results(
        [{"seg": torch.from_numpy(mask)} for mask in masks], ["7", "9"], tmp_path / "r.json"
    )
    found = np.zeros_like(masks)
    for item in json.loads((tmp_path / "r.json").read_text()):
        found[[7, 9].index(item["image_id"])][oracle_masks.decode(item["segmentation"]) == 1] = item["category_id"]
    assert np.array_equal(found, np.where(masks == 255, 0, masks))
    ids = [92, 93, 94, 95]
    again = tmp_path / "ids.json"
    write_coco_segmentation_results([{"seg": masks[0]}], [7], again, category_ids=ids)
    assert {item["category_id"] for item in json.loads(again.read_text())} == {92, 95}


CLASSES = Classes(("background", "cat", "dog"), ("cat", "dog"))


def test_the_layout_and_lines_of_voc(tmp_path: Path):
    mask = np.zeros(SIZE, np.int64)
    mask[4:9, 5:30], mask[0] = 2, 255
    first = prediction([[0, 0, 1, 1], [9.5, 2, 20.25, 47]], [0.9, 1e-7], [1, 0], mask)
    write_voc_results([first, prediction([[3, 4, 5, 6]], [0.5], [1])], ["2008_000001", "b"], tmp_path, CLASSES)
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    root = "results/VOC2012"
    assert files == [
        f"{root}/Main/comp4_det_test_cat.txt",
        f"{root}/Main/comp4_det_test_dog.txt",
        f"{root}/Segmentation/comp6_test_cls/2008_000001.png",
    ]
    cats, dogs = (np.loadtxt(tmp_path / name, dtype=str, ndmin=2) for name in files[:2])
    assert cats[0, 0] == "2008_000001"
    assert cats[:, 2:].astype(float).tolist() == [[10.5, 3, 20.25, 47]]
    assert abs(float(cats[0, 1]) / 1e-7 - 1) < 1e-6  # small scores keep their order
    # The first pixel alone is 1 1 1 1: 1-based, and the last one is part of the box.
    assert dogs.tolist() == [["2008_000001", "0.899999976", "1", "1", "1", "1"], ["b", "0.5", "4", "5", "5", "6"]]
    with Image.open(tmp_path / files[2]) as image:
        assert image.mode == "P"
        assert image.getpalette() == voc_palette()
        assert np.array_equal(np.array(image), mask)


def test_other_competitions_splits_and_years(tmp_path: Path):
    options = {"split": "val", "year": "2007", "outside_data": False}
    write_voc_results([prediction(mask=np.zeros(SIZE))], ["a"], tmp_path, CLASSES, **options)
    assert (tmp_path / "results/VOC2007/Main/comp3_det_val_dog.txt").is_file()
    assert (tmp_path / "results/VOC2007/Segmentation/comp5_val_cls/a.png").is_file()


def test_every_class_has_a_file_and_many_lines_are_all_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mtvision.data.writers.results_voc._MOST_LINES", 5)
    boxes = np.tile([[1.0, 1, 5, 5]], (4, 1))
    many = [prediction(boxes, [0.1 * number] * 4, [0, 3, 3, 3]) for number in range(6)]
    write_voc_results(many, [f"i{number}" for number in range(6)], tmp_path, voc_classes())
    folder = tmp_path / "results/VOC2012/Main"
    lines = {path.stem.split("_")[-1]: path.read_text().splitlines() for path in folder.iterdir()}
    assert set(lines) == set(voc_classes().detection)
    assert [line.split()[0] for line in lines["boat"]] == [f"i{number}" for number in range(6) for _ in range(3)]
    assert len(lines["aeroplane"]) == 6
    assert lines["person"] == []


def test_overwriting_is_asked_for_and_leaves_no_old_mask(tmp_path: Path):
    both = prediction(mask=np.zeros(SIZE))
    write_voc_results([both], ["a"], tmp_path, CLASSES)
    with pytest.raises(DataError, match=r"comp6_test_cls: it is already there; .*overwrite=True"):
        write_voc_results([{"seg": both["seg"]}], ["b"], tmp_path, CLASSES)
    with pytest.raises(DataError, match=r"comp4_det_test_cat\.txt: it is already there"):
        write_voc_results([prediction()], ["b"], tmp_path, CLASSES)
    write_voc_results([both], ["b"], tmp_path, CLASSES, overwrite=True)
    assert [path.name for path in (tmp_path / "results/VOC2012/Segmentation/comp6_test_cls").iterdir()] == ["b.png"]
    assert (tmp_path / "results/VOC2012/Main/comp4_det_test_dog.txt").read_text().startswith("b ")
    write_voc_results([prediction()], ["b"], tmp_path, CLASSES, split="val")
    path = tmp_path / "r.json"
    write_coco_results([prediction()], [1], path)
    with pytest.raises(DataError, match=r"r\.json: it is already there"):
        write_coco_results([prediction()], [2], path)
    assert json.loads(path.read_text())[0]["image_id"] == 1


def to_coco(predictions: Any, ids: Any, path: Path, **options: Any) -> None:
    write_coco_results(predictions, ids, path / "r.json", **options)


def to_coco_masks(predictions: Any, ids: Any, path: Path, **options: Any) -> None:
    write_coco_segmentation_results(predictions, ids, path / "r.json", **options)


def to_voc(predictions: Any, ids: Any, path: Path, **options: Any) -> None:
    write_voc_results(predictions, ids, path, options.pop("classes", CLASSES), **options)


def with_det(**changes: Any) -> Prediction:
    return {"det": {**prediction()["det"], **changes}}


FLAT = {"seg": torch.zeros(4, 4)}
NAN = prediction([[0, 0, float("nan"), 1]])
MISTAKES: list[tuple[Any, Any, Any, dict[str, Any], str]] = [
    (to_coco, [prediction()], [1, 2], {}, "more image ids than the 1 predictions"),
    (to_coco, [prediction()] * 2, [1], {}, "more predictions than the 1 image ids"),
    (to_coco, [prediction()], ["a"], {}, "the image id 'a' is no whole number, as COCO's are; write_coco returns"),
    (to_coco, [prediction()], [-3], {}, "the image id '-3' is no whole number"),
    (to_coco, [FLAT], [1], {}, "the prediction of image 1 has no 'det', but seg"),
    (to_coco, [{"det": {"boxes": []}}], [1], {}, "image 1: the detections have no 'scores'"),
    (
        to_coco,
        [prediction(scores=[0.1, 0.2])],
        [1],
        {},
        r"expected boxes \(M, 4\), scores .* got boxes \(1, 4\)",
    ),
    (to_coco, [NAN], [1], {}, "image 1: a box or a score is not a finite number"),
    (to_coco, [prediction(labels=[2])], [1], {"category_ids": [4, 5]}, "no category id for class 2 .*has 2 entries"),
    (to_coco_masks, [prediction()], [1], {}, "the prediction of image 1 has no 'seg', but det"),
    (to_coco_masks, [FLAT], [1], {}, r"expected a mask \(H, W\) of integers, got float32 \(4, 4\)"),
    (to_coco_masks, [{"seg": np.full((4, 4), 300)}], [1], {}, "the mask has the id 300"),
    (to_coco_masks, [{"seg": np.full((4, 4), 3)}], [1], {"category_ids": [4, 5]}, "no category id for class 2"),
    (to_voc, [prediction(labels=[2])], ["a"], {}, "image a: no class has the label 2"),
    (to_voc, [prediction(labels=[-1])], ["a"], {}, "image a: expected labels .* whole numbers from 0 on, got -1"),
    (to_coco, [prediction(labels=[-1])], [1], {}, "image 1: expected labels .* whole numbers from 0 on, got -1"),
    (to_coco, [with_det(labels=torch.tensor([1.0]))], [1], {}, "expected labels .*, got float32"),
    (to_coco, [with_det(labels=torch.tensor([True]))], [1], {}, "expected labels .*, got bool"),
    (to_coco, [prediction([[5, 5, 1, 6]])], [1], {}, r"the box \[5.0, 5.0, 1.0, 6.0\] \(xyxy\) ends before it begins"),
    (to_voc, [prediction([[5, 5, 6, 4]])], ["a"], {}, "image a: the box .* ends before it begins"),
    (to_voc, [{"seg": np.full((4, 4), 3)}], ["a"], {}, "image a: the mask has the id 3; there are 3 classes"),
    (to_voc, [prediction()], ["../../etc/passwd"], {}, "the image id '../../etc/passwd' cannot be the name of a file"),
    (to_voc, [prediction()], ["/etc/passwd"], {}, "cannot be the name of a file"),
    (to_voc, [prediction()], ["two words"], {}, "cannot be the name of a file"),
    (to_voc, [prediction()], ["a\0b"], {}, "cannot be the name of a file"),
    (to_voc, [prediction()], ["a"], {"split": "../x"}, "'../x' cannot be part of a file's name"),
    (to_voc, [prediction()], ["a"], {"year": "../x"}, "'../x' cannot be part of a file's name"),
    (to_voc, [prediction()], ["a"], {"classes": Classes(("background", "a/b"), ("a/b",))}, "'a/b' cannot be part"),
]


@pytest.mark.parametrize("number", range(len(MISTAKES)))
def test_mistakes_are_one_sentence_and_leave_nothing(tmp_path: Path, number: int):
    write, predictions, ids, options, sentence = MISTAKES[number]
    with pytest.raises(DataError, match=sentence) as caught:
        write(predictions, ids, tmp_path, **options)
    assert len(str(caught.value).splitlines()) == 1
    assert list(tmp_path.rglob("*")) == []


def test_numbers_of_half_precision_are_written_exactly(tmp_path: Path):
    boxes, scores = torch.tensor([[1.5, 2.25, 20, 20]]), torch.tensor([0.75])
    for kind in (torch.bfloat16, torch.float16, torch.float32):
        one = with_det(boxes=boxes.to(kind), scores=scores.to(kind))
        write_coco_results([one], [1], tmp_path / "r.json", overwrite=True)
        (entry,) = json.loads((tmp_path / "r.json").read_text())
        assert (entry["bbox"], entry["score"]) == ([1.5, 2.25, 18.5, 17.75], 0.75)


def test_a_place_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "file").write_text("")
    for write in (to_coco, to_voc):
        with pytest.raises(DataError, match="it cannot be written"):
            write([prediction()], [1], tmp_path / "file" / "sub")
