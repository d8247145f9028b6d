import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torchvision.ops import box_iou, complete_box_iou_loss, distance_box_iou_loss, generalized_box_iou_loss

from mtvision.losses.boxes import (
    complete_iou_loss,
    distance_iou_loss,
    efficient_iou_loss,
    generalized_iou_loss,
    iou_loss,
    smooth_l1_box_loss,
)
from mtvision.registries import BOX_LOSSES
from mtvision.registry import Component

COORDINATE_LOSSES = ["l1", "smooth_l1"]
IOU_LOSSES = [name for name in BOX_LOSSES.names() if name not in COORDINATE_LOSSES]
LARGEST_LOSS = {"iou": 1.0, "giou": 2.0, "diou": 2.0, "ciou": 3.0, "eiou": 4.0}

FLOAT32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
LANDMARK = st.sampled_from([0.0, 1.0, -1.0, 1e-6, 1e-30, 1e6, -1e6, 1e19, -1e30, 1e37, -1e37])
COORDINATE = st.one_of(LANDMARK, st.integers(-3, 3).map(float), st.floats(-100, 100, width=32), FLOAT32)
BOX = st.lists(COORDINATE, min_size=4, max_size=4)
SIDE = st.floats(0.125, 64, width=32)


@st.composite
def valid_boxes(draw):
    x, y = draw(st.floats(-50, 50, width=32)), draw(st.floats(-50, 50, width=32))
    return [x, y, x + draw(SIDE), y + draw(SIDE)]


@st.composite
def overlapping_boxes(draw):
    """Return two boxes that overlap and share no edge: where edges meet, the losses have kinks."""
    x1, y1, x2, y2 = box = draw(valid_boxes())
    shifts = [draw(st.floats(0.05, 0.4)) * draw(st.sampled_from([-1, 1])) for _ in box]
    sides = [x2 - x1, y2 - y1] * 2
    return box, [edge + shift * side for edge, shift, side in zip(box, shifts, sides, strict=True)]


def random_boxes(count, seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=generator, dtype=dtype) * 8
    return torch.cat([low, low + 0.1 + torch.rand(count, 2, generator=generator, dtype=dtype) * 8], dim=1)


def loss_and_gradient(loss, predicted, target):
    predicted = predicted.clone().requires_grad_()
    values = loss(predicted, target)
    return values.detach(), *torch.autograd.grad(values.sum(), predicted)


# -- oracles --


@pytest.mark.parametrize(
    ("ours", "torchvisions"),
    [
        (generalized_iou_loss, generalized_box_iou_loss),
        (distance_iou_loss, distance_box_iou_loss),
        (complete_iou_loss, complete_box_iou_loss),
        (iou_loss, lambda predicted, target: 1 - box_iou(predicted, target).diagonal()),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_equal_torchvisions(ours, torchvisions, dtype):
    predicted, target = random_boxes(300, 0, dtype), random_boxes(300, 1, dtype)
    overlaps = box_iou(predicted, target).diagonal()
    assert overlaps.min() == 0  # boxes apart are among them
    assert overlaps.max() > 0.6
    value, gradient = loss_and_gradient(ours, predicted, target)
    expected, expected_gradient = loss_and_gradient(torchvisions, predicted, target)
    tolerance = {torch.float32: {"atol": 2e-6, "rtol": 1e-5}, torch.float64: {"atol": 1e-6, "rtol": 2e-6}}[dtype]
    torch.testing.assert_close(value, expected, **tolerance)
    torch.testing.assert_close(gradient, expected_gradient, **tolerance)


@pytest.mark.parametrize("beta", [0.0, 0.1, 1.0, 3.0])
def test_smooth_l1_is_torchs_summed_over_the_coordinates(beta):
    predicted, target = random_boxes(50, 0), random_boxes(50, 1)
    loss = BOX_LOSSES.build(Component("smooth_l1", {"beta": beta}))
    value, gradient = loss_and_gradient(loss, predicted, target)
    expected = F.smooth_l1_loss(predicted, target, beta=beta, reduction="none").sum(dim=1)
    torch.testing.assert_close(value, expected, rtol=0, atol=0)
    total = loss_and_gradient(lambda p, t: F.smooth_l1_loss(p, t, beta=beta, reduction="sum"), predicted, target)
    torch.testing.assert_close(gradient, total[1], rtol=0, atol=0)


def test_l1_is_the_summed_absolute_difference():
    predicted, target = random_boxes(50, 0), random_boxes(50, 1)
    torch.testing.assert_close(BOX_LOSSES.build("l1")(predicted, target), (predicted - target).abs().sum(dim=1))
    assert BOX_LOSSES.build("l1")(torch.tensor([[1.0, -2.0, 3.0, 0.5]]), torch.zeros(1, 4)).item() == 6.5


def test_log_form_of_the_iou_loss():
    predicted, target = random_boxes(50, 0), random_boxes(50, 1)
    overlaps = box_iou(predicted, target).diagonal()
    loss = BOX_LOSSES.build(Component("iou", {"log": True}))(predicted, target)
    torch.testing.assert_close(loss, -overlaps.clamp(min=1e-6).log(), atol=1e-5, rtol=1e-5)
    assert loss.max().item() == pytest.approx(6 * math.log(10))


def slow_eiou(box, other):
    """Equation of the EIoU loss, written out for one pair of valid boxes."""
    (x1, y1, x2, y2), (u1, v1, u2, v2) = box, other
    width, height, other_width, other_height = x2 - x1, y2 - y1, u2 - u1, v2 - v1
    intersection = max(0.0, min(x2, u2) - max(x1, u1)) * max(0.0, min(y2, v2) - max(y1, v1))
    overlap = intersection / (width * height + other_width * other_height - intersection)
    w_c, h_c = max(x2, u2) - min(x1, u1), max(y2, v2) - min(y1, v1)
    rho = math.dist(((x1 + x2) / 2, (y1 + y2) / 2), ((u1 + u2) / 2, (v1 + v2) / 2))
    aspect = (width - other_width) ** 2 / w_c**2 + (height - other_height) ** 2 / h_c**2
    return 1 - overlap + rho**2 / (w_c**2 + h_c**2) + aspect


def test_eiou_equals_its_equation():
    predicted, target = random_boxes(100, 0), random_boxes(100, 1)
    expected = [slow_eiou(box, other) for box, other in zip(predicted.tolist(), target.tolist(), strict=True)]
    torch.testing.assert_close(efficient_iou_loss(predicted, target), torch.tensor(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(set(BOX_LOSSES.names()) - {"ciou"}))  # whose alpha takes no gradient, by intent
def test_gradient_is_that_of_the_value(name):
    predicted = random_boxes(12, 0, torch.float64).requires_grad_()
    target = random_boxes(12, 1, torch.float64)
    assert torch.autograd.gradcheck(lambda boxes: BOX_LOSSES.build(name)(boxes, target), (predicted,))


# -- every pair of finite boxes --


def test_torchvisions_still_need_the_guard():
    flat, box = torch.tensor([[1.0, 1.0, 1.0, 1.0]]), torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    assert complete_box_iou_loss(box, flat).isnan().all()
    assert generalized_box_iou_loss(box * 1e20, box * 1e20).isnan().all()
    assert distance_box_iou_loss(box * 1e-4, box * 1e-4).item() > 0.5  # of identical boxes


MAX = torch.finfo(torch.float32).max
DEGENERATE = torch.tensor(
    [
        [0.0, 0.0, 1.0, 1.0],
        [0.0, 0.0, 0.0, 0.0],
        [3.0, 3.0, 3.0, 3.0],
        [0.0, 0.0, 1e-30, 1e-30],
        [0.0, 0.0, 1e-45, 1.0],
        [0.0, 1.0, 5.0, 1.0],
        [1.0, 0.0, 1.0, 5.0],
        [2.0, 2.0, 0.0, 0.0],
        [2.0, 0.0, 0.0, 2.0],
        [1e6, 1e6, 2e6, 2e6],
        [-1e30, 0.0, 1e30, 1e-30],
        [1e37, 1e37, -1e37, -1e37],
        [-MAX, -MAX, MAX, MAX],
        [MAX, -MAX, -MAX, MAX],
        [MAX, MAX, MAX, MAX],
        [-MAX, -MAX, -MAX, -MAX],
    ]
)


@pytest.mark.parametrize("name", IOU_LOSSES)
def test_iou_losses_are_finite_on_every_degenerate_pair(name):
    predicted, target = (DEGENERATE[index] for index in torch.cartesian_prod(*[torch.arange(len(DEGENERATE))] * 2).T)
    value, gradient = loss_and_gradient(BOX_LOSSES.build(name), predicted, target)
    assert value.isfinite().all()
    assert gradient.isfinite().all()
    assert gradient.abs().max() < 1e18


@pytest.mark.parametrize("name", IOU_LOSSES)
@settings(max_examples=100, deadline=None)
@given(predicted=BOX, target=BOX)
def test_iou_losses_are_finite_and_bounded_on_every_pair(name, predicted, target):
    value, gradient = loss_and_gradient(BOX_LOSSES.build(name), torch.tensor([predicted]), torch.tensor([target]))
    assert value.shape == (1,)
    # An inverted box has negative sides in EIoU's terms, 2 instead of 1 at most: squares of 4.
    inverted = predicted[0] > predicted[2] or predicted[1] > predicted[3] or target[0] > target[2]
    largest = 10.0 if name == "eiou" and (inverted or target[1] > target[3]) else LARGEST_LOSS[name]
    assert -1e-6 <= value.item() <= largest + 1e-5
    assert gradient.isfinite().all()


@pytest.mark.parametrize(
    "options", [("l1", {}), ("smooth_l1", {}), ("smooth_l1", {"beta": 0.0}), ("iou", {"log": True})]
)
@settings(max_examples=40, deadline=None)
@given(predicted=BOX, target=BOX)
def test_other_losses_are_finite_up_to_float32s_range(options, predicted, target):
    predicted, target = torch.tensor([predicted]), torch.tensor([target])
    value, gradient = loss_and_gradient(BOX_LOSSES.build(Component(*options)), predicted, target)
    assert value.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", COORDINATE_LOSSES)
def test_coordinate_losses_are_finite_between_the_largest_numbers_and_tell_an_infinite_one(name):
    loss = BOX_LOSSES.build(name)
    for edge in (2e38, MAX):
        value, gradient = loss_and_gradient(loss, torch.full((1, 4), edge), torch.full((1, 4), -edge))
        assert value.isfinite().all()
        assert value > 1e38
        assert gradient.isfinite().all()
    ordinary = torch.full((1, 4), 1e37)
    assert loss(ordinary, torch.zeros(1, 4)).item() == pytest.approx(4e37)
    assert loss(torch.full((1, 4), torch.inf), torch.zeros(1, 4)).isinf().all()
    assert loss(torch.full((1, 4), torch.nan), torch.zeros(1, 4)).isnan().all()


@pytest.mark.parametrize("name", IOU_LOSSES)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6, 1e19, 1e37])
def test_identical_boxes_have_no_loss_at_any_size(name, scale):
    boxes = random_boxes(20, 0) * scale
    loss, gradient = loss_and_gradient(BOX_LOSSES.build(name), boxes, boxes.clone())
    torch.testing.assert_close(loss, torch.zeros(20), atol=1e-6, rtol=0)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", IOU_LOSSES)
def test_two_boxes_without_area_do_not_overlap(name):
    line = torch.tensor([[1.0, 1.0, 1.0, 5.0], [2.0, 2.0, 2.0, 2.0]])
    torch.testing.assert_close(BOX_LOSSES.build(name)(line, line), torch.ones(2))


def test_the_aspect_ratio_of_a_tiny_box_has_no_huge_gradient():
    tiny, target = torch.tensor([[0.0, 0.0, 1e-6, 2e-6]]), torch.tensor([[0.0, 0.0, 4.0, 2.0]])
    assert loss_and_gradient(complete_iou_loss, tiny, target)[1].abs().max() < 1
    assert loss_and_gradient(complete_box_iou_loss, tiny, target)[1].abs().max() > 1e4


def test_an_inverted_box_counts_as_one_without_area():
    box = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    inverted = torch.tensor([[3.0, 3.0, 1.0, 1.0]])
    assert iou_loss(inverted, box).item() == 1
    assert generalized_iou_loss(inverted, box).item() == 1  # nothing of the enclosing box is empty
    assert distance_iou_loss(inverted, box).item() == 1  # and the centres are the same


# -- identities --


@pytest.mark.parametrize("name", IOU_LOSSES)
@settings(max_examples=40, deadline=None)
@given(predicted=valid_boxes(), target=valid_boxes(), data=st.data())
def test_iou_losses_know_no_unit_no_origin_and_no_axis(name, predicted, target, data):
    loss = BOX_LOSSES.build(name)
    predicted, target = torch.tensor([predicted]), torch.tensor([target])
    expected = loss(predicted, target)
    scale, shift = data.draw(st.floats(0.25, 1e6, width=32)), data.draw(st.integers(-1000, 1000))
    moved = torch.tensor([[shift, -shift, shift, -shift]])
    for change, atol in (
        (lambda boxes: boxes * scale, 2e-5),
        (lambda boxes: boxes.double() + moved, 2e-5),  # float32 would round the boxes themselves
        (lambda boxes: boxes[:, [1, 0, 3, 2]], 2e-6),  # transposed
        (lambda boxes: -boxes[:, [2, 1, 0, 3]] * torch.tensor([1.0, -1.0, 1.0, -1.0]), 2e-6),  # mirrored
    ):
        torch.testing.assert_close(loss(change(predicted), change(target)).float(), expected, atol=atol, rtol=1e-5)


@pytest.mark.parametrize("name", BOX_LOSSES.names())
@settings(max_examples=40, deadline=None)
@given(predicted=valid_boxes(), target=valid_boxes())
def test_symmetric(name, predicted, target):
    loss = BOX_LOSSES.build(name)
    predicted, target = torch.tensor([predicted]), torch.tensor([target])
    torch.testing.assert_close(loss(predicted, target), loss(target, predicted), atol=1e-6, rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(predicted=valid_boxes(), target=valid_boxes())
def test_each_adds_to_the_former(predicted, target):
    predicted, target = torch.tensor([predicted]), torch.tensor([target])
    plain, general, distance, complete, efficient = (
        BOX_LOSSES.build(name)(predicted, target).item() for name in ("iou", "giou", "diou", "ciou", "eiou")
    )
    assert plain <= general + 1e-6
    assert plain <= distance + 1e-6
    assert distance <= min(complete, efficient) + 1e-6


@pytest.mark.parametrize("name", BOX_LOSSES.names())
@settings(max_examples=40, deadline=None)
@given(pair=overlapping_boxes())
def test_a_small_step_against_the_gradient_helps(name, pair):
    predicted, target = torch.tensor(pair, dtype=torch.float64).unsqueeze(1)
    loss = BOX_LOSSES.build(name)
    value, gradient = loss_and_gradient(loss, predicted, target)
    assert loss(predicted - 1e-6 * gradient / gradient.norm(), target) < value


@pytest.mark.parametrize("name", [name for name in IOU_LOSSES if name != "iou"])
def test_boxes_apart_are_drawn_together(name):
    apart = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    _, gradient = loss_and_gradient(BOX_LOSSES.build(name), apart, torch.tensor([[10.0, 0.0, 12.0, 2.0]]))
    assert gradient[0, 2] < 0  # the right edge moves right
    assert iou_loss(apart, apart + 10).item() == 1
    assert not loss_and_gradient(iou_loss, apart, apart + 10)[1].any()  # which plain IoU does not do


# -- contract --


@pytest.mark.parametrize("name", BOX_LOSSES.names())
def test_contract(name):
    loss = BOX_LOSSES.build(name)
    boxes = random_boxes(9, 2)
    torch.testing.assert_close(loss(boxes, boxes), torch.zeros(9), atol=1e-6, rtol=0)
    assert (loss(boxes + 0.5, boxes) > 0.01).all()
    assert loss(boxes[:0], boxes[:0]).shape == (0,)
    assert loss(boxes.half(), boxes).dtype == torch.float32
    torch.testing.assert_close(loss(boxes.half() + 1, boxes), loss(boxes.half().float() + 1, boxes), atol=1e-2, rtol=0)
    assert pickle.loads(pickle.dumps(loss))(boxes, boxes).shape == (9,)


@pytest.mark.parametrize("name", BOX_LOSSES.names())
def test_compiles_in_one_graph(name):
    loss = BOX_LOSSES.build(name)
    predicted, target = random_boxes(9, 0), random_boxes(9, 1)
    compiled = torch.compile(loss.function if name in COORDINATE_LOSSES else loss, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(predicted, target), loss(predicted, target))


def test_only_coordinate_losses_say_so():
    assert [n for n in BOX_LOSSES.names() if getattr(BOX_LOSSES.build(n), "on_coordinates", False)] == COORDINATE_LOSSES


def test_options_are_bounded():
    with pytest.raises(ValidationError):
        BOX_LOSSES.build(Component("smooth_l1", {"beta": -1.0}))
    assert smooth_l1_box_loss(torch.zeros(1, 4), torch.full((1, 4), 0.5)).item() == 0.5
