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
        ({"objective": "activation"}, r"objective: row 1 of column 'activation' holds 'relu', not a number"),
        ({"objective": "lr"}, "factors: 'lr' is the objective, it cannot be a factor"),
        ({"seed": "lr"}, "factors: 'lr' is the column of the seeds, it cannot be a factor"),
        ({"seed": "miou"}, "seed: 'miou' is the objective"),
        ({"factors": []}, "factors: name at least one column"),
        ({"seed": "sed"}, "seed: no column 'sed'"),
        ({"base": {"lr": 0.3}}, "base: 'lr' has no level '0.3'"),
        ({"base": {"activatoin": "relu"}}, r"base: no factor 'activatoin'\. Did you mean 'activation'\?"),
        ({"base": {"zzz": "relu"}}, r"base: no factor 'zzz'\. Factors: activation, lr"),
        ({"factors": "activation"}, r"factors: expected a list of columns, got the text 'activation'; write \['act"),
        ({"factors": ["lr", "activation", "lr"]}, "factors: 'lr' is named twice"),
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


def problems(rows, factors, **options):
    with pytest.raises(ConfigError) as caught:
        read_runs(rows, factors, objective="miou", **options)
    return caught.value.problems


def test_all_problems_are_told_at_once():
    rows = ROWS.assign(lr=0.1, miou=["x", *ROWS["miou"][1:]], state="running")
    found = problems(rows, ["activatio", "lr"], seed="sed", base={"zzz": 1, "lr": 3})
    starts = [
        "factors: no column 'activatio'",
        "factors: 'lr' has the single level '0.1'",
        "seed: no column 'sed'",
        "base: no factor 'zzz'",
        "base: 'lr' has no level '3'",
        "objective: row 1 of column 'miou' holds 'x', not a number",
        "state: row 1 holds 'running'",
    ]
    assert len(found) == len(starts)
    assert all(any(text.startswith(start) for text in found) for start in starts)


@pytest.mark.parametrize("name", ["run", "config", "state", "seed"])
def test_a_factor_may_not_have_the_name_of_a_column_of_its_own(name):
    rows = ROWS.rename(columns={"lr": name})
    expected = f"factors: the tables have a column '{name}' of their own; choose another column name"
    assert expected in problems(rows, [name])


@pytest.mark.parametrize("name", ["run", "config", "state", "seed"])
def test_the_objective_may_not_have_the_name_of_a_column_of_its_own(name):
    rows = ROWS.rename(columns={"miou": name})
    with pytest.raises(ConfigError, match=f"objective: the tables have a column '{name}' of their own"):
        read_runs(rows, ["lr"], objective=name)


def test_a_column_called_seed_is_used_without_being_named():
    rows = ROWS.assign(seed=[7, 7, 8, 8, 8])
    table = read_runs(rows, ["activation", "lr"], objective="miou")
    assert list(table.runs["seed"]) == [7, 7, 8, 8, 8]
    assert len(table.finished) == 4  # the first two rows are one run: equal levels and seed
    other = read_runs(rows.assign(s=[1, 2, 3, 4, 5]), ["activation", "lr"], objective="miou", seed="s")
    assert list(other.runs["seed"]) == [1, 2, 3, 4, 5]


def test_seeds_may_stand_in_a_column_that_the_table_replaces():
    table = read_runs(ROWS.assign(run=[3, 4, 5, 6, 7]), ["lr"], objective="miou", seed="run")
    assert list(table.runs["seed"]) == [3, 4, 5, 6, 7]


def test_columns_of_one_name_are_refused_in_a_frame_and_in_a_file(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("lr,lr,miou\n1,1,0.1\n2,2,0.2\n")
    frame = pd.DataFrame([[1, 1, 0.1], [2, 2, 0.2]], columns=["lr", "lr", "miou"])
    for source in (path, frame):
        assert problems(source, ["lr"]) == ("columns: 2 columns are called 'lr'; give each a name of its own",)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ([0.1, "OOM", "bad", 0.2, 0.3], "objective: row 2 of column 'miou' holds 'OOM', not a number"),
        ([0.1, 0.2, float("inf"), 0.3, 0.4], "objective: row 3 of column 'miou' holds inf, which is not finite"),
        ([0.1, 0.2, 0.3, "-inf", 0.4], "objective: row 4 of column 'miou' holds -inf, which is not finite"),
        ([None] * 5, "objective: column 'miou' holds no number"),
    ],
)
def test_results_are_finite_numbers(values, sentence, tmp_path):
    rows = ROWS.assign(miou=values)
    rows.to_csv(tmp_path / "runs.csv", index=False)
    for source in (rows, tmp_path / "runs.csv"):
        assert problems(source, ["activation", "lr"]) == (sentence,)


def test_results_written_as_texts_are_numbers_and_gaps_are_no_results():
    table = read_runs(ROWS.assign(miou=["0.5", " ", None, "nan", "0.25"]), ["activation"], objective="miou")
    assert table.runs["miou"].dtype == float
    assert list(table.finished["miou"]) == [0.5, 0.25]


@pytest.mark.parametrize("gap", [None, float("nan"), "", " "])
def test_a_run_without_a_level_is_refused(gap):
    rows = ROWS.assign(activation=["relu", "gelu", gap, "gelu", gap])
    assert problems(rows, ["activation", "lr"]) == (
        "factors: row 3 of column 'activation' is empty; every run needs a level",
    )


def test_a_run_without_a_seed_is_refused():
    rows = ROWS.assign(seed=[1, 2, 3, None, 5])
    assert problems(rows, ["lr"]) == ("seed: row 4 of column 'seed' is empty; every run needs a seed",)


def test_a_column_of_states_is_honoured():
    rows = ROWS.assign(state=["Finished", "FAILED", " pruned ", "finished", "finished"])
    table = read_runs(rows, ["activation", "lr"], objective="miou")
    assert list(table.runs["state"]) == ["finished", "failed", "pruned", "finished", "finished"]
    assert list(table.finished["miou"]) == [0.5, 0.8, 0.4]


@pytest.mark.parametrize(("state", "shown"), [("crashed", "'crashed'"), (None, "nothing")])
def test_other_states_are_a_sentence(state, shown):
    rows = ROWS.assign(state=["finished", state, "failed", state, "pruned"])
    expected = f"state: row 2 holds {shown}, expected finished, failed or pruned"
    assert [text.split(".")[0] for text in problems(rows, ["lr"])] == [expected]
