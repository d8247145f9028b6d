"""Windows cover an image as they should, and maps of windows blend without a seam."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtvision.inference.windows import windows_of
from mtvision.tasks.blending import PixelMean, Region, border_weights

sides = st.integers(1, 60)
window_sides = st.integers(8, 60)  # smaller ones are many and cost time


@settings(deadline=None, max_examples=40)
@given(size=st.tuples(sides, sides), window=st.tuples(window_sides, window_sides), overlap=st.floats(0, 0.9))
def test_windows_cover_every_pixel_have_one_size_and_overlap_enough(size, window, overlap):
    regions = windows_of(size, window, overlap)
    covered = torch.zeros(size, dtype=torch.bool)
    for region in regions:
        left, top, right, bottom = region.box
        assert 0 <= left < right <= size[1]
        assert 0 <= top < bottom <= size[0]
        covered[top:bottom, left:right] = True
    assert covered.all()
    assert {region.size for region in regions} == {(min(window[0], size[0]), min(window[1], size[1]))}
    lefts = sorted({region.left for region in regions})
    shared = [regions[0].width - (after - before) for before, after in pairwise(lefts)]
    assert all(pixels >= min(overlap * regions[0].width, regions[0].width - 1) - 1e-9 for pixels in shared)


def test_one_window_fewer_would_overlap_too_little():
    # 100 = 40 + 2 * 30: three windows with a quarter in common; 101 needs a fourth
    assert [region.left for region in windows_of((40, 100), (40, 40), 0.25)] == [0, 30, 60]
    assert [region.left for region in windows_of((40, 101), (40, 40), 0.25)] == [0, 20, 40, 61]


def test_without_overlap_windows_are_tiles():
    assert [region.box for region in windows_of((4, 8), (4, 4), 0.0)] == [(0, 0, 4, 4), (4, 0, 8, 4)]


@settings(deadline=None, max_examples=40)
@given(size=st.tuples(sides, sides), window=st.tuples(window_sides, window_sides), overlap=st.floats(0, 0.9))
def test_weights_are_never_zero_and_maps_of_one_value_stay_that_value(size, window, overlap):
    mean = PixelMean(size)
    for region in windows_of(size, window, overlap):
        weights = border_weights(region, size)
        assert (weights > 0).all()
        assert (weights <= 1).all()
        mean.add(torch.full((2, *region.size), 0.3), region)
    torch.testing.assert_close(mean.value(), torch.full((2, *size), 0.3))
    torch.testing.assert_close(mean.largest(), torch.full(size, 0.3))


def test_a_window_that_is_the_image_weighs_one_everywhere():
    assert torch.equal(border_weights(Region(0, 0, 5, 7), (5, 7)), torch.ones(5, 7))


def test_two_windows_that_share_half_of_their_side_weigh_one_together():
    # sin² rises over the half in which cos² = sin² of the other window falls
    left, right = border_weights(Region(0, 0, 1, 8), (1, 12)), border_weights(Region(0, 4, 1, 8), (1, 12))
    torch.testing.assert_close(left[:, 4:] + right[:, :4], torch.ones(1, 4))
    assert torch.equal(left[:, :4], torch.ones(1, 4))


def test_a_pixel_that_no_window_covered_is_nan():
    mean = PixelMean((1, 3))
    mean.add(torch.ones(1, 1, 2), Region(0, 0, 1, 2))
    assert mean.value().isnan().tolist() == [[[False, False, True]]]


@pytest.mark.parametrize("corner", [(0, 0), (0, 4), (4, 0), (4, 4)])
def test_the_corner_of_the_image_has_the_full_weight(corner):
    weights = border_weights(Region(*corner, 8, 8), (12, 12))
    assert weights[0 if corner[0] == 0 else -1, 0 if corner[1] == 0 else -1] == 1
