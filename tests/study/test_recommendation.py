import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from benchmarks.simulated_studies import Truth, draw, full_factorial, no_effects, one_at_a_time, simulate
from mtvision.study.analysis.cells import read_cells
from mtvision.study.analysis.effects import estimate_effects
from mtvision.study.analysis.recommendation import best_config, config_interval, expect, recommend, runs_with
from study.tables import runs

STRONG = Truth({"f0": [0.0, 0.2], "f1": [0.0, 0.1, 0.3], "f2": [0.0, -0.2]})


def study(configs, truth, seeds=4, seed=0):
    table = simulate(configs, truth, seeds, np.random.default_rng(seed))
    return table, read_cells(table)


def recommended(table, cells):
    return recommend(table, estimate_effects(cells, higher_is_better=table.higher_is_better, bootstrap=500))


def test_the_largest_shown_improvement_is_recommended_and_the_base_else():
    table, cells = study(one_at_a_time((2, 3, 2)), STRONG)
    assert recommended(table, cells) == {"f0": "l1", "f1": "l2", "f2": "l0"}
    down = type(table)(table.runs, table.factors, higher_is_better=False)
    assert recommended(down, cells) == {"f0": "l0", "f1": "l0", "f2": "l1"}


def test_a_recommendation_that_was_not_run_has_no_numbers():
    table, cells = study(one_at_a_time((2, 3, 2)), STRONG)
    levels = recommended(table, cells)
    assert runs_with(table, levels) == ()
    assert expect(table, cells, levels) is None


def test_a_recommendation_that_was_run_has_its_runs_and_their_cost():
    table, _ = study(full_factorial((2, 3, 2)), STRONG)
    table.runs["seconds"] = np.arange(len(table.runs), dtype=float)
    cells = read_cells(table)
    levels = recommended(table, cells)
    names = runs_with(table, levels)
    own = table.runs[table.runs["run"].isin(names)]
    expected = expect(table, cells, levels)
    assert len(names) == 4
    assert expected["mean"] == pytest.approx(own["score"].mean())
    assert expected["seconds"] == own["seconds"].mean()
    assert expected["n"] == 4
    assert expected["low"] < expected["mean"] < expected["high"]


def test_levels_of_a_joint_row_come_together():
    rows = [
        {"a": f"a{i}", "b": f"b{i}", "c": f"c{j}", "seed": s, "score": 0.5 * i + 0.01 * np.sin(7 * s + 3 * i + j)}
        for i in range(2)
        for j in range(2)
        for s in range(4)
    ]
    table = runs(rows, {"a": ("a0", "a1"), "b": ("b0", "b1"), "c": ("c0", "c1")})
    assert recommended(table, read_cells(table)) == {"a": "a1", "b": "b1", "c": "c0"}


def test_noise_recommends_the_base():
    table, cells = study(one_at_a_time((2, 3, 2)), no_effects((2, 3, 2)))
    assert set(recommended(table, cells).values()) == {"l0"}


def test_the_best_configuration_has_the_best_mean_not_the_best_run():
    rows = [{"a": "x", "seed": s, "score": v} for s, v in enumerate((0.9, 0.1))]
    rows += [{"a": "y", "seed": s, "score": v} for s, v in enumerate((0.6, 0.7))]
    table = runs(rows, {"a": ("x", "y")})
    best = best_config(table, read_cells(table))
    assert (best["a"], best["mean"], best["n"], best["runs"]) == ("y", pytest.approx(0.65), 2, ("r2", "r3"))
    assert best["sentence"].startswith(
        "score 0.650 over 2 seeds, the best of 2 configurations: the choice favours lucky"
    )
    lowest = runs(rows, {"a": ("x", "y")}, higher_is_better=False)
    assert best_config(lowest, read_cells(lowest))["a"] == "x"


def test_the_interval_of_one_configuration_is_students():
    values = [0.3, 0.5, 0.45, 0.6]
    cells = read_cells(runs([{"a": "x", "seed": s, "score": v} for s, v in enumerate(values)], {"a": ("x",)}))
    expected = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    found = config_interval(cells, 0)
    assert (found["low"], found["high"]) == pytest.approx(expected)


def test_one_seed_has_no_interval():
    found = config_interval(
        read_cells(runs([{"a": "x", "score": 0.5}, {"a": "y", "score": 0.6}], {"a": ("x", "y")})), 0
    )
    assert found["mean"] == 0.5
    assert math.isnan(found["low"])


@pytest.mark.parametrize(
    ("seeds", "noise", "seed_noise"), [(2, 0.01, 0.01), (3, 0.01, 0.0), (3, 0.002, 0.01), (5, 0.01, 0.01)]
)
def test_the_interval_covers_what_new_seeds_give(seeds, noise, seed_noise):
    truth = Truth({"f0": [0.0, 0.1], "f1": [0.0, 0.1, 0.2]}, noise=noise, seed_noise=seed_noise)
    configs = full_factorial((2, 3))
    hits = []
    _, cells = study(configs, truth, seeds)
    generator = np.random.default_rng(0)
    for _ in range(400):
        found = config_interval(replace(cells, values=draw(configs, truth, seeds, generator).ravel()), 3)
        hits.append(found["low"] <= 0.6 <= found["high"])
    assert 0.92 <= np.mean(hits) <= 0.99  # three standard deviations of 400 studies, and Satterthwaite is careful
