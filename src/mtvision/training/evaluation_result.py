"""What an evaluation says, as numbers, tables and files."""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mtvision.errors import MtvisionError
from mtvision.target_files import replace_text
from mtvision.training.history import without_nan
from mtvision.types import Classes, Prediction

if TYPE_CHECKING:
    import pandas as pd

METRICS = "metrics.json"
"""The file of all numbers but those of the classes, in a folder that an evaluation was saved in."""


@dataclass(frozen=True)
class EvaluationResult:
    """Numbers of one evaluation.

    A number of the task's own metrics is called ``<task>/<metric>``, one of a protocol ``<task>/<protocol>/<metric>``.

    Attributes:
        metrics: by name, fractions in [0, 1]; NaN where nothing could be scored.
        losses: ``loss`` (weighted sum over the tasks) and ``<task>/<part>``, means over the batches.
        per_class: by name, then by class name; NaN for a class that does not occur.
        skipped: a sentence for each image that could not be read and was left out.
        predictions: by image id, in the order of the data, on the CPU, masks as uint8; empty unless they were to be
            kept.
    """

    metrics: dict[str, float]
    losses: dict[str, float] = field(default_factory=dict)
    per_class: dict[str, dict[str, float]] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    predictions: dict[str, Prediction] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        """Return the metrics, one a line."""
        return "\n".join(f"{name:<20} {value:.4f}" for name, value in self.metrics.items())

    def tables(self) -> "dict[str, pd.DataFrame]":
        """Return a table for each task: one row a class, one column a number, such as ``iou`` or ``standard/dice``.

        Raises:
            MtvisionError: if pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise MtvisionError(
                "tables need pandas: pip install 'mtvision[report]'; per_class has the same numbers"
            ) from None
        return {task: pd.DataFrame(columns) for task, columns in self._by_task().items()}

    def save(self, folder: str | Path) -> Path:
        """Write ``metrics.json`` and, for each task with classes, ``per_class_<task>.csv``; return the folder.

        ``metrics.json`` has ``metrics``, ``losses`` and ``skipped``. A table has one row a class; its first column is
        ``class``. What is NaN is ``null`` in JSON and an empty cell in a table. Each file is replaced as a whole. For
        files of predictions see `mtvision.data.write_coco_results` and `mtvision.data.write_voc_results`.

        Args:
            folder: made if it is not there.

        Example:
            >>> import tempfile
            >>> result = EvaluationResult({"seg/miou": 0.5}, per_class={"seg/iou": {"cat": 0.5, "dog": math.nan}})
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     (result.save(folder) / "per_class_seg.csv").read_text().split()
            ['class,iou', 'cat,0.5', 'dog,']
        """
        target = Path(folder).expanduser()
        target.mkdir(parents=True, exist_ok=True)
        content = {"metrics": self.metrics, "losses": self.losses, "skipped": self.skipped}
        replace_text(target / METRICS, json.dumps(without_nan(content), indent=2) + "\n")
        for task, columns in self._by_task().items():
            replace_text(target / f"per_class_{task}.csv", _csv_text(columns))
        return target

    def _by_task(self) -> dict[str, dict[str, dict[str, float]]]:
        """Return the tables ``per_class`` by task, then by what is left of their names."""
        tables: dict[str, dict[str, dict[str, float]]] = {}
        for name, values in self.per_class.items():
            task, _, column = name.partition("/")
            tables.setdefault(task, {})[column] = values
        return tables


def by_class(values: Sequence[float], task: str, classes: Classes | None) -> dict[str, float]:
    """Return one value a class by the class's name, or by its number where the names are not known."""
    names = classes.names(task) if classes is not None else ()
    rows = names if len(names) == len(values) else tuple(map(str, range(len(values))))
    return dict(zip(rows, values, strict=True))


def _csv_text(columns: dict[str, dict[str, float]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["class", *columns])
    for name in dict.fromkeys(name for values in columns.values() for name in values):
        cells = [values.get(name, math.nan) for values in columns.values()]
        writer.writerow([name, *("" if math.isnan(cell) else repr(cell) for cell in cells)])
    return text.getvalue()
