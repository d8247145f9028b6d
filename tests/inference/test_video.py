"""A film becomes a film of as many frames, and a list of what was found in each."""

import json
import logging
from itertools import islice

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from toy_predictors import CLASSES, painted, toy_model

from mtvision.errors import DataError
from mtvision.inference.predictor import Predictor
from mtvision.inference.video import _Film, predict_video
from mtvision.visualize.draw import draw

FRAMES, RATE, SIZE = 7, 12.5, (48, 64)


def frame(index):
    """Return a red square that moves to the right."""
    image = painted(SIZE, (0, 255, 4 + 6 * index, 8, 20 + 6 * index, 24))
    return image.permute(1, 2, 0).numpy()


@pytest.fixture
def film(tmp_path):
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), RATE, SIZE[::-1])
    assert writer.isOpened()
    for index in range(FRAMES):
        writer.write(np.ascontiguousarray(frame(index)[..., ::-1]))
    writer.release()
    return path


@pytest.fixture(scope="module")
def model():
    # what MJPG makes of black is not quite black, so the model is asked for all that is there
    return toy_model(image_size=SIZE)


def read(path):
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (found := capture.read())[0]:
        frames.append(found[1][..., ::-1])
    return frames, capture.get(cv2.CAP_PROP_FPS)


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv", ".mov"])
def test_frames_rate_and_size_stay(film, tmp_path, model, suffix):
    result = predict_video(model, film, tmp_path / f"out{suffix}", batch_size=3, progress=False)
    frames, rate = read(tmp_path / f"out{suffix}")
    assert result == (tmp_path / f"out{suffix}", FRAMES, FRAMES)
    assert (len(frames), rate, frames[0].shape) == (FRAMES, pytest.approx(RATE), (*SIZE, 3))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [film.name, f"out{suffix}", "out.detections.json", "out.images.json"]
    )


def test_detections_are_those_of_the_frames(film, tmp_path, model):
    predict_video(model, film, tmp_path / "out.mp4", batch_size=2, score_threshold=0, progress=False)
    truth = COCO(tmp_path / "out.images.json")
    found = truth.loadRes(str(tmp_path / "out.detections.json"))
    decoded, _ = read(film)
    assert sorted(truth.imgs) == list(range(FRAMES))
    assert truth.imgs[3]["file_name"] == "film.avi#3"
    for index, pixels in enumerate(decoded):
        (prediction,) = model.predict(np.ascontiguousarray(pixels))
        rows = found.imgToAnns[index]
        assert [row["score"] for row in rows] == prediction["det"]["scores"].tolist()


def test_of_every_three_frames_the_first_is_predicted_and_its_boxes_stay(film, tmp_path, model):
    seen = []

    class Counting(Predictor):
        def predict(self, images, **options):
            seen.append(len(images))
            return super().predict(images, **options)

    result = predict_video(Counting(model, batch_size=4), film, tmp_path / "out.mp4", every=3, progress=False)
    assert (result.num_frames, result.num_predicted, seen) == (FRAMES, 3, [2, 1])
    listed = json.loads((tmp_path / "out.images.json").read_text())["images"]
    assert [image["id"] for image in listed] == [0, 3, 6]
    frames, _ = read(tmp_path / "out.mp4")
    assert len(frames) == FRAMES
    decoded = [np.ascontiguousarray(pixels) for pixels in read(film)[0]]
    for index in (1, 2):
        shown = draw(decoded[index], *model.predict(decoded[0], score_threshold=0.3), CLASSES)
        alone = draw(decoded[index], *model.predict(decoded[index], score_threshold=0.3), CLASSES)
        for other in (alone, decoded[index]):
            differs = (shown != other).any(axis=-1)  # elsewhere there is only what the film's compression leaves
            assert (
                distance(frames[index][differs], shown[differs]) < distance(frames[index][differs], other[differs]) / 2
            )


def distance(one, other):
    return np.abs(one.astype(int) - other).mean()


def test_a_film_that_ends_early_is_told(film, tmp_path, model, caplog, monkeypatch):
    whole = _Film.frames
    monkeypatch.setattr(_Film, "frames", lambda film: islice(whole(film), 4))
    with caplog.at_level(logging.WARNING, logger="mtvision"):
        result = predict_video(model, film, tmp_path / "out.mp4", progress=False)
    assert result.num_frames == 4
    assert f"ends after 4 of the {FRAMES} frames" in caplog.text


def test_a_film_without_a_frame_leaves_nothing(film, tmp_path, model):
    data = film.read_bytes()
    film.write_bytes(data[: data.index(b"\xff\xd8")])  # up to where the first frame begins
    with pytest.raises(DataError, match=r"film\.avi: .*can be decoded"):
        predict_video(model, film, tmp_path / "out.mp4", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["film.avi"]


def test_what_is_no_film_is_told_in_one_sentence(film, tmp_path, model):
    (tmp_path / "text.mp4").write_text("no film")
    for source, message in ((tmp_path / "text.mp4", "not a film that can be decoded"), ("gone.mp4", "no such file")):
        with pytest.raises(DataError, match=message) as caught:
            predict_video(model, source, tmp_path / "out.mp4")
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"written as \.mp4, \.mov, \.mkv, \.avi, not as '\.gif'"):
        predict_video(model, film, tmp_path / "out.gif")
    with pytest.raises(DataError, match="the film that is read"):
        predict_video(model, film, film, overwrite=True)
    with pytest.raises(ValueError, match="every: expected at least 1, got 0"):
        predict_video(model, film, tmp_path / "out.mp4", every=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.avi", "text.mp4"]


def test_nothing_is_replaced_unasked_and_nothing_half_is_left(film, tmp_path, model, monkeypatch):
    predict_video(model, film, tmp_path / "out.mp4", progress=False)
    before = (tmp_path / "out.mp4").read_bytes()
    with pytest.raises(DataError, match="already there"):
        predict_video(model, film, tmp_path / "out.mp4", progress=False)
    (tmp_path / "out.mp4").unlink()
    with pytest.raises(DataError, match=r"out\.images\.json.*already there"):
        predict_video(model, film, tmp_path / "out.mp4", progress=False)
    assert not list(tmp_path.glob("*out*.mp4"))
    predict_video(model, film, tmp_path / "out.mp4", overwrite=True, progress=False)
    assert (tmp_path / "out.mp4").read_bytes() == before
