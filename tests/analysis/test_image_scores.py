"""Scores of single images against oracles."""

import numpy as np
import pytest
import torch
from analysis_by_hand import found
from sklearn.metrics import jaccard_score
from torchvision.ops import box_iou

from mtvision.analysis.image_scores import best_threshold, f1, mask_miou, match_boxes

NO_DIFFICULT = np.zeros(1, dtype=np.bool_)


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
