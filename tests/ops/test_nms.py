import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import batched_nms, nms

from mtvision.errors import ConfigError
from mtvision.ops.nms import class_agnostic_nms, class_wise_nms, soft_nms

EMPTY = torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64)
SEED = st.integers(0, 10_000)


def random_detections(seed, count=60, classes=3, size=20.0):
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=generator) * size - size / 4  # some coordinates are negative
    boxes = torch.cat([low, low + 2 + torch.rand(count, 2, generator=generator) * size], dim=1)
    scores = torch.randperm(count, generator=generator).float().add(1).div(count + 1)  # no two are equal
    return boxes, scores, torch.randint(classes, (count,), generator=generator)


def merged_by_class(suppress, boxes, scores, labels):
    """Apply a suppression to each class alone; indices of all of them, best first."""
    kept = [
        index[suppress(boxes[index], scores[index])]
        for index in ((labels == c).nonzero()[:, 0] for c in labels.unique())
    ]
    kept = torch.cat(kept)
    return kept[scores[kept].argsort(descending=True)]


# -- hard suppression --


@settings(max_examples=40, deadline=None)
@given(seed=SEED, threshold=st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]))
def test_equals_torchvisions(seed, threshold):
    boxes, scores, labels = random_detections(seed)
    assert class_agnostic_nms(boxes, scores, threshold).tolist() == nms(boxes, scores, threshold).tolist()
    expected = merged_by_class(lambda b, s: nms(b, s, threshold), boxes, scores, labels)
    assert class_wise_nms(boxes, scores, labels, threshold).tolist() == expected.tolist()
    shifted = boxes - boxes.min()  # torchvision's shift of the classes expects no negative coordinates
    assert class_wise_nms(boxes, scores, labels, threshold).tolist() == (
        batched_nms(shifted, scores, labels, threshold).tolist()
    )


def test_suppresses_something_and_classes_matter():
    boxes, scores, labels = random_detections(0)
    agnostic, wise = (class_agnostic_nms(boxes, scores, 0.3), class_wise_nms(boxes, scores, labels, 0.3))
    assert len(agnostic) < len(wise) < len(boxes)


def test_only_the_own_class_suppresses():
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0], [0.0, 0.0, 10.0, 9.0]])
    kept = class_wise_nms(boxes, torch.tensor([0.5, 0.9, 0.7]), torch.tensor([0, 1, 0]), 0.6)
    assert kept.tolist() == [1, 2]


def test_nothing_in_nothing_out():
    assert class_wise_nms(*EMPTY, 0.5).tolist() == []
    assert class_wise_nms(*EMPTY, 0.5).dtype == torch.int64
    assert class_agnostic_nms(*EMPTY[:2], 0.5).tolist() == []
    kept, scores = soft_nms(*EMPTY)
    assert (kept.tolist(), kept.dtype, scores.tolist(), scores.dtype) == ([], torch.int64, [], torch.float32)


def test_of_equal_scores_the_first_stays():
    boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0]]).repeat(5, 1)
    scores, labels = torch.full((5,), 0.5), torch.tensor([0, 0, 1, 0, 1])
    assert class_agnostic_nms(boxes, scores, 0.5).tolist() == [0]
    assert class_wise_nms(boxes, scores, labels, 0.5).tolist() == [0, 2]
    kept, new_scores = soft_nms(boxes, scores, labels, method="linear")
    assert kept.tolist() == [0, 2]  # linear: 1 - IoU is 0
    assert new_scores.tolist() == [0.5, 0.5]


def test_an_overlap_that_equals_the_threshold_does_not_suppress():
    boxes, scores = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 6.0]]), torch.tensor([0.9, 0.8])
    assert len(nms(boxes, scores, 0.6)) == 1  # in float32 the IoU is 0.60000002
    assert len(class_agnostic_nms(boxes, scores, 0.6)) == 2
    assert len(class_agnostic_nms(boxes, scores, 0.599)) == 1
    assert soft_nms(boxes, scores, torch.zeros(2, dtype=torch.int64), method="linear", threshold=0.6)[1][1] == scores[1]


@pytest.mark.parametrize("far", [1e6, 1e8])
def test_a_huge_coordinate_does_not_blur_the_others(far):
    """Where all classes are shifted by the largest coordinate in float32, small boxes of later classes collapse."""
    boxes, scores, labels = random_detections(1, count=40, classes=20)
    expected = class_wise_nms(boxes, scores, labels, 0.5).tolist()
    boxes = torch.cat([boxes, torch.tensor([[far, far, far * 1.5, far * 1.5]])])
    scores, labels = torch.cat([scores, torch.tensor([0.0001])]), torch.cat([labels, torch.tensor([0])])
    assert class_wise_nms(boxes, scores, labels, 0.5).tolist() == [*expected, 40]
    if far == 1e8:
        assert batched_nms(boxes - boxes.min(), scores, labels, 0.5).tolist() != [*expected, 40]  # the guard is needed
    kept, _ = soft_nms(boxes, scores, labels, score_threshold=0.0)
    assert kept[-1] == 40


def test_negative_coordinates_keep_classes_apart():
    boxes, scores, labels = random_detections(2)
    expected = class_wise_nms(boxes, scores, labels, 0.3).tolist()
    assert class_wise_nms(boxes - 1000, scores, labels, 0.3).tolist() == expected
    assert class_wise_nms(boxes.flip(1).neg(), scores, labels, 0.3).tolist() == expected


@settings(max_examples=20, deadline=None)
@given(seed=SEED)
def test_order_of_the_input_does_not_matter(seed):
    boxes, scores, labels = random_detections(seed)
    order = torch.randperm(len(boxes), generator=torch.Generator().manual_seed(seed))
    shuffled = boxes[order], scores[order], labels[order]
    assert order[class_wise_nms(*shuffled, 0.4)].tolist() == class_wise_nms(boxes, scores, labels, 0.4).tolist()
    (kept, new_scores), (expected, expected_scores) = soft_nms(*shuffled), soft_nms(boxes, scores, labels)
    assert order[kept].tolist() == expected.tolist()
    assert torch.equal(new_scores, expected_scores)


# -- soft suppression --


def slow_iou(box, other):
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    intersection = max(width, 0.0) * max(height, 0.0)
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (box, other)]
    return intersection / (sum(areas) - intersection)


def slow_soft_nms(boxes, scores, labels, lower, score_threshold, max_detections):
    """Take the best, lower the others, go on: class by class, then merged by the new scores."""
    found = []
    for label in set(labels):
        left = [[score, index] for index, score in enumerate(scores) if labels[index] == label]
        while left:
            best = max(left)
            left.remove(best)
            found.append(tuple(best))
            for entry in left:
                entry[0] *= lower(slow_iou(boxes[best[1]], boxes[entry[1]]))
    found = sorted((entry for entry in found if entry[0] >= score_threshold), reverse=True)[:max_detections]
    return [index for _, index in found], [score for score, _ in found]


@settings(max_examples=25, deadline=None)
@given(seed=SEED, method=st.sampled_from(["gaussian", "linear"]), max_detections=st.sampled_from([7, 100]))
def test_soft_suppression_equals_a_slow_reference(seed, method, max_detections):
    boxes, scores, labels = random_detections(seed, count=30)
    kept, new_scores = soft_nms(
        boxes, scores, labels, method=method, sigma=0.3, threshold=0.4, score_threshold=0.2,
        max_detections=max_detections,
    )  # fmt: skip
    lower = {
        "gaussian": lambda iou: math.exp(-(iou**2) / 0.3),
        "linear": lambda iou: 1 - iou if iou > 0.4 else 1.0,
    }[method]
    expected, expected_scores = slow_soft_nms(
        boxes.tolist(), scores.tolist(), labels.tolist(), lower, 0.2, max_detections
    )
    assert kept.tolist() == expected
    torch.testing.assert_close(new_scores, torch.tensor(expected_scores))


@settings(max_examples=25, deadline=None)
@given(seed=SEED)
def test_a_tiny_sigma_is_hard_suppression_of_all_overlap(seed):
    boxes, scores, labels = random_detections(seed)
    kept, new_scores = soft_nms(boxes, scores, labels, sigma=1e-12)
    expected = class_wise_nms(boxes, scores, labels, 0.0)
    assert kept.tolist() == expected.tolist()
    assert torch.equal(new_scores, scores[expected])


@settings(max_examples=25, deadline=None)
@given(seed=SEED, method=st.sampled_from(["gaussian", "linear"]))
def test_scores_never_rise_and_no_box_is_taken_twice(seed, method):
    boxes, scores, labels = random_detections(seed)
    kept, new_scores = soft_nms(boxes, scores, labels, method=method, score_threshold=0.0)
    assert sorted(kept.tolist()) == list(range(len(boxes)))  # a threshold of 0 drops nothing
    assert (new_scores <= scores[kept]).all()
    assert (new_scores < scores[kept]).any()
    assert (new_scores.diff() <= 0).all()


def test_no_box_is_taken_twice_where_scores_have_fallen_to_zero():
    boxes, labels = torch.tensor([[0.0, 0.0, 8.0, 8.0]]).repeat(4, 1), torch.zeros(4, dtype=torch.int64)
    kept, new_scores = soft_nms(boxes, torch.full((4,), 0.5), labels, method="linear", score_threshold=0.0)
    assert kept.tolist() == [0, 1, 2, 3]
    assert new_scores.tolist() == [0.5, 0, 0, 0]  # what equals the threshold has not fallen below it


@pytest.mark.parametrize("options", [{"sigma": 1e12}, {"method": "linear", "threshold": 1.0}])
def test_without_decay_it_is_a_sort(options):
    boxes, scores, labels = random_detections(0)
    kept, new_scores = soft_nms(boxes, scores, labels, **options)
    assert kept.tolist() == scores.argsort(descending=True).tolist()
    torch.testing.assert_close(new_scores, scores[kept], rtol=0, atol=0)


@pytest.mark.parametrize("method", ["gaussian", "linear"])
def test_boxes_apart_and_boxes_of_other_classes_keep_their_scores(method):
    apart = torch.tensor([[0.0, 0.0, 4.0, 4.0], [4.0, 0.0, 8.0, 4.0], [0.0, 4.0, 4.0, 8.0]])  # they share edges only
    scores = torch.tensor([0.3, 0.5, 0.4])
    assert soft_nms(apart, scores, torch.zeros(3, dtype=torch.int64), method=method)[1].tolist() == (
        scores.sort(descending=True).values.tolist()
    )
    same = apart[:1].repeat(3, 1)
    assert soft_nms(same, scores, torch.arange(3), method=method)[0].tolist() == [1, 2, 0]


def test_the_input_is_not_changed_and_its_dtype_is_kept():
    boxes, scores, labels = random_detections(0)
    before = scores.clone()
    assert soft_nms(boxes.half(), scores.half(), labels)[1].dtype == torch.float16
    soft_nms(boxes, scores, labels)
    assert torch.equal(scores, before)


@pytest.mark.parametrize("suppress", [class_wise_nms, lambda *args: soft_nms(*args[:3])[0]])
def test_huge_boxes_are_suppressed_like_others(suppress):
    boxes, scores, labels = random_detections(3, count=20)
    assert suppress(boxes * 2.0**80, scores, labels, 0.5).tolist() == suppress(boxes, scores, labels, 0.5).tolist()


def test_wrong_options_are_named():
    with pytest.raises(ConfigError, match=r"soft NMS: method must be 'gaussian' or 'linear', got 'hard'"):
        soft_nms(*EMPTY, method="hard")
    with pytest.raises(ConfigError, match=r"soft NMS: sigma must be above 0, got 0"):
        soft_nms(*EMPTY, sigma=0)
