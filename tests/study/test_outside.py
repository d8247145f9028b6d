import math

import pandas as pd
import pytest

from mtvision.errors import ConfigError, DataError
from mtvision.study.outside import TableStudy, read_runs
from mtvision.study.study import Study

ROWS = pd.DataFrame(
    {
        "activation": ["relu", "relu", "gelu", "gelu", "relu"],
        "lr": [0.1, 0.1, 0.1, 0.2, 0.2],
        "miou": [0.5, 0.6, 0.7, 0.8, 0.4],
    }
)


def test_levels_are_labels_and_the_most_frequent_one_is_the_base():
    table = read_runs(ROWS, ["activation", "lr"], objective="miou")
    assert table.factors == {"activation": ("relu", "gelu"), "lr": ("0.1", "0.2")}
    assert list(table.runs["lr"]) == ["0.1", "0.1", "0.1", "0.2", "0.2"]


def test_the_base_can_be_chosen():
    assert read_runs(ROWS, ["lr"], objective="miou", base={"lr": 0.2}).factors == {"lr": ("0.2", "0.1")}


def test_rows_of_equal_levels_are_repetitions_but_equal_results_are_one_run():
    rows = pd.concat([ROWS, ROWS.iloc[[0]]])
    table = read_runs(rows, ["activation", "lr"], objective="miou")
    assert len(table.runs) == 6
    assert len(table.finished) == 5


def test_a_column_of_seeds_is_used():
    table = read_runs(ROWS.assign(s=[1, 2, 1, 1, 1]), ["activation", "lr"], objective="miou", seed="s")
    assert list(table.finished["seed"]) == [1, 2, 1, 1, 1]


def test_a_file_is_read_as_it_is_written_none_is_a_level_and_not_a_gap(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("augmentation,miou\nnone,0.1\nbasic,0.2\nnone,\n")
    table = read_runs(path, ["augmentation"], objective="miou")
    assert table.factors == {"augmentation": ("none", "basic")}
    assert math.isnan(table.runs["miou"][2])
    assert len(table.finished) == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"factors": ["activatio"]}, r"factors: no column 'activatio'\. Did you mean 'activation'"),
        ({"objective": "map"}, r"objective: no column 'map'\. There are: activation, lr, miou"),
        ({"objective": "activation"}, "objective: column 'activation' holds no number"),
        ({"factors": []}, "factors: name at least one column"),
        ({"seed": "sed"}, "seed: no column 'sed'"),
        ({"base": {"lr": 0.3}}, "base: 'lr' has no level '0.3'"),
    ],
)
def test_wrong_columns_are_sentences(arguments, sentence):
    given = {"factors": ["activation", "lr"], "objective": "miou", **arguments}
    with pytest.raises(ConfigError, match=sentence):
        read_runs(ROWS, given.pop("factors"), **given)


def test_a_factor_of_one_level_is_refused():
    with pytest.raises(ConfigError, match=r"'lr' has the single level '0\.1'"):
        read_runs(ROWS[:3], ["activation", "lr"], objective="miou")


def test_a_missing_file_is_a_sentence(tmp_path):
    with pytest.raises(DataError, match=r"runs\.csv: cannot be read as a table"):
        read_runs(tmp_path / "runs.csv", ["a"], objective="b")


def test_what_always_changes_together_is_named():
    rows = pd.DataFrame({"a": ["x", "x", "y", "y"], "b": [1, 1, 2, 2], "miou": [0.1, 0.2, 0.3, 0.4]})
    study = Study.from_table(rows, ["a", "b"], objective="miou")
    assert isinstance(study, TableStudy)
    assert study.aliasing().factor_sets == (("a", "b"),)
    effects = study.analyze(bootstrap=500).effects
    assert list(effects["factor"]) == ["a + b"]


def test_its_report_is_written(tmp_path):
    rows = pd.concat([ROWS.assign(miou=ROWS["miou"] + shift) for shift in (0.0, 0.01, 0.02)])
    files = Study.from_table(rows, ["activation", "lr"], objective="miou").report(tmp_path / "report")
    text = files.markdown.read_text()
    assert "activation" in text
    assert files.html.read_text().count("<html") == 1
