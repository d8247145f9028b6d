import itertools

import pytest

from mtvision.study.analysis.cells import read_cells
from mtvision.study.analysis.comparisons import find_comparisons
from mtvision.study.analysis.main_effects import MainEffects
from study.tables import runs


def compare(rows, factors):
    table = runs([dict(zip(factors, row, strict=True)) | {"score": float(n)} for n, row in enumerate(rows)], factors)
    cells = read_cells(table)
    found = find_comparisons(cells, MainEffects(cells))
    return [(each.factor_name, each.level_name, each.base_name) for each in found], [each.reason for each in found]


AB = {"a": ("a0", "a1"), "b": ("b0", "b1", "b2")}


def test_crossed_factors_have_a_row_a_level():
    found, reasons = compare(list(itertools.product(*AB.values())), AB)
    assert found == [("a", "a1", "a0"), ("b", "b1", "b0"), ("b", "b2", "b0")]
    assert reasons == ["", "", ""]


def test_factors_that_always_change_together_are_one_row():
    factors = {"a": ("a0", "a1", "a2"), "b": ("b0", "b1", "b2"), "c": ("c0", "c1")}
    rows = [(f"a{i}", f"b{i}", f"c{j}") for i in range(3) for j in range(2)]
    found, _ = compare(rows, factors)
    assert found == [("a + b", "a1 + b1", "a0 + b0"), ("a + b", "a2 + b2", "a0 + b0"), ("c", "c1", "c0")]


def test_factors_that_change_the_other_way_round_are_one_row_too():
    factors = {"a": ("a0", "a1"), "b": ("b0", "b1")}
    found, reasons = compare([("a0", "b1"), ("a1", "b0")], factors)
    assert found == [("a + b", "a1 + b0", "a0 + b1")]
    assert reasons == [""]


def test_levels_that_the_same_runs_have_are_one_row_and_the_other_levels_keep_theirs():
    factors = {"init": ("xavier", "he", "normal"), "dropout": ("0.3", "0.1", "0.5")}
    rows = [*itertools.product(("xavier", "he"), ("0.3", "0.1")), ("normal", "0.5")]
    found, reasons = compare(rows, factors)
    assert found == [
        ("init", "he", "xavier"),
        ("init + dropout", "normal + 0.5", "xavier + 0.3"),
        ("dropout", "0.1", "0.3"),
    ]
    assert reasons == ["", "", ""]


def test_a_factor_that_follows_from_another_is_joined_where_that_can_be_told():
    """As in the report: gelu and leaky were run with focal only, relu with cross-entropy only."""
    factors = {"activation": ("relu", "gelu", "leaky"), "loss": ("ce", "focal"), "lr": ("low", "high")}
    rows = [(*pair, lr) for pair in (("relu", "ce"), ("gelu", "focal"), ("leaky", "focal")) for lr in ("low", "high")]
    found, reasons = compare(rows, factors)
    assert found[:2] == [
        ("activation + loss", "gelu + focal", "relu + ce"),
        ("activation + loss", "leaky + focal", "relu + ce"),
    ]
    assert found[2:] == [("loss", "focal", "ce"), ("lr", "high", "low")]
    assert reasons == ["", "", "it cannot be told apart from the effect of activation", ""]


@pytest.mark.parametrize(("missing", "named"), [("b2", ("b", "b2")), ("b0", ("b", "b0"))])
def test_a_level_without_a_run_is_named(missing, named):
    rows = [row for row in itertools.product(*AB.values()) if missing not in row]
    found, reasons = compare(rows, AB)
    told = dict(zip(found, reasons, strict=True))
    assert told["a", "a1", "a0"] == ""
    assert told["b", "b2", "b0"] == f"no finished run has {named[0]}={named[1]}"


def test_levels_that_nobody_declared_are_compared_too():
    found, _ = compare([*itertools.product(*AB.values()), ("a0", "b9"), ("a1", "b9")], AB)
    assert ("b", "b9", "b0") in found
