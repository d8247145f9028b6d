import math

import numpy as np
import optuna
import pytest

from mtvision.errors import ConfigError
from mtvision.study.analysis.pareto import default_axes, pareto_front
from study.tables import runs

AXES = {"seg/miou": True, "det/map50": True, "seconds": False}


def some_runs(seed, number=40):
    """Few distinct values, so that there are ties."""
    values = np.random.default_rng(seed).integers(0, 6, size=(number, 3)) / 10
    return [{"a": f"a{place}", "score": 0.5, **dict(zip(AXES, row, strict=True))} for place, row in enumerate(values)]


@pytest.mark.parametrize("seed", range(5))
def test_the_front_is_optunas(seed):
    rows = some_runs(seed)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=["maximize", "maximize", "minimize"])
    for row in rows:
        study.add_trial(optuna.trial.create_trial(values=[row[name] for name in AXES], user_attrs={"a": row["a"]}))
    front = pareto_front(runs(rows, {"a": [row["a"] for row in rows]}), AXES)
    assert sorted(front["a"]) == sorted(trial.user_attrs["a"] for trial in study.best_trials)
    assert front["seg/miou"].is_monotonic_decreasing


def test_configurations_are_judged_by_their_means_over_seeds():
    rows = [
        {"a": "x", "seed": 0, "score": 0.0, "seg/miou": 0.9, "seconds": 1.0},
        {"a": "x", "seed": 1, "score": 0.0, "seg/miou": 0.1, "seconds": 1.0},
        {"a": "y", "seed": 0, "score": 0.0, "seg/miou": 0.6, "seconds": 1.0},
    ]
    front = pareto_front(runs(rows, {"a": ("x", "y")}), {"seg/miou": True, "seconds": False})
    assert front[["run", "n", "a"]].to_numpy().tolist() == [["r2", 1, "y"]]


def test_a_configuration_without_a_value_is_left_out():
    rows = some_runs(0)
    rows[0]["seg/miou"], rows[0]["det/map50"] = math.nan, 1.0
    front = pareto_front(runs(rows, {"a": [row["a"] for row in rows]}), AXES)
    assert rows[0]["a"] not in set(front["a"])


def test_default_axes_take_the_first_of_each_kind_that_has_numbers():
    rows = [{"a": "x", "score": 0.1, "det/map50_95": 0.1, "det/map50": 0.2, "multiply_adds": math.nan, "seconds": 3.0}]
    assert default_axes(runs(rows, {"a": ("x",)}).runs) == {"det/map50_95": True, "seconds": False}


def test_no_axes_no_front_and_an_unknown_one_is_refused():
    table = runs(some_runs(0), {"a": [f"a{place}" for place in range(40)]})
    assert pareto_front(table, {}).empty
    with pytest.raises(
        ConfigError, match=r"no column 'det/map' with numbers among the results\. Did you mean 'det/map50'"
    ):
        pareto_front(table, {"det/map": True})
