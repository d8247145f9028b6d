"""What a comparison with single tasks found."""

import json
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mtvision.target_files import replace_text
from mtvision.text_table import text_table
from mtvision.training.cost import ModelCost
from mtvision.training.gain import Estimate, delta_m, percent
from mtvision.training.gradient_similarity import Similarities
from mtvision.training.history import without_nan

RESULT, PLOT = "comparison.json", "plots/gradient_similarity.png"


@dataclass(frozen=True)
class GainRow:
    """One task under one seed.

    Attributes:
        seed: of both runs.
        task: its name.
        metric: its main metric, ``<task>/<metric>``.
        higher_is_better: of the metric.
        single: the metric of the task alone, in the best epoch of its run.
        joint: the metric in the best epoch of the joint run.
        gain: of `relative_gain`, a fraction; NaN where it is not defined.
    """

    seed: int
    task: str
    metric: str
    higher_is_better: bool
    single: float
    joint: float
    gain: float


@dataclass(frozen=True)
class RunRow:
    """One run; ``task`` is None for a joint one, ``epochs`` were done, ``best_epoch`` is counted from 1."""

    name: str
    seed: int
    task: str | None
    epochs: int
    best_epoch: int
    seconds: float


@dataclass(frozen=True)
class SingleTaskComparison:
    """What several tasks in one network gain and cost; ``print`` shows tables.

    Attributes:
        rows: a task and a seed each.
        runs: all runs, for each seed the joint one first.
        cost: of the joint model and its parts; `ModelCost.single` tells that of a task alone.
        gradient_similarity: cosines by state of the model (``initialization``, ``best epoch``), pair of tasks and layer
            group, one a batch and seed.
    """

    rows: tuple[GainRow, ...]
    runs: tuple[RunRow, ...]
    cost: ModelCost
    gradient_similarity: dict[str, Similarities]

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return tuple(dict.fromkeys(row.task for row in self.rows))

    @property
    def gains(self) -> dict[str, Estimate]:
        """The relative gain of each task, over the seeds."""
        return {task: Estimate(tuple(row.gain for row in self.rows if row.task == task)) for task in self.tasks}

    @property
    def delta_m(self) -> Estimate:
        """Δm of each seed, the mean of the tasks' relative gains, and its mean and interval over the seeds."""
        by_task = [estimate.values for estimate in self.gains.values()]
        return Estimate(tuple(delta_m(gains) for gains in zip(*by_task, strict=True)))

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of training, means over the seeds: of the ``joint`` run and of each task alone."""
        by_name: dict[str, list[float]] = {}
        for run in self.runs:
            by_name.setdefault(run.task or "joint", []).append(run.seconds)
        return {name: statistics.fmean(values) for name, values in by_name.items()}

    def save(self, folder: str | Path) -> Path:
        """Write ``comparison.json`` and ``plots/gradient_similarity.png``; the folder is made if it is missing.

        Returns:
            The JSON file.
        """
        from mtvision.visualize.similarity import write_similarity

        write_similarity(self.gradient_similarity, Path(folder) / PLOT)
        path = Path(folder) / RESULT
        replace_text(path, json.dumps(without_nan(self._plain()), indent=2) + "\n")
        return path

    def __str__(self) -> str:
        """Return gains, training times, costs and gradient similarities as tables."""
        least, most = min(run.epochs for run in self.runs), max(run.epochs for run in self.runs)
        epochs = f"{most}" if least == most else f"{least} to {most}"
        title = f"all tasks in one network against a network for each, {epochs} epochs a run"
        blocks = [f"{title}\n{text_table(list(self._gain_cells()), left=2)}", self._conclusion(), self._times()]
        return "\n\n".join([*blocks, str(self.cost), _similarity_text(self.gradient_similarity)])

    def _gain_cells(self) -> Iterator[tuple[str, ...]]:
        yield ("metric", "", "seed", "alone", "joint", "difference", "gain")
        for row in self.rows:
            direction = "higher is better" if row.higher_is_better else "lower is better"
            numbers = f"{row.single:.4f}", f"{row.joint:.4f}", f"{row.joint - row.single:+.4f}", percent(row.gain)
            yield (row.metric, direction, str(row.seed), *numbers)

    def _conclusion(self) -> str:
        gains = {f"gain of {task}": estimate for task, estimate in self.gains.items()}
        lines = [f"{name:<14} {estimate}" for name, estimate in {"Δm": self.delta_m, **gains}.items()]
        lines.append(
            "Metrics are those of each run's best epoch on the validation split, chosen by training.monitor: alone by\n"
            "the task's own, joint by all tasks' together."
        )
        return "\n".join(lines)

    def _times(self) -> str:
        seconds = self.seconds
        alone = sum(value for name, value in seconds.items() if name != "joint")
        listed = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items() if name != "joint")
        return (
            f"training took {seconds['joint']:.1f} s joint and {alone:.1f} s alone ({listed}), means over the seeds: "
            "the same epochs, not the same time"
        )

    def _plain(self) -> dict[str, Any]:
        singles = {task: asdict(self.cost.single(task)) for task in self.tasks}
        return {
            "delta_m": _plain_estimate(self.delta_m),
            "gains": {task: _plain_estimate(estimate) for task, estimate in self.gains.items()},
            "rows": [asdict(row) for row in self.rows],
            "runs": [asdict(run) for run in self.runs],
            "seconds": self.seconds,
            "cost": {**asdict(self.cost), "single": singles},
            "gradient_similarity": self.gradient_similarity,
        }


def _plain_estimate(estimate: Estimate) -> dict[str, Any]:
    numbers = {"mean": estimate.mean, "standard_deviation": estimate.deviation, "interval": estimate.interval}
    return {**numbers, "values": estimate.values}


def _similarity_text(similarities: Mapping[str, Similarities]) -> str:
    pairs = list(dict.fromkeys(pair for by_pair in similarities.values() for pair in by_pair))
    rows = [("pair", "layers", *similarities)]
    for pair in pairs:
        of_pair = [by_pair.get(pair, {}) for by_pair in similarities.values()]
        groups = dict.fromkeys(group for values in of_pair for group in values)
        rows += [(pair, group, *(_spread(values.get(group, [])) for values in of_pair)) for group in groups]
    title = "cosine similarity of the gradients, mean and standard deviation over batches; below 0 the tasks conflict"
    return f"{title}\n{text_table(rows, left=2)}"


def _spread(values: list[float]) -> str:
    return f"{statistics.fmean(values):+.3f} (sd {statistics.pstdev(values):.3f})" if values else "-"
