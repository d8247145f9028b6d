"""Score thresholds of each class, found on annotated images."""

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from mtvision.data.writers.writing import new_file
from mtvision.errors import ConfigError, DataError, choices_hint
from mtvision.model import MultiTaskModel
from mtvision.training.evaluate import Scored, evaluate
from mtvision.types import Sample

logger = logging.getLogger(__name__)

Measure = Literal["f1", "lrp"]


@dataclass(frozen=True)
class Thresholds:
    """The least score of a detection, by task and class.

    Attributes:
        by_task: by the task's name, then by the class's name (its number, where the model knows no names), in [0, 1]. A
            class that is missing keeps what the task keeps.
        measure: what they were tuned for; None if they were chosen by hand.

    Raises:
        ConfigError: if a value is no number in [0, 1].

    Example:
        >>> Thresholds({"det": {"cat": 0.4}}).by_task["det"]["cat"]
        0.4
    """

    by_task: Mapping[str, Mapping[str, float]]
    measure: str | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        problems = [
            f"thresholds.{task}.{name}: expected a number in [0, 1], got {value!r}"
            for task, values in self.by_task.items()
            for name, value in values.items()
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1
        ]
        if problems:
            raise ConfigError(problems)

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write them as JSON, from which `load` reads the very same numbers.

        Raises:
            DataError: if the file is there already and ``overwrite`` is False, or it cannot be written.
        """
        with new_file(Path(path).expanduser(), overwrite) as file:
            by_task = {task: dict(values) for task, values in self.by_task.items()}
            content = {"measure": self.measure, "thresholds": by_task}
            file.write(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> "Thresholds":
        """Read a file of `save`.

        Raises:
            DataError: if it is missing or not such a file.
            ConfigError: if a value is no number in [0, 1].
        """
        place = Path(path).expanduser()
        try:
            content = json.loads(place.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{place}: it cannot be read as JSON ({error})") from None
        found = content.get("thresholds") if isinstance(content, dict) else None
        if not isinstance(found, dict) or not all(isinstance(values, dict) for values in found.values()):
            raise DataError(
                f'{place}: expected {{"thresholds": {{task: {{class: number}}}}}}, as Thresholds.save writes'
            )
        return cls(found, content.get("measure"))

    def by_label(self, model: MultiTaskModel) -> dict[str, Tensor]:
        """Return the thresholds of each task of a model by label, float32 ``(C,)``, 0 for a class without.

        Args:
            model: whose tasks and classes are named.

        Raises:
            ConfigError: if it has not such a task or class, or the task has no classes; all problems are told.
        """
        problems = list(self._problems(model))
        if problems:
            raise ConfigError(problems)
        return {
            task: torch.tensor([float(values.get(name, 0.0)) for name in class_names(model, task)])
            for task, values in self.by_task.items()
        }

    def _problems(self, model: MultiTaskModel) -> Iterator[str]:
        for task, values in self.by_task.items():
            if task not in model.tasks:
                yield f"thresholds: the model has no task '{task}'{choices_hint(task, model.tasks)}"
                continue
            names = class_names(model, task)
            for name in values:
                if name not in names:
                    yield f"thresholds.{task}: the model has no class '{name}'{choices_hint(name, names)}"


def tune_thresholds(
    model_or_run: Scored,
    data: Sequence[Sample],
    measure: Measure = "f1",
    *,
    batch_size: int = 8,
    num_workers: int = 0,
    on_error: Literal["raise", "skip"] = "raise",
) -> Thresholds:
    """Find for each class of each detection task the score threshold that is best on annotated images.

    All scores that occur are tried, by the protocol ``lrp`` of `mtvision.evaluate`. Tune on the validation set, never
    on images on which results are reported. Thresholds belong to the predictor they were tuned for: a mean over several
    views has other scores than a single one.

    Args:
        model_or_run: a model, a `Predictor`, or the folder of a run.
        data: annotated images; those of `build_dataset` with split "val".
        measure: "f1", the harmonic mean of precision and recall at an IoU of 0.5, or "lrp", the localisation recall
            precision error (Oksuz et al. 2018, arXiv 1807.01696), which also wants boxes to fit.
        batch_size: images that go through the network together.
        num_workers: processes that load images.
        on_error: ``skip``: images that cannot be read are left out.

    Returns:
        Thresholds that `Predictor` applies. A class of which there is no object, or nothing was found, is left out and
        named in the log: it keeps the task's own threshold.

    Raises:
        ConfigError: if ``measure`` is another, or the model has no task whose detections can be scored.
        DataError: as `mtvision.evaluate`.
    """
    if measure not in get_args(Measure):
        raise ConfigError(f"measure: there is no '{measure}'{choices_hint(str(measure), get_args(Measure))}")
    result = evaluate(
        model_or_run, data, protocol="lrp", batch_size=batch_size, num_workers=num_workers, on_error=on_error
    )
    ending = f"/lrp/{measure}_threshold"
    tables = {name.removesuffix(ending): found for name, found in result.per_class.items() if name.endswith(ending)}
    for task, values in tables.items():
        unknown = [name for name, value in values.items() if math.isnan(value)]
        if unknown:
            logger.warning(
                "thresholds of '%s': the task's own is kept for classes without objects or detections: %s",
                task,
                ", ".join(unknown),
            )
    known = {task: {name: at for name, at in values.items() if not math.isnan(at)} for task, values in tables.items()}
    return Thresholds(known, measure)


def class_names(model: MultiTaskModel, task: str) -> tuple[str, ...]:
    """Return the names of a task's classes, numbers where there are none, as the tables of an evaluation have them."""
    number: Any = getattr(model.task(task), "num_classes", 0)
    names = model.classes.names(task) if model.classes is not None else ()
    return names if len(names) == number else tuple(map(str, range(number)))
