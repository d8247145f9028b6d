import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import box_area as torchvision_box_area
from torchvision.ops import box_iou

from mtvision.ops.boxes import box_area, boxes_to_distances, clip_boxes, distances_to_boxes, pairwise_iou, scale_boxes


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
