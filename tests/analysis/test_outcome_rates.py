"""Shares with intervals in groups: Wilson's own formula, and groups worked out by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtvision.analysis.outcome_rates import (
    GROUPS,
    SIZES,
    THIRDS,
    box_sizes,
    class_rarity,
    outcome_rates,
    thirds,
    wilson_interval,
    with_groups,
)

LOW, MIDDLE, HIGH = THIRDS


@pytest.mark.parametrize(("count", "number"), [(0, 1), (1, 1), (3, 7), (50, 100), (999, 1000)])
def test_the_interval_is_wilsons(count, number):
    """Both roots of (p - share)^2 = z^2 p (1 - p) / n."""
    z, share = 1.959963984540054, count / number
    middle = (share + z**2 / (2 * number)) / (1 + z**2 / number)
    half = z * math.sqrt(share * (1 - share) / number + z**2 / (4 * number**2)) / (1 + z**2 / number)
    assert wilson_interval(count, number) == pytest.approx((middle - half, middle + half), abs=1e-12)


def test_of_none_there_is_no_interval():
    assert np.isnan(wilson_interval(0, 0)).all()
    rates = outcome_rates(pd.DataFrame({"found": [], "size": []}), "found", ["size"])
    assert rates[["column", "n", "count"]].values.tolist() == [["all", 0, 0]]
    assert rates[["rate", "low", "high"]].isna().all(axis=None)


def test_rates_by_hand():
    frame = pd.DataFrame(
        {
            "found": [True, False, True, True, False],
            "size": pd.Categorical(["small", "large", "large", "small", None], SIZES),
            "truncated": [True, True, False, False, False],
        }
    )
    rates = outcome_rates(frame, "found", ["size", "truncated"])
    assert rates[["column", "group", "n", "count"]].values.tolist() == [
        ["all", "", 5, 3],
        ["size", "small", 2, 2],
        ["size", "large", 2, 1],
        ["size", "missing", 1, 0],
        ["truncated", "False", 3, 2],
        ["truncated", "True", 2, 1],
    ]
    assert rates["rate"].tolist() == pytest.approx([0.6, 1, 0.5, 0, 2 / 3, 0.5])
    for row in rates.itertuples():
        assert (row.low, row.high) == wilson_interval(row.count, row.n)
        assert row.low <= row.rate <= row.high


def test_outcomes_that_are_missing_are_left_out():
    frame = pd.DataFrame({"agrees": pd.array([True, None, False], dtype="boolean"), "label": [3, 3, 4]})
    assert outcome_rates(frame, "agrees", ["label"])[["group", "n", "rate"]].values.tolist() == [
        ["", 2, 0.5],
        ["3", 1, 1.0],
        ["4", 1, 0.0],
    ]


def test_the_groups_of_a_column_are_all_rows():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"found": rng.random(200) < 0.3, "kind": rng.choice(["a", "b", None], 200)})
    rates = outcome_rates(frame, "found", ["kind"])
    groups = rates[rates["column"] == "kind"]
    assert groups["group"].tolist() == ["a", "b", "missing"]
    assert groups[["n", "count"]].sum().tolist() == rates.loc[0, ["n", "count"]].tolist()


def test_what_cannot_be_counted_is_refused():
    frame = pd.DataFrame({"found": [0.5], "size": ["small"]})
    with pytest.raises(ValueError, match=r"no column 'sise'\. Did you mean 'size'"):
        outcome_rates(frame, "found", ["sise"])
    with pytest.raises(ValueError, match="expected flags in 'found', got the type float64"):
        outcome_rates(frame, "found", ["size"])


def test_thirds_by_hand():
    assert thirds(range(6)).tolist() == [LOW, LOW, MIDDLE, MIDDLE, HIGH, HIGH]
    assert thirds([7, 7, 7]).tolist() == [MIDDLE] * 3
    assert thirds([1, 1, 2]).tolist() == [MIDDLE, MIDDLE, HIGH]  # the middle of both is at exactly a third
    assert thirds([0, 0, 0, 0, 1]).tolist() == [MIDDLE] * 4 + [HIGH]
    assert thirds([np.nan, 1, 2, 3]).codes.tolist() == [-1, 0, 1, 2]
    assert thirds([]).codes.tolist() == []
    assert thirds([np.nan]).codes.tolist() == [-1]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=40))
def test_thirds_keep_the_order_and_equal_values_together(values):
    codes = thirds(values).codes
    pairs = sorted(zip(values, codes.tolist(), strict=True))
    assert [code for _, code in pairs] == sorted(codes)
    assert len({*pairs}) == len({*values})


def test_thirds_of_different_values_are_even():
    for number in range(3, 30):
        counts = np.bincount(thirds(np.random.default_rng(number).permutation(number)).codes)
        assert counts.max() - counts.min() <= 1 + number % 3 // 2


def test_sizes_are_cocos():
    """Of ``areaRng`` in pycocotools: up to 32^2 and up to 96^2."""
    boxes = np.array([[0, 0, 32, 32], [5, 5, 37, 37.1], [0, 0, 96, 96], [0, 0, 96, 97], [3, 3, 3, 3]], dtype=float)
    assert box_sizes(boxes).tolist() == ["small", "medium", "medium", "large", "small"]


def test_rarity_is_of_classes_that_are_there():
    labels = np.repeat([0, 1, 2, 4, 5, 6], [9, 1, 5, 2, 8, 4])
    rarity = class_rarity(labels, 8)
    assert [str(name) for name in rarity] == [HIGH, LOW, MIDDLE, "nan", LOW, HIGH, MIDDLE, "nan"]


def test_groups_by_hand():
    images = pd.DataFrame(
        {"height": [50, 50, 200], "width": [100, 100, 300], "brightness": [0.9, 0.1, 0.5], "contrast": [0.2] * 3},
        index=["a", "b", "c"],
    )
    frame = pd.DataFrame(
        {
            "image": ["b", "b", "c", "a"],
            "label": [0, 1, 2, 3],
            "x1": [1.0, 1.1, 10, 2],
            "y1": [2.0, 2, 10, 2],
            "x2": [20.0, 98.9, 200, 5],
            "y2": [20.0, 48.9, 150, 49],
            "found": [True, False, True, True],
        },
        index=[5, 5, 5, 5],  # as of frames put together
    )
    grouped = with_groups(frame, images, np.array([0, 0, 0, 1, 1, 2]))
    assert grouped["size"].tolist() == ["small", "medium", "large", "small"]
    assert grouped["truncated"].tolist() == [True, False, False, True]
    assert [str(name) for name in grouped["rarity"]] == [HIGH, MIDDLE, LOW, "nan"]
    assert grouped["brightness"].tolist() == [LOW, LOW, MIDDLE, HIGH]
    assert grouped["contrast"].tolist() == [MIDDLE] * 4
    assert grouped[frame.columns].equals(frame)
    some = with_groups(frame.iloc[1:3], images, np.array([0]))
    assert some["brightness"].tolist() == [LOW, MIDDLE]  # of all images, not of those that have a row
    rates = outcome_rates(grouped, "found", GROUPS)
    assert rates.loc[rates["column"] == "rarity", "group"].tolist() == [*THIRDS, "missing"]
    with pytest.raises(ValueError, match="no image 'd' among the images"):
        with_groups(frame.assign(image=["b", "d", "c", "a"]), images, np.array([0]))
    assert with_groups(frame[:0], images, np.array([0])).empty
