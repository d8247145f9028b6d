import math

import numpy as np
import pytest

from mtvision.study.analysis.levels import summarise_levels
from mtvision.study.analysis.table import FAILED
from study.tables import runs

ROWS = [
    {"a": "x", "b": "p", "seed": 0, "score": 0.1},
    {"a": "x", "b": "p", "seed": 1, "score": 0.3},
    {"a": "x", "b": "q", "seed": 0, "score": 0.5},
    {"a": "y", "b": "p", "seed": 0, "score": 0.4},
]
FACTORS = {"a": ("x", "y", "z"), "b": ("p", "q")}


def row(table, level):
    levels = summarise_levels(table)
    return levels[levels["level"] == level].iloc[0]


def test_each_level_has_its_number_mean_and_best():
    found = row(runs(ROWS, FACTORS), "x")
    assert (found["factor"], found["n"], found["best"]) == ("a", 3, 0.5)
    assert found["mean"] == pytest.approx(0.3)
    assert row(runs(ROWS, FACTORS, higher_is_better=False), "x")["best"] == 0.1


def test_spread_is_that_within_configurations_only():
    assert row(runs(ROWS, FACTORS), "x")["spread"] == pytest.approx(np.std([0.1, 0.3], ddof=1))
    assert math.isnan(row(runs(ROWS, FACTORS), "q")["spread"])


def test_spread_is_pooled_by_degrees_of_freedom():
    values = {"p": [0.1, 0.3], "q": [0.5, 0.6, 0.9]}
    rows = [{"a": "x", "b": b, "seed": s, "score": v} for b, each in values.items() for s, v in enumerate(each)]
    expected = math.sqrt((np.var(values["p"], ddof=1) + 2 * np.var(values["q"], ddof=1)) / 3)
    assert row(runs(rows, FACTORS), "x")["spread"] == pytest.approx(expected)


def test_identical_runs_count_once_and_runs_without_a_result_not_at_all():
    failed = {"a": "x", "b": "p", "seed": 7, "score": math.nan, "state": FAILED}
    assert row(runs([*ROWS, ROWS[0], failed], FACTORS), "x")["n"] == 3


def test_a_level_that_was_not_run_has_no_numbers():
    found = row(runs(ROWS, FACTORS), "z")
    assert found["n"] == 0
    assert found[["mean", "spread", "best"]].isna().all()
