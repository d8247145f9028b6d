"""The gallery: which images are the best and the worst, and reasons against a planted truth."""

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from analysis_by_hand import CLASSES, analysis_of, found, sample
from PIL import Image

import mtvision as mtv
from mtvision.analysis.analyze import analyze
from mtvision.analysis.gallery import gallery
from mtvision.analysis.image_scores import mask_miou


def shown_of(samples, predictions, **options):
    return gallery(analysis_of(samples, predictions), samples, **options)


def large_objects(image):
    """Return what a model finds that sees an object only if its side is at least a third of the image."""
    large = (image.boxes[:, 2] - image.boxes[:, 0]) >= 33
    return {"det": found(image.boxes[large], [0.7] * int(large.sum()), image.labels[large].tolist())}


def test_a_planted_reason_is_named_and_marked():
    rng = np.random.default_rng(0)
    samples = []
    for number in range(40):
        sides = rng.uniform(10, 60) + rng.uniform(0, 5, 3)
        corner = rng.uniform(2, 30, (3, 2))
        image = sample(np.concatenate([corner, corner + sides[:, None]], axis=1), name=f"image {number}")
        noise = rng.integers(0, 256, image.image.shape, dtype=np.uint8)
        samples.append(replace(image, image=noise))
    shown = shown_of(samples, [large_objects(image) for image in samples], number=3)
    assert shown.score_threshold == pytest.approx(0.7)
    assert [image.score for image in shown.best] == [1.0] * 3
    assert [image.score for image in shown.worst] == [0.0] * 3
    marked = set(shown.correlations["key"][shown.correlations["shown"]])
    assert {"size", "smallest"} <= marked
    assert not {"brightness", "contrast", "objects"} & marked
    smallest = set(shown.scores["image_id"][shown.scores["size"].rank() <= 8])
    seen = 0
    for image in shown.worst:
        texts = [reason.text for reason in image.reasons if reason.matters]
        small = [text for text in texts if text.startswith("small objects: median side ")]
        assert bool(small) == (image.image_id in smallest)
        seen += len(small)
        assert not any(text.startswith("large objects") for text in texts)
    assert seen


def shares(image):
    """Return what a model finds that sees the first of an image's objects, and a false one in image ``wrong``."""
    boxes = [[0, 0, 9, 9]] if image.image_id == "wrong" else image.boxes[:1].tolist()
    return {"det": found(boxes, [0.9] * len(boxes))}


def images_of(*numbers, names=None):
    """Return an image for each number of boxes, each of another light."""
    boxes = [[[20.0 * n, 0.0, 20.0 * n + 15, 15.0] for n in range(number)] for number in numbers]
    return [sample(each, value=10 + n, name=names[n] if names else str(n)) for n, each in enumerate(boxes)]


def test_the_best_images_are_not_the_empty_ones():
    samples = images_of(0, 0, 0, 4, 1, 3, 2)  # an image of n boxes scores 2 / (n + 1), an empty one 1
    shown = shown_of(samples, [shares(image) for image in samples], number=2)
    assert [image.image_id for image in shown.best] == ["4", "6"]
    assert [image.image_id for image in shown.worst] == ["3", "5"]
    assert shown.scores["score"].tolist() == pytest.approx([1, 1, 1, 0.4, 1, 0.5, 2 / 3])


def test_an_empty_image_may_be_among_the_worst():
    samples = images_of(0, 1, 2, 3, 4, names=["wrong", "a", "b", "c", "d"])
    shown = shown_of(samples, [shares(image) for image in samples], number=2)
    assert [image.image_id for image in shown.worst] == ["wrong", "d"]
    assert [image.image_id for image in shown.best] == ["a", "b"]


def test_where_few_images_have_an_object_the_empty_ones_are_ranked_too():
    samples = images_of(0, 0, 0, 4, 1, 3)
    shown = shown_of(samples, [shares(image) for image in samples], number=2)
    assert {image.score for image in shown.best} == {1.0}
    assert [image.image_id for image in shown.best] == ["0", "1"]
    assert [image.image_id for image in shown.worst] == ["3", "5"]


def nothing():
    return {"seg": torch.zeros((100, 100), dtype=torch.int64), "det": found([], [])}


def test_a_class_in_a_mask_is_an_object_but_not_background_or_void():
    masks = [np.zeros((100, 100), dtype=np.uint8) for _ in range(5)]
    masks[1][0, 0] = 255
    for number, rows in ((2, 10), (3, 20), (4, 1)):
        masks[number][:rows] = 1
    samples = [replace(each, mask=mask) for each, mask in zip(images_of(0, 0, 0, 0, 0), masks, strict=True)]
    shown = shown_of(samples, [nothing() for _ in samples], number=1)
    assert [image.image_id for image in shown.best] == ["4"]
    assert [image.image_id for image in shown.worst] == ["3"]


def test_a_mask_that_the_model_does_not_predict_makes_no_object():
    mask = np.ones((100, 100), dtype=np.uint8)
    samples = images_of(0, 2, 1, 3)
    samples[0] = replace(samples[0], mask=mask)
    assert shown_of(samples, [shares(image) for image in samples], number=1).best[0].image_id == "2"


def test_images_can_be_ranked_by_one_task_alone():
    masks = [np.zeros((100, 100), dtype=np.uint8) for _ in range(3)]
    for number, rows in enumerate((1, 20, 10)):
        masks[number][:rows] = 1  # more of it is more that is missed
    samples = [replace(each, mask=mask) for each, mask in zip(images_of(2, 1, 3), masks, strict=True)]
    analysis = analysis_of(samples, [{**nothing(), **shares(image)} for image in samples])
    ends = {task: gallery(analysis, samples, number=1, task=task) for task in ("seg", "det")}
    assert {task: (shown.best[0].image_id, shown.worst[0].image_id) for task, shown in ends.items()} == {
        "seg": ("0", "1"),
        "det": ("1", "2"),
    }
    assert ends["det"].best[0].score == 1.0
    with pytest.raises(ValueError, match=r"task: the analysis has no 'dot'.*det"):
        gallery(analysis, samples, task="dot")


@pytest.fixture(scope="module")
def trained():
    data = {"dataset": {"name": "shapes", "num_images": 48, "image_size": 64}, "image_size": 64}
    model = mtv.build_model({"model": {"backbone": "test_resnet", "num_classes": {"seg": 6, "det": 5}}, "data": data})
    samples = mtv.build_dataset({"data": data}, split="val")
    model.classes = samples.classes
    return model, samples


def test_a_model_and_its_data_give_best_and_worst_with_small_pictures(trained):
    model, samples = trained
    shown = gallery(analyze(model, samples), samples, number=20)
    assert len(samples) == 12
    assert len(shown.best) == len(shown.worst) == 6  # no image is both
    assert len({image.image_id for image in (*shown.best, *shown.worst)}) == 12
    ranked = shown.scores.set_index("image_id")["score"]
    assert [image.score for image in shown.best] == sorted(ranked, reverse=True)[:6]
    assert [image.score for image in shown.worst] == sorted(ranked)[:6]
    for image in (*shown.best, *shown.worst):
        assert image.score == pytest.approx(np.mean(list(image.scores.values())))
        assert set(image.scores) == {"seg", "det"}
        with Image.open(BytesIO(image.picture)) as picture:
            assert picture.format == "JPEG"
            assert picture.width > 2 * 192  # image and truth, below them prediction and wrong pixels
            assert picture.height > 2 * 192
        assert len(image.picture) < 60_000
    own = next(each for each in samples if each.image_id == shown.best[0].image_id)
    (prediction,) = model.predict([own.image])
    assert shown.best[0].scores["seg"] == pytest.approx(mask_miou(prediction["seg"], own.mask))


def test_only_images_annotated_for_all_tasks_are_ranked_and_nobody_looked_is_not_empty(trained):
    model, samples = trained
    changed = [replace(each, mask=None) if number < 3 else each for number, each in enumerate(samples)]
    changed[3] = replace(changed[3], boxes=None, labels=None, difficult=None)
    shown = gallery(analyze(model, changed), changed, number=20)
    assert shown.scores["score"].isna().tolist() == [True] * 4 + [False] * 8
    assert shown.scores["det"].notna().tolist() == [True] * 3 + [False] + [True] * 8


def test_one_task_alone_is_scored(trained):
    model, samples = trained
    only_masks = [replace(each, boxes=None, labels=None, difficult=None) for each in samples]
    masks = gallery(analyze(model, only_masks), only_masks, number=1)
    assert (masks.score_threshold, set(masks.best[0].scores)) == (None, {"seg"})
    only_boxes = [replace(each, mask=None) for each in samples][:1]
    boxes = gallery(analyze(model, only_boxes), only_boxes, number=1)
    assert set(boxes.best[0].scores) == {"det"}
    assert boxes.worst == ()  # the only image is the best


def test_nothing_to_score_is_one_sentence(trained):
    model, samples = trained
    bare = [replace(each, mask=None, boxes=None, labels=None, difficult=None) for each in samples]
    with pytest.raises(mtv.DataError, match="no image is annotated"):
        gallery(analyze(model, bare), bare)
    with pytest.raises(ValueError, match="number: expected at least 1, got 0"):
        gallery(analysis_of(images_of(1), [shares(images_of(1)[0])], CLASSES), images_of(1), number=0)
