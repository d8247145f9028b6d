import numpy as np
import pytest
import torch
from pycocotools import mask as reference
from torchvision.ops import box_iou

from mtvision.ops.average_precision import (
    ThresholdTable,
    area_under_curve,
    eleven_point,
    hundred_one_point,
    optimal_f1,
    optimal_lrp,
    precision_at_true,
    threshold_table,
)
from mtvision.ops.detection_matching import Pairs, best_first, match_best, match_greedily, overlapping_pairs


def boxes(generator, count):
    low = generator.random((count, 2)) * 50
    return np.concatenate([low, low + 1 + generator.random((count, 2)) * 50], axis=1)


def test_overlap_is_torchvisions_within_cells():
    generator = np.random.default_rng(0)
    found, truth = boxes(generator, 40), boxes(generator, 20)
    cells, truth_cells = generator.integers(0, 4, 40), np.sort(generator.integers(0, 4, 20))
    pairs = overlapping_pairs(found, cells, truth, truth_cells, np.zeros(20, dtype=bool), 0.1)
    wanted = box_iou(torch.from_numpy(found), torch.from_numpy(truth)).numpy()
    wanted[cells[:, None] != truth_cells] = 0
    rows, columns = np.nonzero(wanted >= 0.1)
    assert (pairs.detection.tolist(), pairs.object.tolist()) == (rows.tolist(), columns.tolist())
    np.testing.assert_allclose(pairs.overlap, wanted[rows, columns])


def test_overlap_with_a_crowd_is_pycocotools():
    generator = np.random.default_rng(1)
    found, truth, crowd = boxes(generator, 30), boxes(generator, 10), generator.random(10) < 0.5
    pairs = overlapping_pairs(found, np.zeros(30, dtype=int), truth, np.zeros(10, dtype=int), crowd, 1e-9)
    sides = [np.concatenate([value[:, :2], value[:, 2:] - value[:, :2]], axis=1) for value in (found, truth)]
    table = np.zeros((30, 10))
    table[pairs.detection, pairs.object] = pairs.overlap
    np.testing.assert_allclose(table, reference.iou(*sides, crowd.astype(int).tolist()), atol=1e-12)


def test_boxes_without_area_overlap_nothing():
    thin = np.array([[1.0, 1.0, 1.0, 5.0]])
    cell = np.zeros(1, dtype=int)
    for crowd in (False, True):
        assert len(overlapping_pairs(thin, cell, thin, cell, np.array([crowd]), 1e-9).overlap) == 0


def test_best_first_keeps_the_order_of_equal_scores():
    order, rank = best_first(np.array([1, 0, 1, 1]), np.array([0.5, 0.1, 0.9, 0.5]))
    assert (order.tolist(), rank.tolist()) == ([1, 2, 0, 3], [0, 0, 1, 2])


def greedy(pairs, num_detections, *, ignored=(), crowd=(), thresholds=(0.5,), num_objects=2):
    flags = np.zeros((2, num_objects), dtype=bool)
    flags[0, list(ignored)] = flags[1, list(crowd)] = True
    columns = [np.array(column) for column in zip(*pairs, strict=True)]
    cells = np.zeros(num_detections, dtype=int)
    matched = match_greedily(Pairs(*columns), cells, np.array(thresholds), (flags[0] | flags[1])[:, None], flags[1])
    return matched[:, 0].T.tolist()


def test_greedy_matching_by_hand():
    # of equal overlaps the later object; the second detection takes what is left
    assert greedy([(0, 0, 0.7), (0, 1, 0.7), (1, 0, 0.6), (1, 1, 0.9)], 2) == [[1, 0]]
    # an ignored object only where no counted one is free, however much it is overlapped
    assert greedy([(0, 0, 0.9), (0, 1, 0.6), (1, 0, 0.9), (1, 1, 0.8)], 3, ignored=[0]) == [[1, 0, -1]]
    # an ignored object is taken once, a crowd any number of times
    assert greedy([(0, 0, 0.9), (1, 0, 0.8), (2, 0, 0.7)], 3, ignored=[0]) == [[0, -1, -1]]
    assert greedy([(0, 0, 0.9), (1, 0, 0.8), (2, 0, 0.7)], 3, crowd=[0]) == [[0, 0, 0]]
    # each threshold for itself: the threshold itself is enough
    assert greedy([(0, 0, 0.5), (1, 0, 0.9)], 2, thresholds=(0.5, 0.75, 1.0)) == [[0, -1], [-1, 0], [-1, -1]]
    assert greedy([(0, 0, 1.0)], 1, thresholds=(1.0,)) == [[0]]


def test_voc_matching_by_hand():
    # the earlier of equal overlaps; a second claim is no first one although object 1 is free
    pairs = Pairs(np.array([0, 0, 2, 2]), np.array([0, 1, 0, 1]), np.array([0.7, 0.7, 0.8, 0.6]))
    claimed, first = match_best(pairs, 3)
    assert (claimed.tolist(), first.tolist()) == ([0, -1, 0], [True, False, False])


def test_average_precision_by_hand():
    true = np.array([True, False, True, True, False])
    precision = precision_at_true(true, ~true)
    np.testing.assert_allclose(precision, [1, 3 / 4, 3 / 4])
    assert area_under_curve(precision, 4) == pytest.approx((1 + 0.75 + 0.75) / 4)
    assert eleven_point(precision, 4) == pytest.approx((3 * 1 + 5 * 0.75) / 11)  # recalls to 0.2, to 0.7
    assert hundred_one_point(precision, 4) == pytest.approx((26 * 1 + 50 * 0.75) / 101)  # recalls to 0.25, to 0.75


@pytest.mark.parametrize("rule", [area_under_curve, eleven_point, hundred_one_point])
def test_average_precision_without_objects_and_without_detections(rule):
    assert np.isnan(rule(np.zeros(0), 0))
    assert rule(np.zeros(0), 3) == 0
    assert rule(np.ones(3), 3) == 1


def test_a_threshold_keeps_all_detections_of_its_score():
    scores, true = np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, False, True, False])
    table = threshold_table(scores, true, np.array([False, True, False, False]), np.array([0.75, 0, 0.5, 0]))
    assert table.scores.tolist() == [0.9, 0.5, 0.1]
    assert (table.true.tolist(), table.false.tolist()) == ([1, 2, 2], [0, 1, 1])  # the last detection is ignored
    assert table.error.tolist() == [0.25, 0.75, 0.75]


def test_thresholds_where_nothing_can_be_found():
    nothing = ThresholdTable(*(np.zeros(0, dtype=kind) for kind in (float, int, int, float)))
    false = ThresholdTable(np.array([0.9]), np.array([0]), np.array([3]), np.array([0.0]))
    for table in (nothing, false):
        np.testing.assert_equal(tuple(optimal_lrp(table, 2, 0.5)), (np.nan, 1.0, -1))
        np.testing.assert_equal(tuple(optimal_f1(table, 2)), (np.nan, 0.0, -1))
        np.testing.assert_equal(tuple(optimal_lrp(table, 0, 0.5)), (np.nan, np.nan, -1))
        np.testing.assert_equal(tuple(optimal_f1(table, 0)), (np.nan, np.nan, -1))
