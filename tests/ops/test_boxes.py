import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import box_area as torchvision_box_area
from torchvision.ops import box_convert, box_iou

from mtvision.ops.boxes import (
    box_area,
    boxes_to_distances,
    centerness,
    clip_boxes,
    decode_deltas,
    distances_to_boxes,
    encode_deltas,
    pair_frame,
    paired_iou,
    pairwise_iou,
    scale_boxes,
)

FLOAT32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
BOX = st.lists(FLOAT32, min_size=4, max_size=4)
CODER = BoxCoder(weights=(1.0, 1.0, 1.0, 1.0))


def random_boxes(count, seed, size=50.0):
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=generator) * size
    return torch.cat([low, low + 0.1 + torch.rand(count, 2, generator=generator) * size], dim=1)


def test_areas_and_ious_equal_torchvisions():
    boxes, others = random_boxes(40, 0), random_boxes(60, 1)
    torch.testing.assert_close(box_area(boxes), torchvision_box_area(boxes))
    torch.testing.assert_close(pairwise_iou(boxes, others), box_iou(boxes, others))


def test_iou_of_a_batch_is_the_iou_of_each_image():
    boxes, others = random_boxes(12, 0).view(3, 4, 4), random_boxes(15, 1).view(3, 5, 4)
    batch = pairwise_iou(boxes, others)
    assert batch.shape == (3, 4, 5)
    for image in range(3):
        torch.testing.assert_close(batch[image], box_iou(boxes[image], others[image]))


def test_iou_without_any_area_is_zero_not_nan():
    point = torch.tensor([[3.0, 3.0, 3.0, 3.0]])
    assert pairwise_iou(point, point).item() == 0
    assert pairwise_iou(torch.zeros(0, 4), point).shape == (0, 1)


def test_iou_has_a_finite_gradient():
    boxes = random_boxes(5, 0).requires_grad_()
    pairwise_iou(boxes, random_boxes(5, 1)).sum().backward()
    assert boxes.grad.isfinite().all()
    assert boxes.grad.abs().sum() > 0


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_distances_and_boxes_are_inverse(seed):
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(7, 2, generator=generator) * 100
    distances = torch.rand(2, 7, 4, generator=generator) * 30
    boxes = distances_to_boxes(distances, points)
    torch.testing.assert_close(boxes_to_distances(boxes, points), distances, atol=1e-4, rtol=0)
    torch.testing.assert_close(distances_to_boxes(boxes_to_distances(boxes, points), points), boxes)


def test_clip_uses_height_for_y_and_width_for_x():
    clipped = clip_boxes(torch.tensor([[-5.0, -5.0, 500.0, 500.0]]), torch.tensor([30.0, 70.0]))
    assert clipped.tolist() == [[0.0, 0.0, 70.0, 30.0]]


def test_scale_there_and_back_is_the_identity():
    boxes = random_boxes(9, 3)
    small, large = torch.tensor([64.0, 96.0]), torch.tensor([375.0, 500.0])
    scaled = scale_boxes(boxes, small, large)
    torch.testing.assert_close(scaled[:, 1], boxes[:, 1] * 375 / 64)
    torch.testing.assert_close(scale_boxes(scaled, large, small), boxes)


# -- pairs --


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6, 1e30])
def test_paired_iou_is_torchvisions_diagonal_at_any_size(scale):
    boxes, others = random_boxes(60, 0), random_boxes(60, 1)
    expected = box_iou(boxes, others).diagonal()
    assert expected.max() > 0.3
    torch.testing.assert_close(paired_iou(boxes * scale, others * scale), expected, atol=2e-6, rtol=1e-5)


def test_a_frame_of_the_largest_numbers_does_not_overflow():
    largest = torch.finfo(torch.float32).max
    everything, half = (
        torch.tensor([-largest, -largest, largest, largest]),
        torch.tensor([-largest, 0, largest, largest]),
    )
    frame = pair_frame(everything, half)
    assert frame.boxes.tolist() == [0, 0, 1, 1]
    assert frame.others.tolist() == [0, 0.5, 1, 1]
    assert paired_iou(everything, half).item() == 0.5


def test_paired_iou_takes_any_leading_shape_and_keeps_float64():
    boxes, others = random_boxes(12, 0).view(3, 4, 4), random_boxes(12, 1).view(3, 4, 4)
    expected = torch.stack([box_iou(a, b).diagonal() for a, b in zip(boxes, others, strict=True)])
    torch.testing.assert_close(paired_iou(boxes, others), expected)
    assert paired_iou(boxes.half(), others.half()).dtype == torch.float32
    assert paired_iou(boxes.double(), others).dtype == torch.float64
    assert paired_iou(boxes[:, :0], others[:, :0]).shape == (3, 0)


def test_paired_iou_without_any_area_is_zero_with_a_finite_gradient():
    point = torch.full((1, 4), 3.0, requires_grad=True)
    overlap = paired_iou(point, torch.full((1, 4), 3.0))
    assert overlap.item() == 0
    assert torch.autograd.grad(overlap.sum(), point)[0].isfinite().all()


@settings(max_examples=150, deadline=None)
@given(box=BOX, other=BOX)
def test_a_pairs_frame_holds_both_boxes(box, other):
    frame = pair_frame(torch.tensor(box), torch.tensor(other))
    corners = torch.stack([frame.boxes, frame.others])
    assert corners.min().item() == 0
    assert 0 <= corners.max().item() <= 1
    largest = max(max(box[0::2] + other[0::2]) - min(box[0::2] + other[0::2]),
                  max(box[1::2] + other[1::2]) - min(box[1::2] + other[1::2]))  # fmt: skip
    if largest > 3e-6:
        assert frame.enclosing.max().item() == pytest.approx(1)
    assert 0 <= paired_iou(torch.tensor(box), torch.tensor(other)).item() <= 1 + 1e-6


# -- deltas --


def as_corners(anchors):
    return box_convert(anchors, "cxcywh", "xyxy")


def random_anchors(count, seed):
    return box_convert(random_boxes(count, seed), "xyxy", "cxcywh")


def test_deltas_equal_torchvisions_coder():
    anchors, boxes = random_anchors(50, 0), random_boxes(50, 1)
    deltas = encode_deltas(boxes, anchors)
    torch.testing.assert_close(deltas, CODER.encode_single(boxes, as_corners(anchors)), atol=1e-5, rtol=1e-5)
    generator = torch.Generator().manual_seed(2)
    deltas = torch.randn(50, 4, generator=generator) * 4  # some beyond the cut at log(1000 / 16)
    assert (deltas[:, 2:] > math.log(1000 / 16)).any()
    torch.testing.assert_close(
        decode_deltas(deltas, anchors), CODER.decode_single(deltas, as_corners(anchors)), atol=1e-2, rtol=1e-5
    )


def test_gradient_of_decoding_equals_torchvisions():
    anchors = random_anchors(50, 0)
    deltas = (torch.randn(50, 4, generator=torch.Generator().manual_seed(2)) * 4).requires_grad_()
    weights = torch.randn(50, 4, generator=torch.Generator().manual_seed(3))
    ours = torch.autograd.grad((decode_deltas(deltas, anchors) * weights).sum(), deltas)[0]
    theirs = torch.autograd.grad((CODER.decode_single(deltas, as_corners(anchors)) * weights).sum(), deltas)[0]
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-4)
    assert not ours[:, 2:][deltas[:, 2:] > math.log(1000 / 16)].any()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_encoding_and_decoding_are_inverse_for_a_batch(seed):
    anchors, boxes = random_anchors(6, seed), random_boxes(18, seed + 1).view(3, 6, 4)
    anchors[:, 2:] += 2  # no box is 62.5 times as wide or high as its anchor
    deltas = encode_deltas(boxes, anchors)
    assert deltas.shape == (3, 6, 4)
    torch.testing.assert_close(decode_deltas(deltas, anchors), boxes, atol=1e-4, rtol=0)
    torch.testing.assert_close(encode_deltas(as_corners(anchors), anchors), torch.zeros(6, 4), atol=1e-5, rtol=0)


def test_a_box_without_area_and_a_huge_delta_stay_finite():
    anchors = torch.tensor([[4.0, 4.0, 8.0, 8.0]])
    assert encode_deltas(torch.zeros(1, 4), anchors).isfinite().all()
    widest = decode_deltas(torch.full((1, 4), 1e4), anchors)
    torch.testing.assert_close(widest[:, 2:] - widest[:, :2], torch.full((1, 2), 8 * 62.5))
    assert decode_deltas(torch.zeros(1, 4, dtype=torch.float16), anchors.half()).dtype == torch.float32


# -- centerness --


def slow_centerness(left, top, right, bottom):
    if min(left, top, right, bottom) <= 0:
        return 0.0
    return math.sqrt(min(left, right) / max(left, right) * min(top, bottom) / max(top, bottom))


def test_centerness_equals_equation_3():
    distances = torch.rand(200, 4, generator=torch.Generator().manual_seed(0)) * 20 - 3
    assert (distances.amin(dim=1) < 0).any()
    expected = torch.tensor([slow_centerness(*row) for row in distances.tolist()])
    assert (expected > 0.8).any()
    torch.testing.assert_close(centerness(distances), expected)
    torch.testing.assert_close(centerness(distances.view(2, 100, 4)), expected.view(2, 100))


@settings(max_examples=100, deadline=None)
@given(distances=BOX)
def test_centerness_is_in_the_unit_interval_and_carries_no_gradient(distances):
    value = centerness(torch.tensor(distances, requires_grad=True))
    assert 0 <= value.item() <= 1
    assert not value.requires_grad
    if min(distances) < 0:
        assert value.item() == 0


def test_centerness_is_one_in_the_middle_and_zero_on_an_edge():
    points = torch.tensor([[2.0, 3.0], [0.0, 3.0], [2.0, 6.0]])
    distances = boxes_to_distances(torch.tensor([[0.0, 0.0, 4.0, 6.0]]), points)
    assert centerness(distances).tolist() == [1, 0, 0]
    assert centerness(torch.zeros(4)).item() == 0
