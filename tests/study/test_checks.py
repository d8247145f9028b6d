import math

import pytest

from mtvision.study.analysis.checks import check_results, is_fraction
from mtvision.study.analysis.table import FAILED, PRUNED
from study.tables import runs

FACTORS = {"a": ("x", "y")}


def two(**second):
    return runs([{"a": "x", "score": 0.1}, {"a": "y", "score": 0.2, **second}], FACTORS)


def test_sound_results_have_no_flags():
    assert check_results(two(**{"seg/miou": 0.4, "seg/pixel_accuracy": 0.8, "val/loss": 2.0, "seconds": 1e6})) == ()


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("det/map50", 1.2, "run r1: 'det/map50' is 1.2, outside [0, 1]"),
        ("seg/miou", -0.1, "run r1: 'seg/miou' is -0.1, outside [0, 1]"),
        ("score", 1.5, "run r1: 'score' is 1.5, outside [0, 1]"),
        ("val/loss", -1.0, "run r1: 'val/loss' is -1, a loss is finite and not negative"),
        ("train/loss", math.inf, "run r1: 'train/loss' is inf, a loss is finite and not negative"),
        ("first_5_epochs_loss", -2.0, "run r1: 'first_5_epochs_loss' is -2, a loss is finite and not negative"),
    ],
)
def test_a_number_out_of_range_is_named_with_its_run(column, value, said):
    assert check_results(two(**{column: value})) == (said,)


@pytest.mark.parametrize(
    "name", ["map", "mAP", "det/map75", "det/map50_95", "ap50", "seg/dice", "top1_accuracy", "val/score"]
)
def test_fractions_by_name(name):
    assert is_fraction(name)


@pytest.mark.parametrize("name", ["loss_map", "maps", "seconds", "parameters", "lr", "scores", "best_epoch"])
def test_no_fractions_by_name(name):
    assert not is_fraction(name)


def test_pixel_accuracy_below_miou_is_suspicious():
    (said,) = check_results(two(**{"seg/miou": 0.6, "seg/pixel_accuracy": 0.5}))
    assert said == "run r1: pixel accuracy 0.5000 is below the mIoU of 0.6000, which is rare"


def test_equal_results_of_different_configurations_are_named():
    rows = [{"a": a, "score": 0.25, "val/loss": 1.5, "seconds": s} for a, s in (("x", 1.0), ("y", 2.0))]
    other = {"a": "x", "seed": 1, "score": 0.25, "val/loss": 1.25, "seconds": 3.0}
    (said,) = check_results(runs([*rows, other], FACTORS))[:1]
    assert said.startswith("runs r0, r1 have exactly the same results though their configurations or seeds differ")


def test_a_configuration_and_seed_that_is_there_twice_is_named():
    rows = [{"a": "x", "score": 0.1}, {"a": "x", "score": 0.1}, {"a": "y", "score": 0.3}]
    assert check_results(runs(rows, FACTORS)) == ("runs r0, r1 are one configuration with one seed: they count once",)


def test_an_objective_that_never_changes_is_named():
    found = check_results(runs([{"a": a, "score": 0.5, "val/loss": v} for a, v in (("x", 1.0), ("y", 2.0))], FACTORS))
    assert found == ("'score' is 0.5 in all 2 runs: nothing can be compared",)


def test_a_level_whose_runs_all_ended_early_is_named():
    failed = [
        {"a": "y", "seed": s, "score": math.nan, "state": state} for s, state in enumerate((FAILED, PRUNED, FAILED))
    ]
    found = check_results(runs([{"a": "x", "score": 0.5}, *failed], FACTORS))
    assert found == ("a=y: no run has a result (2 failed and 1 pruned of 3)",)


def test_numbers_of_failed_runs_are_not_checked():
    assert not any("outside" in said for said in check_results(two(**{"seg/miou": 7.0, "state": FAILED})))
