import numpy as np
import pytest
from scipy import stats

from mtvision.study.analysis.bootstrap import bootstrap_intervals, noise_of, standard_errors


def generator(seed=0):
    return np.random.default_rng(seed)


def test_freedom_scale_and_leverage_are_those_of_ordinary_least_squares():
    x = np.arange(12.0)
    y = 0.3 * x + generator().standard_normal(12)
    design = np.stack([np.ones(12), x], axis=1)
    noise = noise_of(y, design)
    fit = stats.linregress(x, y)
    assert noise.freedom == 10
    assert noise.residuals == pytest.approx(y - fit.intercept - fit.slope * x)
    assert noise.leverage == pytest.approx(1 / 12 + (x - x.mean()) ** 2 / np.sum((x - x.mean()) ** 2))
    slope = np.linalg.pinv(design)[1:]
    spread = np.sqrt(np.sum(noise.residuals**2 / (1 - noise.leverage) * slope[0] ** 2))  # HC2
    error = standard_errors(noise.residuals[None], noise, slope)[0, 0]
    assert error == pytest.approx(max(fit.stderr, spread))


def test_a_contrast_of_noisier_values_has_a_standard_error_of_its_own():
    """Groups of 4 with their means as model: 1 - h = 3/4, so the own error is that of the group's mean alone."""
    groups = generator().standard_normal((3, 4)) * np.array([[1.0], [1.0], [20.0]])
    noise = noise_of(groups.ravel(), np.repeat(np.eye(3), 4, axis=0))
    found = standard_errors(noise.residuals[None], noise, np.repeat(np.eye(3), 4, axis=1) / 4)[0]
    common = np.sqrt(np.var(groups, axis=1, ddof=1).mean() / 4)
    assert found == pytest.approx([common, common, stats.sem(groups[2])])
    assert found[2] > common


def test_redundant_columns_cost_no_degree_of_freedom():
    column = np.repeat([0.0, 1.0], 4)
    design = np.stack([np.ones(8), column, 1 - column], axis=1)
    assert noise_of(generator().standard_normal(8), design).freedom == 6


@pytest.mark.parametrize("seeds", [2, 3, 7])
def test_the_standard_error_of_pairs_is_that_of_the_paired_t_test(seeds):
    one, other = generator().standard_normal((2, seeds))
    design = np.hstack([np.repeat(np.eye(2), seeds, axis=0), np.tile(np.eye(seeds), (2, 1))])
    noise = noise_of(np.concatenate([one, other]), design)
    contrast = np.repeat([1.0, -1.0], seeds)[None] / seeds
    assert noise.freedom == seeds - 1
    expected = (one - other).mean() / stats.ttest_rel(one, other).statistic
    assert standard_errors(noise.residuals[None], noise, contrast)[0, 0] == pytest.approx(abs(expected))


def test_with_many_normal_residuals_the_interval_is_the_normal_one():
    values = generator().standard_normal(400)
    noise = noise_of(values, np.ones((400, 1)))
    contrast = np.full((1, 400), 1 / 400)
    found = bootstrap_intervals(noise, contrast, resamples=20_000, generator=generator())
    error = standard_errors(noise.residuals[None], noise, contrast)[0]
    assert found.alone == pytest.approx(stats.norm.ppf(0.975) * error, rel=0.03)
    assert found.together == pytest.approx(found.alone)


def test_with_few_residuals_the_interval_is_about_students():
    """Its size, not each single one: with 4 degrees of freedom the t quantile is 2.78, the normal one 1.96."""
    design, contrast = np.ones((5, 1)), np.full((1, 5), 1 / 5)
    ratios = []
    for seed in range(200):
        noise = noise_of(generator(seed).standard_normal(5), design)
        found = bootstrap_intervals(noise, contrast, resamples=500, generator=generator(seed))
        ratios.append(found.alone[0] / standard_errors(noise.residuals[None], noise, contrast)[0, 0])
    assert np.mean(ratios) == pytest.approx(stats.t.ppf(0.975, 4), rel=0.06)


def test_of_independent_contrasts_the_joint_interval_is_as_wide_as_sidak_says():
    number, each = 6, 80
    noise = noise_of(generator().standard_normal(number * each), np.repeat(np.eye(number), each, axis=0))
    contrasts = np.repeat(np.eye(number), each, axis=1) / each
    found = bootstrap_intervals(noise, contrasts, resamples=10_000, generator=generator())
    errors = standard_errors(noise.residuals[None], noise, contrasts)[0]
    sidak = stats.norm.ppf(0.5 + 0.5 * 0.95 ** (1 / number))
    assert found.together / errors == pytest.approx(np.full(number, sidak), rel=0.04)
    narrower = bootstrap_intervals(noise, contrasts, resamples=10_000, generator=generator(), miss=0.2)
    assert np.all(narrower.together < found.together)


def test_the_same_seed_gives_the_same_interval_and_shifts_change_nothing():
    values, design, contrast = generator().standard_normal(9), np.ones((9, 1)), np.full((1, 9), 1 / 9)
    widths = [
        bootstrap_intervals(noise_of(moved, design), contrast, resamples=300, generator=generator(4)).alone[0]
        for moved in (values, values, values + 7, 3 * values)
    ]
    assert widths[0] == widths[1]
    assert widths[2] == pytest.approx(widths[0])
    assert widths[3] == pytest.approx(3 * widths[0])


@pytest.mark.parametrize(
    ("values", "design"),
    [(np.full(4, 0.3), np.ones((4, 1))), (np.array([0.1, 0.2]), np.eye(2))],
    ids=["no spread", "no degree of freedom"],
)
def test_without_spread_there_is_no_interval(values, design):
    noise = noise_of(values, design)
    found = bootstrap_intervals(noise, np.ones((3, len(values))), resamples=300, generator=generator())
    assert not noise.is_usable
    assert np.isnan(found.alone).all()
    assert np.isnan(found.together).all()


def test_a_value_that_the_model_meets_exactly_lends_no_residual():
    design = np.array([[1.0, 0], [1, 0], [1, 0], [0, 1]])
    noise = noise_of(np.array([1.0, 2, 4, 9]), design)
    found = bootstrap_intervals(noise, np.array([[-1 / 3, -1 / 3, -1 / 3, 1]]), resamples=300, generator=generator())
    assert np.isfinite(found.alone).all()
