"""What a model gets wrong on a data set, as tables and files."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtvision.analysis.box_findings import BoxFindings
from mtvision.analysis.box_tables import box_tables
from mtvision.analysis.image_reasons import correlations
from mtvision.analysis.image_table import image_table
from mtvision.analysis.joint_tables import agreement_tables
from mtvision.analysis.mask_counts import MaskCounts, miou_of
from mtvision.analysis.mask_tables import mask_tables
from mtvision.analysis.observations import Observations
from mtvision.analysis.resampled_scores import judge_detections, mean_of_classes, resampled_average_precision
from mtvision.analysis.slices import Number, slice_results
from mtvision.config import Config
from mtvision.training.evaluation_result import EvaluationResult
from mtvision.types import Classes, Sample

SliceColumns: TypeAlias = Mapping[str, Mapping[str, Any]] | pd.DataFrame | str | Path
"""Per-image columns of one's own, see `read_columns`."""


@dataclass(frozen=True)
class Analysis:
    """What a model gets wrong on a data set; of `mtvision.analyze`.

    Attributes:
        result: the numbers, as of `mtvision.evaluate`.
        classes: names.
        observations: what was kept of each image.
        boxes: what is said of the boxes, by task.
        slices: columns of one's own by which results are told apart; None: there are none.
    """

    result: EvaluationResult
    classes: Classes
    observations: Observations
    boxes: Mapping[str, BoxFindings]
    slices: SliceColumns | None = None

    @cached_property
    def images(self) -> pd.DataFrame:
        """One row an image, see `image_table`."""
        return image_table(self.observations, self.boxes)

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        """All tables by name; those of one task are called ``<task>/<table>``.

        ``images`` is `image_table`; ``correlations`` tells what of the measures of an image goes along with its score;
        ``slices`` has the results of the slices. The others: `mask_tables`, `box_tables`, `agreement_tables`.
        """
        tables = {"images": self.images, "correlations": self._correlations()}
        if self.slices is not None:
            tables["slices"] = slice_results(self.slices, self.observations.image_ids, self._slice_numbers())
        for task, masks in self.observations.masks.items():
            found = mask_tables(masks, self.names(task, len(masks.counts.confusion)))
            tables |= {f"{task}/{name}": table for name, table in found.items()}
        for task, boxes in self.boxes.items():
            found = box_tables(boxes, self.names(task, boxes.num_classes), self.image_facts)
            tables |= {f"{task}/{name}": table for name, table in found.items()}
        if self.observations.agreement is not None:
            det = self.boxes["det"]
            tables |= agreement_tables(
                self.observations.agreement, self.image_facts, det.objects.labels, self.classes, det.score_threshold
            )
        return tables

    @cached_property
    def image_facts(self) -> pd.DataFrame:
        """Size and light of each image: ``height, width, brightness, contrast``."""
        sizes = pd.DataFrame(self.observations.image_sizes, columns=["height", "width"])
        return pd.concat([sizes, self.observations.facts[["brightness", "contrast"]]], axis=1)

    def names(self, task: str, number: int) -> Sequence[str]:
        """Return the names of a task's classes, their numbers where names are not known.

        Args:
            task: its name.
            number: of classes.
        """
        names = self.classes.names(task)
        return names if len(names) == number else tuple(map(str, range(number)))

    def save(self, folder: str | Path) -> Path:
        """Write what `EvaluationResult.save` writes, and all tables as ``tables/*.csv``; return the folder.

        Args:
            folder: made if it is not there; files of the same names are replaced.
        """
        target = self.result.save(folder)
        (target / "tables").mkdir(exist_ok=True)
        for name, table in self.tables.items():
            table.to_csv(target / "tables" / f"{re.sub('[^A-Za-z0-9._-]+', '_', name)}.csv", index=False)
        return target

    def report(
        self,
        folder: str | Path,
        data: Sequence[Sample],
        *,
        title: str = "What the model gets wrong",
        config: Config | None = None,
        number: int = 6,
    ) -> Path:
        """Write ``report.html``, complete in itself, with its tables, plots and panels beside it; return that page.

        Args:
            folder: made if it is not there; files of an earlier report are replaced.
            data: the images that were analysed.
            title: of the page.
            config: of the run, to be shown.
            number: of images at either end of the ranking.
        """
        from mtvision.analysis.run_report import write_run_report  # it stands on this module

        return write_run_report(self, data, Path(folder), title=title, config=config, number=number).html

    def _correlations(self) -> pd.DataFrame:
        tasks = [*self.observations.masks, *self.boxes]
        return correlations(self.observations.facts, self.images[["score", *tasks]])

    def _slice_numbers(self) -> dict[str, Number]:
        """Return what is told of each slice: the main number of each task."""
        numbers: dict[str, Number] = {}
        for task, masks in self.observations.masks.items():
            numbers[f"{task}/miou"] = _MeanIoU(masks.counts)
        for task, found in self.boxes.items():
            numbers[f"{task}/map50"] = _AveragePrecision(found, 0)
            numbers[f"{task}/map50_95"] = _AveragePrecision(found, None)
        return numbers


@dataclass(frozen=True)
class _MeanIoU:
    counts: MaskCounts

    def __call__(self, rows: NDArray[np.int64]) -> float:
        return miou_of(self.counts, rows)


@dataclass(frozen=True)
class _AveragePrecision:
    """Of some images, at one of COCO's thresholds, or the mean of all.

    Attributes:
        found: the boxes.
        threshold: its index; None: all.
    """

    found: BoxFindings
    threshold: int | None

    def __call__(self, rows: NDArray[np.int64]) -> float:
        weights = np.bincount(rows, minlength=len(self.found.observed.annotated))[None]
        values = resampled_average_precision(self._classes, weights)[0]  # (T, C)
        return float(
            mean_of_classes(values).mean() if self.threshold is None else mean_of_classes(values[self.threshold])
        )

    @cached_property
    def _classes(self) -> Any:
        number = len(self.found.observed.annotated)
        return judge_detections(self.found.detections, self.found.objects, number, self.found.num_classes)
