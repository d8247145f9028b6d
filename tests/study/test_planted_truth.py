"""Simulated studies: do the intervals cover what is true, and does a study of nothing stay silent?

1,000 studies of each design are in the documentation; here are 200 with fewer resamples, and seeded, so that a failure
is a change of the method and no bad luck.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest

from benchmarks.simulated_studies import (
    MIXED,
    Truth,
    at_random,
    balanced,
    draw,
    full_factorial,
    no_effects,
    one_at_a_time,
    repeat,
    simulate,
    some_effects,
)
from mtvision.study.analysis.analyze import analyze
from mtvision.study.analysis.cells import read_cells
from mtvision.study.analysis.effects import estimate_effects
from mtvision.study.analysis.importance import importances

pytestmark = pytest.mark.slow  # hundreds of simulated studies

STUDIES = 200
TOLERANCE = 2 * math.sqrt(0.05 * 0.95 / STUDIES)
SMALL, CROSSED = (2, 3, 2), (2, 2, 3)
PLANTED = {("f0", "f1"): 0.01}


@dataclass(frozen=True)
class Design:
    configs: pd.DataFrame
    levels: tuple[int, ...]
    seeds: int
    at_base: bool = False
    interactions: bool = False

    @property
    def truth(self):
        return Truth(some_effects(self.levels).effects, PLANTED if self.interactions else {})


DESIGNS = {
    "one_at_a_time, 1 factor, 2 seeds": Design(one_at_a_time((2,)), (2,), 2, at_base=True),
    "one_at_a_time, 2 seeds": Design(one_at_a_time(SMALL), SMALL, 2, at_base=True, interactions=True),
    "one_at_a_time, 3 seeds": Design(one_at_a_time(SMALL), SMALL, 3, at_base=True, interactions=True),
    "one_at_a_time, 5 seeds": Design(one_at_a_time(SMALL), SMALL, 5, at_base=True, interactions=True),
    "one_at_a_time, 11 factors, 2 seeds": Design(one_at_a_time(MIXED), MIXED, 2, at_base=True, interactions=True),
    "full factorial, 2 seeds": Design(full_factorial(CROSSED), CROSSED, 2, interactions=True),
    "27 configurations of 11 factors, 2 seeds": Design(balanced(MIXED, 27), MIXED, 2),
    "random 27 configurations, 2 seeds": Design(at_random(MIXED, 27), MIXED, 2),
}


@pytest.mark.parametrize("name", DESIGNS)
def test_intervals_cover_the_truth_at_the_stated_rate(name):
    design = DESIGNS[name]
    found = repeat(design.configs, design.truth, design.seeds, studies=STUDIES, bootstrap=400, at_base=design.at_base)
    assert not np.isnan(found.covered).any()
    assert 0.93 <= found.covered.mean() <= 0.97
    assert found.covered.mean(axis=0).min() >= 0.95 - 2 * TOLERANCE  # the worst row of up to 16
    assert found.together.mean() >= 0.95 - TOLERANCE
    assert found.false.mean() <= 0.05 + TOLERANCE  # nothing is shown with the wrong sign, or where there is nothing


@pytest.mark.parametrize("name", DESIGNS)
def test_a_study_of_nothing_claims_something_in_at_most_five_percent(name):
    design = DESIGNS[name]
    found = repeat(design.configs, no_effects(design.levels), design.seeds, studies=STUDIES, bootstrap=400)
    assert found.false.mean() <= 0.05 + TOLERANCE


@pytest.mark.parametrize("kind", ["heavy", "skewed"])
def test_noise_need_not_be_normal(kind):
    design = DESIGNS["one_at_a_time, 3 seeds"]
    found = repeat(design.configs, no_effects(design.levels), 3, studies=STUDIES, bootstrap=400, kind=kind)
    assert 0.93 <= found.covered.mean() <= 0.98
    assert found.false.mean() <= 0.05 + TOLERANCE


def test_strong_effects_and_interactions_are_found():
    """Power: intervals that cover everything by being endless would pass the tests above."""
    strong = Truth({"f0": [0, 0.1], "f1": [0, 0.1], "f2": [0, 0, 0.1]}, {("f0", "f1"): 0.03})
    found = estimate_effects(
        read_cells(simulate(full_factorial(CROSSED), strong, 2, np.random.default_rng(0))), bootstrap=500
    )
    shown = found.effects[found.effects["shown"]]
    assert list(zip(shown["factor"], shown["level"], strict=True)) == [("f0", "l1"), ("f1", "l1"), ("f2", "l2")]
    crossed = found.interactions[found.interactions["shown"]]
    assert list(zip(crossed["factor_a"], crossed["factor_b"], strict=True)) == [("f0", "f1")]


def aliased_design():
    """Return a design in which f1 goes with f0 always, and the third level of f3 with the third of f4."""
    configs = balanced(MIXED, 27).copy()
    configs["f1"] = configs["f0"]
    lower = configs["f4"].where(configs["f4"] < 2, np.arange(27) % 2)
    configs["f4"] = np.where(configs["f3"] == 2, 2, lower)
    return configs


def test_exactly_the_aliased_sets_are_named_and_have_joint_rows():
    truth = some_effects(MIXED)
    table = simulate(aliased_design(), truth, 2, np.random.default_rng(0))
    findings = analyze(table, bootstrap=1000, importance="ped_anova")
    assert findings.aliasing.factor_sets == (("f0", "f1"),)
    groups = {frozenset(group) for group in findings.aliasing.sets}
    assert groups == {
        frozenset({("f0", "l0"), ("f1", "l0")}),
        frozenset({("f0", "l1"), ("f1", "l1")}),
        frozenset({("f3", "l2"), ("f4", "l2")}),
    }
    joint = findings.effects[findings.effects["factor"].str.contains(" + ", regex=False)]
    assert joint[["factor", "level", "base"]].to_numpy().tolist() == [
        ["f0 + f1", "l1 + l1", "l0 + l0"],
        ["f3 + f4", "l2 + l2", "l0 + l0"],
    ]
    assert not ({"f0", "f1"} & set(findings.effects["factor"]))
    assert set(findings.effects["method"]) == {"model"}
    sums = [truth.effects["f0"][1] + truth.effects["f1"][1], truth.effects["f3"][2] + truth.effects["f4"][2]]
    assert np.all(np.abs(joint["effect"] - sums) < joint["high_all"] - joint["effect"])
    assert "f0 + f1" in set(findings.importance["factor"])


def test_joint_rows_cover_the_sum_of_their_effects():
    truth, generator = some_effects(MIXED), np.random.default_rng(1)
    cells = read_cells(simulate(aliased_design(), truth, 2, generator))
    hits = []
    for number in range(100):
        drawn = replace(cells, values=draw(aliased_design(), truth, 2, generator).ravel())
        effects = estimate_effects(drawn, bootstrap=300, seed=number).effects.set_index("factor")
        for factors, level in ((("f0", "f1"), 1), (("f3", "f4"), 2)):
            row = effects.loc[" + ".join(factors)]
            hits.append(row["low"] <= sum(truth.effects[name][level] for name in factors) <= row["high"])
    assert 0.9 <= np.mean(hits) <= 0.99


def test_importance_ranks_the_planted_factors():
    sizes = {"f9": 0.10, "f5": 0.07, "f7": 0.05}
    effects = {f"f{n}": [sizes.get(f"f{n}", 0.0) * i / (c - 1) for i in range(c)] for n, c in enumerate(MIXED)}
    table = simulate(balanced(MIXED, 27), Truth(effects, noise=0.003), 2, np.random.default_rng(0))
    found = importances(read_cells(table), resamples=8)
    assert found["factor"].tolist()[:3] == ["f9", "f5", "f7"]
    assert found["low"].iloc[0] > found["high"].iloc[3:].max()
