import pandas as pd
import pytest
from small_study import BASE, content

from mtvision import Config, build_dataset, evaluate, load_model
from mtvision.errors import ConfigError, DataError
from mtvision.study.analysis.table import RunTable
from mtvision.study.confirm import candidates, config_means, fresh_seeds
from mtvision.study.planning.definition import read_definition
from mtvision.study.planning.runs import runs_of
from mtvision.study.running.queue import Queue
from mtvision.study.running.storage import Storage
from mtvision.study.study import Study

pytestmark = pytest.mark.usefixtures("without_curves")


class _Findings:
    def __init__(self, table, recommended):
        self.table, self.recommended = table, recommended


def table(higher_is_better=True):
    rows = [(a, seed, value + seed / 100) for a, value in (("x", 0.1), ("y", 0.3), ("z", 0.2)) for seed in (0, 1)]
    runs = pd.DataFrame(rows, columns=["a", "seed", "score"])
    runs["run"] = runs["config"] = [f"{a}{seed}" for a, seed, _ in rows]
    runs["state"] = "finished"
    return RunTable(runs, {"a": ("x", "y", "z")}, "score", higher_is_better)


def test_configurations_are_ranked_by_their_mean_over_the_seeds():
    assert list(config_means(table())["a"]) == ["y", "z", "x"]
    assert list(config_means(table(higher_is_better=False))["a"]) == ["x", "z", "y"]
    assert config_means(table())["mean"][0] == pytest.approx(0.305)


def test_the_best_few_and_the_recommended_one_are_candidates():
    assert candidates(_Findings(table(), {"a": "x"}), 2) == {
        "rank 1": {"a": "y"},
        "rank 2": {"a": "z"},
        "recommended": {"a": "x"},
    }


def test_the_recommended_one_is_not_run_twice():
    assert list(candidates(_Findings(table(), {"a": "z"}), 2)) == ["rank 1", "rank 2, recommended"]


def test_the_seeds_are_fresh_also_of_what_the_study_had_once(tmp_path):
    def opened(seeds):
        queue = Queue(Storage(tmp_path), "study", read_definition(content(seeds=seeds)))
        queue.add(queue.planned.values())
        return queue

    assert list(fresh_seeds(opened([4, 9]), 3)) == [10, 11, 12]
    assert list(fresh_seeds(opened([4]), 2)) == [10, 11]


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.slow
def test_a_split_that_was_trained_or_chosen_on_is_refused(confirmed, split):
    made, _ = confirmed
    with pytest.raises(ConfigError, match=f"split: '{split}' was trained or chosen on"):
        made.confirm(split=split, progress=False)


@pytest.mark.slow
def test_another_split_than_before_is_refused(confirmed):
    made, _ = confirmed
    with pytest.raises(ConfigError, match="the study was confirmed on 'test'; score 'other' by"):
        made.confirm(split="other", progress=False)


@pytest.mark.parametrize("wrong", [{"top": 0}, {"seeds": 0}])
@pytest.mark.slow
def test_nothing_to_confirm_is_refused(confirmed, wrong):
    made, _ = confirmed
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        made.confirm(**wrong, progress=False)


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory):
    given = content(factors={"training.lr": [0.01, 0.1]}, seeds=[0, 1])
    made = Study(given.pop("base"), given.pop("factors"), **given)
    made.run(tmp_path_factory.mktemp("studies") / "a", progress=False)
    return made, made.confirm(top=1, seeds=3, progress=False)


@pytest.mark.slow
def test_both_numbers_are_there_for_each_configuration(confirmed):
    _, found = confirmed
    assert {"configuration", "training.lr", "n", "selected", "fresh", "held_out", "low", "high"} == set(found.columns)
    first = found.iloc[0]
    assert first["configuration"].startswith("rank 1")
    assert first["n"] == 3
    assert first["low"] <= first["held_out"] <= first["high"]


@pytest.mark.slow
def test_the_selected_value_is_that_of_the_study(confirmed):
    made, found = confirmed
    means = made.analyze(bootstrap=200).table.finished.groupby("training.lr")["score"].mean()
    for level, selected in zip(found["training.lr"], found["selected"], strict=True):
        assert selected == pytest.approx(means[level])


@pytest.mark.slow
def test_the_held_out_value_is_the_best_checkpoints_on_the_test_split(confirmed):
    made, found = confirmed
    runs = runs_of(made.definition, [{"training.lr": found["training.lr"][0]}], fresh_seeds(made._queue, 3))
    noted = [made._queue.trials()[run.name].user_attrs["result"]["held_out"] for run in runs]
    again = [
        evaluate(load_model(made.folder / "runs" / run.name), build_dataset(run.config, "test")).metrics for run in runs
    ]
    for one, other in zip(noted, again, strict=True):
        assert {key: one[key] for key in other} == pytest.approx(other, nan_ok=True)
    assert found["held_out"][0] == pytest.approx(sum(one["score"] for one in noted) / 3)


@pytest.mark.slow
def test_confirmations_are_no_part_of_the_analysis(confirmed):
    made, _ = confirmed
    assert len(made.analyze(bootstrap=200).table.runs) == 4


def test_a_data_set_without_the_split_is_told_before_anything_runs(tmp_path):
    given = content(factors={"training.lr": [0.01, 0.1]})
    made = Study(given.pop("base"), given.pop("factors"), **given).run(tmp_path / "a", progress=False)
    before = len(made._queue.trials())
    with pytest.raises(DataError, match="no split 'tests'"):
        made.confirm(split="tests", progress=False)
    assert len(made._queue.trials()) == before


@pytest.mark.slow
def test_the_report_shows_both_numbers_the_gallery_and_the_configuration(confirmed):
    made, found = confirmed
    files = made.report()
    text = files.markdown.read_text()
    assert f"{found['held_out'][0]:.3f}"[:4] in text
    assert "training.lr" in text
    assert Config(**BASE).model.backbone.name in text
    assert any("best_1" in path.name for path in files.plots)
