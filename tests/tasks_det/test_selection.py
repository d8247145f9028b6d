"""Which boxes become detections."""

import pytest
import torch

from mtvision.registries import SUPPRESSIONS
from mtvision.tasks.selection import Selection, level_index, select_detections


def selection_of(nms="none", **options):
    defaults = {"score_threshold": 0.0, "nms_threshold": 0.5, "max_detections": 1000, "candidates": 1000}
    return Selection(suppress=SUPPRESSIONS.build(nms), **{**defaults, **options})


def scattered(num, generator):
    corners = torch.rand(num, 2, generator=generator) * 100
    return torch.cat([corners, corners + 5 + torch.rand(num, 2, generator=generator) * 40], dim=1)


def test_levels_begin_where_the_stride_changes():
    strides = torch.tensor([8.0] * 6 + [16.0] * 3 + [32.0])
    points = torch.stack([torch.zeros(10), torch.zeros(10), strides], dim=1)
    assert level_index(points).tolist() == [0] * 6 + [1] * 3 + [2]
    assert level_index(points[:0]).tolist() == []


def test_candidates_are_the_best_of_each_level():
    generator = torch.Generator().manual_seed(0)
    boxes, scores = scattered(60, generator), torch.rand(60, 3, generator=generator)
    levels = torch.tensor([0] * 40 + [1] * 15 + [2] * 5)
    found = select_detections(boxes, scores, levels, selection_of(candidates=8, score_threshold=0.1))
    expected = []
    for level in range(3):
        rows = [
            (scores[point, label].item(), label)
            for point in (levels == level).nonzero()[:, 0].tolist()
            for label in range(3)
            if scores[point, label] >= 0.1
        ]
        expected += sorted(rows, reverse=True)[:8]
    assert list(zip(found["scores"].tolist(), found["labels"].tolist(), strict=True)) == sorted(expected, reverse=True)


def test_boxes_without_area_and_low_scores_are_left_out():
    boxes = torch.tensor([[0.0, 0, 10, 10], [5, 5, 5, 9], [20, 20, 30, 30]])
    scores = torch.tensor([[0.5], [0.9], [0.1]])
    found = select_detections(boxes, scores, torch.zeros(3, dtype=torch.int64), selection_of(score_threshold=0.2))
    assert found["boxes"].tolist() == [[0, 0, 10, 10]]


@pytest.mark.parametrize(
    ("nms", "left"), [("none", [0, 1, 2]), ("class_wise", [0, 2]), ("class_agnostic", [0]), ("soft", [0, 2, 1])]
)
def test_each_suppression_treats_overlaps_in_its_own_way(nms, left):
    """Three boxes at IoU 0.8 of the first; the second is of its class, the third of another."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 8, 10]])
    scores = torch.tensor([[0.9, 0.0], [0.8, 0.0], [0.0, 0.7]])
    found = select_detections(boxes, scores, torch.zeros(3, dtype=torch.int64), selection_of(nms, score_threshold=0.05))
    order = [boxes.tolist().index(box) for box in found["boxes"].tolist()]
    assert order == left
    assert (found["scores"].diff() <= 0).all()


@pytest.mark.parametrize("nms", SUPPRESSIONS.names())
def test_the_number_of_detections_is_limited_and_nothing_gives_nothing(nms):
    generator = torch.Generator().manual_seed(1)
    boxes, scores = scattered(50, generator), torch.rand(50, 2, generator=generator)
    levels = torch.zeros(50, dtype=torch.int64)
    found = select_detections(boxes, scores, levels, selection_of(nms, max_detections=7))
    assert len(found["boxes"]) == len(found["scores"]) == len(found["labels"]) == 7
    empty = select_detections(boxes, scores, levels, selection_of(nms, score_threshold=1.0))
    assert [tuple(empty[key].shape) for key in ("boxes", "scores", "labels")] == [(0, 4), (0,), (0,)]
