import json
import os
import shutil
import signal
import time

import numpy as np
import pytest
from postgres_server import postgres_server
from small_study import BASE, content

import mtvision as mtv
from mtvision.cli import app
from mtvision.errors import ConfigError, TrainingError
from mtvision.study.planning.probe import duration
from mtvision.study.planning.runs import PlannedRun
from mtvision.study.running.claims import Claim
from mtvision.study.running.worker import summary_line
from mtvision.study.study import Study
from quick_processes import QuickProcess

pytestmark = pytest.mark.usefixtures("without_curves")

_PATIENCE = 120  # seconds that a test waits for what takes a second or ten


def study(**values):
    given = content(**values)
    return Study(given.pop("base"), given.pop("factors"), **given)


def with_base(**values):
    base = mtv.Config(**BASE).replace({key.replace("__", "."): value for key, value in values.items()})
    return base.dump()


def states(made):
    return {name: trial.state.name for name, trial in made._queue.trials().items()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return a study of three configurations that is done, and its folder."""
    folder = tmp_path_factory.mktemp("studies") / "a"
    return study().run(folder, progress=False), folder


@pytest.mark.slow
def test_every_run_is_an_ordinary_run_folder_that_can_be_repeated_alone(finished, tmp_path):
    made, folder = finished
    name = next(iter(states(made)))
    config = mtv.Config.load(folder / "runs" / name / "config.yaml")
    again = mtv.train(config, tmp_path / "again", progress=False)
    assert again.metrics == mtv.train(config, folder / "runs" / name, progress=False).metrics
    assert again.metrics["score"] == made._queue.trials()[name].value


def test_what_an_analysis_needs_is_noted_with_the_run(finished):
    made, folder = finished
    name, trial = next(iter(made._queue.trials().items()))
    result = trial.user_attrs["result"]
    history = [json.loads(line) for line in (folder / "runs" / name / "history.jsonl").read_text().splitlines()]
    assert result["curves"]["val/loss"] == [row["val/loss"] for row in history]
    assert result["curves"]["val/score"][result["best_epoch"] - 1] == trial.value
    assert result["parameters"] == sum(p.numel() for p in mtv.load_model(folder / "runs" / name).parameters())
    assert result["multiply_adds"] > 0
    assert result["seconds"] > 0
    assert trial.intermediate_values == dict(enumerate(result["curves"]["val/score"], start=1))


def test_the_same_call_on_a_finished_study_does_nothing(finished):
    _, folder = finished
    before = {path: path.stat().st_mtime_ns for path in (folder / "runs").rglob("*")}
    again = study().run(folder, progress=False)
    assert set(states(again).values()) == {"COMPLETE"}
    assert len(again._queue._study.trials) == 3
    assert {path: path.stat().st_mtime_ns for path in (folder / "runs").rglob("*")} == before


@pytest.mark.slow
def test_further_seeds_and_levels_add_runs_and_keep_those_that_are_there(finished, tmp_path):
    _, folder = finished
    shutil.copytree(folder, tmp_path / "a")
    before = set(states(Study.open(tmp_path / "a")))
    more = study(seeds=[0, 1], factors={"model.activation": ["relu", "gelu", "silu"]})
    more.run(tmp_path / "a", progress=False)
    new = set(states(more)) - before
    assert len(new) == 4  # relu, gelu and silu with seed 1, silu with seed 0


def test_runs_that_the_study_has_no_more_are_left_out_and_come_back(finished, tmp_path):
    _, folder = finished
    shutil.copytree(folder, tmp_path / "a")
    fewer = study(factors={"training.lr": [0.01, 0.1]}).run(tmp_path / "a", progress=False)
    assert len(fewer.analyze(bootstrap=200).table.runs) == 2
    assert fewer._queue.count().total == 2
    assert "left out: 1 run of an earlier definition of the study" in fewer.report().markdown.read_text()
    again = study().run(tmp_path / "a", progress=False)
    assert len(again._queue._study.trials) == 3
    assert len(again.analyze(bootstrap=200).table.runs) == 3


def test_runs_from_before_a_factor_was_added_have_its_base_level(finished, tmp_path):
    _, folder = finished
    shutil.copytree(folder, tmp_path / "a")
    factors = {**content()["factors"], "model.zero_init_residual": [False, True]}
    more = study(factors=factors).run(tmp_path / "a", progress=False)
    assert len(more._queue._study.trials) == 4
    assert list(more.analyze(bootstrap=200).table.runs["model.zero_init_residual"]) == ["false"] * 3 + ["true"]


def test_another_base_in_the_same_folder_is_refused(finished):
    _, folder = finished
    with pytest.raises(ConfigError, match=r"base\.training\.batch_size: 4 there, 2 now; choose another folder"):
        study(base=with_base(training__batch_size=2)).run(folder, progress=False)


def test_where_a_run_goes_may_differ(finished):
    _, folder = finished
    study(base=with_base(system__progress="quiet", data__num_workers=1)).run(folder, progress=False)


def test_a_study_is_opened_from_its_folder_alone(finished):
    made, folder = finished
    opened = Study.open(folder)
    assert (opened.definition.factors, opened.definition.design) == (made.definition.factors, made.definition.design)
    assert opened.work(progress=False) == 0


def test_a_folder_without_a_study_is_a_sentence(tmp_path):
    with pytest.raises(ConfigError, match="there is no study in it"):
        Study.open(tmp_path)


def test_a_study_that_was_not_begun_cannot_work():
    with pytest.raises(ConfigError, match=r"begin it by run\(folder\)"):
        study().work()


def test_a_failing_run_is_noted_and_the_others_are_done(tmp_path):
    factors = {"data.dataset": [BASE["data"]["dataset"], "voc"]}
    made = study(base=with_base(data__dataset_root=str(tmp_path / "nowhere")), factors=factors)
    made.run(tmp_path / "a", progress=False)
    assert sorted(states(made).values()) == ["COMPLETE", "FAIL"]
    failed = next(trial for trial in made._queue.trials().values() if trial.state.name == "FAIL")
    assert failed.user_attrs["error"].startswith("DataError: ")
    assert "nowhere" in failed.user_attrs["error"]


def test_an_unknown_objective_is_a_sentence_before_any_run(tmp_path):
    with pytest.raises(ConfigError, match=r"no metric 'seg/mioo'.* Did you mean 'seg/miou'"):
        study(objective="seg/mioo").run(tmp_path / "a", progress=False)
    assert not (tmp_path / "a").exists()
    with pytest.raises(ConfigError, match=r"no metric 'seg/mioo'"):
        study(objective="seg/mioo").plan(probe=False)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [({"seeds": 5}, "seeds: must be a list, got 5"), ({"imports": "my.py"}, "imports: must be a list, got 'my.py'")],
)
def test_what_is_no_list_is_a_sentence(wrong, sentence):
    with pytest.raises(ConfigError, match=sentence):
        study(**wrong)


def test_numpys_seeds_are_seeds():
    assert study(seeds=np.arange(2)).definition.seeds == (0, 1)


def test_no_worker_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="workers: at least 1, got 0"):
        study().run(tmp_path / "a", workers=0, progress=False)


def test_the_direction_is_that_of_the_metric():
    assert study(objective="det/map50").higher_is_better
    assert not study(objective="loss").higher_is_better


def test_equal_configs_run_once(tmp_path):
    factors = {"mine": {"a": {"training.lr": 0.01}, "b": {"training.lr": 0.01}, "c": {"training.lr": 0.1}}}
    made = study(factors=factors)
    plan = made.plan(probe=False)
    assert plan.num_runs == 2
    assert any("2 combinations of levels mean the same config" in sentence for sentence in plan.sentences)


def _work(*arguments):
    app(["study", "work", *arguments])


class _Worker:
    """A worker process of its own, of a study that was begun."""

    def __init__(self, folder, storage=None, name=None):
        options = [*(["--storage", storage] if storage else []), *(["--name", name] if name else [])]
        self.process = QuickProcess(_work, (str(folder), *options), folder.parent / f"{folder.name}-printed.txt")

    def wait_for(self, condition):
        end = time.monotonic() + _PATIENCE
        while not condition():
            assert time.monotonic() < end, "waited for too long"
            assert self.process.is_alive, self.process.text
            time.sleep(0.05)


LONG = with_base(system__epochs=8, system__checkpoint_steps=1)
FEW = {"training.lr": [0.01, 0.1]}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    made = study(base=LONG, factors=FEW).run(tmp_path_factory.mktemp("studies") / "whole", progress=False)
    return {name: trial.user_attrs["result"] for name, trial in made._queue.trials().items()}


def _begun(folder, **more):
    """Put a study's runs into its queue, and do none."""
    made = study(base=LONG, factors=FEW)
    queue = made._connect(folder, more.get("storage"), more.get("name"))
    from mtvision.study.planning.runs import planned_runs

    queue.add(planned_runs(made.definition))
    return made


def _comparable(result):
    timeless = {key: value for key, value in result["curves"].items() if key != "seconds"}
    return {**{key: result[key] for key in ("metrics", "best_epoch", "parameters")}, "curves": timeless}


def _checkpoints(folder):
    return [path for path in folder.glob("runs/*/history.jsonl") if len(path.read_text().splitlines()) >= 2]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.slow
def test_a_run_whose_worker_was_ended_goes_on_from_its_checkpoint_to_the_same_result(tmp_path, uninterrupted, how):
    made = _begun(tmp_path / "a")
    worker = _Worker(tmp_path / "a")
    worker.wait_for(lambda: _checkpoints(tmp_path / "a"))
    worker.process.kill(how)
    begun = _checkpoints(tmp_path / "a")[0].parent
    assert not (begun / "summary.json").exists(), "the worker was to be ended inside a run"
    made.work(progress=False)
    results = {name: trial.user_attrs["result"] for name, trial in made._queue.trials().items()}
    assert {name: _comparable(result) for name, result in results.items()} == {
        name: _comparable(result) for name, result in uninterrupted.items()
    }


@pytest.mark.slow
def test_workers_on_a_database_share_a_study_and_fetch_it_by_its_name(tmp_path, uninterrupted):
    with postgres_server(tmp_path) as url:
        begun = _begun(tmp_path / "here", storage=url, name="shared")
        elsewhere = _Worker(tmp_path / "there", storage=url, name="shared")
        elsewhere.wait_for(lambda: _checkpoints(tmp_path / "there"))
        begun.work(progress=False)
        elsewhere.process.wait()
        done = {name: trial.user_attrs["result"] for name, trial in begun._queue.trials().items()}
        assert {name: _comparable(result) for name, result in done.items()} == {
            name: _comparable(result) for name, result in uninterrupted.items()
        }
        assert len(begun._queue._study.trials) == 2, "nothing runs twice"
        folders = {result["folder"] for result in done.values()}
        assert any("there" in folder for folder in folders)
        with pytest.raises(ConfigError, match=r"no study 'sharde' in it.* Did you mean 'shared'"):
            Study.open(tmp_path / "third", storage=url, name="sharde")


def test_workers_that_die_are_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("mtvision.study.running.local_workers.sys.executable", "/bin/false")
    with pytest.raises(TrainingError, match=r"2 of 2 workers died \(exit code 1\) and 3 runs are left"):
        study().run(tmp_path / "a", workers=2, progress=False)


@pytest.mark.slow
def test_two_processes_of_one_call_do_each_run_once_with_parts_of_ones_own(tmp_path):
    own = tmp_path / "own_parts_of_test.py"
    own.write_text(
        "import torch, mtvision as mtv\n"
        "@mtv.ACTIVATIONS.register('own_of_study')\n"
        "class Own(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        return x.clamp(min=0)\n"
    )
    factors = {"model.activation": ["relu", "own_of_study"]}
    text = json.dumps(content(factors=factors, seeds=[0, 1], imports=[own.name]))
    (tmp_path / "study.yaml").write_text(text)
    made = Study.load(tmp_path / "study.yaml").run(tmp_path / "a", workers=2, progress=False)
    trials = list(made._queue.trials().values())
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 4
    assert len(made._queue._study.trials) == 4, "nothing runs twice"
    assert os.getpid() not in {trial.user_attrs["worker"]["pid"] for trial in trials}
    values = {
        (trial.user_attrs["levels"]["model.activation"], trial.user_attrs["seed"]): trial.value for trial in trials
    }
    assert all(values["relu", seed] == values["own_of_study", seed] for seed in (0, 1)), "the two are one function"


def test_durations_for_a_person():
    assert [duration(seconds) for seconds in (0.4, 119, 600, 7200)] == ["0 s", "119 s", "10 min", "2.0 h"]


def test_a_search_with_pruning_from_its_runs_to_its_report(tmp_path, monkeypatch):
    import optuna

    monkeypatch.setattr(optuna.trial.Trial, "should_prune", lambda trial: trial.number == 1)
    made = study(design={"name": "tpe", "runs": 3, "startup": 1}, seeds=[0, 1], objective="loss")
    made.run(tmp_path / "a", progress=False)
    assert list(states(made).values()) == ["COMPLETE", "PRUNED", "COMPLETE"]
    pruned = list(made._queue.trials().values())[1]
    assert len(pruned.user_attrs["result"]["curves"]["val/loss"]) == 1, "it was ended after its first epoch"
    run = PlannedRun(pruned.user_attrs["run"], pruned.user_attrs["levels"], 1, made.definition.base)
    assert ": pruned\n3 of 3 runs done" in summary_line(Claim(run, pruned, "design"), made._queue)
    assert list(made.analyze(bootstrap=200).table.runs["state"]) == ["finished", "pruned", "finished"]
    text = made.report().markdown.read_text()
    assert "the search chose the runs by their results" in text
    assert "loss, less is better" in text
