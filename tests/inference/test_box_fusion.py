"""Boxes of several views: fused as the paper says, suppressed as torchvision does, and none lost."""

import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import batched_nms

from mtvision.errors import MtvisionError
from mtvision.tasks.box_fusion import fuse_weighted, require_fusion, suppress, without_cut

SIZE = (100, 200)


def found(*rows):
    """Return detections of rows (x1, y1, x2, y2, score, label)."""
    table = torch.tensor(rows, dtype=torch.float64).reshape(-1, 6)
    return {"boxes": table[:, :4].float(), "scores": table[:, 4].float(), "labels": table[:, 5].long()}


@st.composite
def apart(draw):
    """Return detections that do not overlap: a box in each of some cells of a grid, as floats that nobody chose."""
    cells = draw(st.lists(st.integers(0, 49), unique=True, max_size=12))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    rows = []
    for cell in cells:
        low = torch.rand(2, generator=generator) * 8
        high = low + 2 + torch.rand(2, generator=generator) * 8
        corner = torch.tensor([cell % 10 * 20.0, cell // 10 * 20.0])
        score = 0.1 + 0.9 * torch.rand(1, generator=generator)
        label = torch.randint(0, 3, (1,), generator=generator)
        rows.append(torch.cat([low + corner, high + corner, score, label]).tolist())
    return found(*sorted(rows, key=lambda row: -row[4]))


@settings(deadline=None, max_examples=40)
@given(detections=apart(), times=st.integers(2, 4))
def test_identical_views_give_the_same_boxes_and_scores(detections, times):
    fused = fuse_weighted([detections] * times, SIZE, 0.5, complete=True)
    torch.testing.assert_close(fused["boxes"], detections["boxes"], rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(fused["scores"], detections["scores"])
    assert torch.equal(fused["labels"], detections["labels"])
    kept = suppress([detections] * times, 0.5)
    assert all(torch.equal(kept[name], detections[name]) for name in kept)


def test_a_fused_box_is_the_mean_weighted_by_score():
    # equation 1 of the paper: (0.9 * 40 + 0.3 * 50) / 1.2 = 42.5; the score is (0.9 + 0.3) / 2
    fused = fuse_weighted([found((0, 0, 40, 40, 0.9, 1)), found((0, 0, 50, 40, 0.3, 1))], SIZE, 0.5, complete=True)
    torch.testing.assert_close(fused["boxes"], torch.tensor([[0.0, 0, 42.5, 40]]))
    torch.testing.assert_close(fused["scores"], torch.tensor([0.6]))
    assert fused["labels"].tolist() == [1]


@pytest.mark.parametrize(("complete", "score"), [(True, 0.3), (False, 0.9)])
def test_what_one_of_three_views_found_counts_a_third_only_where_all_could_find_it(complete, score):
    fused = fuse_weighted([found((0, 0, 40, 40, 0.9, 0)), found(), found()], SIZE, 0.5, complete=complete)
    torch.testing.assert_close(fused["scores"], torch.tensor([score]))


def test_classes_do_not_fuse_and_the_best_comes_first():
    fused = fuse_weighted([found((0, 0, 40, 40, 0.4, 0)), found((0, 0, 40, 40, 0.8, 1))], SIZE, 0.5, complete=False)
    assert fused["labels"].tolist() == [1, 0]


def test_nothing_fuses_to_nothing():
    fused = fuse_weighted([found(), found()], SIZE, 0.5, complete=True)
    assert fused["boxes"].shape == (0, 4)
    assert fused["labels"].dtype == torch.int64
    assert suppress([found(), found()], 0.5)["boxes"].shape == (0, 4)


def test_a_box_at_the_edge_or_without_area_is_no_reason_to_warn(recwarn):
    edge = found((150, 50, 200.00002, 100, 0.5, 0), (3, 3, 3, 9, 0.5, 0))
    assert len(fuse_weighted([edge, edge], SIZE, 0.5, complete=True)["boxes"]) == 1
    assert not recwarn.list


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000))
def test_suppression_is_torchvisions_over_all_views(seed):
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(2, 20, 2, generator=generator) * 20
    boxes = torch.cat([low, low + 10 + torch.rand(2, 20, 2, generator=generator) * 10], dim=2)
    scores, labels = torch.rand(2, 20, generator=generator), torch.randint(0, 3, (2, 20), generator=generator)
    views = [{"boxes": b, "scores": s, "labels": i} for b, s, i in zip(boxes, scores, labels, strict=True)]
    kept = batched_nms(boxes.flatten(0, 1), scores.flatten(), labels.flatten(), 0.5)
    assert torch.equal(suppress(views, 0.5)["boxes"], boxes.flatten(0, 1)[kept])


WINDOWS = [(0, 0, 100, 100), (80, 0, 180, 100)]


def numbers(first, second):
    return [len(each["boxes"]) for each in without_cut([first, second], WINDOWS, SIZE)]


def test_a_cut_box_gives_way_to_a_larger_one_even_with_a_better_score():
    assert numbers(found((85, 10, 100, 40, 0.99, 0)), found((85, 10, 130, 40, 0.2, 0))) == [0, 1]


def test_a_cut_box_stays_where_the_other_window_found_another_class():
    assert numbers(found((85, 10, 100, 40, 0.9, 0)), found((85, 10, 130, 40, 0.2, 1))) == [1, 1]


def test_both_parts_of_an_object_stay_that_no_window_sees_as_a_whole():
    assert numbers(found((20, 10, 100, 40, 0.9, 0)), found((80, 10, 170, 40, 0.9, 0))) == [1, 1]


def test_an_object_just_as_wide_as_the_overlap_is_not_lost():
    assert numbers(found((80, 10, 100, 40, 0.9, 0)), found((80, 10, 100, 40, 0.9, 0))) == [1, 1]


def test_a_box_that_ends_at_the_border_of_the_image_is_not_cut():
    assert numbers(found((0, 0, 20, 100, 0.9, 0)), found((0, 0, 90, 100, 0.9, 0))) == [1, 1]


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000))
def test_the_largest_box_of_a_class_always_stays(seed):
    generator = torch.Generator().manual_seed(seed)
    views = []
    for window in WINDOWS:
        corners = window[0] + torch.randint(0, 11, (6, 2, 2), generator=generator).sort(dim=1).values * 10.0
        boxes = corners.flatten(1)
        boxes[:, 2:] += 10
        boxes = torch.minimum(boxes, torch.tensor(window[2:] * 2))
        views.append(
            {"boxes": boxes, "scores": torch.ones(6), "labels": torch.randint(0, 2, (6,), generator=generator)}
        )
    kept = without_cut(views, WINDOWS, SIZE)
    for label in (0, 1):

        def largest(each, label=label):
            boxes = torch.cat([view["boxes"][view["labels"] == label] for view in each])
            return ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).max() if len(boxes) else 0

        assert largest(kept) == largest(views)


def test_a_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ensemble_boxes", None)
    with pytest.raises(MtvisionError, match=r"mtvision\[inference\].*fusion='nms' needs nothing"):
        require_fusion("weighted_boxes")
    require_fusion("nms")
