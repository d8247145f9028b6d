"""A worker: takes one run after the other from a study's queue, until nothing is left."""

import gc
import logging
import math
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtvision.data.loading.loader import build_dataset
from mtvision.errors import TrainingError
from mtvision.study.planning.probe import duration
from mtvision.study.running.claims import DESIGN, Claim, quiet
from mtvision.study.running.queue import Queue
from mtvision.study.running.storage import HEARTBEAT_SECONDS
from mtvision.training.callbacks import Callback
from mtvision.training.checkpoint import load_model
from mtvision.training.cost import measure_cost
from mtvision.training.evaluate import evaluate
from mtvision.training.evaluation import combined_score
from mtvision.training.history import Row, without_nan
from mtvision.training.run import train
from mtvision.training.run_folder import RunResult

if TYPE_CHECKING:
    from mtvision.training.trainer import Trainer

RUNS = "runs"
_POLL_SECONDS = 2.0

logger = logging.getLogger(__name__)


class _PrunedError(Exception):
    """A run is not worth going on with."""


class _Reports(Callback):
    """Tells the storage of each epoch, and ends a run that was pruned or that another worker has taken up."""

    def __init__(self, claim: Claim, objective: str, lost: threading.Event) -> None:
        self.claim, self.objective, self.lost = claim, objective, lost
        self.rows: list[Row] = []

    def on_step_end(self, trainer: "Trainer", step: Any) -> None:
        """Stop where the run is no longer this worker's."""
        del trainer, step
        if self.lost.is_set():
            raise TrainingError("another worker has taken this run up, since this one gave no sign of life for long")

    def on_epoch_end(self, trainer: "Trainer", row: Row) -> None:
        """Report the objective, and ask whether to go on."""
        value = row.get(f"val/{self.objective}", math.nan)
        if not math.isnan(value):
            with quiet():  # an epoch that is done again after a kill was reported before
                self.claim.trial.report(value, row["epoch"])
        if self.claim.purpose == DESIGN and self.claim.trial.should_prune():
            self.rows = [*trainer.history]
            raise _PrunedError


def work_once(queue: Queue, folder: Path) -> Claim | None:
    """Take one run and do it; return it, or None if there is none to take now.

    Whatever goes wrong in the run is noted with it; only Ctrl-C and SIGTERM come through, after the run was saved and
    given back.

    Args:
        queue: of the study.
        folder: of the study; the run's is in it.
    """
    claim = queue.claim()
    if claim is None:
        return None
    lost = threading.Event()
    reports = _Reports(claim, queue.definition.objective, lost)
    with _signs_of_life(queue, claim, lost):
        try:
            result = train(claim.run.config, folder / RUNS / claim.run.name, progress=False, callbacks=[reports])
            value, record = _record(claim, result, queue.definition.objective)
        except _PrunedError:
            queue.prune(claim, _of_epochs(reports.rows))
        except (KeyboardInterrupt, SystemExit):
            queue.give_back(claim)
            raise
        except Exception as error:  # noqa: BLE001 - one run's failure, of whatever kind, must not end the others
            logger.warning("run %s has failed: %s", claim.run.name, error)
            queue.fail(claim, error)
        else:
            queue.finish(claim, value, record)
            _drop_last(folder / RUNS / claim.run.name)
    gc.collect()  # a model is in cycles: else several runs' weights and gradients are there at once
    return claim


def wait_for_runs(queue: Queue) -> bool:
    """Wait a little if runs of other workers may yet come back to the queue; tell whether that can be."""
    if not queue.count().running:
        return False
    time.sleep(_POLL_SECONDS)
    return True


def _record(claim: Claim, result: RunResult, objective: str) -> tuple[float, dict[str, Any]]:
    """Return the objective of a run, and all else that an analysis needs, from which folder it may be far away.

    Raises:
        TrainingError: if the objective is undefined.
    """
    rows = list(result.history)
    best = rows[result.best_epoch - 1]
    value = float(best.get(f"val/{objective}", math.nan))
    if math.isnan(value):
        raise TrainingError(f"the objective '{objective}' has no value in the best epoch, {result.best_epoch}")
    model = load_model(result.run_dir)
    cost = measure_cost(model, repeats=1).whole
    record = {
        **_of_epochs(rows),
        "metrics": result.metrics,
        "best_epoch": result.best_epoch,
        "seconds": result.seconds,
        "parameters": cost.parameters,
        "multiply_adds": cost.multiply_adds,
        "folder": str(result.run_dir),
    }
    if claim.split is not None:
        data = build_dataset(claim.run.config, claim.split)
        scored = evaluate(model, data, batch_size=_batch_size(claim), on_error=claim.run.config.data.on_error)
        whole = {"score": combined_score(model, scored.metrics), "loss": scored.losses["loss"]}
        record["held_out"] = {**scored.metrics, **whole}
    return value, record


def _drop_last(run_dir: Path) -> None:
    """Leave a finished run its best checkpoint only: the others, with optimizer state, of many runs fill a disk."""
    for path in (run_dir / "checkpoints").glob("last*"):
        shutil.rmtree(path, ignore_errors=True)


def _batch_size(claim: Claim) -> int:
    size = claim.run.config.training.batch_size
    return size if isinstance(size, int) else 8


def _of_epochs(rows: list[Row]) -> dict[str, Any]:
    """Return the curves, and the seconds so far."""
    names = {key for row in rows for key in row if key not in ("per_class", "epoch") and "/loss/" not in key}
    curves = {name: [float(row.get(name, math.nan)) for row in rows] for name in sorted(names)}
    return {"curves": without_nan(curves), "seconds": sum(curves.get("seconds", []))}


@contextmanager
def _signs_of_life(queue: Queue, claim: Claim, lost: threading.Event) -> Iterator[None]:
    """Give a sign of life now and then, from a thread of its own."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(HEARTBEAT_SECONDS):
            with suppress(Exception):  # a server that is away for a moment; the next one may come through
                queue.sign_of_life(claim)
                if not queue.is_mine(claim) and not done.is_set():
                    lost.set()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def summary_line(claim: Claim, queue: Queue) -> str:
    """Return how a run has ended and how far the study is, with the time left."""
    trial = queue.trials()[claim.run.name]
    attributes = trial.user_attrs
    if "error" in attributes:
        outcome = f"failed ({attributes['error'].splitlines()[0]})"
    elif trial.state.name == "COMPLETE":
        outcome = f"{queue.definition.objective} {trial.value:.4f}"
    else:
        outcome = trial.state.name.lower()
    levels = ", ".join(f"{name.rpartition('.')[2]}={label}" for name, label in claim.run.levels.items())
    return f"{claim.run.name} (seed {claim.run.seed}; {levels}): {outcome}\n{progress_line(queue)}"


def progress_line(queue: Queue, workers: int = 1) -> str:
    """Return how far a study is, and about how long it will take yet."""
    count = queue.count()
    parts = [f"{count.done} of {count.total} runs done"]
    parts += [f"{number} {name}" for name, number in (("failed", count.failed), ("running", count.running)) if number]
    if queue.is_spent() and count.done < count.total:
        return ", ".join(parts) + "; the budget of hours is used up, and the design is not complete"
    left = _seconds_left(queue, count.total - count.done, max(workers, count.running))
    return ", ".join(parts) + (f"; about {duration(left)} left" if left else "")


def _seconds_left(queue: Queue, runs: int, workers: int) -> float:
    all_seconds = (_seconds(trial.user_attrs) for trial in queue.of_purpose(None).values())
    seconds = sorted(filter(None, all_seconds))
    return seconds[len(seconds) // 2] * runs / workers if seconds else 0.0


def _seconds(attributes: Mapping[str, Any]) -> float:
    return float(attributes.get("result", {}).get("seconds") or 0.0)
