from dataclasses import replace

import numpy as np
import optuna
import pytest

from benchmarks.simulated_studies import Truth, full_factorial, one_at_a_time, simulate
from mtvision.errors import ConfigError
from mtvision.study.analysis.cells import read_cells
from mtvision.study.analysis.importance import EVALUATORS, IMPORTANCE_COLUMNS, importances
from study.tables import runs

LEVELS = (2, 2, 3)


def cells(sizes=(0.0, 0.1, 0.0), configs=None, seeds=2):
    configs = full_factorial(LEVELS) if configs is None else configs
    effects = {
        f"f{n}": [size * i for i in range(count)] for n, (size, count) in enumerate(zip(sizes, LEVELS, strict=True))
    }
    return read_cells(simulate(configs, Truth(effects), seeds, np.random.default_rng(0)))


def test_the_shares_are_optunas_of_the_means_over_seeds():
    given = cells((0.03, 0.05, 0.01))
    study = optuna.create_study(direction="maximize")
    space = {
        name: optuna.distributions.CategoricalDistribution(sorted(set(given.configs[name]))) for name in given.configs
    }
    for params, value in zip(given.configs.to_dict("records"), given.means, strict=True):
        study.add_trial(optuna.trial.create_trial(params=params, distributions=space, value=value))
    expected = optuna.importance.get_param_importances(
        study, evaluator=optuna.importance.FanovaImportanceEvaluator(n_trees=64, seed=5)
    )
    found = importances(given, resamples=2, seed=5)
    assert list(found.columns) == list(IMPORTANCE_COLUMNS)
    assert dict(zip(found["factor"], found["importance"], strict=True)) == pytest.approx(expected)
    assert found["importance"].is_monotonic_decreasing
    assert found["importance"].sum() == pytest.approx(1)


@pytest.mark.parametrize("name", EVALUATORS)
@pytest.mark.parametrize("order", [("f0", "f1", "f2"), ("zz", "f1", "aa"), ("f2", "f1", "f10")])
def test_the_factor_that_matters_is_first_whatever_it_is_called(name, order):
    """Optuna's mean decrease in impurity confuses the names if they are not sorted."""
    given = cells()
    renamed = dict(zip(("f0", "f1", "f2"), order, strict=True))
    factors = {renamed[factor]: labels for factor, labels in given.factors.items()}
    table = replace(given, configs=given.configs.rename(columns=renamed), factors=factors)
    found = importances(table, name, resamples=4)
    assert found["factor"].iloc[0] == "f1"
    assert found["low"].iloc[0] > found["high"].iloc[1:].max() or name == "ped_anova"


def test_a_small_objective_is_best_for_ped_anova_if_small_is_better():
    """PED-ANOVA looks at the best runs only: what makes them apart is another factor at the other end."""
    rows = []
    for number in range(32):
        a, b, c = number % 2, number // 2 % 2, number // 4
        score = 10 * (1 if a else -1) * (b if a else (c % 2)) + 0.01 * number
        rows.append({"a": a, "b": b, "c": c % 2, "d": c // 2, "score": score})
    table = runs(rows, {"a": "01", "b": "01", "c": "01", "d": "0123"})
    shares = {
        higher: importances(read_cells(table), "ped_anova", higher_is_better=higher, resamples=2).set_index("factor")
        for higher in (True, False)
    }
    assert shares[True]["importance"]["b"] > shares[False]["importance"]["b"]
    assert shares[True]["importance"]["c"] < shares[False]["importance"]["c"]


def test_factors_that_change_together_are_one_row():
    configs = full_factorial((4, 3)).assign(f2=lambda frame: frame["f0"])
    truth = Truth({"f0": [0, 0.1, 0.2, 0.3], "f1": [0, 0, 0], "f2": [0, 0, 0, 0]})
    given = read_cells(simulate(configs, truth, 1, np.random.default_rng(0)))
    found = importances(given, together=[("f0", "f2")], resamples=2)
    assert found["factor"].tolist() == ["f0 + f2", "f1"]
    assert found["importance"].iloc[0] > 0.9


def test_a_factor_with_one_level_has_no_share():
    configs = full_factorial((1, 4, 3))
    truth = Truth({"f0": [0, 0], "f1": [0, 0.1, 0.2, 0.3], "f2": [0, 0, 0]})
    found = importances(read_cells(simulate(configs, truth, 1, np.random.default_rng(0))), resamples=3)
    assert found["factor"].tolist() == ["f1", "f2", "f0"]
    assert found.iloc[2][["importance", "low", "high"]].fillna(-1).tolist() == [0.0, -1, -1]


def test_resamples_are_seeded():
    given = cells()
    one, same, other = (importances(given, resamples=5, seed=seed) for seed in (1, 1, 2))
    assert one.equals(same)
    assert not one.equals(other)


def test_too_few_configurations_and_a_constant_objective_have_none():
    assert importances(cells(configs=one_at_a_time(LEVELS))).empty
    given = cells()
    assert importances(replace(given, values=np.full(len(given.values), 0.5))).empty


def test_an_unknown_evaluator_is_refused():
    with pytest.raises(ConfigError, match=r"no evaluator 'fanov'; known: fanova, .* Did you mean 'fanova'"):
        importances(cells(), "fanov")


def test_optunas_verbosity_is_as_before():
    before = optuna.logging.get_verbosity()
    importances(cells(), resamples=1)
    assert optuna.logging.get_verbosity() == before
