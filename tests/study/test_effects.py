import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.simulated_studies import (
    MIXED,
    at_random,
    balanced,
    full_factorial,
    one_at_a_time,
    simulate,
    some_effects,
)
from mtvision.study.analysis.bootstrap import bootstrap_intervals
from mtvision.study.analysis.cells import read_cells
from mtvision.study.analysis.comparisons import find_comparisons
from mtvision.study.analysis.contrasts import effect_contrast, run_noise
from mtvision.study.analysis.effects import EFFECT_COLUMNS, INTERACTION_COLUMNS, estimate_effects
from mtvision.study.analysis.main_effects import MainEffects
from study.tables import runs


def estimate(table, **options):
    return estimate_effects(read_cells(table), **{"bootstrap": 500, **options})


def row_of(effects, factor, level):
    ((_, row),) = effects[(effects["factor"] == factor) & (effects["level"] == level)].iterrows()
    return row


def noisy(seed=0):
    return np.random.default_rng(seed)


def test_pairs_of_one_factor_are_the_paired_t_test():
    first, second = 0.5 + 0.01 * noisy().standard_normal((2, 12))
    rows = [{"a": f"a{i}", "seed": s, "score": v} for i, vs in enumerate((first, second)) for s, v in enumerate(vs)]
    row = row_of(estimate(runs(rows, {"a": ("a0", "a1")}), bootstrap=20_000).effects, "a", "a1")
    oracle = stats.ttest_rel(second, first)
    interval = oracle.confidence_interval(0.95)
    assert (row["method"], row["pairs"]) == ("paired", 12)
    assert row["effect"] == pytest.approx(oracle.statistic * oracle._standard_error)
    assert (row["high"] - row["low"]) == pytest.approx(interval.high - interval.low, rel=0.08)


def test_a_factorial_pairs_every_run_and_averages_over_the_other_levels():
    table = simulate(full_factorial((2, 2, 3)), some_effects((2, 2, 3)), 2, noisy())
    effects = estimate(table).effects
    assert list(effects.columns) == list(EFFECT_COLUMNS)
    assert list(effects["pairs"]) == [12, 12, 8, 8]
    assert set(effects["method"]) == {"paired"}
    for row in effects.itertuples():
        means = table.runs.groupby(row.factor)["score"].mean()
        assert row.effect == pytest.approx(means[row.level] - means[row.base])


def test_one_at_a_time_pairs_each_level_with_the_base_runs():
    table = simulate(one_at_a_time((2, 3)), some_effects((2, 3)), 3, noisy())
    scores = table.runs.pivot(index=["f0", "f1"], columns="seed", values="score")
    effects = estimate(table).effects
    assert list(effects["pairs"]) == [3, 3, 3]
    assert row_of(effects, "f1", "l2")["effect"] == pytest.approx(
        (scores.loc["l0", "l2"] - scores.loc["l0", "l0"]).mean()
    )
    assert estimate(table).interactions.empty


def test_without_pairs_the_effect_is_that_of_least_squares_over_configurations():
    configs = at_random(MIXED, 40)
    table = simulate(configs, some_effects(MIXED), 2, noisy())
    effects = estimate(table).effects
    means = table.runs.groupby([f"f{place}" for place in range(11)], sort=False)["score"].mean().to_numpy()
    dummies = pd.get_dummies(configs.astype(str), drop_first=True).to_numpy(dtype=float)
    fit, *_ = np.linalg.lstsq(np.hstack([np.ones((40, 1)), dummies]), means)
    assert set(effects["method"]) == {"model"}
    assert set(effects["pairs"]) == {0}
    assert effects["effect"].to_numpy() == pytest.approx(fit[1:])
    assert "adjusted, 40 configurations" in effects["sentence"].iloc[0]


def test_seeds_are_no_further_configurations():
    """Copies of all runs under other seeds bring nothing new, so that the interval must not shrink."""
    configs, truth = balanced(MIXED, 27), some_effects(MIXED, seed_noise=0.0)
    once = simulate(configs, truth, 1, noisy())
    copies = [once.runs.assign(seed=seed, config=once.runs["config"] + f"-{seed}") for seed in range(4)]
    four = estimate(type(once)(pd.concat(copies, ignore_index=True), once.factors)).effects
    one = estimate(once).effects
    assert four["effect"].to_numpy() == pytest.approx(one["effect"].to_numpy())
    assert four["high"].to_numpy() == pytest.approx(one["high"].to_numpy())


def test_seeds_that_not_all_configurations_have_are_allowed_for():
    """No noise but a large effect of the seed: as each configuration has another seed, plain means would be far off."""
    truth = some_effects(MIXED, noise=0.0, seed_noise=0.5)
    table = simulate(balanced(MIXED, 27), truth, 2, noisy())
    odd = table.runs["run"].str.extract(r"r(\d+)s")[0].astype(int) % 2
    effects = estimate(type(table)(table.runs[odd == table.runs["seed"]].reset_index(drop=True), table.factors)).effects
    assert set(effects["method"]) == {"model"}
    expected = [truth.effects[row.factor][int(row.level[1:])] for row in effects.itertuples()]
    assert effects["effect"].to_numpy() == pytest.approx(expected)


def test_many_seeds_with_a_run_each_are_noise_and_no_blocks():
    configs = at_random((2, 3, 2, 2), 20)
    table = simulate(configs, some_effects((2, 3, 2, 2)), 1, noisy())
    table.runs["seed"] = range(20)
    effects = estimate(table).effects
    assert set(effects["method"]) == {"model"}
    assert effects["low"].notna().all()


def test_a_pair_that_is_there_by_accident_does_not_speak_for_all_runs():
    configs = pd.concat([balanced(MIXED, 27), one_at_a_time(MIXED).iloc[:2]], ignore_index=True)
    effects = estimate(simulate(configs, some_effects(MIXED), 2, noisy())).effects
    assert row_of(effects, "f0", "l1")["method"] == "model"


def test_one_run_a_level_gives_a_difference_but_no_interval():
    effects = estimate(simulate(one_at_a_time((2, 3)), some_effects((2, 3)), 1, noisy())).effects
    assert list(effects["pairs"]) == [1, 1, 1]
    assert effects["effect"].notna().all()
    assert effects[["low", "high", "low_all", "high_all"]].isna().all(axis=None)
    assert not effects["shown"].any()
    assert "no interval: one pair only, 1 pair)" in effects["sentence"].iloc[0]


def test_a_level_of_one_configuration_without_a_partner_says_so():
    crossed = [row for row in itertools.product("01", "01", "01") if row != ("0", "0", "1")]
    rows = [dict(zip("abc", row, strict=True)) for row in [*crossed, ("2", "2", "1")]]
    scored = [{**row, "score": noisy(number).normal()} for number, row in enumerate(rows)]
    row = row_of(estimate(runs(scored, {"a": "012", "b": "012", "c": "01"})).effects, "a + b", "2 + 2")
    assert row["method"] == "none"
    assert np.isnan(row["effect"])
    assert "nothing can be said: one configuration only has a=2 and b=2" in row["sentence"]


def test_equal_differences_have_no_interval_and_show_nothing():
    rows = [
        {"a": f"a{i}", "b": f"b{j}", "seed": s, "score": 0.25 * i + 0.125 * s * j}
        for i in (0, 1)
        for j in (0, 1)
        for s in (0, 1, 2)
    ]
    found = estimate(runs(rows, {"a": ("a0", "a1"), "b": ("b0", "b1")}))
    row = row_of(found.effects, "a", "a1")
    assert row["effect"] == 0.25
    assert np.isnan(row["low"])
    assert not row["shown"]
    assert row["sentence"] == (
        "a: a1 against a0, no difference shown (Δ = +0.250, no interval: the same in all 6 pairs, 6 pairs)"
    )
    assert np.isfinite(row_of(found.effects, "b", "b1")["low"])


@pytest.mark.parametrize("design", [one_at_a_time((2, 3)), full_factorial((2, 3)), at_random((2, 3, 2), 8)])
def test_a_constant_objective_shows_nothing(design):
    truth = some_effects([design[name].max() + 1 for name in design], size=0.0, noise=0.0, seed_noise=0.0)
    found = estimate(simulate(design, truth, 2, noisy()))
    assert not found.effects["shown"].any()
    assert found.effects["low"].isna().all()


def test_one_configuration_alone_is_no_crash():
    effects = estimate(runs([{"a": "a0", "score": 0.5}], {"a": ("a0", "a1")})).effects
    assert effects["method"].tolist() == ["none"]
    assert "no finished run has a=a1" in effects["sentence"].iloc[0]


def test_a_saturated_design_with_seeds_is_judged_by_their_spread():
    """Plackett and Burman 1946: 4 runs for 3 factors leave no degree of freedom to the main effects."""
    configs = pd.DataFrame([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]], columns=["f0", "f1", "f2"])
    truth = some_effects((2, 2, 2))
    assert estimate(simulate(configs, truth, 1, noisy())).effects["low"].isna().all()
    several = estimate(simulate(configs, truth, 3, noisy())).effects
    assert several["low"].notna().all()
    assert set(several["method"]) == {"model"}


def test_all_rows_at_once_are_wider_than_each_alone_and_seeded():
    table = simulate(one_at_a_time(MIXED), some_effects(MIXED), 3, noisy())
    one, same, other = (estimate(table, seed=seed).effects for seed in (3, 3, 4))
    pd.testing.assert_frame_equal(one, same)
    assert (one["high"] != other["high"]).any()
    assert (one["low_all"] < one["low"]).all()
    assert (one["shown"] == ((one["low_all"] > 0) | (one["high_all"] < 0))).all()


def test_what_is_better_depends_on_the_objective():
    table = simulate(one_at_a_time((2, 2)), some_effects((2, 2), size=0.5), 4, noisy())
    up = estimate(table).effects["sentence"].iloc[0]
    down = estimate(table, higher_is_better=False).effects["sentence"].iloc[0]
    assert up.startswith("f0: l1 better than l0 (Δ = +0.5")
    assert down.startswith("f0: l1 worse than l0 (Δ = +0.5")
    assert ", 4 pairs; for all at once +0.4" in up, "the interval by which it is shown stands there too"


def test_paired_and_model_rows_share_the_five_percent():
    """One of four rows is paired: its joint interval may miss in a quarter of the 5 %."""
    table = simulate(full_factorial((2, 2, 2)), some_effects((2, 2, 2)), 3, noisy())
    kept = table.runs[(table.runs["f2"] == "l0") | (table.runs["f0"] == table.runs["f1"])]
    fourth = [
        "l1" if pair in {("l0", "l1"), ("l1", "l0")} else "l0" for pair in zip(kept["f0"], kept["f2"], strict=True)
    ]
    cells = read_cells(type(table)(kept.assign(f3=fourth), {**table.factors, "f3": ("l0", "l1")}))
    effects = estimate_effects(cells, bootstrap=4000).effects
    assert effects["method"].tolist() == ["model", "paired", "model", "model"]
    model = MainEffects(cells)
    contrast = effect_contrast(find_comparisons(cells, model)[1], cells, model)
    expected = bootstrap_intervals(
        run_noise(cells, model), contrast.weights[None], resamples=4000, generator=noisy(), miss=0.05 / 4
    )
    assert effects["high_all"][1] - effects["effect"][1] == pytest.approx(expected.together[0])


def test_interactions_are_differences_of_differences():
    table = simulate(full_factorial((2, 2, 3)), some_effects((2, 2, 3)), 2, noisy())
    found = estimate(table).interactions
    assert list(found.columns) == list(INTERACTION_COLUMNS)
    assert list(zip(found["factor_a"], found["factor_b"], found["level_b"], found["pairs"], strict=True)) == [
        ("f0", "f1", "l1", 6),
        ("f0", "f2", "l1", 4),
        ("f0", "f2", "l2", 4),
        ("f1", "f2", "l1", 4),
        ("f1", "f2", "l2", 4),
    ]
    means = table.runs.groupby(["f0", "f2"])["score"].mean()
    expected = means["l1", "l2"] - means["l0", "l2"] - means["l1", "l0"] + means["l0", "l0"]
    assert found["effect"].iloc[2] == pytest.approx(expected)


def test_a_large_interaction_is_shown():
    truth = some_effects((2, 2))
    truth = type(truth)(truth.effects, {("f0", "f1"): 0.2})
    found = estimate(simulate(full_factorial((2, 2)), truth, 5, noisy())).interactions
    assert found["shown"].tolist() == [True]
    assert found["effect"].iloc[0] == pytest.approx(0.8, abs=0.05)
    assert found["sentence"].iloc[0].startswith("f0: l1, f1: l1: the effects do not add up (Δ = +0.8")


def test_designs_that_cross_nothing_have_no_interactions():
    assert estimate(simulate(balanced(MIXED, 27), some_effects(MIXED), 2, noisy())).interactions.empty
    assert estimate(simulate(full_factorial((2, 2)), some_effects((2, 2)), 1, noisy())).interactions.empty
