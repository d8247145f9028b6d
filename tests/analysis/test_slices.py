"""Slices of images by a user's columns: pandas' own quartiles, slices by hand, and a sentence for each problem."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtvision.analysis.slices import read_columns, slice_results, slice_rows
from mtvision.errors import DataError

IDS = ["a", "b", "c", "d"]


def rows_of(slices):
    return {label: rows.tolist() for label, rows in slices.items()}


def of(values):
    """Return the slices of one column, given in the order of `IDS` or of numbered ids."""
    ids = IDS if len(values) == len(IDS) else [f"{place}" for place in range(len(values))]
    return rows_of(slice_rows({"x": dict(zip(ids, values, strict=True))}, ids)["x"])


def test_values_are_slices_in_their_order():
    assert of(["sun", "rain", "sun", "fog"]) == {"fog": [3], "rain": [1], "sun": [0, 2]}
    assert list(of([10, 9, 2, 10])) == ["2", "9", "10"]
    assert of([1.5, 2.0, 1.5, np.nan]) == {"1.5": [0, 2], "2": [1], "missing": [3]}
    assert of([True, False, True, True]) == {"False": [1], "True": [0, 2, 3]}
    assert of([True, None, True, True]) == {"True": [0, 2, 3], "missing": [1]}
    assert of(["b", None, "a", 3]) == {"3": [3], "a": [2], "b": [0], "missing": [1]}
    sizes = pd.Series(pd.Categorical(["large", "small", None, "small"], ["small", "large"]), index=IDS)
    slices = slice_rows(pd.DataFrame({"size": sizes}), IDS)["size"]
    assert rows_of(slices) == {"small": [1, 3], "large": [0], "missing": [2]}


def test_more_than_eight_numbers_are_cut_at_their_quartiles():
    assert list(of(list(range(8)))) == [str(value) for value in range(8)]
    assert of([8, 1, 2, 3, 4, 5, 6, 7, 0]) == {
        "[0, 2]": [1, 2, 8],
        "(2, 4]": [3, 4],
        "(4, 6]": [5, 6],
        "(6, 8]": [0, 7],
    }
    assert of([0.0] * 20 + list(range(1, 9))) == {"[0, 1.25]": [*range(21)], "(1.25, 8]": [*range(21, 28)]}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-40, 40).map(lambda value: value / 8), min_size=20, max_size=60))
def test_quarters_are_those_of_pandas(values):
    if len(set(values)) <= 8:
        return
    codes = pd.qcut(values, 4, labels=False, duplicates="drop")
    expected = [np.flatnonzero(codes == code).tolist() for code in np.unique(codes)]
    assert [rows for rows in of(values).values() if rows] == expected


def test_labels_of_close_bounds_are_told_apart():
    assert list(of([1e6 + place for place in range(9)])) == [
        "[1000000, 1000002]",
        "(1000002, 1000004]",
        "(1000004, 1000006]",
        "(1000006, 1000008]",
    ]


def test_every_image_is_in_one_slice_of_each_column():
    rng = np.random.default_rng(0)
    ids = [f"image {place}" for place in range(100)]
    table = {"number": rng.normal(size=100), "kind": rng.choice(["a", "b"], 100)}
    table["number"][::7] = np.nan
    slices = slice_rows(pd.DataFrame(table, index=ids), ids)
    for name in table:
        assert sorted(np.concatenate(list(slices[name].values()))) == list(range(100))
        assert all(rows.dtype == np.int64 for rows in slices[name].values())
    assert len(slices["number"]) == 5
    assert slices["number"]["missing"].tolist() == list(range(0, 100, 7))


def test_the_sources_are_equal(tmp_path):
    """A mapping, two frames and a file, rows in another order than the images."""
    table = {"weather": {"c": "rain", "a": "sun", "b": None, "d": "NA"}, "hour": {"c": 3, "a": 1, "b": 2.5, "d": None}}
    frame = pd.DataFrame(table)
    path = tmp_path / "slices.csv"
    path.write_text("image_id,weather,hour\nc,rain,3\na,sun,1\nb,,2.5\nd,NA,nan\n")
    expected = {
        "weather": {"NA": [3], "rain": [2], "sun": [0], "missing": [1]},
        "hour": {"1": [0], "2.5": [1], "3": [2], "missing": [3]},
    }
    for source in (table, frame, frame.rename_axis("image_id").reset_index(), path, str(path)):
        assert {name: rows_of(slices) for name, slices in slice_rows(source, IDS).items()} == expected


def test_ids_are_text_whatever_they_look_like(tmp_path):
    path = tmp_path / "slices.csv"
    path.write_text("image_id,place\n007,010\n7,x\n", encoding="utf-8-sig")
    assert read_columns(path)["place"].to_dict() == {"007": "010", "7": "x"}
    assert rows_of(slice_rows(pd.DataFrame({"x": [1, 2]}, index=[7, 8]), ["8", "7"])["x"]) == {"1": [1], "2": [0]}


def test_results_of_slices_by_hand():
    scores = np.array([0.1, 0.2, 0.4, 0.8])
    columns = {"weather": dict(zip(IDS, ["sun", "rain", "sun", None], strict=True)), "night": dict.fromkeys(IDS, False)}
    numbers = {"mean": lambda rows: scores[rows].mean(), "best": lambda rows: scores[rows].max()}
    frame = slice_results(columns, IDS, numbers)
    assert list(frame.columns) == ["column", "slice", "n", "mean", "best"]
    assert frame.values.tolist() == [
        ["weather", "rain", 1, 0.2, 0.2],
        ["weather", "sun", 2, 0.25, 0.4],
        ["weather", "missing", 1, 0.8, 0.8],
        ["night", "False", 4, pytest.approx(0.375), 0.8],
    ]


def full(**columns):
    return {name: dict(zip(IDS, values, strict=True)) for name, values in columns.items()}


@pytest.mark.parametrize(
    ("columns", "ids", "sentence"),
    [
        (full(x=[1, 2, 3, 4]), ["a", "b", "c"], r"slices: no image has the id 'd'"),
        (full(x=[1, 2, 3, 4]), ["a", "b", "c", "e1", "d"], r"slices: there is no row for the image 'e1'"),
        ({"x": {"image1": 1}}, ["image2"], r"no image has the id 'image1'. Did you mean 'image2'\?"),
        ({"x": {}}, [*"abcde"], "no row for the image 'a', 'b', 'c' and 2 more"),
        ({}, IDS, "there is no column of values"),
        (pd.DataFrame({"x": [1, 2]}, index=["a", "a"]), ["a"], "the image id 'a' stands more than once"),
        (pd.DataFrame([[1, 2]], index=["a"], columns=["x", "x"]), ["a"], "the column 'x' stands more than once"),
        (full(x=[None] * 4), IDS, "the column 'x' has no value for any image"),
        (full(x=[1, np.inf, 2, 3]), IDS, "the column 'x' has an infinite number"),
    ],
)
def test_each_problem_is_a_sentence(columns, ids, sentence):
    with pytest.raises(DataError, match=sentence):
        slice_rows(columns, ids)


def test_a_text_an_image_is_no_slice():
    ids = [str(place) for place in range(51)]
    texts = [f"photograph {place}" for place in ids]
    assert len(slice_rows({"x": dict(zip(ids[:50], texts, strict=False))}, ids[:50])["x"]) == 50
    with pytest.raises(DataError, match="the column 'x' has 51 texts, expected at most 50"):
        slice_rows({"x": dict(zip(ids, texts, strict=True))}, ids)


def test_all_problems_are_told_at_once():
    with pytest.raises(DataError) as caught:
        slice_rows(full(x=[None] * 4, y=[np.inf, 1, 2, 3]), IDS)
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "cannot be read as a CSV"),
        ("name,x\na,1\n", "expected 'image_id' as the first column, got 'name'"),
        ("image_id\na\n", "there is no column of values"),
        ("image_id,x\na,1\na,2\n", "the image id 'a' stands more than once"),
        ("image_id,x,x\na,1,2\n", "the column 'x' stands more than once"),
        ("image_id,x\na,1,2\n", "cannot be read as a CSV"),
        ("image_id,x\nb,1\n", "no image has the id 'b'"),
    ],
)
def test_problems_of_a_file_have_its_name(tmp_path, text, sentence):
    path = tmp_path / "slices.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=sentence) as caught:
        slice_rows(path, ["a"])
    assert all(line.startswith(f"{path}: ") for line in str(caught.value).splitlines())


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.csv: cannot be read"):
        slice_rows(tmp_path / "nowhere.csv", IDS)
