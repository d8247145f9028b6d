import math

import pytest

from mtvision.study.analysis.changes import Comparison
from mtvision.study.analysis.sentences import digits_for, effect_sentence, interaction_sentence, number

JOINT = Comparison({"act": "gelu", "loss": "focal"}, {"act": "relu", "loss": "ce"})
NONE = (math.nan, math.nan)


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "+0.00"), (-0.0, "+0.00"), (-0.004, "+0.00"), (-0.006, "\N{MINUS SIGN}0.01")]
)
def test_zero_has_no_minus(value, text):
    assert number(value, 2) == text


@pytest.mark.parametrize(
    ("size", "digits"), [(0.5, 3), (0.0123, 3), (0.00999, 4), (0.0005, 5), (0.0, 3), (math.inf, 3)]
)
def test_two_digits_of_a_small_interval_are_shown(size, digits):
    assert digits_for(size) == digits


def test_joint_rows_name_all_factors():
    said = effect_sentence(JOINT, -0.03, (-0.05, -0.01), shown=True, behind="4 pairs", better=False)
    assert (
        said.replace("\N{MINUS SIGN}", "~")
        == "act + loss: gelu + focal worse than relu + ce (Δ = ~0.030, 95 % CI ~0.050…~0.010, 4 pairs)"
    )


def test_what_only_one_interval_shows_is_not_claimed():
    said = effect_sentence(JOINT, 0.03, (0.01, 0.05), shown=False, behind="4 pairs", nearly=True)
    assert "no difference shown" in said
    assert "better" not in said
    assert said.endswith("4 pairs; with all comparisons at once the interval takes in 0)")


def test_unknown_effects_and_missing_intervals_give_their_reason():
    assert effect_sentence(JOINT, math.nan, NONE, shown=False, behind="0 pairs", reason="no run").endswith(
        "gelu + focal against relu + ce, nothing can be said: no run"
    )
    assert "no interval: one pair only, 1 pair)" in effect_sentence(
        JOINT, 0.1, NONE, shown=False, behind="1 pair", reason="one pair only"
    )
    other = Comparison({"lr": "2"}, {"lr": "1"})
    said = interaction_sentence((JOINT, other), 0.1, NONE, shown=False, behind="2 settings", reason="no spread")
    assert said == (
        "act + loss: gelu + focal, lr: 2: no interaction shown (Δ = +0.100, no interval: no spread, 2 settings)"
    )
