import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import complete_box_iou_loss

from mtvision.losses.boxes import complete_iou_loss, smooth_l1_box_loss
from mtvision.registries import BOX_LOSSES

COORDINATE = st.one_of(st.sampled_from([0.0, 1.0, 1e-6, 1e6, -1e6]), st.floats(-100, 100, width=32))
BOX = st.lists(COORDINATE, min_size=4, max_size=4)


def random_boxes(count, seed):
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=generator) * 8
    return torch.cat([low, low + 0.1 + torch.rand(count, 2, generator=generator) * 8], dim=1)


def test_ciou_and_its_gradient_equal_torchvisions():
    ours, theirs = random_boxes(200, 0).requires_grad_(), random_boxes(200, 0).requires_grad_()
    target = random_boxes(200, 1)
    loss, expected = complete_iou_loss(ours, target), complete_box_iou_loss(theirs, target)
    torch.testing.assert_close(loss, expected)
    loss.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-5, rtol=1e-4)


def test_smooth_l1_is_the_mean_over_the_edges():
    predicted, target = random_boxes(50, 0), random_boxes(50, 1)
    loss = BOX_LOSSES.build("smooth_l1")(predicted, target)
    torch.testing.assert_close(loss, F.smooth_l1_loss(predicted, target, reduction="none").mean(dim=1))
    torch.testing.assert_close(smooth_l1_box_loss(predicted, target, 0.0), (predicted - target).abs().mean(dim=1))


def test_torchvisions_ciou_still_needs_the_guard():
    flat = torch.tensor([[1.0, 1.0, 1.0, 1.0]])
    assert complete_box_iou_loss(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), flat).isnan().all()


@pytest.mark.parametrize("name", BOX_LOSSES.names())
@settings(max_examples=60, deadline=None)
@given(predicted=BOX, target=BOX)
def test_finite_on_every_pair(name, predicted, target):
    box = torch.tensor([predicted], requires_grad=True)
    loss = BOX_LOSSES.build(name)(box, torch.tensor([target]))
    assert loss.shape == (1,)
    assert loss.isfinite().all()
    loss.sum().backward()
    assert box.grad.isfinite().all()


@pytest.mark.parametrize("name", BOX_LOSSES.names())
def test_contract(name):
    loss = BOX_LOSSES.build(name)
    boxes = random_boxes(9, 2)
    torch.testing.assert_close(loss(boxes, boxes), torch.zeros(9), atol=1e-6, rtol=0)
    assert (loss(boxes + 0.5, boxes) > 0.01).all()
    assert loss(boxes[:0], boxes[:0]).shape == (0,)
    assert loss(boxes.half(), boxes).dtype == torch.float32
