"""From a study's trials to the table that an analysis starts from."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from mtvision.study.analysis.table import FAILED, FINISHED, PRUNED, RunTable
from mtvision.study.planning.plan import labels_of
from mtvision.study.running.claims import DESIGN
from mtvision.study.running.queue import Queue
from mtvision.training.history import with_nan

_STATES = {"COMPLETE": FINISHED, "PRUNED": PRUNED, "FAIL": FAILED}


def run_table(queue: Queue, purpose: str = DESIGN, *, higher_is_better: bool = True) -> RunTable:
    """Return the runs that have ended, whatever way.

    Args:
        queue: of the study.
        purpose: which of its runs.
        higher_is_better: of the objective.
    """
    rows, curves = [], {}
    objective = queue.definition.objective
    for name, trial in queue.of_purpose(purpose).items():
        attributes = trial.user_attrs
        state = _STATES.get(trial.state.name)
        if state is None or (state == FAILED and "error" not in attributes):
            continue
        result = with_nan(dict(attributes.get("result", {})))
        curves[name] = result.get("curves", {})
        value = trial.value if state == FINISHED else math.nan
        rows.append(
            {
                "run": name,
                "config": name,
                "seed": attributes["seed"],
                "state": state,
                **(queue.planned[name].levels if name in queue.planned else attributes["levels"]),
                **_numbers(result),
                objective: value,
                **({"error": attributes["error"]} if "error" in attributes else {}),
            }
        )
    factors = labels_of(queue.definition)
    columns = ["run", "config", "seed", "state", *factors, objective]
    runs = pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)
    return RunTable(runs, factors, objective, higher_is_better, curves)


def _numbers(result: Mapping[str, Any]) -> dict[str, float]:
    """Return the scalars of a result: metrics and losses of the best epoch, seconds, sizes."""
    curves = result.get("curves", {})
    epochs = max((len(values) for values in curves.values()), default=0)
    numbers = dict(result.get("metrics", {}))
    best = int(result.get("best_epoch", 0))
    if best:
        numbers |= {key: curves[key][best - 1] for key in ("train/loss", "val/loss") if key in curves}
        numbers["best_epoch"] = best
    numbers |= {key: result[key] for key in ("seconds", "parameters", "multiply_adds") if key in result}
    if epochs and "seconds" in result:
        numbers |= {"epochs": epochs, "seconds_per_epoch": result["seconds"] / epochs}
    return numbers
