"""What is wrong or suspicious in results, before anything is concluded from them."""

import re
from collections.abc import Iterator

import numpy as np
import pandas as pd

from mtvision.study.analysis.table import FAILED, FINISHED, PRUNED, RunTable

_FRACTION = re.compile(r"(m?iou|score|dice|f1|m?ap\d*(_\w+)?|\w*accuracy|precision|recall)$")
_NO_RESULT = frozenset(
    ("run", "config", "seed", "state", "seconds", "seconds_per_epoch", "parameters", "multiply_adds", "folder")
)


def check_results(table: RunTable) -> tuple[str, ...]:
    """Return a sentence for everything that is wrong or suspicious.

    Fractions outside [0, 1], losses that are negative or infinite, pixel accuracy below mIoU, the same results of
    different configurations, a run that is there twice, an objective that never changes, levels without a result.

    Example:
        >>> runs = pd.DataFrame({"run": ["a"], "config": ["a"], "seed": [0], "state": ["finished"], "det/map50": [1.2]})
        >>> check_results(RunTable(runs, {}, objective="det/map50"))[0]
        "run a: 'det/map50' is 1.2, outside [0, 1]"
    """
    runs = table.runs[table.runs["state"] == FINISHED]
    found = [*_ranges(runs), *_accuracies(runs), *_twice(table.runs), *_identical(table)]
    return (*found, *_constant(table), *_without_result(table))


def is_fraction(name: str) -> bool:
    """Tell from a column's name whether its values must lie in [0, 1].

    Example:
        >>> [is_fraction(name) for name in ("seg/miou", "det/map50_95", "seg/pixel_accuracy", "val/loss", "best_epoch")]
        [True, True, True, False, False]
    """
    return _FRACTION.fullmatch(name.rpartition("/")[2].lower()) is not None


def _ranges(runs: pd.DataFrame) -> Iterator[str]:
    for name in runs.select_dtypes("number"):
        values = runs[name].to_numpy(dtype=float)
        if is_fraction(name):
            wrong, expected = (values < 0) | (values > 1), "outside [0, 1]"
        elif "loss" in name.lower().split("/")[-1].split("_") or name.lower().startswith("loss/"):
            wrong, expected = (values < 0) | np.isinf(values), "a loss is finite and not negative"
        else:
            continue
        for run, value in zip(runs["run"][wrong], values[wrong], strict=True):
            yield f"run {run}: '{name}' is {value:.6g}, {expected}"


def _accuracies(runs: pd.DataFrame) -> Iterator[str]:
    for name in runs:
        prefix, _, last = str(name).rpartition("/")
        other = f"{prefix}/miou" if prefix else "miou"
        if last == "pixel_accuracy" and other in runs:
            low = runs[runs[name] < runs[other]]
            for row in low.to_dict("records"):
                numbers = f"pixel accuracy {row[name]:.4f} is below the mIoU of {row[other]:.4f}"
                yield f"run {row['run']}: {numbers}, which is rare"


def _twice(runs: pd.DataFrame) -> Iterator[str]:
    done = runs[runs["state"] == FINISHED]
    for _, same in done[done.duplicated("config", keep=False)].groupby("config", sort=False):
        yield f"runs {', '.join(map(str, same['run']))} are one configuration with one seed: they count once"


def _identical(table: RunTable) -> Iterator[str]:
    runs = table.finished
    skipped = _NO_RESULT | set(table.factors)
    results = [name for name in runs.select_dtypes("number") if name not in skipped and runs[name].notna().any()]
    for _, same in runs[runs.duplicated(results, keep=False)].groupby(results, sort=False, dropna=False):
        yield (
            f"runs {', '.join(map(str, same['run']))} have exactly the same results though their configurations or "
            "seeds differ: either what differs has no effect, or a result was copied"
        )


def _constant(table: RunTable) -> Iterator[str]:
    values = table.finished[table.objective]
    if len(values) > 1 and values.nunique() == 1:
        yield f"'{table.objective}' is {values.iloc[0]:.6g} in all {len(values)} runs: nothing can be compared"


def _without_result(table: RunTable) -> Iterator[str]:
    done = table.finished
    for name, labels in table.factors.items():
        for label in labels:
            of_level = table.runs[table.runs[name].astype(str) == label]
            if len(of_level) and not (done[name].astype(str) == label).any():
                counts = [(state, int((of_level["state"] == state).sum())) for state in (FAILED, PRUNED)]
                text = " and ".join(f"{number} {state}" for state, number in counts if number) or "no value"
                yield f"{name}={label}: no run has a result ({text} of {len(of_level)})"
