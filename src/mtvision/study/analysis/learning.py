"""Summaries of the learning curves, and what runs cost."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mtvision.study.analysis.bootstrap import Array
from mtvision.study.analysis.table import RunTable

LEARNING_COLUMNS = ("run", "epochs_to_95", "best_epoch", "train_val_gap", "first_5_epochs_loss")
COST_COLUMNS = ("run", "seconds", "seconds_per_epoch", "parameters", "multiply_adds")
TRAIN_LOSS, VALIDATION_LOSS = "train/loss", "val/loss"
_SHARE = 0.95
_FIRST = 5


def summarise_learning(table: RunTable) -> pd.DataFrame:
    """Return how each finished run learned, with ``LEARNING_COLUMNS``; epochs count from 1, NaN is unknown.

    A column that the table already has is taken as it is; the rest comes from the curves, see `learning_of`.
    """
    rows = []
    for run in table.finished.to_dict("records"):
        curves, best = table.curves.get(run["run"], {}), _number(run, "best_epoch", math.nan)
        found = learning_of(curves, table.objective, table.higher_is_better, best)
        rows.append({"run": run["run"]} | {name: _number(run, name, value) for name, value in found.items()})
    return pd.DataFrame(rows, columns=list(LEARNING_COLUMNS))


def learning_of(
    curves: Mapping[str, Sequence[float]], objective: str, higher_is_better: bool = True, best_epoch: float = math.nan
) -> dict[str, float]:
    """Return the summaries of one run's curves.

    * ``epochs_to_95``: the first epoch whose objective is at least 95 % of the best; of an objective that is to be
      small, the first in which 95 % of its whole way down, from the first epoch to the best, are done.
    * ``best_epoch``: of the objective; without its curve, of the smallest validation loss.
    * ``train_val_gap``: validation less training loss in the best epoch; large means overfitting.
    * ``first_5_epochs_loss``: mean training loss of the first five epochs (of all, if they are fewer).

    Args:
        curves: by name, a value an epoch.
        objective: name of its curve, with or without ``val/``.
        higher_is_better: of the objective.
        best_epoch: in which the gap is taken; NaN: see above.

    Example:
        >>> curves = {"val/score": [0.1, 0.39, 0.4], "val/loss": [3.0, 2.0, 1.5], "train/loss": [3.0, 1.5, 0.5]}
        >>> learning_of(curves, "score")["epochs_to_95"], learning_of(curves, "score")["train_val_gap"]
        (2.0, 1.0)
    """
    train, validation = _curve(curves, TRAIN_LOSS), _curve(curves, VALIDATION_LOSS)
    values = next((_curve(curves, name) for name in (f"val/{objective}", objective) if name in curves), None)
    if values is None:
        values, higher_is_better = validation, False
    peak = _best_epoch(values, higher_is_better)
    best = peak if math.isnan(best_epoch) else best_epoch
    return {
        "epochs_to_95": _epochs_to_95(values, peak, higher_is_better),
        "best_epoch": best,
        "train_val_gap": _at(validation, best) - _at(train, best),
        "first_5_epochs_loss": float(np.mean(train[:_FIRST])) if len(train) else math.nan,
    }


def summarise_cost(table: RunTable) -> pd.DataFrame:
    """Return what each finished run cost, with ``COST_COLUMNS`` as far as anything is known of them.

    Seconds an epoch are, where the table has none, the seconds divided by the epochs of the curves.
    """
    rows = []
    for run in table.finished.to_dict("records"):
        epochs = max((len(curve) for curve in table.curves.get(run["run"], {}).values()), default=0)
        seconds = _number(run, "seconds", math.nan)
        known = {name: _number(run, name, math.nan) for name in COST_COLUMNS[1:]}
        each = _number(run, "seconds_per_epoch", seconds / epochs if epochs else math.nan)
        rows.append({"run": run["run"], **known, "seconds_per_epoch": each})
    frame = pd.DataFrame(rows, columns=list(COST_COLUMNS))
    return frame[["run", *(name for name in COST_COLUMNS[1:] if frame[name].notna().any())]]


def _number(run: Mapping[str, Any], name: str, otherwise: float) -> float:
    value = run.get(name)
    return otherwise if value is None or pd.isna(value) else float(value)


def _curve(curves: Mapping[str, Sequence[float]], name: str) -> Array:
    return np.array([math.nan if value is None else value for value in curves.get(name, ())], dtype=float)


def _best_epoch(values: Array, higher_is_better: bool) -> float:
    if not np.isfinite(values).any():
        return math.nan
    signed = np.where(np.isfinite(values), values if higher_is_better else -values, -np.inf)
    return float(np.argmax(signed) + 1)


def _epochs_to_95(values: Array, best: float, higher_is_better: bool) -> float:
    if math.isnan(best):
        return math.nan
    top, first = _at(values, best), values[np.isfinite(values)][0]
    reached = values >= _SHARE * top if higher_is_better else values <= first - _SHARE * (first - top)
    return float(np.argmax(reached) + 1) if reached.any() else best


def _at(values: Array, epoch: float) -> float:
    return float(values[int(epoch) - 1]) if not math.isnan(epoch) and epoch <= len(values) else math.nan
