import json
import os
import subprocess
import sys
import time

import psutil
import pytest
from postgres_server import postgres_server
from small_study import content

from mtvision.errors import ConfigError, TrainingError
from mtvision.study.planning.definition import read_definition
from mtvision.study.planning.runs import planned_runs, runs_of
from mtvision.study.running.claims import CONFIRMATION, DESIGN, lives
from mtvision.study.running.queue import Queue
from mtvision.study.running.storage import Storage
from mtvision.study.running.worker import progress_line


def opened(folder, *, url=None, grace=120, **values):
    definition = read_definition(content(**values))
    return Queue(Storage(folder, url, grace=grace), "study", definition)


def filled(folder, **values):
    queue = opened(folder, **values)
    queue.add(planned_runs(queue.definition))
    return queue


@pytest.fixture(scope="session")
def database(tmp_path_factory):
    with postgres_server(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture(params=["file", "postgresql"])
def storage_url(request):
    """Return the URL of a storage: None for the file in the folder, or that of a database without studies."""
    if request.param == "file":
        return None
    import psycopg

    url = request.getfixturevalue("database")
    name = f"test_{time.monotonic_ns()}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return url.rpartition("/")[0] + f"/{name}"


def test_each_run_is_handed_out_once(tmp_path, storage_url):
    queue = filled(tmp_path, url=storage_url)
    other = opened(tmp_path, url=storage_url)
    claims = [each.claim() for each in (queue, other, queue, other)]
    assert claims[3] is None
    assert len({claim.run.name for claim in claims[:3]}) == 3
    assert queue.count().running == 3


def test_a_claim_has_the_config_of_the_run(tmp_path):
    queue = filled(tmp_path)
    planned = {run.name: run for run in planned_runs(queue.definition)}
    claim = queue.claim()
    assert claim.run.config == planned[claim.run.name].config
    assert (claim.purpose, claim.split) == (DESIGN, None)


def test_what_is_in_the_queue_or_done_is_not_added_again(tmp_path):
    queue = filled(tmp_path)
    queue.finish(queue.claim(), 0.5, {"seconds": 1.0})
    queue.add(planned_runs(queue.definition))
    assert (queue.count().total, queue.count().finished) == (3, 1)


def test_a_result_comes_back_as_it_was_noted(tmp_path, storage_url):
    queue = filled(tmp_path, url=storage_url)
    claim = queue.claim()
    queue.finish(claim, 0.5, {"metrics": {"seg/miou": 0.25}, "curves": {"val/loss": [1.0, float("nan")]}})
    trial = opened(tmp_path, url=storage_url).trials()[claim.run.name]
    assert trial.value == 0.5
    assert trial.user_attrs["result"] == {"metrics": {"seg/miou": 0.25}, "curves": {"val/loss": [1.0, None]}}


def test_a_failed_run_keeps_its_error_and_the_others_go_on(tmp_path, storage_url):
    queue = filled(tmp_path, url=storage_url)
    claim = queue.claim()
    queue.fail(claim, TrainingError("the loss is not finite"))
    noted = queue.trials()[claim.run.name].user_attrs
    assert noted["error"] == "TrainingError: the loss is not finite"
    assert "TrainingError" in noted["traceback"]
    assert [queue.claim() is not None for _ in range(3)] == [True, True, False]
    assert queue.count().failed == 1


def test_failed_runs_come_again_only_when_asked_for(tmp_path):
    queue = filled(tmp_path)
    claim = queue.claim()
    queue.fail(claim, TrainingError("no"))
    queue.add(planned_runs(queue.definition))
    assert queue.count().waiting == 2
    assert queue.retry_failed() == 1
    assert queue.count().waiting == 3
    names = {queue.claim().run.name for _ in range(3)}
    assert claim.run.name in names


def test_a_run_that_was_given_back_comes_again(tmp_path, storage_url):
    queue = filled(tmp_path, url=storage_url)
    claim = queue.claim()
    queue.give_back(claim)
    assert queue.count().waiting == 3
    assert claim.run.name in {queue.claim().run.name for _ in range(3)}


def _claim_in_a_process_that_dies(tmp_path, url):
    """Let another process take a run and be killed; return the run's name."""
    code = (
        "import json, os, sys, signal; sys.path[:0] = json.loads(sys.argv[1])\n"
        "import pathlib, test_queue\n"
        "queue = test_queue.opened(pathlib.Path(sys.argv[2]), url=sys.argv[3] or None)\n"
        "claim = queue.claim()\n"
        "claim.trial.report(0.25, 1)\n"
        "print(claim.run.name, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", code, json.dumps(sys.path), str(tmp_path), url or ""]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


@pytest.mark.slow
def test_what_a_killed_worker_had_is_taken_up_at_once_on_its_machine(tmp_path, storage_url):
    queue = filled(tmp_path, url=storage_url)
    name = _claim_in_a_process_that_dies(tmp_path, storage_url)
    assert name
    claims = [queue.claim() for _ in range(4)]
    assert claims[3] is None
    assert {claim.run.name for claim in claims[:3]} == {run.name for run in planned_runs(queue.definition)}
    again = next(claim for claim in claims[:3] if claim.run.name == name)
    assert queue.trials()[name].intermediate_values == {1: 0.25}, "a pruner needs what the run has reached"
    queue.finish(again, 0.5, {})
    assert queue.count().finished == 1


def test_a_worker_elsewhere_counts_as_dead_when_it_was_silent_for_long(tmp_path, storage_url, monkeypatch):
    queue = filled(tmp_path, url=storage_url, grace=3)
    elsewhere = opened(tmp_path, url=storage_url, grace=3)
    monkeypatch.setattr(elsewhere, "_me", {"host": "another machine", "pid": 1, "began": 0.0})
    lost = elsewhere.claim()
    assert queue.claim().run.name != lost.run.name
    assert elsewhere.is_mine(lost)
    time.sleep(4.5)
    assert lost.run.name in {queue.claim().run.name for _ in range(3)}
    assert not elsewhere.is_mine(lost)


def test_a_worker_elsewhere_that_gives_signs_of_life_keeps_its_run(tmp_path, monkeypatch):
    queue = filled(tmp_path, grace=2)
    elsewhere = opened(tmp_path, grace=2)
    monkeypatch.setattr(elsewhere, "_me", {"host": "another machine", "pid": 1, "began": 0.0})
    kept = elsewhere.claim()
    for _ in range(4):
        time.sleep(1)
        elsewhere.sign_of_life(kept)
    assert [queue.claim() is not None for _ in range(3)] == [True, True, False]
    assert elsewhere.is_mine(kept)


def test_what_a_worker_says_that_has_lost_its_run_is_left_out(tmp_path, monkeypatch, caplog):
    queue = filled(tmp_path)
    lost = queue.claim()
    monkeypatch.setattr("mtvision.study.running.queue.lives", lambda worker: False)
    taken = queue.claim()
    monkeypatch.undo()
    assert taken.run.name == lost.run.name
    queue.finish(lost, 0.1, {})
    assert "another worker has taken it up" in caplog.text
    queue.finish(taken, 0.9, {})
    assert queue.trials()[taken.run.name].value == 0.9


def test_a_run_whose_workers_die_at_one_place_again_and_again_is_given_up(tmp_path, monkeypatch):
    queue = filled(tmp_path)
    monkeypatch.setattr("mtvision.study.running.queue.lives", lambda worker: False)
    first = queue.claim()
    for _ in range(2):
        assert queue.claim().run.name == first.run.name
    assert queue.claim().run.name != first.run.name
    error = queue.trials()[first.run.name].user_attrs["error"]
    assert error == "its worker died 3 times at the same place (out of memory?)"


def test_a_run_that_gets_on_between_deaths_is_not_given_up(tmp_path, monkeypatch):
    queue = filled(tmp_path)
    monkeypatch.setattr("mtvision.study.running.queue.lives", lambda worker: False)
    for epoch in range(1, 6):
        claim = queue.claim()
        claim.trial.report(0.1, epoch)
    assert queue.count().failed == 0


def _with_fresh_seed(queue, number):
    return runs_of(queue.definition, [run.levels for run in planned_runs(queue.definition)[:number]], [99])


def test_confirmations_are_counted_apart_and_carry_their_split(tmp_path):
    queue = opened(tmp_path)
    runs = planned_runs(queue.definition)
    queue.add(runs[:1])
    queue.add(_with_fresh_seed(queue, 2), CONFIRMATION, "test")
    claims = [queue.claim() for _ in range(3)]
    assert [(claim.purpose, claim.split) for claim in claims] == [(DESIGN, None), *[(CONFIRMATION, "test")] * 2]
    assert queue.count(CONFIRMATION).total == 2


def test_no_run_of_the_design_begins_when_the_budget_of_hours_is_used_up(tmp_path):
    queue = opened(tmp_path, budget={"hours": 0.5})
    runs = planned_runs(queue.definition)
    queue.add(runs[:2])
    queue.add(_with_fresh_seed(queue, 1), CONFIRMATION, "test")
    queue.finish(queue.claim(), 0.5, {"seconds": 1800.0})
    assert queue.is_spent()
    assert queue.claim().purpose == CONFIRMATION
    assert queue.claim() is None


class TestSearch:
    DESIGN = {"name": "tpe", "runs": 4, "startup": 2}  # noqa: RUF012

    def test_it_chooses_distinct_runs_until_it_has_enough(self, tmp_path):
        queue = opened(tmp_path, design=self.DESIGN, seeds=[0, 1])
        claims = [queue.claim() for _ in range(5)]
        assert claims[4] is None
        assert len({claim.run.name for claim in claims[:4]}) == 4

    def test_it_takes_what_is_left_where_it_proposes_nothing_new(self, tmp_path):
        queue = opened(tmp_path, design={**self.DESIGN, "runs": 8}, seeds=[0, 1])
        names = []
        while (claim := queue.claim()) is not None:
            names.append(claim.run.name)
            queue.finish(claim, 0.5, {})
        assert len(names) == len(set(names)) == 8, "all of 4 combinations with 2 seeds"
        before = len(queue._study.trials)
        assert queue.claim() is None
        assert (len(queue._study.trials), queue.count().waiting) == (before, 0)

    def test_levels_that_mean_one_config_end_it_early(self, tmp_path, caplog):
        factors = {"mine": {"a": {"training.lr": 0.01}, "b": {"training.lr": 0.01}, "c": {"training.lr": 0.1}}}
        queue = opened(tmp_path, design={**self.DESIGN, "runs": 3}, factors=factors)
        assert [queue.claim() is not None for _ in range(3)] == [True, True, False]
        assert "has run every configuration" in caplog.text
        assert queue.count().waiting == 0

    def test_more_runs_than_there_are_is_refused(self, tmp_path):
        with pytest.raises(ConfigError, match="9 runs are more than 4 combinations with 2 seeds make"):
            opened(tmp_path, design={**self.DESIGN, "runs": 9}, seeds=[0, 1])

    def test_the_budget_of_runs_limits_it(self, tmp_path):
        queue = opened(tmp_path, design=self.DESIGN, seeds=[0, 1], budget=2)
        assert [queue.claim() is not None for _ in range(3)] == [True, True, False]

    def test_it_learns_from_what_it_has_found(self, tmp_path):
        levels = {"training.lr": [0.1, 0.05, 0.02, 0.01], "model.dropout_rate": [k / 20 for k in range(16)]}
        queue = opened(tmp_path, design={"name": "tpe", "runs": 24, "startup": 8, "pruning": False}, factors=levels)
        good = []
        while (claim := queue.claim()) is not None:
            good.append(claim.run.levels["training.lr"] == "0.1")
            queue.finish(claim, float(good[-1]), {})
        assert sum(good[8:]) >= 9, "at random 4 of 16"

    def test_a_killed_workers_proposal_comes_again(self, tmp_path, monkeypatch):
        queue = opened(tmp_path, design=self.DESIGN)
        first = queue.claim()
        monkeypatch.setattr("mtvision.study.running.queue.lives", lambda worker: False)
        assert queue.claim().run.levels == first.run.levels


def test_a_worker_lives_though_the_clock_was_set():
    began = psutil.Process().create_time()
    assert lives({"pid": os.getpid(), "began": began + 1.5})
    assert not lives({"pid": os.getpid(), "began": began + 100}), "another process has its number now"


def test_a_spent_budget_is_said(tmp_path):
    queue = filled(tmp_path, budget={"hours": 0.5})
    queue.finish(queue.claim(), 0.5, {"seconds": 1800.0})
    assert progress_line(queue) == "1 of 3 runs done; the budget of hours is used up, and the design is not complete"


class TestStorage:
    def test_another_kind_of_database_is_refused(self, tmp_path):
        with pytest.raises(ConfigError, match="'mysql://me:\\*\\*\\*@host/db' is not supported; give postgresql"):
            Storage(tmp_path, "mysql://me:secret@host/db")

    @pytest.mark.parametrize("url", ["sqlite:///x.db", "postgresql://host:port/db"])
    def test_a_url_that_cannot_be_used_is_a_sentence(self, tmp_path, url):
        with pytest.raises(ConfigError, match="storage: '"):
            Storage(tmp_path, url)

    def test_a_file_that_is_no_database_is_a_sentence(self, tmp_path):
        (tmp_path / "study.db").write_text("no database" * 100)
        with pytest.raises(ConfigError, match="cannot be opened"):
            Storage(tmp_path)

    def test_a_folder_that_cannot_be_made_is_a_sentence(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(ConfigError, match="the study's folder cannot be made"):
            Storage(tmp_path / "file")

    def test_a_server_that_does_not_answer_is_one_sentence_without_the_password(self, tmp_path):
        with pytest.raises(ConfigError) as caught:
            Storage(tmp_path, "postgresql://me:secret@127.0.0.1:1/db")
        assert "storage: 'postgresql://me:***@127.0.0.1:1/db' cannot be opened" in str(caught.value)
        assert "secret" not in str(caught.value)
