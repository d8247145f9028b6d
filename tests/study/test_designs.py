"""Designs: what each promises, for known arrays and for generated factors."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats.contingency import association

from mtvision.errors import ConfigError
from mtvision.registries import DESIGNS
from mtvision.registry import Component
from mtvision.study.planning import designs
from mtvision.study.planning.designs import FixedDesign, SearchDesign
from mtvision.study.planning.factors import Factor, Level
from mtvision.study.planning.orthogonal import design_matrix, nearly_orthogonal_array, orthogonality

MIXED = (2,) * 6 + (3,) * 5  # the factors of the report


def make_factors(counts, bases=None):
    bases = bases or [0] * len(counts)
    return tuple(
        Factor(f"f{number}", tuple(Level(str(level), {}) for level in range(count)), base)
        for number, (count, base) in enumerate(zip(counts, bases, strict=True))
    )


def build(name, factors, seed=0, **options):
    return DESIGNS.build(Component(name, options), factors, seed)


def assert_holds(rows, counts, base):
    """Distinct rows, levels as equally often as can be, the base first, all main effects estimable."""
    array = np.array(rows)
    assert len(set(rows)) == len(rows)
    assert rows[0] == tuple(base)
    for column, count in zip(array.T, counts, strict=True):
        occurring = np.bincount(column, minlength=count)
        assert len(occurring) == count
        assert occurring.max() - occurring.min() <= 1
    assert np.linalg.matrix_rank(design_matrix(array)) == 1 + sum(counts) - len(counts)


few_factors = st.lists(st.tuples(st.integers(2, 4), st.integers(0, 3)), min_size=1, max_size=5).map(
    lambda pairs: make_factors([count for count, _ in pairs], [base % count for count, base in pairs])
)


@settings(max_examples=40, deadline=None)
@given(few_factors)
def test_one_at_a_time_changes_one_factor_of_the_base(factors):
    base, *changes = build("one_at_a_time", factors).rows
    assert base == tuple(factor.base for factor in factors)
    assert [sum(a != b for a, b in zip(row, base, strict=True)) for row in changes] == [1] * len(changes)
    assert len(set(changes)) == len(changes) == sum(len(factor.levels) - 1 for factor in factors)


@settings(max_examples=40, deadline=None)
@given(few_factors)
def test_the_full_factorial_has_every_combination_once_and_the_base_first(factors):
    rows = build("full_factorial", factors).rows
    assert rows[0] == tuple(factor.base for factor in factors)
    assert len(rows) == len(set(rows))
    assert set(rows) == set(itertools.product(*(range(len(factor.levels)) for factor in factors)))


def test_a_full_factorial_may_not_have_more_than_100_000_rows():
    assert len(build("full_factorial", make_factors([10] * 5)).rows) == 100_000
    with pytest.raises(ConfigError, match=r"131,072 combinations of levels are more than 100,000; 'fractional'"):
        build("full_factorial", make_factors([2] * 17))


@settings(max_examples=40, deadline=None)
@given(few_factors, st.integers(0, 5), st.data())
def test_random_rows_are_distinct_and_a_function_of_the_seed(factors, seed, data):
    total = math.prod(len(factor.levels) for factor in factors)
    runs = data.draw(st.integers(1, min(total, 40)))
    rows = build("random", factors, seed, runs=runs).rows
    assert len(set(rows)) == runs
    assert all(0 <= level < len(f.levels) for row in rows for level, f in zip(row, factors, strict=True))
    assert build("random", factors, seed, runs=min(total, runs + 3)).rows[:runs] == rows


def test_random_rows_are_uniform():
    """Chi-square: two of six combinations, 3000 times; its 99.9 % point with 14 degrees of freedom is 36.1."""
    pairs = [frozenset(build("random", make_factors([2, 3]), seed, runs=2).rows) for seed in range(3000)]
    counts = np.array([pairs.count(pair) for pair in set(pairs)])
    assert len(counts) == 15
    assert ((counts - 200) ** 2 / 200).sum() < 36.1


@pytest.mark.parametrize("name", ["random", "fractional"])
def test_more_runs_than_combinations_are_refused(name):
    assert len(build(name, make_factors([2, 3]), runs=6).rows) == 6
    with pytest.raises(ConfigError, match=rf"design.{name}.runs: 7 runs are more than the 6 combinations"):
        build(name, make_factors([2, 3]), runs=7)


@pytest.mark.parametrize(
    ("counts", "runs"),
    [
        ([2] * 3, 4),
        ([2] * 7, 8),
        ([3] * 4, 9),
        ([2] * 11, 12),
        ([2] * 15, 16),
        ([4] * 5, 16),
        ([2] + [3] * 7, 18),
        ([2] * 19, 20),
        ([2] * 6 + [3] * 5, 36),
    ],
    ids=["L4", "L8", "L9", "L12", "L16", "L16 of 4 levels", "L18", "L20", "L36 in part"],
)
def test_orthogonal_arrays_are_reached(counts, runs):
    """Strength 2: each pair of levels of two factors is in equally many rows (Hedayat, Sloane & Stufken 1999)."""
    factors = make_factors(counts, [count - 1 for count in counts])
    rows = build("fractional", factors, runs=runs).rows
    assert_holds(rows, counts, [count - 1 for count in counts])
    array = np.array(rows)
    for a, b in itertools.combinations(range(len(counts)), 2):
        _, cells = np.unique(array[:, [a, b]], axis=0, return_counts=True)
        assert cells.tolist() == [runs // (counts[a] * counts[b])] * (counts[a] * counts[b])
    assert orthogonality(rows, counts) == (0, 0)


@pytest.mark.parametrize("runs", [27, 54])
@pytest.mark.parametrize("seed", [0, 1])
def test_where_no_orthogonal_array_exists_the_best_possible_is_reached(runs, seed):
    """The report's factors: each pair of levels is in one of the two whole numbers of rows around the ideal."""
    rows = build("fractional", make_factors(MIXED), seed, runs=runs).rows
    assert_holds(rows, MIXED, [0] * len(MIXED))
    array = np.array(rows)
    for a, b in itertools.combinations(range(len(MIXED)), 2):
        cells = np.bincount(array[:, a] * MIXED[b] + array[:, b], minlength=MIXED[a] * MIXED[b])
        assert cells.max() - cells.min() <= 1
    assert orthogonality(rows, MIXED)[0] < {27: 0.105, 54: 0.038}[runs]


@settings(max_examples=25, deadline=None)
@given(few_factors, st.integers(0, 3), st.data())
def test_fractional_designs_hold_what_they_promise(factors, seed, data):
    counts = [len(factor.levels) for factor in factors]
    total, least = math.prod(counts), 1 + sum(counts) - len(counts)
    assume(total >= least)
    runs = data.draw(st.integers(least, min(total, 24)))
    assert_holds(build("fractional", factors, seed, runs=runs).rows, counts, [factor.base for factor in factors])


def test_a_fractional_design_is_a_function_of_the_seed():
    factors = make_factors(MIXED)
    first, again, other = (build("fractional", factors, seed, runs=27).rows for seed in (3, 3, 4))
    assert first == again != other


@pytest.mark.slow
def test_twenty_factors_in_reasonable_time():
    """Slow: no orthogonal array of twenty factors ends the search early, so that all of its budget is spent."""
    counts = [2] * 10 + [3] * 10
    rows = build("fractional", make_factors(counts), runs=48).rows
    assert_holds(rows, counts, [0] * 20)
    random_rows = build("random", make_factors(counts), runs=48).rows
    assert orthogonality(rows, counts)[0] < 0.15 < orthogonality(random_rows, counts)[0]


def test_too_few_runs_say_how_many_it_takes():
    with pytest.raises(ConfigError, match=r"16 runs are too few .* of 11 factors apart; at least 17 are needed"):
        build("fractional", make_factors(MIXED), runs=16)


def test_a_search_without_a_result_is_an_error(monkeypatch):
    monkeypatch.setattr(designs, "nearly_orthogonal_array", lambda *_: None)
    with pytest.raises(ConfigError, match="no balanced design of 9 runs was found"):
        build("fractional", make_factors([3] * 4), runs=9)


def test_nearly_all_combinations_leave_out_a_balanced_few():
    array = nearly_orthogonal_array((2, 2, 3), 11, seed=0)
    assert len(np.unique(array, axis=0)) == 11
    assert sorted(np.bincount(array[:, 2])) == [3, 4, 4]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2)), min_size=2, max_size=30))
def test_orthogonality_of_two_factors_is_their_v(rows):
    table = np.zeros((2, 3), dtype=int)
    np.add.at(table, tuple(np.array(rows).T), 1)
    table = table[table.any(axis=1)][:, table.any(axis=0)]
    expected = association(table, method="cramer") if min(table.shape) > 1 else 0
    assert orthogonality(rows, (2, 3)) == pytest.approx((expected, expected), abs=1e-7)


LR = Factor("training.lr", tuple(Level(label, {}) for label in ("0.002", "0.01")), 1)
LOSS = Factor("training.seg_loss", (Level("cross_entropy", {}), Level("focal(gamma=2.0)", {})))
NECK = Factor("model.neck", (Level("null", {}), Level("fpn", {})))


def test_runs_are_read_by_label_or_value():
    rows = [
        {"training.lr": 0.002, "training.seg_loss": {"name": "focal", "gamma": 2.0}, "model.neck": "fpn"},
        {"training.seg_loss": "focal(gamma=2.0)", "model.neck": None},
        {},
    ]
    assert build("runs", (LR, LOSS, NECK), rows=rows) == FixedDesign(((0, 1, 1), (1, 1, 0), (1, 0, 0)))


def test_all_that_is_wrong_with_runs_is_said_at_once():
    rows = [
        {},
        {"trainig.lr": 0.002},
        {"training.seg_loss": "cross_entrop"},
        {"training.lr": 0.01},
        {"training.lr": 0.002},
    ]
    with pytest.raises(ConfigError) as caught:
        build("runs", (LR, LOSS), rows=rows)
    assert caught.value.problems == (
        "design.runs.rows, row 2: no factor 'trainig.lr'. Did you mean 'training.lr'? Factors: training.lr, "
        "training.seg_loss",
        "design.runs.rows, row 3: factor 'training.seg_loss' has no level 'cross_entrop'. Did you mean "
        "'cross_entropy'? Levels: cross_entropy, focal(gamma=2.0)",
        "design.runs.rows: rows 1 and 4 are the same",
    )


def test_a_search_keeps_its_options():
    assert build("tpe", make_factors([2]), runs=20) == SearchDesign(20, True, 10)
    assert build("tpe", make_factors([2]), runs=20, pruning=False, startup=0) == SearchDesign(20, False, 0)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("one_at_a_time", {"runs": 3}),
        ("random", {}),
        ("random", {"runs": 0}),
        ("fractional", {"runs": 1}),
        ("fractional", {"runs": 5000}),
        ("runs", {"rows": []}),
        ("tpe", {"runs": 5, "startup": -1}),
    ],
)
def test_options_are_checked(name, options):
    with pytest.raises(ValidationError):
        build(name, make_factors([2, 2]), **options)


def test_every_design_is_registered():
    assert DESIGNS.own_names() == ["fractional", "full_factorial", "one_at_a_time", "random", "runs", "tpe"]
