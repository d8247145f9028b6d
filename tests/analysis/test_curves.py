import math
from itertools import pairwise

import numpy as np
import pytest
from box_columns import columns, crowded, found, there
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_curve

from mtvision.analysis.curves import precision_recall_points, score_curves, thinned
from mtvision.analysis.detections import match_objects, object_outcomes
from tasks_det.scored_boxes import CLASSES, evaluate, random_case

SQUARE = (0, 0, 10, 10)


def all_found(seed, count=40, false=60):
    """Objects of two classes in one row, each found, and false detections elsewhere; scores tie."""
    generator = np.random.default_rng(seed)
    labels, scores = generator.integers(0, 2, count + false), generator.integers(0, 12, count + false) / 12
    places = [(20 * number, 0, 20 * number + 10, 10) for number in range(count + false)]
    objects = there(*((0, places[number], labels[number]) for number in range(count)))
    detections = found(*((0, places[number], labels[number], scores[number]) for number in range(count + false)))
    return detections, objects, np.arange(count + false) < count


@pytest.mark.parametrize("seed", range(3))
def test_curves_are_scikit_learns_where_every_object_is_detected(seed):
    detections, objects, true = all_found(seed)
    curves = score_curves(detections, objects, 2)
    everything = np.ones(len(true), dtype=bool)
    for curve, rows in zip(
        (curves.overall, *curves.per_class), (everything, *(detections.labels == np.array([[0], [1]]))), strict=True
    ):
        precision, recall, thresholds = precision_recall_curve(true[rows], detections.scores[rows])
        np.testing.assert_array_equal(curve.thresholds, thresholds[::-1])
        np.testing.assert_allclose(curve.precision, precision[-2::-1])
        np.testing.assert_allclose(curve.recall, recall[-2::-1])
        with np.errstate(invalid="ignore"):
            harmonic = 2 * curve.precision * curve.recall / (curve.precision + curve.recall)
        np.testing.assert_allclose(curve.f1, np.nan_to_num(harmonic))


@pytest.mark.parametrize("seed", range(4))
def test_the_best_threshold_is_that_of_the_protocol_lrp(seed):
    predictions, truths = random_case(seed, num_images=6)
    curves = score_curves(*columns(predictions, truths), CLASSES)
    result = evaluate("lrp", predictions, truths).per_class
    np.testing.assert_allclose([curve.best.value for curve in curves.per_class], result["f1"])
    np.testing.assert_array_equal([curve.best.threshold for curve in curves.per_class], result["f1_threshold"])
    for curve in curves.per_class:
        if curve.best.row >= 0:
            assert (curve.f1[curve.best.row], curve.thresholds[curve.best.row]) == (
                curve.f1.max(),
                curve.best.threshold,
            )


def test_overall_is_all_classes_together():
    detections, objects = columns(*random_case(1))
    matches, curves = match_objects(detections, objects), score_curves(detections, objects, CLASSES)
    count = np.count_nonzero(~objects.difficult)
    assert curves.overall.num_objects == sum(curve.num_objects for curve in curves.per_class) == count
    assert curves.overall.thresholds.tolist() == sorted(set(detections.scores.tolist()), reverse=True)
    for threshold, precision, recall, f1 in zip(*curves.overall[:4], strict=True):
        kept = detections.scores >= threshold
        true, false = matches.true[kept].sum(), matches.false[kept].sum()
        assert (precision, recall) == pytest.approx((true / (true + false), true / count))
        assert f1 == pytest.approx(2 * true / (true + false + count))


def test_a_threshold_at_which_only_ignored_detections_are_kept_has_no_precision():
    objects = there((0, SQUARE, 0, True), (0, (50, 0, 60, 10), 0))
    curve = score_curves(found((0, SQUARE, 0, 0.9), (0, (50, 0, 60, 10), 0, 0.4)), objects, 1).overall
    np.testing.assert_array_equal(curve.precision, [np.nan, 1])
    assert (curve.recall.tolist(), curve.f1.tolist(), tuple(curve.best)) == ([0, 1], [0, 1], (0.4, 1, 1))
    assert precision_recall_points(curve).tolist() == [[1, 1]]


def test_without_objects_or_detections():
    curve = score_curves(found((0, SQUARE, 0, 0.9)), there(), 1).per_class[0]
    assert curve.precision.tolist() == [0]
    assert np.isnan([*curve.recall, *curve.f1, *curve.best[:2]]).all()
    assert precision_recall_points(curve).shape == (0, 2)
    curve = score_curves(found(), there((0, SQUARE, 0)), 1).per_class[0]
    assert (len(curve.thresholds), math.isnan(curve.best.threshold), curve.best.value) == (0, True, 0)
    assert score_curves(found(), there(), 0).per_class == ()


def stairs(corners, between):
    """A staircase down from (0, 1) with so many points between two corners; the points, and where the corners are."""
    generator = np.random.default_rng(0)
    across, down = (np.append(0, generator.random(corners).cumsum()) for _ in range(2))
    at = np.stack([np.repeat(across, 2)[1:], np.repeat(1 - down / down[-1], 2)[:-1]], axis=1)
    at[:, 0] /= across[-1]
    share = np.linspace(0, 1, between + 2)[:-1, None]
    edges = [start + share * (end - start) for start, end in pairwise(at)]
    return np.concatenate([*edges, at[-1:]]), np.arange(len(at)) * (between + 1)


@pytest.mark.parametrize("between", [0, 1, 50])
def test_no_corner_is_lost_and_nothing_else_is_kept(between):
    points, corners = stairs(12, between)
    assert thinned(points, len(corners)).tolist() == corners.tolist()
    assert thinned(points, 1000).tolist() == corners.tolist()
    fewer = thinned(points, len(corners) - 4)
    assert len(fewer) == len(corners) - 4
    assert set(fewer) < set(corners)


def test_rounding_makes_no_corner_of_an_edge_parallel_to_the_line():
    points = np.array([[0, 0], [0.1, 0.3], [0.4, 0.3 + 1e-12], [0.9, 0.3], [1, 0]])
    assert thinned(points, 5).tolist() == [0, 1, 3, 4]


def distances(points, kept):
    """The distance of each point from the polyline of those kept."""
    ends = points[kept]
    nearest = np.full(len(points), np.inf)
    for start, end in pairwise(ends):
        way = end - start
        share = np.clip((points - start) @ way / max(way @ way, 1e-300), 0, 1)
        nearest = np.minimum(nearest, np.linalg.norm(points - start - share[:, None] * way, axis=1))
    return nearest


def test_a_long_curve_looks_the_same_with_few_points():
    detections, objects = crowded(0, num_images=400)
    curve = score_curves(detections, objects, 3).overall
    points = np.stack([curve.recall, curve.precision], axis=1)
    kept = thinned(points, 200)
    assert len(points) > 10 * len(kept)
    assert distances(points, kept).max() < 0.003
    np.testing.assert_array_equal(precision_recall_points(curve), points[kept])
    assert len(precision_recall_points(curve, 7)) == 7


eighths = st.integers(0, 8).map(lambda value: value / 8)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(eighths, eighths), max_size=20), st.integers(2, 25))
def test_thinned_points_are_ends_and_what_the_line_needs(rows, most):
    points = np.array(rows).reshape(-1, 2)
    kept = thinned(points, most)
    assert len(kept) <= most
    assert (np.diff(kept) > 0).all()
    if len(points) > 1:
        assert (kept[0], kept[-1]) == (0, len(points) - 1)
        assert len(kept) == most or distances(points, kept).max() < 1e-8


def test_points_that_cannot_be_thinned():
    assert [thinned(np.zeros((count, 2)), 2).tolist() for count in (0, 1, 2, 3)] == [[], [0], [0, 1], [0, 2]]
    with pytest.raises(ValueError, match="most: expected at least 2 points, the ends, got 1"):
        thinned(np.zeros((3, 2)), 1)
    with pytest.raises(ValueError, match="points: expected finite numbers"):
        thinned(np.array([[0.0, np.nan]]), 2)


def test_outcomes_by_hand():
    objects = there((0, SQUARE, 0), (0, (20, 0, 30, 10), 0), (1, SQUARE, 1, True), (1, SQUARE, 0))
    detections = found((0, (0, 0, 10, 8), 0, 0.9), (0, SQUARE, 0, 0.8), (1, SQUARE, 1, 0.7), (1, (0, 0, 10, 5), 0, 0.2))
    outcomes = object_outcomes(detections, objects, score_threshold=0.2)
    assert outcomes.found.tolist() == [True, False, False, True]
    assert outcomes.counted.tolist() == [True, True, False, True]
    assert outcomes.detection.tolist() == [0, -1, -1, 3]  # the better score, not the better box
    np.testing.assert_allclose(outcomes.overlap, [0.8, np.nan, np.nan, 0.5])
    assert object_outcomes(detections, objects, score_threshold=0.3).found.tolist() == [True, False, False, False]
    stricter = object_outcomes(detections, objects, score_threshold=0.2, least_overlap=0.75)
    assert stricter.found.tolist() == [True, False, False, False]


@pytest.mark.parametrize("seed", range(3))
def test_the_share_found_is_the_recall_at_every_threshold(seed):
    detections, objects = columns(*random_case(seed))
    for label, curve in enumerate(score_curves(detections, objects, CLASSES).per_class[:-1]):
        for threshold, recall in zip(curve.thresholds, curve.recall, strict=True):
            outcomes = object_outcomes(detections, objects, score_threshold=threshold)
            assert outcomes.found[outcomes.counted & (objects.labels == label)].mean() == pytest.approx(recall)
            assert (outcomes.overlap[outcomes.found] >= 0.5).all()
            assert (detections.labels[outcomes.detection[outcomes.found]] == objects.labels[outcomes.found]).all()


def test_matches_at_a_threshold_are_those_of_the_detections_above_it():
    detections, objects = columns(*random_case(0))
    kept = detections.scores >= 0.5
    everything, above = match_objects(detections, objects), match_objects(detections.take(kept), objects)
    for column, same in zip(everything, above, strict=True):
        np.testing.assert_array_equal(column[kept], same)


@pytest.mark.parametrize("least_overlap", [0.0, 1.01, float("nan")])
def test_overlaps_that_cannot_be(least_overlap):
    with pytest.raises(ValueError, match="least_overlap: expected a fraction above 0 and at most 1"):
        score_curves(found(), there(), 1, least_overlap=least_overlap)


def test_no_threshold_is_no_number():
    with pytest.raises(ValueError, match="score_threshold: expected a number, got NaN"):
        object_outcomes(found(), there(), score_threshold=math.nan)
