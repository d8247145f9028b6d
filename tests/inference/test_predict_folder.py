"""A folder of images becomes pictures, masks and files that the COCO tools read; nothing is replaced unasked."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from toy_predictors import CLASSES, Rectangles, painted, segmenter, toy_model

from mtvision.data.images import as_sample
from mtvision.errors import DataError
from mtvision.inference.folder import predict_folder
from mtvision.inference.predictor import Predictor
from mtvision.inference.thresholds import Thresholds
from mtvision.visualize.draw import class_color, draw

SIZES = {"b.png": (32, 40), "a.png": (24, 32), "c.bmp": (40, 24)}


def write(folder, name, image):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return path


@pytest.fixture
def images(tmp_path):
    for index, (name, size) in enumerate(SIZES.items()):
        write(tmp_path / "in", name, painted(size, (index % 2, 128 + 40 * index, 4, 5, 16, 20)))
    (tmp_path / "in" / "notes.txt").write_text("no image")
    return tmp_path / "in"


@pytest.fixture(scope="module")
def model():
    return toy_model()


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_everything_is_written_at_the_images_own_size(images, tmp_path, model):
    result = predict_folder(model, images, tmp_path / "out", batch_size=2, progress=False)
    assert (result.num_images, result.skipped, result.folder) == (3, (), tmp_path / "out")
    assert files(tmp_path / "out") == [
        "detections.json",
        "images.json",
        *(f"masks/{stem}.png" for stem in "abc"),
        *(f"overlays/{stem}.jpg" for stem in "abc"),
    ]
    for name, size in SIZES.items():
        (prediction,) = model.predict(images / name)
        with Image.open(tmp_path / "out" / "masks" / f"{name[0]}.png") as mask:
            assert mask.mode == "P"
            assert np.array_equal(np.asarray(mask), prediction["seg"].numpy())
            assert mask.getpalette()[3:6] == list(class_color(1))
        picture = as_sample(tmp_path / "out" / "overlays" / f"{name[0]}.jpg").image
        assert picture.shape[:2] == size
        drawn = draw(images / name, prediction, CLASSES)
        assert np.abs(picture.astype(int) - drawn).mean() < 12  # JPEG of saturated edges


def test_the_coco_tools_read_the_two_files_together(images, tmp_path, model):
    predict_folder(model, images, tmp_path / "out", overlays=False, masks=False, progress=False)
    assert files(tmp_path / "out") == ["detections.json", "images.json"]
    truth = COCO(tmp_path / "out" / "images.json")
    found = truth.loadRes(str(tmp_path / "out" / "detections.json"))
    assert {image["file_name"]: (image["height"], image["width"]) for image in truth.imgs.values()} == SIZES
    assert [category["name"] for category in truth.loadCats([1, 2])] == ["red", "green"]
    for image in truth.imgs.values():
        (prediction,) = model.predict(images / image["file_name"])
        (row,) = found.imgToAnns[image["id"]]
        x, y, width, height = row["bbox"]
        assert [x, y, x + width, y + height] == pytest.approx(prediction["det"]["boxes"][0].tolist())
        assert row["score"] == float(prediction["det"]["scores"][0])
        assert row["category_id"] == int(prediction["det"]["labels"][0]) + 1


def test_images_of_one_name_get_names_of_their_own(tmp_path, model):
    names = ["x/photo.png", "x/Photo-2.png", "y/PHOTO.png", "y/photo.bmp", "../photo.png"]
    paths = [write(tmp_path / "in" / "deep", name, painted((8, 8))) for name in names]
    predict_folder(model, paths, tmp_path / "out", coco_json=False, overlays=False, progress=False)
    # 2 is taken by the second, where capital letters are no difference
    expected = ["PHOTO-3.png", "Photo-2.png", "photo-4.png", "photo-5.png", "photo.png"]
    assert files(tmp_path / "out" / "masks") == expected


def test_folders_within_are_kept_where_they_count(tmp_path, model):
    write(tmp_path / "in", "a.png", painted((8, 8)))
    write(tmp_path / "in", "sub/a.png", painted((8, 8)))
    write(tmp_path / "in", ".hidden/a.png", painted((8, 8)))
    predict_folder(model, tmp_path / "in", tmp_path / "flat", progress=False)
    assert files(tmp_path / "flat" / "masks") == ["a.png"]
    predict_folder(model, tmp_path / "in", tmp_path / "deep", recursive=True, progress=False)
    assert files(tmp_path / "deep" / "masks") == ["a.png", "sub/a.png"]
    listed = json.loads((tmp_path / "deep" / "images.json").read_text())["images"]
    assert [image["file_name"] for image in listed] == ["a.png", "sub/a.png"]


def test_what_scores_low_is_neither_drawn_nor_listed(tmp_path, model):
    image = write(tmp_path, "in/a.png", painted((32, 32), (0, 51, 4, 4, 20, 20), (1, 200, 22, 22, 30, 30)))

    def labels(name, predictor=model, **options):
        predict_folder(predictor, [image], tmp_path / name, progress=False, **options)
        return [row["category_id"] for row in json.loads((tmp_path / name / "detections.json").read_text())]

    assert labels("default") == [2]
    assert labels("all", score_threshold=0) == [2, 1]
    assert labels("none", score_threshold=0.9) == []
    tuned = Predictor(model, thresholds=Thresholds({"det": {"red": 0.1, "green": 0.9}}))
    assert labels("tuned", tuned) == [1]
    plain = as_sample(image).image.astype(int)
    drawn = {name: as_sample(tmp_path / name / "overlays" / "a.jpg").image for name in ("default", "all")}
    rectangle = np.s_[4:20, 4:5]  # the left edge of the red one, which only `all` draws
    changed = {name: np.abs(each[rectangle].astype(int) - plain[rectangle]).mean() for name, each in drawn.items()}
    assert changed["all"] > changed["default"]


def test_nothing_is_replaced_unasked(images, tmp_path, model):
    predict_folder(model, images, tmp_path / "out", progress=False)
    before = {name: (tmp_path / "out" / name).read_bytes() for name in files(tmp_path / "out")}
    for options in ({}, {"coco_json": False}, {"coco_json": False, "overlays": False}):
        with pytest.raises(DataError, match="already there"):
            predict_folder(model, images, tmp_path / "out", progress=False, **options)
    assert {name: (tmp_path / "out" / name).read_bytes() for name in files(tmp_path / "out")} == before
    predict_folder(model, images, tmp_path / "out", progress=False, overwrite=True)
    assert files(tmp_path / "out") == sorted(before)


def test_an_image_that_cannot_be_read_is_named(images, tmp_path, model):
    (images / "broken.jpg").write_bytes(b"\xff\xd8 no more")
    with pytest.raises(DataError, match=r"broken\.jpg"):
        predict_folder(model, images, tmp_path / "stopped", progress=False)
    assert not (tmp_path / "stopped" / "detections.json").exists()
    result = predict_folder(model, images, tmp_path / "out", on_error="skip", progress=False)
    assert result.num_images == 3
    assert [str(images / "broken.jpg") in sentence for sentence in result.skipped] == [True]
    assert len(json.loads((tmp_path / "out" / "images.json").read_text())["images"]) == 3
    with pytest.raises(DataError, match="not one of the 1 images can be read"):
        predict_folder(model, [images / "broken.jpg"], tmp_path / "none", on_error="skip", progress=False)
    with pytest.raises(ValueError, match="expected 'raise' or 'skip', got 'ignore'"):
        predict_folder(model, images, tmp_path / "none", on_error="ignore")


def test_no_more_than_a_batch_is_read_ahead(tmp_path, monkeypatch):
    paths = [write(tmp_path, f"in/{index}.png", painted((8, 8))) for index in range(7)]
    read, ahead = [], []
    task = segmenter()
    postprocess = task.postprocess
    model = toy_model(image_size=(8, 8), seg=task)
    monkeypatch.setattr("mtvision.inference.folder.as_sample", lambda path: read.append(path) or as_sample(path))
    done = lambda: len(list((tmp_path / "out" / "masks").glob("*")))  # noqa: E731
    monkeypatch.setattr(task, "postprocess", lambda *given: ahead.append(len(read) - done()) or postprocess(*given))
    predict_folder(model, paths, tmp_path / "out", batch_size=3, progress=False)
    assert ahead == [3, 3, 1]


def test_a_model_without_a_task_writes_what_it_has(images, tmp_path):
    predict_folder(toy_model(det=Rectangles()), images, tmp_path / "boxes", progress=False)
    assert not (tmp_path / "boxes" / "masks").exists()
    predict_folder(toy_model(seg=segmenter()), images, tmp_path / "masks", progress=False)
    assert not (tmp_path / "masks" / "detections.json").exists()
    assert len(files(tmp_path / "masks" / "masks")) == 3


def test_wrong_places_are_told(images, tmp_path, model):
    with pytest.raises(DataError, match="nowhere: there is no such folder; a single image is given as a list"):
        predict_folder(model, tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: there is no image .*recursive=True"):
        predict_folder(model, tmp_path / "empty", tmp_path / "out")
    with pytest.raises(DataError, match="read recursively; choose another place"):
        predict_folder(model, images, images / "out", recursive=True)
    assert not (tmp_path / "out").exists()


def test_a_predictor_with_windows_predicts_a_folder(images, tmp_path, model):
    predictor = Predictor(model, flip=True, window=(24, 24), fusion="nms")
    predict_folder(predictor, images, tmp_path / "out", progress=False)
    (prediction,) = predictor.predict(images / "b.png")
    with Image.open(tmp_path / "out" / "masks" / "b.png") as mask:
        assert torch.equal(torch.from_numpy(np.array(mask)).long(), prediction["seg"])
