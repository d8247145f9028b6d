"""Bounds of the objects of an instance map, and how boxes follow them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtvision.data.instances import are_whole, instance_bounds, tightened


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 6), st.integers(0, 10_000), st.sampled_from(["u1", "u2"]))
def test_bounds_are_those_of_a_plain_search(height: int, width: int, num_objects: int, seed: int, kind: str):
    rng = np.random.default_rng(seed)
    instances = (rng.integers(0, num_objects + 1, (height, width)) * (rng.random((height, width)) < 0.4)).astype(kind)
    found = instance_bounds(instances, num_objects)
    assert found.shape == (num_objects, 4)
    for row in range(num_objects):
        rows, columns = np.nonzero(instances == row + 1)
        if not len(rows):
            assert np.isnan(found[row]).all()
        else:
            assert found[row].tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_only_sides_that_the_pixels_left_move_in():
    boxes = np.array([[0, 0, 20, 20]], np.float32)
    moved, seen = np.array([[1, 1, 19, 19]], np.float32), np.array([[5, 1.5, 19, 12]], np.float32)
    tight, visible = tightened(boxes, moved, seen, np.array([True]))
    assert tight.tolist() == [[4, 0, 20, 13]]  # left by 4, bottom by 7; half a pixel is rounding
    assert visible.all()
    same, visible = tightened(boxes, moved, seen, np.array([False]))
    assert same.tolist() == boxes.tolist()
    _, visible = tightened(boxes, moved, np.full((1, 4), np.nan, np.float32), np.array([True]))
    assert not visible.any()
    unknown, visible = tightened(boxes, np.full((1, 4), np.nan, np.float32), seen, np.array([True]))
    assert unknown.tolist() == boxes.tolist()
    assert visible.all()


@pytest.mark.parametrize(("bound", "whole"), [([0, 0, 10, 10], True), ([0, 0, 10, 8], True), ([0, 0, 10, 6], False)])
def test_a_box_is_whole_where_it_is_about_the_bound_of_the_pixels(bound: list[int], whole: bool):
    assert are_whole(np.array([[0, 0, 10, 10]], np.float32), np.array([bound], np.float32)).tolist() == [whole]


def test_a_tiny_box_is_whole_within_rounding():
    tiny = np.array([[4.2, 4.2, 7.1, 7.4]], np.float32)
    assert are_whole(tiny, np.array([[5, 5, 7, 7]], np.float32)).tolist() == [True]


def test_an_object_without_pixels_is_not_whole():
    assert are_whole(np.array([[0, 0, 10, 10]], np.float32), np.full((1, 4), np.nan, np.float32)).tolist() == [False]
