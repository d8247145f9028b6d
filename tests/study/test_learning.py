import math

import pytest

from mtvision.study.analysis.learning import (
    COST_COLUMNS,
    LEARNING_COLUMNS,
    learning_of,
    summarise_cost,
    summarise_learning,
)
from study.tables import runs

CURVES = {
    "val/score": [0.10, 0.37, 0.39, 0.40, 0.38],
    "val/loss": [3.0, 2.0, 1.5, 1.25, 1.75],
    "train/loss": [3.0, 2.5, 1.0, 0.5, 0.25],
}


def test_the_summaries_of_a_score():
    assert learning_of(CURVES, "score") == {
        "epochs_to_95": 3.0,  # 0.39 is the first that is at least 0.95 x 0.40 = 0.38
        "best_epoch": 4.0,
        "train_val_gap": 0.75,
        "first_5_epochs_loss": pytest.approx(1.45),
    }


def test_of_a_loss_95_percent_of_the_way_down_count():
    """From 3.0 to 1.25 are 1.75: 95 % are done at 1.3375."""
    found = learning_of(CURVES, "loss", higher_is_better=False)
    assert (found["epochs_to_95"], found["best_epoch"]) == (4.0, 4.0)
    early = learning_of({"val/loss": [3.0, 1.3, 1.25]}, "loss", higher_is_better=False)
    assert (early["epochs_to_95"], early["best_epoch"]) == (2.0, 3.0)


def test_without_a_curve_of_the_objective_the_validation_loss_stands_in():
    assert learning_of({"val/loss": [3.0, 1.0, 2.0]}, "score")["best_epoch"] == 2.0


def test_the_first_five_epochs_are_five():
    assert learning_of({"train/loss": [5.0, 4.0, 3.0, 2.0, 1.0, 100.0]}, "score")["first_5_epochs_loss"] == 3.0


def test_gaps_in_a_curve_and_no_curve_at_all_are_no_crash():
    found = learning_of({"val/score": [math.nan, 0.2, None, 0.4]}, "score")
    assert (found["epochs_to_95"], found["best_epoch"]) == (4.0, 4.0)
    assert all(math.isnan(value) for value in learning_of({}, "score").values())
    assert all(math.isnan(value) for value in learning_of({"val/score": [math.nan]}, "score").values())


def test_a_score_that_stays_below_zero_reaches_its_best():
    assert learning_of({"val/score": [-3.0, -2.0, -1.0, -1.5]}, "score")["epochs_to_95"] == 3.0


def test_columns_of_the_table_come_before_curves():
    table = runs(
        [{"a": "x", "score": 0.4, "best_epoch": 3}, {"a": "y", "score": 0.4, "best_epoch": math.nan}],
        {"a": ("x", "y")},
        curves={"r0": CURVES, "r1": CURVES},
    )
    found = summarise_learning(table)
    assert list(found.columns) == list(LEARNING_COLUMNS)
    assert found["best_epoch"].tolist() == [3.0, 4.0]
    assert found["train_val_gap"].tolist() == [0.5, 0.75]  # each in its best epoch


def test_cost_has_what_is_known():
    rows = [{"a": "x", "score": 0.4, "seconds": 50.0}, {"a": "y", "score": 0.5, "seconds": 20.0}]
    table = runs(rows, {"a": ("x", "y")}, curves={"r0": CURVES})
    found = summarise_cost(table)
    assert list(found.columns) == ["run", "seconds", "seconds_per_epoch"]
    assert found["seconds_per_epoch"].iloc[0] == 10.0
    assert math.isnan(found["seconds_per_epoch"].iloc[1])
    whole = [{**rows[0], "seconds_per_epoch": 9.0, "parameters": 7, "multiply_adds": 8}]
    assert summarise_cost(runs(whole, {"a": ("x", "y")})).iloc[0].tolist() == ["r0", 50.0, 9.0, 7.0, 8.0]
    assert list(summarise_cost(runs(whole, {"a": ("x", "y")})).columns) == list(COST_COLUMNS)
