"""The gallery: scores against oracles, reasons against a planted truth."""

from dataclasses import replace
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy import stats
from sklearn.metrics import jaccard_score
from torchvision.ops import box_iou

import mtvision as mtv
from mtvision.analysis.image_reasons import correlations, facts_table, measure, outer_sides
from mtvision.analysis.image_scores import best_threshold, f1, mask_miou, match_boxes
from mtvision.study.report.gallery import gallery
from mtvision.types import Sample

CLASSES = mtv.Classes(("background", "cat", "dog"), ("cat", "dog"))
NO_DIFFICULT = np.zeros(1, dtype=np.bool_)


def sample(boxes=(), labels=None, difficult=None, *, size=(100, 100), value=128, mask=None, name="x"):
    boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    return Sample(
        image=np.full((*size, 3), value, dtype=np.uint8),
        mask=mask,
        boxes=boxes,
        labels=np.array(labels if labels is not None else [0] * len(boxes), dtype=np.int64),
        difficult=np.array(difficult if difficult is not None else [False] * len(boxes), dtype=np.bool_),
        image_id=name,
        original_size=size,
    )


def found(boxes, scores, labels=None):
    labels = [0] * len(scores) if labels is None else labels
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return {"boxes": boxes, "scores": torch.tensor(scores), "labels": torch.tensor(labels, dtype=torch.int64)}


def test_a_masks_score_is_sklearns_jaccard_over_the_classes_that_are_there():
    rng = np.random.default_rng(0)
    for _ in range(20):
        truth = rng.choice([0, 1, 4, 255], size=(12, 9)).astype(np.uint8)
        seen = rng.choice([0, 2, 4], size=(12, 9))
        known = truth != 255
        labels = np.union1d(truth[known], seen[known])
        expected = jaccard_score(truth[known], seen[known], labels=labels, average="macro")
        assert mask_miou(torch.from_numpy(seen), truth) == pytest.approx(expected)
    assert np.isnan(mask_miou(torch.zeros(2, 2, dtype=torch.int64), np.full((2, 2), 255, dtype=np.uint8)))


def counts_at(prediction, boxes, labels, difficult, threshold):
    """Count hits, detections and objects with a plain loop over what passes the threshold."""
    overlap = box_iou(prediction["boxes"], torch.from_numpy(boxes)).numpy()
    order = sorted(range(len(overlap)), key=lambda i: -float(prediction["scores"][i]))
    used, hits, detections = set(), 0, 0
    for i in order:
        if float(prediction["scores"][i]) < threshold:
            continue
        same = [j for j in range(len(boxes)) if labels[j] == prediction["labels"][i] and overlap[i, j] >= 0.5]
        free = [j for j in same if not difficult[j] and j not in used]
        if free:
            used.add(max(free, key=lambda j: overlap[i, j]))
            hits += 1
            detections += 1
        elif not any(difficult[j] for j in same):
            detections += 1
    return hits, detections, int((~difficult).sum())


def random_images(rng, number):
    for _ in range(number):
        corners = rng.uniform(0, 60, (rng.integers(0, 6), 2))
        boxes = np.concatenate([corners, corners + rng.uniform(15, 40, corners.shape)], axis=1).astype(np.float32)
        labels = rng.integers(0, 2, len(boxes))
        difficult = rng.random(len(boxes)) < 0.25
        near = np.repeat(boxes, 2, axis=0) + rng.normal(0, 3, (2 * len(boxes), 4)).astype(np.float32)
        extra = np.array([[0, 0, 20, 20]], dtype=np.float32)
        scores = rng.integers(1, 20, 2 * len(boxes) + 1) / 20  # many are equal
        prediction = found(np.concatenate([near, extra]), scores, [*np.repeat(labels, 2), 0])
        yield prediction, boxes, labels, difficult


def test_f1_and_the_best_threshold_are_those_of_a_plain_loop():
    images = list(random_images(np.random.default_rng(1), 40))
    matches = [match_boxes(*image) for image in images]
    totals = {}
    for threshold in np.arange(1, 20) / 20:
        counts = np.array([counts_at(*image, threshold) for image in images])
        for match, (hits, detections, objects) in zip(matches, counts, strict=True):
            total = detections + objects
            assert f1(match, threshold) == pytest.approx(2 * hits / total if total else 1.0)
        hits, detections, objects = counts.sum(axis=0)
        totals[threshold] = 2 * hits / (detections + objects)
    best = max(totals.values())
    assert 0.3 < best < 1
    assert best_threshold(matches) == pytest.approx(max(t for t, value in totals.items() if value == best))


def test_difficult_objects_are_neither_right_nor_wrong_and_each_object_is_found_once():
    box = [10.0, 10.0, 50.0, 50.0]
    one = np.array([box], dtype=np.float32), np.zeros(1, dtype=np.int64)
    assert f1(match_boxes(found([box], [0.9]), *one, np.array([True])), 0.5) == 1.0
    assert f1(match_boxes(found([box], [0.9], [1]), *one, np.array([True])), 0.5) == 0.0
    assert f1(match_boxes(found([box, box], [0.9, 0.8]), *one, NO_DIFFICULT), 0.5) == pytest.approx(2 / 3)
    nothing = np.zeros((0, 4), dtype=np.float32), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.bool_)
    assert f1(match_boxes(found([], []), *nothing), 0.5) == 1.0
    assert f1(match_boxes(found([box], [0.9]), *nothing), 0.5) == 0.0


def test_what_is_measured_of_an_image():
    boxes = [[0, 20, 40, 60], [20, 20, 60, 60], [70, 70, 80, 80], [90, 0, 100, 10]]
    facts = measure(sample(boxes, [0, 0, 1, 1], [False, False, False, True], value=51), CLASSES)
    assert facts.classes == ("cat", "cat", "dog", "dog")
    expected = {
        "size": 0.25,  # sides 0.4, 0.4, 0.1, 0.1
        "smallest": 0.1,
        "truncated": 0.5,
        "covered": 0.25,  # half of the first lies in the second, and the other way round
        "difficult": 0.25,
        "objects": 4,
        "brightness": 0.2,
        "contrast": 0,
    }
    assert {key: pytest.approx(value, abs=1e-6) for key, value in expected.items()} == facts.values


def test_without_boxes_each_class_of_the_mask_is_an_object():
    mask = np.zeros((100, 100), dtype=np.uint8)
    mask[10:30, 20:60] = 2
    mask[0, 0] = 255
    facts = measure(replace(sample(), boxes=None, labels=None, difficult=None, mask=mask), CLASSES)
    assert facts.classes == ("dog",)
    assert facts.values["size"] == pytest.approx(np.sqrt(20 * 40) / 100)
    table = facts_table([facts, measure(sample([[0, 0, 10, 10]]), CLASSES)])  # boxes elsewhere: regions do not compare
    assert np.isnan(table["size"][0])
    assert table["objects"].tolist()[1] == 1


def test_rarity_is_the_share_of_the_rarest_class_in_the_data():
    box = [0, 0, 10, 10]
    facts = [measure(sample([box] * len(labels), labels), CLASSES) for labels in ([0, 0, 0], [0, 1], [])]
    assert facts_table(facts)["rarity"].tolist()[:2] == pytest.approx([0.8, 0.2])
    assert np.isnan(facts_table(facts)["rarity"][2])


def test_only_the_outer_fifths_are_unusual():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.permutation(50), "b": [0.0] * 30 + [1.0] * 8 + [np.nan] * 12})
    sides = outer_sides(table)
    assert (sides["a"] == np.where(table["a"] < 10, -1, np.where(table["a"] >= 40, 1, 0))).all()
    assert (sides["b"] != 0).sum() == 0  # 8 of 38 are more than a fifth
    assert outer_sides(table.assign(b=[0.0] * 31 + [1.0] * 7 + [np.nan] * 12))["b"].sum() == 7


def test_correlations_are_scipys_and_shown_after_holm():
    rng = np.random.default_rng(0)
    score = rng.normal(size=40)
    table = pd.DataFrame({key: rng.normal(size=40) for key in ("smallest", "truncated", "covered", "objects")})
    table["size"] = score + 0.5 * rng.normal(size=40)
    table["contrast"] = np.where(rng.random(40) < 0.2, np.nan, -score)
    table["difficult"] = 0.0
    for key in ("rarity", "brightness"):
        table[key] = np.nan
    result = correlations(table, pd.DataFrame({"score": score, "seg": -score})).set_index("key")
    assert set(result.index) == {"smallest", "truncated", "covered", "objects", "size", "contrast"}
    for key, row in result.iterrows():
        both = table[key].notna()
        expected = stats.spearmanr(table[key][both], score[both])
        assert (row["rho"], row["p"], row["n"]) == (expected.statistic, expected.pvalue, both.sum())
        assert row["rho_seg"] == pytest.approx(-row["rho"])
    adjusted = sorted(result["p"])
    passed = [p * (len(adjusted) - place) <= 0.05 for place, p in enumerate(adjusted)]
    limit = passed.index(False)
    assert sorted(result["p"][result["shown"]]) == adjusted[:limit]
    assert {"size", "contrast"} <= set(result.index[result["shown"]])
    few = correlations(table[:9], pd.DataFrame({"score": score[:9]}))
    assert few["p"].min() < 0.001
    assert not few["shown"].any()


class FindsLargeObjects:
    """Stands in for a model: finds an object only if its side is at least a third of the image."""

    classes = CLASSES

    def __init__(self, samples):
        self._truth = {each.image.tobytes(): each for each in samples}

    def predict(self, images):
        for image in images:
            truth = self._truth[image.tobytes()]
            large = (truth.boxes[:, 2] - truth.boxes[:, 0]) >= 33
            scores = torch.full((int(large.sum()),), 0.7)
            boxes = torch.from_numpy(truth.boxes[large])
            yield {"det": {"boxes": boxes, "labels": torch.from_numpy(truth.labels[large]), "scores": scores}}


def test_a_planted_reason_is_named_and_marked():
    rng = np.random.default_rng(0)
    samples = []
    for number in range(40):
        sides = rng.uniform(10, 60) + rng.uniform(0, 5, 3)
        corner = rng.uniform(2, 30, (3, 2))
        image = sample(np.concatenate([corner, corner + sides[:, None]], axis=1), name=f"image {number}")
        noise = rng.integers(0, 256, image.image.shape, dtype=np.uint8)
        samples.append(replace(image, image=noise))
    shown = gallery(FindsLargeObjects(samples), samples, number=3)
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


class FindsNothing:
    """Stands in for a model that sees background only, in boxes and in masks."""

    classes = CLASSES

    def __init__(self, masks=False):
        self._masks = masks

    def predict(self, images):
        for image in images:
            seen = torch.zeros(image.shape[:2], dtype=torch.int64)
            yield {"det": found([], []), **({"seg": seen} if self._masks else {})}


class FindsShares(FindsNothing):
    """Stands in for a model that finds the first of an image's objects, and a false one in image ``wrong``."""

    def __init__(self, samples):
        super().__init__()
        self._truth = {each.image.tobytes(): each for each in samples}

    def predict(self, images):
        for image in images:
            truth = self._truth[image.tobytes()]
            boxes = [[0, 0, 9, 9]] if truth.image_id == "wrong" else truth.boxes[:1].tolist()
            yield {"det": found(boxes, [0.9] * len(boxes))}


def images_of(*numbers, names=None):
    """Return an image for each number of boxes, each of another light."""
    boxes = [[[20.0 * n, 0.0, 20.0 * n + 15, 15.0] for n in range(number)] for number in numbers]
    return [sample(each, value=10 + n, name=names[n] if names else str(n)) for n, each in enumerate(boxes)]


def test_the_best_images_are_not_the_empty_ones():
    samples = images_of(0, 0, 0, 4, 1, 3, 2)  # an image of n boxes scores 2 / (n + 1), an empty one 1
    shown = gallery(FindsShares(samples), samples, number=2)
    assert [image.image_id for image in shown.best] == ["4", "6"]
    assert [image.image_id for image in shown.worst] == ["3", "5"]
    assert shown.scores["score"].tolist() == pytest.approx([1, 1, 1, 0.4, 1, 0.5, 2 / 3])


def test_an_empty_image_may_be_among_the_worst():
    samples = images_of(0, 1, 2, 3, 4, names=["wrong", "a", "b", "c", "d"])
    shown = gallery(FindsShares(samples), samples, number=2)
    assert [image.image_id for image in shown.worst] == ["wrong", "d"]
    assert [image.image_id for image in shown.best] == ["a", "b"]


def test_where_few_images_have_an_object_the_empty_ones_are_ranked_too():
    samples = images_of(0, 0, 0, 4, 1, 3)
    shown = gallery(FindsShares(samples), samples, number=2)
    assert {image.score for image in shown.best} == {1.0}
    assert [image.image_id for image in shown.best] == ["0", "1"]
    assert [image.image_id for image in shown.worst] == ["3", "5"]


def test_a_class_in_a_mask_is_an_object_but_not_background_or_void():
    masks = [np.zeros((100, 100), dtype=np.uint8) for _ in range(5)]
    masks[1][0, 0] = 255
    for number, rows in ((2, 10), (3, 20), (4, 1)):
        masks[number][:rows] = 1
    samples = [replace(each, mask=mask) for each, mask in zip(images_of(0, 0, 0, 0, 0), masks, strict=True)]
    shown = gallery(FindsNothing(masks=True), samples, number=1)
    assert [image.image_id for image in shown.best] == ["4"]
    assert [image.image_id for image in shown.worst] == ["3"]


def test_a_mask_that_the_model_does_not_predict_makes_no_object():
    mask = np.ones((100, 100), dtype=np.uint8)
    samples = images_of(0, 2, 1, 3)
    samples[0] = replace(samples[0], mask=mask)
    assert gallery(FindsShares(samples), samples, number=1).best[0].image_id == "2"


@pytest.fixture(scope="module")
def trained():
    data = {"dataset": {"name": "shapes", "num_images": 48, "image_size": 64}, "image_size": 64}
    model = mtv.build_model({"model": {"backbone": "test_resnet", "num_classes": {"seg": 6, "det": 5}}, "data": data})
    samples = mtv.build_dataset({"data": data}, split="val")
    model.classes = samples.classes
    return model, samples


def test_a_model_and_its_data_give_best_and_worst_with_small_pictures(trained):
    model, samples = trained
    shown = gallery(model, samples, number=20)
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
            assert picture.width > 3 * 192
        assert len(image.picture) < 60_000
    own = next(each for each in samples if each.image_id == shown.best[0].image_id)
    (prediction,) = model.predict([own.image])
    assert shown.best[0].scores["seg"] == pytest.approx(mask_miou(prediction["seg"], own.mask))


def test_only_images_annotated_for_all_tasks_are_ranked_and_nobody_looked_is_not_empty(trained):
    model, samples = trained
    changed = [replace(each, mask=None) if number < 3 else each for number, each in enumerate(samples)]
    changed[3] = replace(changed[3], boxes=None, labels=None, difficult=None)
    shown = gallery(model, changed, number=20)
    assert shown.scores["score"].isna().tolist() == [True] * 4 + [False] * 8
    assert shown.scores["det"].notna().tolist() == [True] * 3 + [False] + [True] * 8


def test_one_task_alone_is_scored(trained):
    model, samples = trained
    masks = gallery(model, [replace(each, boxes=None, labels=None, difficult=None) for each in samples], number=1)
    assert (masks.score_threshold, set(masks.best[0].scores)) == (None, {"seg"})
    boxes = gallery(model, [replace(each, mask=None) for each in samples][:1], number=1)
    assert set(boxes.best[0].scores) == {"det"}
    assert boxes.worst == ()  # the only image is the best


def test_nothing_to_score_is_one_sentence(trained):
    model, samples = trained
    bare = [replace(each, mask=None, boxes=None, labels=None, difficult=None) for each in samples]
    with pytest.raises(mtv.DataError, match="no image is annotated"):
        gallery(model, bare)
    with pytest.raises(ValueError, match="number: expected at least 1, got 0"):
        gallery(model, samples, number=0)
