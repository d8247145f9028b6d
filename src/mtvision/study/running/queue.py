"""The queue of a study's runs, in Optuna's trials: who does which, what came out, and whose worker has died.

A trial carries what it is as user attributes: ``run``, ``levels``, ``seed``, ``purpose``, ``worker``; and what came
out: ``result``, or ``error``. One that failed without an ``error`` was cut off, and another one stands in for it.
"""

import logging
import os
import socket
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import psutil

from mtvision.study.planning.definition import Definition
from mtvision.study.planning.designs import SearchDesign
from mtvision.study.planning.runs import PlannedRun, build_design, config_of, digest, planned_runs, undone_runs
from mtvision.study.running.claims import (
    CONFIRMATION,
    DESIGN,
    EARLIER,
    Claim,
    Count,
    attributes_of,
    identity_of,
    lives,
    quiet,
)
from mtvision.study.running.storage import Storage
from mtvision.training.history import without_nan

_MOST_DEATHS = 3  # of a run's workers, one after the other, without an epoch done in between
_MOST_REPEATS = 10  # proposals of a search that were run already, one after the other

logger = logging.getLogger(__name__)


class Queue:
    """Runs of one study on one storage.

    Args:
        storage: of the study.
        name: of the study in it.
        definition: of the study.
        higher_is_better: of its objective.
    """

    def __init__(self, storage: Storage, name: str, definition: Definition, *, higher_is_better: bool = True) -> None:
        import optuna

        self.storage, self.definition, self.name = storage, definition, name
        self.design = build_design(definition)
        self.planned = {run.name: run for run in planned_runs(definition)}
        search = self.design if isinstance(self.design, SearchDesign) else None
        self._startup = search.startup if search is not None else 0
        pruning = search is not None and search.pruning
        with storage.exclusive(), quiet():
            self._study = optuna.create_study(
                storage=storage.optuna,
                study_name=name,
                direction="maximize" if higher_is_better else "minimize",
                load_if_exists=True,
                pruner=optuna.pruners.MedianPruner(self._startup, 1) if pruning else optuna.pruners.NopPruner(),
            )
        self._optuna, self._states = optuna, optuna.trial.TrialState

    def noted(self, key: str) -> dict[str, Any] | None:
        """Return what was last noted of the study as a whole, such as its ``definition``; None if nothing was."""
        noted: dict[str, Any] | None = self._study.user_attrs.get(key)
        return noted

    def note(self, key: str, content: Mapping[str, Any]) -> None:
        """Put something beside the runs, for workers elsewhere and later calls."""
        self._study.set_user_attr(key, dict(content))

    def trials(self) -> dict[str, Any]:
        """Return by run the last trial of each; one that was cut off is followed by another."""
        found: dict[str, Any] = {}
        for trial in self._study.get_trials(deepcopy=False):
            if "run" in trial.user_attrs:
                found[trial.user_attrs["run"]] = trial
        return found

    def purpose_of(self, trial: Any) -> str:
        """Return what a trial is for now: `EARLIER` where the definition had it once, and has no more."""
        if trial.user_attrs["run"] in self.planned:
            return DESIGN
        purpose: str = trial.user_attrs["purpose"]
        return EARLIER if purpose == DESIGN and not isinstance(self.design, SearchDesign) else purpose

    def of_purpose(self, purpose: str | None) -> dict[str, Any]:
        """Return the `trials` for a purpose; None: for any that the study has now."""
        wanted = (DESIGN, CONFIRMATION) if purpose is None else (purpose,)
        return {name: trial for name, trial in self.trials().items() if self.purpose_of(trial) in wanted}

    def add(self, runs: Iterable[PlannedRun], purpose: str = DESIGN, split: str | None = None) -> None:
        """Put runs into the queue that are not there yet."""
        with self.storage.exclusive():
            known = self.trials()
            for run in runs:
                if run.name not in known:
                    self._add(attributes_of(run, purpose, split))

    def retry_failed(self) -> int:
        """Put failed runs into the queue once more; return how many."""
        with self.storage.exclusive():
            failed = [trial for trial in self.of_purpose(None).values() if self.has_failed(trial)]
            for trial in failed:
                self._again(trial)
        return len(failed)

    def claim(self) -> Claim | None:
        """Take a run that nobody does, None if there is none now; a dead worker's is taken up again."""
        with self.storage.exclusive(), quiet():
            self._bury_dead()
            self._replace_cut_off()
            spent = self.is_spent()
            for trial in self.of_purpose(CONFIRMATION if spent else None).values():
                if trial.state == self._states.WAITING and self.storage.take(trial._trial_id):
                    return self._claimed(self._optuna.trial.Trial(self._study, trial._trial_id))
            return self._proposed() if isinstance(self.design, SearchDesign) and not spent else None

    def finish(self, claim: Claim, value: float, result: Mapping[str, Any]) -> None:
        """Note what a run has reached."""
        with self._answered(claim):
            claim.trial.set_user_attr("result", without_nan(result))
            self._study.tell(claim.trial, value)

    def prune(self, claim: Claim, result: Mapping[str, Any]) -> None:
        """Note that a run was not worth going on with."""
        with self._answered(claim):
            claim.trial.set_user_attr("result", without_nan(result))
            self._study.tell(claim.trial, state=self._states.PRUNED)

    def fail(self, claim: Claim, error: BaseException) -> None:
        """Note why a run has failed."""
        with self._answered(claim):
            claim.trial.set_user_attr("error", f"{type(error).__name__}: {error}")
            claim.trial.set_user_attr("traceback", "".join(traceback.format_exception(error)))
            self._study.tell(claim.trial, state=self._states.FAIL)

    def give_back(self, claim: Claim) -> None:
        """Let another worker go on with a run."""
        with self._answered(claim), self.storage.exclusive():
            claim.trial.set_user_attr("interrupted", True)
            self._study.tell(claim.trial, state=self._states.FAIL)
            self._replace_cut_off()

    def is_mine(self, claim: Claim) -> bool:
        """Tell whether a claim still holds: who gave no sign of life for long may have lost it."""
        return bool(self.storage.optuna.get_trial(claim.trial._trial_id).state == self._states.RUNNING)

    def sign_of_life(self, claim: Claim) -> None:
        """Say that the worker of a claim is alive."""
        self.storage.optuna.record_heartbeat(claim.trial._trial_id)

    def count(self, purpose: str | None = None) -> Count:
        """Return how many runs are in which state; of a search also those that it has not chosen yet."""
        states = self._states
        trials = list(self.of_purpose(purpose).values())
        of_state = {state: sum(trial.state == state for trial in trials) for state in states}
        failed = sum(self.has_failed(trial) for trial in trials)
        unchosen = self._unchosen(trials) if purpose in (None, DESIGN) else 0
        return Count(
            of_state[states.COMPLETE],
            failed,
            of_state[states.PRUNED],
            of_state[states.RUNNING],
            of_state[states.WAITING] + of_state[states.FAIL] - failed + unchosen,
        )

    def is_spent(self) -> bool:
        """Tell whether the budget of hours is used up by the finished runs of the design."""
        hours = self.definition.budget.hours
        if hours is None:
            return False
        own = [trial.user_attrs for trial in self.of_purpose(DESIGN).values()]
        return sum(one.get("result", {}).get("seconds") or 0.0 for one in own) >= 3600 * hours

    @cached_property
    def _me(self) -> dict[str, Any]:
        return {"host": socket.gethostname(), "pid": os.getpid(), "began": psutil.Process().create_time()}

    def _add(self, attributes: Mapping[str, Any], **trial: Any) -> None:
        values = {"state": self._states.WAITING, **trial}
        self._study.add_trial(self._optuna.trial.create_trial(user_attrs=dict(attributes), **values))

    def _again(self, trial: Any) -> None:
        kept = ("intermediate_values", "params", "distributions")
        self._add(identity_of(trial), **{name: getattr(trial, name) for name in kept})

    def _claimed(self, trial: Any) -> Claim:
        attributes = trial.user_attrs
        trial.set_user_attr("worker", self._me)
        self.storage.optuna.record_heartbeat(trial._trial_id)
        levels, seed = attributes["levels"], attributes["seed"]
        found = PlannedRun(attributes["run"], levels, seed, config_of(self.definition, levels, seed))
        return Claim(self.planned.get(found.name, found), trial, attributes["purpose"], attributes["split"])

    def _proposed(self) -> Claim | None:
        """Let the search choose a run that was not done yet; None where it has chosen all, or has nothing new."""
        known = self.trials()
        if not self._unchosen(list(known.values())):
            return None
        for _ in range(_MOST_REPEATS):
            self._study.sampler = self._sampler()
            trial = self._study.ask()
            levels = self._suggested(trial)
            seed = self.definition.seeds[len(known) % len(self.definition.seeds)]
            config = config_of(self.definition, levels, seed)
            name = digest(config, self.definition.factors)
            if name not in known:
                return self._as_claim(trial, PlannedRun(name, levels, seed, config))
            self._repeat(trial, known[name])
        undone = next(undone_runs(self.definition, known), None)
        if undone is None:
            self._study.set_user_attr("ended", True)
            logger.warning("the search has run every configuration that there is; it ends here")
            return None
        self._study.enqueue_trial(dict(undone.levels))
        trial = self._study.ask()
        self._suggested(trial)
        return self._as_claim(trial, undone)

    def _suggested(self, trial: Any) -> dict[str, str]:
        factors = self.definition.factors
        return {factor.name: trial.suggest_categorical(factor.name, list(factor.labels)) for factor in factors}

    def _as_claim(self, trial: Any, run: PlannedRun) -> Claim:
        for key, value in attributes_of(run, DESIGN, None).items():
            trial.set_user_attr(key, value)
        return self._claimed(trial)

    def _sampler(self) -> Any:
        """Return a sampler that draws by what is known so far, so that workers do not all draw alike."""
        seed = (self.definition.base.system.seed + len(self._study.get_trials(deepcopy=False))) % 2**32
        return self._optuna.samplers.TPESampler(n_startup_trials=self._startup, constant_liar=True, seed=seed)

    def _repeat(self, trial: Any, before: Any) -> None:
        """Tell the search of a result that is known; where it is not yet, of none."""
        if before.state == self._states.COMPLETE:
            self._study.tell(trial, before.value)
        else:
            self._study.tell(trial, state=self._states.FAIL)

    def _unchosen(self, trials: list[Any]) -> int:
        if not isinstance(self.design, SearchDesign) or self._study.user_attrs.get("ended"):
            return 0
        limit = min(self.design.runs, self.definition.budget.runs or self.design.runs)
        chosen: int = sum(self.purpose_of(trial) == DESIGN for trial in trials)
        return max(limit - chosen, 0)

    def has_failed(self, trial: Any) -> bool:
        """Tell whether a trial has ended with an error."""
        return bool(trial.state == self._states.FAIL and "error" in trial.user_attrs)

    def _bury_dead(self) -> None:
        """Note which running trials have lost their worker: of this machine at once, of others after a while."""
        for trial in self._study.get_trials(deepcopy=False, states=(self._states.RUNNING,)):
            worker = trial.user_attrs.get("worker")
            # without one it died while it claimed, since nobody else is in here
            if worker is None or (worker["host"] == self._me["host"] and not lives(worker)):
                self._study.tell(trial.number, state=self._states.FAIL)
        self._optuna.storages.fail_stale_trials(self._study)

    def _replace_cut_off(self) -> None:
        for trial in self.trials().values():
            if trial.state != self._states.FAIL or self.has_failed(trial):
                continue
            deaths = self._deaths(trial)
            if deaths < _MOST_DEATHS:
                self._again(trial)
                continue
            error = f"its worker died {deaths} times at the same place (out of memory?)"
            self._add({**identity_of(trial), "error": error}, state=self._states.FAIL)

    def _deaths(self, last: Any) -> int:
        """Return how often a run's worker has died since the last epoch that it came through."""
        deaths: int = sum(
            trial.user_attrs.get("run") == last.user_attrs["run"]
            and "error" not in trial.user_attrs
            and "interrupted" not in trial.user_attrs
            and trial.last_step == last.last_step
            for trial in self._study.get_trials(deepcopy=False, states=(self._states.FAIL,))
        )
        return deaths

    @contextmanager
    def _answered(self, claim: Claim) -> Iterator[None]:
        """Leave out what a worker says whose run another one has taken up."""
        try:
            with quiet():
                yield
        except (ValueError, self._optuna.exceptions.UpdateFinishedTrialError):
            if self.is_mine(claim):
                raise
            logger.warning("run %s: another worker has taken it up; what this one found is left out", claim.run.name)
