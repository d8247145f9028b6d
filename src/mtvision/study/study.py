"""A study from its plan to its report."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from mtvision.config import Config
from mtvision.config_yaml import parse_yaml
from mtvision.data.loading.loader import build_dataset
from mtvision.errors import ConfigError
from mtvision.study.analysis.analyze import analyze
from mtvision.study.analysis.findings import Findings
from mtvision.study.analysis.table import RunTable
from mtvision.study.confirm import candidates, check_split, confirmation_table, fresh_seeds
from mtvision.study.outside import TableStudy, read_runs
from mtvision.study.planning.definition import Definition, load_definition, read_definition
from mtvision.study.planning.plan import Plan, make_plan, objective_direction
from mtvision.study.planning.probe import probe as measure
from mtvision.study.planning.runs import planned_runs, runs_of
from mtvision.study.report.writing import ReportFiles, write_report
from mtvision.study.reporting import study_content
from mtvision.study.running.claims import CONFIRMATION
from mtvision.study.running.local_workers import work_in_processes
from mtvision.study.running.opening import find_definition, note_definition
from mtvision.study.running.own_parts import import_parts
from mtvision.study.running.queue import Queue
from mtvision.study.running.results import run_table
from mtvision.study.running.storage import Storage
from mtvision.study.running.worker import progress_line, summary_line, wait_for_runs, work_once
from mtvision.training.progress import Reporter


class Study:
    """Compares choices: plans runs, does them, and says what matters, how sure that is, and what to use.

    Args:
        base: config that the factors change; whatever `Config` accepts.
        factors: by dotted key a list of values, components with options too; or by a free name a mapping of level names
            to ``{dotted key: value}``, keys that move together.
        design: a component of the registry `DESIGNS`: ``one_at_a_time``, ``full_factorial``, ``{name: fractional, runs:
            27}``, ``random``, ``runs``, ``tpe``.
        seeds: each combination is run once with each; None: the base config's.
        objective: metric of a run's best epoch on the validation split, ``score``, ``loss`` or e.g. ``det/map50``.
        budget: largest number of runs, or ``{"runs": ..., "hours": ...}``.
        imports: Python files or modules with parts of one's own, which worker processes import first.

    Raises:
        ConfigError: with one sentence for each problem.

    Example:
        >>> study = Study({"backbone": "test_resnet"}, {"model.activation": ["relu", "gelu"]}, seeds=[0, 1])
        >>> study.plan(probe=False).num_runs
        4
    """

    def __init__(
        self,
        base: Config | Mapping[str, Any] | str | Path | None = None,
        factors: Mapping[str, Any] | None = None,
        design: str | Mapping[str, Any] = "one_at_a_time",
        *,
        seeds: Sequence[int] | None = None,
        objective: str = "score",
        budget: int | Mapping[str, Any] | None = None,
        imports: Sequence[str] = (),
    ) -> None:
        content = {
            "base": {} if base is None else base,
            "factors": {} if factors is None else factors,
            "design": design,
            "seeds": seeds,
            "objective": objective,
            "budget": {} if budget is None else budget,
            "imports": imports if isinstance(imports, str) else list(imports or ()),
        }
        self._begin(read_definition(content))

    def _begin(self, definition: Definition) -> None:
        self.definition = definition
        self.folder: Path | None = None
        self._queue: Queue | None = None

    @classmethod
    def load(cls, path: str | Path) -> "Study":
        """Read a study from a YAML file with the keys ``base, factors, design, seeds, objective, budget, imports``.

        ``base`` is a mapping of sections, or the path of a config's file beside it.

        Raises:
            ConfigError: if the file is missing, or for each problem of its contents.
        """
        where = Path(path).expanduser()
        imports = parse_yaml(where).get("imports") or []
        if isinstance(imports, list):  # what else it may be is told with the other problems
            import_parts(map(str, imports), where.parent)
        study = cls.__new__(cls)
        study._begin(load_definition(where))
        return study

    @classmethod
    def open(cls, folder: str | Path, *, storage: str | None = None, name: str | None = None) -> "Study":
        """Open a study that was begun in a folder, or on a database from another machine.

        Args:
            folder: of the study; with a ``storage`` one that need not exist: the runs of this machine go into it.
            storage: URL of the database; None: the file in the folder, or the database that the folder names.
            name: of the study in the database; None: the folder's name.

        Raises:
            ConfigError: if there is none.
        """
        path = Path(folder).expanduser()
        study = cls.load(find_definition(path, storage, name))
        study._connect(path, storage, name)
        return study

    def plan(self, *, probe: bool = True) -> Plan:
        """Return the runs, the balance of the levels, what cannot be told apart, and what all of it costs.

        Args:
            probe: whether to measure the cost, by training on a few batches.

        Raises:
            ConfigError: if a combination of levels is no config, or the design is larger than the budget.
            DataError: if the data cannot be read for the probe.
        """
        plan = make_plan(self.definition)
        _ = self.higher_is_better  # an unknown objective is told before anything is measured
        return replace(plan, probe=measure(self.definition.base)) if probe else plan

    def run(
        self,
        folder: str | Path,
        *,
        storage: str | None = None,
        name: str | None = None,
        workers: int = 1,
        retry_failed: bool = False,
        progress: bool = True,
    ) -> "Study":
        """Do all runs, and return the study; the same call on an unfinished one goes on with it.

        Args:
            folder: of the study: its definition, its storage, ``runs/`` and ``report/``.
            storage: URL of a database, ``postgresql://user@host/database``; None: a file in the folder.
            name: of the study in the database; None: the folder's name.
            workers: processes on this machine; more than one divide its cores.
            retry_failed: whether to do failed runs once more.
            progress: whether to say how each run ended, and the time left.

        Raises:
            ConfigError: for any problem of the study, or where the folder holds another one.
        """
        if workers < 1:
            raise ConfigError([f"workers: at least 1, got {workers}"])
        runs = planned_runs(self.definition)
        place = Path(folder).expanduser()
        queue = self._connect(place, storage, name)
        queue.add(runs)
        if retry_failed:
            queue.retry_failed()
        self._do(queue, place, workers, progress)
        return self

    def work(self, *, most: int | None = None, progress: bool = True) -> int:
        """Take runs from the study's queue until nothing is left, and return how many.

        Any number of processes on any number of machines may do so at once. What a process that died had begun is taken
        up from its checkpoint, where its folder can be seen.

        Args:
            most: runs to take at most; None: no limit.
            progress: whether to say how each run ended, and the time left.

        Raises:
            ConfigError: if the study was neither begun by `run` nor opened by `open`.
        """
        queue, folder = self._connected()
        reporter, done = Reporter(progress), 0
        while most is None or done < most:
            claim = work_once(queue, folder)
            if claim is not None:
                done += 1
                reporter.say(summary_line(claim, queue))
            elif not wait_for_runs(queue):
                break
        reporter.say(f"{folder}: {progress_line(queue)}")
        return done

    def analyze(self, *, bootstrap: int = 10_000, importance: str = "fanova") -> Findings:
        """Return what the finished runs say, however many there are by now.

        Args:
            bootstrap: resamples behind each interval.
            importance: one of Optuna's evaluators: ``fanova``, ``ped_anova`` or ``mean_decrease_impurity``.

        Raises:
            ConfigError: if there are no runs yet.
        """
        queue, _ = self._connected()
        return analyze(self._table(queue), bootstrap=bootstrap, importance=importance)

    def report(self, folder: str | Path | None = None, *, title: str | None = None) -> ReportFiles:
        """Analyze the runs that have ended, and write one HTML file, the same as Markdown, and the tables as CSV.

        Args:
            folder: for the report; None: ``report/`` in the study's.
            title: of the report; None: the study's name.

        Raises:
            ConfigError: if there are no runs yet.
            DataError: if none has ended with a result.
        """
        queue, own = self._connected()
        content = study_content(title or f"Study {queue.name}", queue, own, self.analyze())
        return write_report(Path(folder).expanduser() if folder is not None else own / "report", content)

    @staticmethod
    def from_table(source: "str | Path | pd.DataFrame", factors: Sequence[str], **options: Any) -> "TableStudy":
        """Return a study of runs that were made elsewhere; arguments as of `read_runs`.

        Raises:
            DataError: if the file cannot be read as a table.
            ConfigError: for each wrong column.
        """
        return TableStudy(read_runs(source, factors, **options))

    def confirm(
        self, *, top: int = 3, seeds: int = 5, split: str = "test", workers: int = 1, progress: bool = True
    ) -> pd.DataFrame:
        """Run the best few and the recommended configuration again with fresh seeds, and score a split kept for this.

        The best of many runs owes part of its result to luck (the winner's curse); fresh seeds show how much, and
        images that no choice was made on how good it is. The same call goes on where it was stopped; the report shows
        both.

        Args:
            top: how many of the best configurations.
            seeds: fresh ones for each.
            split: of the data set.
            workers: processes on this machine.
            progress: whether to say how each run ended, and the time left.

        Returns:
            A row a configuration; see `confirmation_table`.

        Raises:
            ConfigError: if there are no runs yet, the split was trained or chosen on, or a number is below 1.
            DataError: if the data set has no such split.
        """
        queue, folder = self._connected()
        problems = [f"{name}: at least 1, got {value}" for name, value in (("top", top), ("seeds", seeds)) if value < 1]
        if problems:
            raise ConfigError(problems)
        check_split(queue, split)
        build_dataset(self.definition.base, split)
        table = self._table(queue)
        chosen = candidates(analyze(table), top)
        fresh = fresh_seeds(queue, seeds)
        queue.note("confirmation", {"chosen": {name: dict(levels) for name, levels in chosen.items()}, "seeds": seeds})
        queue.add(runs_of(self.definition, chosen.values(), fresh), CONFIRMATION, split)
        self._do(queue, folder, workers, progress)
        return confirmation_table(queue, table, chosen, fresh)

    @cached_property
    def higher_is_better(self) -> bool:
        """Whether more of the objective is better, as its metric says.

        Raises:
            ConfigError: if the base config's model has no such metric.
        """
        return objective_direction(self.definition)

    def _do(self, queue: Queue, folder: Path, workers: int, progress: bool) -> None:
        if workers == 1:
            self.work(progress=progress)
            return
        reporter = Reporter(progress)
        work_in_processes(folder, queue, workers, reporter)
        reporter.say(f"{folder}: {progress_line(queue)}")

    def _table(self, queue: Queue) -> RunTable:
        return run_table(queue, higher_is_better=self.higher_is_better)

    def _connected(self) -> tuple[Queue, Path]:
        if self._queue is None or self.folder is None:
            raise ConfigError(["study: it has no runs yet; begin it by run(folder), or open one by Study.open(folder)"])
        return self._queue, self.folder

    def _connect(self, folder: Path, storage: str | None, name: str | None) -> Queue:
        """Open the storage, and write the definition where it is new."""
        better = self.higher_is_better
        queue = Queue(Storage(folder, storage), name or folder.resolve().name, self.definition, higher_is_better=better)
        note_definition(queue, folder)
        self.folder, self._queue = folder, queue
        return queue
