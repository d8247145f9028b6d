"""Relative gains worked out by hand, and the interval against scipy's."""

import math
import statistics

import pytest
from scipy import stats

from mtvision.training.gain import Estimate, delta_m, percent, relative_gain, t_quantile


@pytest.mark.parametrize(
    ("joint", "single", "higher_is_better", "gain"),
    [
        (0.44, 0.40, True, 0.10),
        (0.36, 0.40, True, -0.10),
        (0.44, 0.40, False, -0.10),
        (0.36, 0.40, False, 0.10),
        (0.40, 0.40, True, 0.0),
        (-1.0, -2.0, True, 0.5),  # the sign tells what is better, also below 0
    ],
)
def test_a_relative_gain_is_what_one_works_out(joint, single, higher_is_better, gain):
    assert relative_gain(joint, single, higher_is_better=higher_is_better) == pytest.approx(gain)


def test_delta_m_is_the_mean_over_tasks_whose_metrics_have_different_directions():
    # NYU-like: mIoU 0.40 -> 0.42 is +5 %, an RMSE of 0.50 -> 0.60 is -20 %; together (5 - 20) / 2
    gains = [
        relative_gain(0.42, 0.40, higher_is_better=True),
        relative_gain(0.60, 0.50, higher_is_better=False),
    ]
    assert delta_m(gains) == pytest.approx(-0.075)


@pytest.mark.parametrize(("joint", "single"), [(0.5, 0.0), (math.nan, 0.5), (0.5, math.nan), (math.inf, 0.5)])
def test_what_is_not_defined_is_nan_and_stays_it(joint, single):
    gain = relative_gain(joint, single, higher_is_better=True)
    assert math.isnan(gain)
    assert math.isnan(delta_m([0.1, gain]))
    estimate = Estimate((0.1, gain))
    assert math.isnan(estimate.mean)
    assert math.isnan(estimate.deviation)
    assert estimate.interval is None
    assert str(estimate).startswith("not defined (2 seeds")


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 10, 30, 101])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
def test_quantiles_are_those_of_scipy(confidence, freedom):
    expected = stats.t.ppf((1 + confidence) / 2, freedom)
    assert t_quantile(confidence, freedom) == pytest.approx(expected, rel=1e-9)


def test_the_interval_is_that_of_scipy():
    values = (0.03, -0.01, 0.02, 0.05)
    estimate = Estimate(values)
    expected = stats.t.interval(0.95, 3, loc=statistics.fmean(values), scale=stats.sem(values))
    assert estimate.interval == pytest.approx(expected)
    assert estimate.mean == pytest.approx(0.0225)
    assert "4 seeds: standard deviation 2.5 %, 95 % t-interval -1.7 % to +6.2 %" in str(estimate)


def test_one_seed_has_no_interval_and_says_so():
    estimate = Estimate((0.03,))
    assert estimate.mean == pytest.approx(0.03)
    assert math.isnan(estimate.deviation)
    assert estimate.interval is None
    assert "no interval" in str(estimate)


def test_percents_have_signs_and_no_negative_zero():
    assert [percent(value) for value in (0.05, -0.05, -0.0, math.nan)] == ["+5.0 %", "-5.0 %", "+0.0 %", "-"]
