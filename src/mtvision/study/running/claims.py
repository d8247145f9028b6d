"""A run that a worker has taken, how far a study is, and what both are made from."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil

from mtvision.study.planning.runs import PlannedRun

DESIGN, CONFIRMATION, EARLIER = "design", "confirmation", "earlier"
_CLOCK_STEP = 10.0  # seconds by which the clock may have been set since a process began


@dataclass(frozen=True)
class Claim:
    """A run that this process has taken: nobody else does it.

    Attributes:
        run: what to do.
        trial: Optuna's, to report to.
        purpose: `DESIGN` or `CONFIRMATION`.
        split: of the data set that is scored at the end too, None: none.
    """

    run: PlannedRun
    trial: Any
    purpose: str
    split: str | None = None


@dataclass(frozen=True)
class Count:
    """How far a study is."""

    finished: int
    failed: int
    pruned: int
    running: int
    waiting: int

    @property
    def done(self) -> int:
        """Runs that need nothing more."""
        return self.finished + self.failed + self.pruned

    @property
    def total(self) -> int:
        """All runs known so far."""
        return self.done + self.running + self.waiting


def attributes_of(run: PlannedRun, purpose: str, split: str | None) -> dict[str, Any]:
    """Return what a trial carries of a run."""
    return {"run": run.name, "levels": dict(run.levels), "seed": run.seed, "purpose": purpose, "split": split}


def identity_of(trial: Any) -> dict[str, Any]:
    """Return what `attributes_of` put into a trial, without what came out."""
    return {key: trial.user_attrs[key] for key in ("run", "levels", "seed", "purpose", "split")}


def lives(worker: Mapping[str, Any]) -> bool:
    """Tell whether a worker of this machine is still there: a process with its number that began when it did."""
    try:
        process = psutil.Process(worker["pid"])
        return bool(
            abs(process.create_time() - worker["began"]) < _CLOCK_STEP and process.status() != psutil.STATUS_ZOMBIE
        )
    except psutil.Error:
        return False


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out Optuna's warnings that heartbeats without its own loop are unusual."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
