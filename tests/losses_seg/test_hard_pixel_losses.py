import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_inputs import example, hard

from mtvision.errors import ConfigError
from mtvision.losses.segmentation import (
    HardPixelCrossEntropy,
    RareFocal,
    hard_pixel_cross_entropy,
    rare_class_focal,
    segmentation_cross_entropy,
    softmax_focal,
)
from mtvision.types import VOID


def losses_of(logits, mask):
    """Return the cross-entropy of each pixel that counts, the greatest first."""
    counted = mask != VOID
    each = F.cross_entropy(logits, torch.where(counted, mask, 0), reduction="none")[counted]
    return np.sort(each.detach().double().numpy())[::-1]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(0.01, 1))
def test_the_mean_of_the_hard_pixels_and_at_least_of_a_share(seed, threshold, min_kept):
    logits, mask = example(seed)
    losses = losses_of(logits, mask)
    below = int((np.exp(-losses) < threshold).sum())
    number = max(below, math.ceil(np.float32(len(losses)) * np.float32(min_kept)))
    value = hard_pixel_cross_entropy(logits, mask, threshold=threshold, min_kept=min_kept)
    assert value.item() == pytest.approx(losses[:number].mean(), rel=1e-5)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_keeping_all_is_the_cross_entropy(seed):
    logits, mask = example(seed)
    weights = torch.rand(5)
    options = {"threshold": 0.5, "min_kept": 1.0}
    torch.testing.assert_close(
        hard_pixel_cross_entropy(logits, mask, **options), segmentation_cross_entropy(logits, mask)
    )
    torch.testing.assert_close(
        hard_pixel_cross_entropy(logits, mask, class_weights=weights, **options),
        segmentation_cross_entropy(logits, mask, class_weights=weights),
    )


def test_easy_pixels_get_no_gradient_and_ties_are_kept_by_number():
    logits = torch.zeros(1, 2, 4, 4, requires_grad=True)
    mask = torch.zeros(1, 4, 4, dtype=torch.int64)
    hard_pixel_cross_entropy(logits, mask, threshold=0.5, min_kept=0.25).backward()  # all are 0.5, none is below
    assert logits.grad[:, 0].count_nonzero() == 4
    hard_pixel_cross_entropy(logits, mask, threshold=0.51, min_kept=0.25).backward()
    assert logits.grad[:, 0].count_nonzero() == 16


def test_weights_change_the_mean_and_not_which_pixels_are_kept():
    logits = torch.tensor([[[[0.0, 0.0, 9.0]], [[0.0, 1.0, 0.0]]]])
    mask = torch.tensor([[[1, 0, 0]]])
    losses = F.cross_entropy(logits, mask, reduction="none").flatten()
    weights = torch.tensor([0.5, 4.0])
    value = hard_pixel_cross_entropy(logits, mask, threshold=0.0, min_kept=2 / 3, class_weights=weights)
    torch.testing.assert_close(value, (4 * losses[0] + 0.5 * losses[1]) / 4.5)


def test_void_pixels_are_not_among_the_kept_where_others_cost_nothing():
    mask = torch.ones(1, 4, 4, dtype=torch.int64)
    logits = hard(mask, 2)
    logits[0, :, 3, 3] = 0
    mask[:, :2] = VOID
    weights = torch.tensor([5.0, 1.0])  # a void pixel would count as one of class 0
    value = hard_pixel_cross_entropy(logits, mask, min_kept=1.0, class_weights=weights)
    assert value.item() == pytest.approx(math.log(2) / 8)


def test_the_module_hands_its_options_on():
    logits, mask = example()
    weights = [1.0, 2.0, 0.5, 3.0, 1.0]
    loss = HardPixelCrossEntropy(threshold=0.2, min_kept=0.3, class_weights=weights)
    expected = hard_pixel_cross_entropy(logits, mask, threshold=0.2, min_kept=0.3, class_weights=torch.tensor(weights))
    torch.testing.assert_close(loss(logits, mask), expected)
    assert loss(logits, mask) != hard_pixel_cross_entropy(logits, mask)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 4))
def test_focal_where_all_are_rare_and_cross_entropy_where_none_is(seed, gamma):
    logits, mask = example(seed)
    torch.testing.assert_close(
        RareFocal(gamma=gamma, rare_classes=[])(logits, mask), segmentation_cross_entropy(logits, mask)
    )
    torch.testing.assert_close(
        RareFocal(gamma=gamma, rare_classes=[4, 0, 1, 2, 3])(logits, mask), softmax_focal(logits, mask, gamma=gamma)
    )


def test_rare_pixels_have_the_focal_term_and_common_ones_the_cross_entropy():
    logits, mask = example()
    value = RareFocal(gamma=1.5, rare_classes=[1, 3])(logits, mask)
    is_rare = (mask == 1) | (mask == 3)
    focal = softmax_focal(logits, torch.where(is_rare, mask, VOID), gamma=1.5) * is_rare.sum()
    common = (mask != VOID) & ~is_rare
    plain = segmentation_cross_entropy(logits, torch.where(common, mask, VOID)) * common.sum()
    torch.testing.assert_close(value, (focal + plain) / (mask != VOID).sum())


def test_rare_classes_that_there_are_not():
    logits, mask = example()
    with pytest.raises(ConfigError, match="rare_classes: there is no class 5, only 0 to 4"):
        RareFocal(rare_classes=[1, 5])(logits, mask)
    with pytest.raises(ConfigError, match=r"rare: must have one entry a class \(5\), got 2"):
        rare_class_focal(logits, mask, rare=torch.ones(2))
