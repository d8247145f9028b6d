"""The bootstrap of scores: weights against repeated images, intervals against what they promise."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mtvision.analysis.bootstrap import paired_intervals, resample_weights
from mtvision.analysis.detections import Detections, Objects
from mtvision.analysis.resampled_scores import (
    ClassDetections,
    _objects_for_recalls,
    judge_detections,
    mean_of_classes,
    resampled_accuracy,
    resampled_average_precision,
    resampled_iou,
)
from mtvision.ops.average_precision import hundred_one_point
from mtvision.tasks.detection_protocols import CocoProtocol
from mtvision.tasks.segmentation_protocols import StandardProtocol

CLASSES = 3


def random_images(generator, num_images, *, most=4, false=6, difficult=0.2):
    """Boxes near the truth and false ones; scores tie between images and classes, never within a class of an image."""
    predictions, truths = [], []
    for _ in range(num_images):
        count = int(generator.integers(0, most + 1))
        low = generator.random((count, 2)) * 60
        boxes = np.concatenate([low, low + 8 + generator.random((count, 2)) * 40], axis=1)
        labels = generator.integers(0, CLASSES - 1, count)  # the last class is only predicted
        found = np.tile(boxes, (2, 1)) + generator.normal(size=(2 * count, 4)) * 2
        extra = generator.random((false, 2)) * 60
        found = np.concatenate([found, np.concatenate([extra, extra + 20], axis=1)])
        guesses = np.concatenate([np.tile(labels, 2), generator.integers(0, CLASSES, false)])
        scores = generator.permutation(len(found)) / 512
        predictions.append(
            {"boxes": torch.from_numpy(found), "labels": torch.from_numpy(guesses), "scores": torch.from_numpy(scores)}
        )
        marks = torch.from_numpy(generator.random(count) < difficult)
        truths.append({"boxes": torch.from_numpy(boxes), "labels": torch.from_numpy(labels), "difficult": marks})
    return predictions, truths


def judged(predictions, truths, classes=CLASSES):
    """Return the detections of images by class."""

    def columns(entries, last):
        image = np.repeat(np.arange(len(entries)), [len(entry["labels"]) for entry in entries])
        return image, *(torch.cat([entry[key] for entry in entries]).numpy() for key in ("boxes", "labels", last))

    found, there = Detections(*columns(predictions, "scores")), Objects(*columns(truths, "difficult"))
    return judge_detections(found, there, len(truths), classes)


def by_protocol(predictions, truths, classes=CLASSES):
    evaluator = CocoProtocol(classes)
    evaluator.update(predictions, truths)
    return evaluator.compute()


def assert_as_the_protocol(scores, result):
    """Compare scores ``(T, C)`` with the numbers of a protocol."""
    np.testing.assert_allclose(scores[0], result.per_class["ap50"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(scores[5], result.per_class["ap75"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(scores.mean(axis=0), result.per_class["ap"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(mean_of_classes(scores[0]), result.metrics["ap50"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(mean_of_classes(scores.mean(axis=0)), result.metrics["ap"], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [{}, {"difficult": 0.0}, {"difficult": 0.6}, {"false": 420}],
    ids=["plain", "no_crowds", "crowds", "over_100"],
)
def test_average_precision_with_weights_of_1_is_the_protocol_coco(options):
    predictions, truths = random_images(np.random.default_rng(1), 12, **options)
    scores = resampled_average_precision(judged(predictions, truths), np.ones((1, 12), dtype=np.int32))
    result = by_protocol(predictions, truths)
    assert_as_the_protocol(scores[0], result)
    assert 0 < result.metrics["ap"] < 1
    assert np.isnan(result.per_class["ap"][-1])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 4), min_size=1, max_size=8))
def test_a_weight_is_that_many_copies_of_the_image(seed, weights):
    predictions, truths = random_images(np.random.default_rng(seed), len(weights))
    scores = resampled_average_precision(judged(predictions, truths), np.array([weights], dtype=np.int32))
    copied = [
        [entry for entry, n in zip(entries, weights, strict=True) for _ in range(n)]
        for entries in (predictions, truths)
    ]
    assert_as_the_protocol(scores[0], by_protocol(*copied))


def test_recalls_are_reached_by_as_many_objects_as_in_the_protocol():
    """Whether k of n objects are a recall of 0.29 hangs on the last digit of k / n, and not on that of 0.29 n."""
    totals = np.arange(1, 1001)
    expected = [np.searchsorted(np.arange(n + 1) / n, np.linspace(0, 1, 101)) for n in totals]
    np.testing.assert_array_equal(_objects_for_recalls(totals), expected)
    assert (np.ceil(np.linspace(0, 1, 101) * totals[:, None]) != expected).any()
    for found in (1, 7, 29, 100):
        flags = np.ones((10, found), dtype=np.bool_)
        one = ClassDetections(np.arange(found), flags, ~flags, np.ones(100, dtype=np.int64))
        scores = resampled_average_precision([one], np.ones((1, 100), dtype=np.int32))
        assert scores[0, 0, 0] == pytest.approx(hundred_one_point(np.ones(found), 100), abs=1e-12)


def test_blocks_do_not_change_the_scores(monkeypatch):
    predictions, truths = random_images(np.random.default_rng(2), 9)
    weights = resample_weights(9, 20, np.random.default_rng(3))
    counts = np.random.default_rng(4).integers(0, 50, (9, 2))
    classes = judged(predictions, truths)
    whole = resampled_average_precision(classes, weights), resampled_iou(counts, counts, counts + 1, weights)
    monkeypatch.setattr("mtvision.analysis.resampled_scores._AT_ONCE", 100)
    parts = resampled_average_precision(classes, weights), resampled_iou(counts, counts, counts + 1, weights)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one, other)
    one_by_one = np.concatenate([resampled_average_precision(classes, row[None]) for row in weights])
    np.testing.assert_array_equal(whole[0], one_by_one)


def test_without_detections_or_objects():
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    box = {"boxes": torch.tensor([[0.0, 0.0, 9.0, 9.0]]), "labels": torch.tensor([0])}
    predictions = [{**nothing, "scores": torch.zeros(0)}] * 2
    truths = [{**box, "difficult": torch.tensor([False])}, {**nothing, "difficult": torch.zeros(0, dtype=torch.bool)}]
    scores = resampled_average_precision(judged(predictions, truths, 2), np.array([[1, 1], [0, 2]], dtype=np.int32))
    np.testing.assert_array_equal(scores[:, 0], [[0.0, np.nan], [np.nan, np.nan]])


def test_a_box_inside_out_is_neither_true_nor_false_as_in_the_protocol():
    box = torch.tensor([[0.0, 0.0, 9.0, 9.0]])
    truths = [{"boxes": box, "labels": torch.tensor([0]), "difficult": torch.tensor([False])}]
    both = torch.cat([torch.tensor([[9.0, 0.0, 0.0, 9.0]]), box])
    predictions = [{"boxes": both, "labels": torch.tensor([0, 0]), "scores": torch.tensor([0.9, 0.5])}]
    scores = resampled_average_precision(judged(predictions, truths, 1), np.ones((1, 1), dtype=np.int32))
    assert scores[0, 0, 0] == by_protocol(predictions, truths, 1).metrics["ap50"] == pytest.approx(1.0)


def test_masks_of_weighted_images_are_those_of_repeated_ones():
    generator = np.random.default_rng(5)
    seen = generator.integers(0, CLASSES, (6, 8, 8))
    truth = np.where(generator.random((6, 8, 8)) < 0.1, 255, generator.integers(0, CLASSES - 1, (6, 8, 8)))
    masks = [(torch.from_numpy(a), torch.from_numpy(b)) for a, b in zip(seen, truth, strict=True)]
    confusions = []
    for prediction, true in masks:
        evaluator = StandardProtocol(CLASSES)
        evaluator.update([prediction], [true])
        confusions.append(evaluator.state().numpy())
    common = np.stack([matrix.diagonal() for matrix in confusions])
    true, predicted = (np.stack([matrix.sum(axis=axis) for matrix in confusions]) for axis in (1, 0))
    weights = np.concatenate([np.ones((1, 6), dtype=np.int32), resample_weights(6, 4, generator)])
    iou, accuracy = resampled_iou(common, true, predicted, weights), resampled_accuracy(common, true, weights)
    for row, found, share in zip(weights, iou, accuracy, strict=True):
        evaluator = StandardProtocol(CLASSES)
        evaluator.update(*zip(*(pair for pair, n in zip(masks, row, strict=True) for _ in range(n)), strict=True))
        result = evaluator.compute()
        np.testing.assert_allclose(found, result.per_class["iou"], rtol=0, atol=1e-12)
        assert mean_of_classes(found) == pytest.approx(result.metrics["miou"], abs=1e-12)
        assert share == pytest.approx(result.metrics["pixel_accuracy"], abs=1e-12)


def test_weights_are_drawn_evenly_and_by_the_generator_alone():
    weights = resample_weights(50, 2000, np.random.default_rng(6))
    np.testing.assert_array_equal(weights, resample_weights(50, 2000, np.random.default_rng(6)))
    assert set(weights.sum(axis=1)) == {50}
    assert np.abs(weights.mean(axis=0) - 1).max() < 5 / np.sqrt(2000)  # five standard errors of a variance of 0.98
    shares = np.bincount(weights.ravel(), minlength=3)[:3] / weights.size
    np.testing.assert_allclose(shares, stats.binom.pmf([0, 1, 2], 50, 1 / 50), atol=0.01)


def test_intervals_hold_the_true_difference_in_95_percent_of_data_sets():
    """A mean of paired values, with a true difference of 0.3: of 200 data sets, as many as a binomial allows."""
    generator = np.random.default_rng(7)
    alone = together = both = 0
    for _ in range(200):
        shared = generator.normal(size=60)
        values = shared[:, None] + [0.0, 0.3, 0.3] + 0.5 * generator.normal(size=(60, 3))
        drawn = resample_weights(60, 300, generator) @ values / 60
        means = values.mean(axis=0)
        found = paired_intervals(means[1:] - means[0], drawn[:, 1:] - drawn[:, :1])
        alone += found.low[0] <= 0.3 <= found.high[0]
        together += np.all((found.low_together <= 0.3) & (found.high_together >= 0.3))
        both += np.all((found.low <= 0.3) & (found.high >= 0.3))
    least, most = stats.binom.ppf([1e-3, 1 - 1e-3], 200, 0.95)
    assert least <= alone <= most
    assert least <= together <= most
    assert both < together


def test_equal_runs_differ_by_exactly_nothing():
    found = paired_intervals(np.zeros(2), np.zeros((9, 2)))
    np.testing.assert_array_equal(found.low, 0)
    np.testing.assert_array_equal(found.high_together, 0)
    assert np.isnan(found.share).all()
    assert not found.shown.any()


def test_what_does_not_exist_is_nan_and_does_not_spoil_the_rest():
    resampled = np.array([[1.0, np.nan, np.nan], [2.0, np.nan, -1.0], [3.0, np.nan, 1.0]])
    found = paired_intervals(np.array([2.0, np.nan, -1.0]), resampled)
    assert np.isnan(found.low).tolist() == [False, True, False]
    np.testing.assert_array_equal(found.share, [1.0, np.nan, 0.5])
    assert found.shown.tolist() == [True, False, False]
