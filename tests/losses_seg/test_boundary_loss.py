import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_inputs import blobs, example, hard
from scipy.ndimage import binary_dilation, binary_erosion

from mtvision.losses.segmentation import Boundary, boundary_loss
from mtvision.types import VOID


def reference(prediction, truth, num_classes, boundary_kernel, tolerance_kernel, first=0):
    """Boundary F1 of hard maps by SciPy's morphology: the inner boundary is what erosion takes away."""
    losses = []
    for p, t in zip(prediction.numpy(), truth.numpy(), strict=True):
        for c in range(first, num_classes):
            maps = [(m == c) & (t != VOID) for m in (p, t)]
            ours, theirs = (m & ~binary_erosion(m, np.ones([boundary_kernel] * 2), border_value=1) for m in maps)
            if not theirs.any():
                continue
            near_theirs, near_ours = (binary_dilation(m, np.ones([tolerance_kernel] * 2)) for m in (theirs, ours))
            precision = (ours & near_theirs).sum() / max(ours.sum(), 1)
            recall = (theirs & near_ours).sum() / theirs.sum()
            losses.append(1 - 2 * precision * recall / max(precision + recall, 1e-7))
    return np.mean(losses)


@pytest.mark.parametrize("kernels", [(3, 5), (3, 3), (5, 3), (3, 9)])
@pytest.mark.parametrize("seed", range(3))
def test_hard_predictions_give_one_minus_boundary_f1(seed, kernels):
    truth, prediction = blobs(seed)
    truth[0, 5:9, :20] = VOID
    truth[1][truth[1] == 2] = VOID
    boundary, tolerance = kernels
    for background in (True, False):
        value = boundary_loss(
            hard(prediction, 4),
            truth,
            boundary_kernel=boundary,
            tolerance_kernel=tolerance,
            include_background=background,
        )
        expected = reference(prediction, truth, 4, *kernels, first=0 if background else 1)
        assert value.item() == pytest.approx(expected, abs=1e-5)
        assert 0.01 < expected < 0.99


def test_a_shift_within_the_tolerance_costs_nothing_and_beyond_it_more_and_more():
    mask = torch.zeros(1, 32, 32, dtype=torch.int64)
    mask[:, 8:16, 8:16] = 1
    costs = [boundary_loss(hard(mask.roll(shift, 2), 2), mask, tolerance_kernel=5).item() for shift in range(7)]
    assert costs[:3] == [0, 0, 0]
    assert all(low < high for low, high in itertools.pairwise(costs[2:]))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_a_flipped_or_turned_image_costs_the_same(seed):
    logits, mask = example(seed)
    value = boundary_loss(logits, mask)
    torch.testing.assert_close(boundary_loss(logits.flip(3), mask.flip(2)), value)
    torch.testing.assert_close(boundary_loss(logits.transpose(2, 3), mask.transpose(1, 2)), value)


def test_a_wider_tolerance_costs_less():
    truth, prediction = blobs()
    costs = [Boundary(tolerance_kernel=kernel)(hard(prediction, 4), truth).item() for kernel in (3, 5, 7)]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] > costs[-1]


def test_a_void_contour_leaves_the_boundary_beside_it():
    """As in VOC, where each object has a void contour."""
    mask = torch.zeros(1, 24, 24, dtype=torch.int64)
    mask[:, 6:18, 6:18] = VOID
    mask[:, 8:16, 8:16] = 1
    right = torch.where(mask == 1, 1, 0)
    assert boundary_loss(hard(right, 2), mask).item() == 0
    assert boundary_loss(hard(right.roll(6, 2), 2), mask).item() > 0.2


def test_an_image_of_one_class_has_no_boundary():
    logits = torch.randn(1, 3, 8, 8, requires_grad=True)
    value = boundary_loss(logits, torch.ones(1, 8, 8, dtype=torch.int64))
    value.backward()
    assert value.item() == 0
    assert not logits.grad.any()


def test_training_with_it_alone_moves_a_boundary():
    mask = torch.zeros(1, 24, 24, dtype=torch.int64)
    mask[:, 8:16, 8:16] = 1
    logits = (hard(mask.roll(3, 2), 2, certainty=2.0)).requires_grad_()
    before = boundary_loss(logits, mask)
    (gradient,) = torch.autograd.grad(before, logits)
    assert boundary_loss(logits - 50 * gradient, mask) < before - 0.01
