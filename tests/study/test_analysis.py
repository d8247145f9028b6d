import math

import numpy as np
import pandas as pd
import pytest

from benchmarks.simulated_studies import Truth, full_factorial, simulate
from mtvision.errors import ConfigError, DataError
from mtvision.study.analysis.analyze import analyze
from mtvision.study.analysis.findings import Findings
from mtvision.study.analysis.table import FAILED
from study.tables import runs


def crossed(seeds=2):
    truth = Truth({"f0": [0.0, 0.2], "f1": [0.0, 0.0], "f2": [0.0, 0.0, 0.1]})
    return simulate(full_factorial((2, 2, 3)), truth, seeds, np.random.default_rng(0))


def quick(table, **options):
    return analyze(table, **{"bootstrap": 500, "importance": "ped_anova", **options})


def test_a_study_is_analysed_as_a_whole():
    table = crossed()
    table.runs["seg/miou"] = table.runs["score"] / 2
    table.runs["seconds"] = np.arange(24.0)
    found = quick(table)
    assert isinstance(found, Findings)
    assert found.recommended == {"f0": "l1", "f1": "l0", "f2": "l2"}
    assert len(found.recommended_runs) == found.expected["n"] == 2
    assert found.best["f0"] == "l1"
    assert found.pareto_axes == {"seg/miou": True, "seconds": False}
    assert found.flags == ()
    assert found.importance["factor"].iloc[0] == "f0"
    assert len(found.learning) == len(found.cost) == 24
    assert found.effects["shown"].tolist() == [True, False, False, True]
    assert not found.interactions["shown"].any()
    assert found.aliasing.sets == ()


def test_the_same_table_and_seed_give_the_same_findings():
    one, same, other = (quick(crossed(), seed=seed) for seed in (1, 1, 2))
    for name in ("effects", "interactions", "importance"):
        pd.testing.assert_frame_equal(getattr(one, name), getattr(same, name))
    assert not one.effects.equals(other.effects)


def test_a_run_that_is_there_twice_changes_nothing_but_a_flag():
    table = crossed()
    twice = pd.concat([table.runs, table.runs.iloc[[3]].assign(run="copy")], ignore_index=True)
    found = quick(type(table)(twice, table.factors))
    pd.testing.assert_frame_equal(found.effects, quick(table).effects)
    assert found.flags == ("runs r1s1, copy are one configuration with one seed: they count once",)


def test_axes_can_be_chosen():
    table = crossed()
    assert quick(table, pareto_axes={"score": False}).pareto["f0"].tolist() == ["l0"]


def test_few_configurations_have_no_importance_and_say_so():
    found = quick(runs([{"a": a, "score": 0.1 + 0.1 * n} for n, a in enumerate("xyz")], {"a": "xyz"}))
    assert found.importance.empty
    assert "importance: 3 configurations are too few, at least 8 are needed" in found.flags


def test_one_run_alone_is_analysed():
    found = quick(runs([{"a": "x", "score": 0.5}], {"a": ("x", "y")}))
    assert found.best["mean"] == 0.5
    assert found.recommended == {"a": "x"}
    assert found.expected["mean"] == 0.5
    assert found.effects["method"].tolist() == ["none"]


def test_without_a_finished_run_there_is_nothing_to_analyse():
    table = runs([{"a": "x", "score": math.nan, "state": FAILED}], {"a": ("x", "y")})
    with pytest.raises(DataError, match="no run has finished with a value of 'score'"):
        analyze(table)


def test_too_few_resamples_and_unknown_names_are_refused():
    with pytest.raises(ConfigError, match="bootstrap: expected at least 200 resamples, got 50"):
        analyze(crossed(), bootstrap=50)
    with pytest.raises(ConfigError, match="no evaluator 'anova'"):
        quick(crossed(), importance="anova")
    with pytest.raises(ConfigError, match="no column 'cost'"):
        quick(crossed(), pareto_axes={"cost": False})
