"""Detections in places of fixed number are those that the task selects image by image."""

import pytest
import torch
from chosen_boxes import assert_selected, random_points, selection
from hypothesis import given, settings
from hypothesis import strategies as st

from mtvision.errors import ConfigError
from mtvision.exporting.onnx_suppression import suppress_in_onnx
from mtvision.tasks.batched_selection import rule_of, select_batch, suppress_flat

RULES = ("class_wise", "class_agnostic", "none")


@given(
    st.integers(0, 10**6),
    st.sampled_from(RULES),
    st.integers(1, 60),
    st.integers(1, 40),
    st.sampled_from([0.0, 0.3, 0.9]),
    st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_says_what_the_eager_selection_says(seed, nms, candidates, max_detections, score_threshold, num_classes):
    chosen = selection(nms, candidates=candidates, max_detections=max_detections, score_threshold=score_threshold)
    boxes, scores, levels = random_points(seed, num_classes=num_classes)
    for suppress in (suppress_flat, suppress_in_onnx):
        found = select_batch(boxes, scores, levels, 3, chosen, suppress)
        assert_selected(found, boxes, scores, levels, chosen)


@pytest.mark.parametrize("nms", RULES)
def test_of_equal_scores_the_first_comes_first(nms):
    """With room for all candidates: which of equal ones `topk` takes at a limit is its own affair."""
    chosen = selection(nms, candidates=58, max_detections=58)
    boxes, scores, levels = random_points(5, tied=True)
    assert_selected(select_batch(boxes, scores, levels, 3, chosen, suppress_flat), boxes, scores, levels, chosen)


def test_three_boxes_by_hand():
    """The second overlaps the first by 3/4 and goes; the third is of another class; the last scores too little."""
    boxes = torch.tensor([[[0.0, 0, 4, 4], [0, 0, 4, 3], [0, 0, 4, 4], [6, 6, 8, 8]]])
    scores = torch.tensor([[[0.9, 0.0], [0.8, 0.0], [0.0, 0.7], [0.2, 0.0]]])
    found = select_batch(
        boxes, scores, torch.zeros(4, dtype=torch.int64), 1, selection(max_detections=3), suppress_flat
    )
    assert found["count"].tolist() == [2]
    assert found["labels"].tolist() == [[0, 1, -1]]
    assert found["boxes"].tolist() == [[[0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 0, 0]]]
    torch.testing.assert_close(found["scores"], torch.tensor([[0.9, 0.7, 0.0]]))


def test_each_level_has_its_own_candidates():
    """Two boxes of the coarse level stay, though every box of the fine one scores more."""
    boxes = torch.tensor([[float(x), 0, x + 1, 1] for x in range(12)])[None]
    scores = torch.cat([torch.full((8, 1), 0.9), torch.full((4, 1), 0.5)])[None]
    levels = torch.tensor([0] * 8 + [1] * 4)
    found = select_batch(boxes, scores, levels, 2, selection(candidates=2, max_detections=5), suppress_flat)
    torch.testing.assert_close(found["scores"], torch.tensor([[0.9, 0.9, 0.5, 0.5, 0.0]]))


@pytest.mark.parametrize("images", [1, 4])
def test_images_without_anything_are_empty(images):
    boxes, scores, levels = random_points(0, images=images)
    found = select_batch(boxes, scores * 0, levels, 3, selection(), suppress_flat)
    assert found["count"].tolist() == [0] * images
    assert found["boxes"].shape == (images, 8, 4)


def test_nan_is_no_detection():
    boxes, scores, levels = random_points(0)
    found = select_batch(boxes, scores * float("nan"), levels, 3, selection(), suppress_flat)
    assert found["count"].tolist() == [0, 0, 0]


def test_images_do_not_suppress_each_other():
    boxes, scores, levels = random_points(1, images=1)
    twice = [torch.cat([each, each]) for each in (boxes, scores)]
    found = select_batch(*twice, levels, 3, selection(), suppress_flat)
    assert found["count"][0] == found["count"][1] > 0


def test_soft_suppression_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"soft.*class_wise, class_agnostic, none; export with postprocess='outside'"):
        rule_of(selection("soft").suppress)
