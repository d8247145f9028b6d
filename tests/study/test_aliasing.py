"""The alias check against scipy, against linear algebra by hand and against designs whose answer is known."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats.contingency import association, crosstab

from mtvision.errors import DataError
from mtvision.study.planning.aliasing import check_aliasing
from mtvision.study.planning.orthogonal import cramers_v

LETTERS = "abcd"


def check(columns, levels=None):
    """Check runs that are given as one word a factor, a letter a run."""
    configs = pd.DataFrame({name: list(word) for name, word in columns.items()})
    return check_aliasing(configs, levels or {name: sorted(set(word)) for name, word in columns.items()})


@st.composite
def run_tables(draw):
    """Two to four factors of two to four levels in up to 20 runs; levels may be missing and runs may be repeated."""
    counts = draw(st.lists(st.integers(2, 4), min_size=2, max_size=4))
    row = st.tuples(*(st.sampled_from(LETTERS[:count]) for count in counts))
    rows = draw(st.lists(row, min_size=1, max_size=20))
    names = [f"f{number}" for number in range(len(counts))]
    return pd.DataFrame(rows, columns=names), {
        name: tuple(LETTERS[:count]) for name, count in zip(names, counts, strict=True)
    }


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 30), min_size=3, max_size=3), min_size=2, max_size=5))
def test_cramers_v_is_scipys(table):
    table = np.array(table)
    inner = table[table.any(axis=1)][:, table.any(axis=0)]
    if min(inner.shape) < 2:
        assert math.isnan(cramers_v(table))
    else:
        assert cramers_v(table) == pytest.approx(association(inner, method="cramer"), abs=1e-7)


def test_cramers_v_is_exact_at_both_ends():
    independent = np.outer([7, 11, 13], [3, 17])
    assert cramers_v(independent) == 0
    assert association(independent, method="cramer") == pytest.approx(0, abs=1e-6)
    assert cramers_v(np.diag([7, 11, 13])) == 1
    assert 0.999999 < cramers_v(np.array([[10**8, 1], [0, 10**8]])) < 1


@settings(max_examples=60, deadline=None)
@given(run_tables())
def test_the_matrix_of_v_is_that_of_the_distinct_runs(given_runs):
    configs, factors = given_runs
    found, distinct = check_aliasing(configs, factors).cramers_v, configs.drop_duplicates()
    for a, b in itertools.product(factors, repeat=2):
        table = crosstab(distinct[a], distinct[b]).count
        expected = association(table, method="cramer") if min(table.shape) > 1 else math.nan
        assert found.loc[a, b] == pytest.approx(expected, abs=1e-7, nan_ok=True)


@settings(max_examples=60, deadline=None)
@given(run_tables())
def test_a_contrast_is_estimable_where_least_squares_give_it_one_value(given_runs):
    """Oracle: the pseudo-inverse. A contrast c is estimable exactly where c = c X⁺ X, with a column for every level."""
    configs, factors = given_runs
    columns = [(name, level) for name, levels in factors.items() for level in levels]
    matrix = np.array([[1.0, *(float(run[name] == level) for name, level in columns)] for _, run in configs.iterrows()])
    projection = np.linalg.pinv(matrix) @ matrix
    expected = set()
    for name, level in columns:
        contrast = np.array([0.0, *((n == name) * ((k == level) - (k == factors[name][0]) * 1.0) for n, k in columns)])
        if level != factors[name][0] and np.abs(contrast @ projection - contrast).max() > 1e-8:
            expected.add((name, level))
    found = check_aliasing(configs, factors)
    assert set(found.inestimable) == expected
    assert found.rank == np.linalg.matrix_rank(matrix)
    occurring = sum(configs[name].nunique() - 1 for name in factors)
    assert found.columns == 1 + occurring


@settings(max_examples=60, deadline=None)
@given(run_tables())
def test_sets_and_partitions_by_their_definitions(given_runs):
    configs, factors = given_runs
    found, distinct = check_aliasing(configs, factors), configs.drop_duplicates()
    members = [(name, level) for name, levels in factors.items() for level in levels]
    together = {frozenset(pair) for group in found.sets for pair in itertools.combinations(group, 2)}
    for first, second in itertools.combinations(members, 2):
        runs = [set(distinct.index[distinct[name] == level]) for name, level in (first, second)]
        same = runs[0] == runs[1] and 0 < len(runs[0]) < len(distinct)
        assert (frozenset((first, second)) in together) == same
    partners = {frozenset(pair) for group in found.factor_sets for pair in itertools.combinations(group, 2)}
    for a, b in itertools.combinations(factors, 2):
        varies = distinct[a].nunique() > 1 and distinct[b].nunique() > 1
        a_fixes_b = varies and (distinct.groupby(a)[b].nunique() == 1).all()
        b_fixes_a = varies and (distinct.groupby(b)[a].nunique() == 1).all()
        assert (frozenset((a, b)) in partners) == (a_fixes_b and b_fixes_a)
        assert ((a, b) in found.nested) == (a_fixes_b and not b_fixes_a)
        assert ((b, a) in found.nested) == (b_fixes_a and not a_fixes_b)


@settings(max_examples=40, deadline=None)
@given(run_tables(), st.integers(1, 3))
def test_repeated_runs_count_once(given_runs, times):
    configs, factors = given_runs
    once, more = check_aliasing(configs, factors), check_aliasing(pd.concat([configs] * times), factors)
    pd.testing.assert_frame_equal(once.balance, more.balance)
    pd.testing.assert_frame_equal(once.empty_cells, more.empty_cells)
    assert (once.sets, once.near, once.rank) == (more.sets, more.near, more.rank)
    counts = configs.drop_duplicates()
    for factor, level, n in once.balance.itertuples(index=False):
        assert n == (counts[factor] == level).sum()
    cells = set(once.empty_cells.itertuples(index=False, name=None))
    for a, b in itertools.combinations(factors, 2):
        seen = set(zip(configs[a], configs[b], strict=True))
        for levels in itertools.product(factors[a], factors[b]):
            assert ((a, levels[0], b, levels[1]) in cells) == (levels not in seen)


def test_a_full_factorial_has_nothing_to_say():
    rows = pd.DataFrame(list(itertools.product("ab", "abc", "ab")), columns=["x", "y", "z"])
    found = check_aliasing(rows, {"x": "ab", "y": "abc", "z": "ab"})
    assert found.sentences() == []
    assert (found.rank, found.columns) == (5, 5)
    assert (found.cramers_v.to_numpy() == np.eye(3)).all()
    assert found.empty_cells.empty


def test_two_factors_that_change_together_are_one_set_a_level():
    found = check({"x": "aabbc", "y": "ccaab", "z": "abcab"})
    assert found.factor_sets == (("x", "y"),)
    assert found.sets == ((("x", "a"), ("y", "c")), (("x", "b"), ("y", "a")), (("x", "c"), ("y", "b")))
    assert found.nested == ()
    assert found.cramers_v.loc["x", "y"] == 1
    assert found.sentences()[0] == (
        "x and y always change together (x=a with y=c, x=b with y=a, x=c with y=b): no analysis can separate them"
    )


def test_a_dependence_of_four_factors_is_found_by_rank_alone():
    """[x=b] + [y=b] = [z=b] + [w=b] in all runs: no pair is aliased, yet no main effect can be estimated."""
    found = check({"x": "abbaab", "y": "aaabbb", "z": "ababab", "w": "aababb"})
    assert (found.rank, found.columns) == (4, 5)
    assert (found.sets, found.factor_sets, found.nested, found.near) == ((), (), (), ())
    assert found.inestimable == (("x", "b"), ("y", "b"), ("z", "b"), ("w", "b"))
    assert found.sentences()[:2] == [
        "the design matrix of the main effects has rank 4 and 5 columns: not all of them can be estimated side by side",
        "x: a against b cannot be told from differences of other factors",
    ]


def test_a_level_without_runs_and_a_factor_that_never_changes():
    found = check({"x": "aabb", "y": "aaaa"}, {"x": ("a", "b", "c"), "y": ("a", "b")})
    assert found.balance["n"].tolist() == [1, 1, 0, 2, 0]
    assert found.cramers_v.isna().to_numpy().tolist() == [[False, True], [True, True]]
    assert found.inestimable == (("x", "c"), ("y", "b"))
    assert found.sentences() == [
        "x=c has no run",
        "y=b has no run",
        "y is a in all runs: nothing can be said about it",
    ]


def test_a_base_without_runs_leaves_nothing_to_compare_with():
    assert check({"x": "bcbc", "y": "aabb"}, {"x": ("a", "b", "c"), "y": ("a", "b")}).inestimable == (
        ("x", "b"),
        ("x", "c"),
    )


def test_nearly_aliased_factors_are_named_with_their_v():
    found = check({"x": "a" * 9 + "b" * 9, "y": "a" * 8 + "b" * 10, "z": "abcdefghi" * 2})
    ((first, second, strength),) = (pair for pair in found.near if pair[:2] == ("x", "y"))
    table = np.array([[8, 1], [0, 9]])
    assert (first, second) == ("x", "y")
    assert strength == pytest.approx(association(table, method="cramer"))
    assert "x and y nearly always change together (Cramér's V = 0.89)" in found.sentences()


@pytest.mark.parametrize(
    ("configs", "factors", "message"),
    [
        ({"x": ["a"]}, {}, "the alias check needs at least one factor"),
        ({"x": []}, {"x": ("a", "b")}, "the alias check needs at least one run"),
        ({"dropot": ["a"]}, {"dropout": ("a", "b")}, r"no column 'dropout' .* Did you mean 'dropot'\?"),
        (
            {"x": ["rel"]},
            {"x": ("relu", "gelu")},
            r"column 'x': 'rel' is none of .* \(relu, gelu\)\. Did you mean 'relu'",
        ),
        ({"x": [None]}, {"x": ("relu", "gelu")}, "column 'x': None is none of the factor's levels"),
    ],
)
def test_bad_tables_are_refused_in_a_sentence(configs, factors, message):
    with pytest.raises(DataError, match=message):
        check_aliasing(pd.DataFrame(configs), factors)
