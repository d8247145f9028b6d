"""What a comparison of runs found, as frames, text and files."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtvision.analysis.bootstrap import LEVEL, PairedIntervals, paired_intervals
from mtvision.analysis.comparison_panel import Example, write_examples
from mtvision.analysis.resampled_scores import mean_of_classes
from mtvision.target_files import replace_text
from mtvision.text_table import text_table
from mtvision.training.history import without_nan
from mtvision.types import Classes

Floats = NDArray[np.float64]

FEWEST_IMAGES = 10
"""Below it there are no intervals: so few images do not tell how other ones would differ."""
RESULT = "comparison.json"
_LISTED = 5  # images and classes in the text
_COLUMNS = ("value", "baseline", "difference", *PairedIntervals._fields, "shown", "images")


@dataclass(frozen=True, eq=False)
class RunComparison:
    """Two or more runs on the same images; ``print`` shows tables.

    All differences are to the first run. ``low`` and ``high`` are the ends of a 95 % interval of each difference
    alone, ``low_together`` and ``high_together`` of intervals that hold for all rows of the frame at once; ``shown`` is
    whether 0 lies outside the latter. ``share`` is the share of the resamples in which the difference has the sign that
    it has in the data.

    Attributes:
        names: of the runs, the first one before all others.
        num_images: that the runs were compared on.
        resamples: number of them.
        table: a row a metric and run: ``metric, run, value, baseline, difference``, the columns above, and ``images``,
            how many there are that are annotated for it.
        per_class: a row a metric, class and run, likewise; ``images`` have the class in their truth.
        images: a row an image and run, those that differ most first: ``image, run, score, baseline, difference``, and
            the three again for each task, such as ``seg, seg_baseline, seg_difference``. A score is the mean IoU of the
            image, F1 at IoU 0.5 with the run's own best score threshold, and the mean of both in ``score``.
        differences: a row a key of the configs whose values differ: ``key``, and a column a run.
        notes: what could not be compared, a sentence each.
        classes: names, for the pictures.
        examples: for each run but the first, the images in which it differs most.
    """

    names: tuple[str, ...]
    num_images: int
    resamples: int
    table: pd.DataFrame
    per_class: pd.DataFrame
    images: pd.DataFrame
    differences: pd.DataFrame
    notes: tuple[str, ...] = ()
    classes: Classes | None = field(default=None, repr=False)
    examples: Mapping[str, tuple[Example, ...]] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        """Return what differs as aligned tables, and what the intervals mean."""
        blocks = [f"{len(self.names)} runs on the same {self.num_images} images; differences are to '{self.names[0]}'"]
        for name in self.names[1:]:
            blocks.append(text_table(list(self._metric_cells(name))))
            blocks += [self._class_text(name), self._image_text(name)]
        blocks += [self._config_text(), *self.notes, self._footer()]
        return "\n\n".join(block for block in blocks if block)

    def save(self, folder: str | Path) -> Path:
        """Write the frames, a summary and pictures of the images that differ most; return the folder.

        ``metrics.csv``, ``per_class.csv``, ``images.csv`` and ``differences.csv`` are the frames, with empty cells for
        NaN. ``comparison.json`` has ``names``, ``num_images``, ``resamples``, ``metrics`` (the rows of ``table``),
        ``differences`` and ``notes``, with null for NaN. For each run but the first ``images_<number>.png`` shows
        image, truth, the first run and this one; the number is the run's place among the names.

        Args:
            folder: made if it is not there; files of an earlier comparison are replaced.
        """
        target = Path(folder).expanduser()
        target.mkdir(parents=True, exist_ok=True)
        frames = {"metrics": self.table, "per_class": self.per_class, "images": self.images}
        for name, frame in {**frames, "differences": self.differences}.items():
            replace_text(target / f"{name}.csv", frame.to_csv(index=False, lineterminator="\n"))
        replace_text(target / RESULT, json.dumps(without_nan(self._plain()), indent=2, default=str) + "\n")
        for place, name in enumerate(self.names[1:], start=2):
            path = target / f"images_{place}.png"
            path.unlink(missing_ok=True)
            if self.examples.get(name):
                write_examples(self.examples[name], (self.names[0], name), self.classes, path)
        return target

    def _plain(self) -> dict[str, Any]:
        return {
            "names": self.names,
            "num_images": self.num_images,
            "resamples": self.resamples,
            "metrics": self.table.to_dict("records"),
            "differences": self.differences.to_dict("records"),
            "notes": self.notes,
        }

    def _metric_cells(self, name: str) -> Iterator[tuple[str, ...]]:
        yield ("metric", self.names[0], name, "difference", f"{100 * LEVEL:.0f} % interval", "same sign", "shown")
        for row in self.table[self.table["run"] == name].to_dict("records"):
            share = "-" if np.isnan(row["share"]) else f"{row['share']:.1%}"
            numbers = _number(row["baseline"]), _number(row["value"]), _number(row["difference"], "+")
            yield (row["metric"], *numbers, _interval(row), share, "yes" if row["shown"] else "no")

    def _class_text(self, name: str) -> str:
        rows = self.per_class[(self.per_class["run"] == name) & self.per_class["shown"]]
        if rows.empty:
            return "no single class is shown to differ"
        order = rows["difference"].abs().sort_values(ascending=False, kind="stable").index
        cells = [
            (row["metric"], row["class"], _number(row["difference"], "+"), _interval(row))
            for row in rows.loc[order].head(_LISTED).to_dict("records")
        ]
        title = f"single numbers of classes that are shown to differ ({len(rows)}, largest first)"
        return f"{title}\n{text_table(cells, left=2)}"

    def _image_text(self, name: str) -> str:
        rows = self.images[(self.images["run"] == name) & (self.images["difference"].fillna(0) != 0)]
        if rows.empty:
            return "no image is predicted better by one than by the other"
        cells = [
            (row["image"], _number(row["baseline"]), _number(row["score"]), _number(row["difference"], "+"))
            for row in rows.head(_LISTED).to_dict("records")
        ]
        return f"images that differ most\n{text_table([('image', self.names[0], name, 'difference'), *cells])}"

    def _config_text(self) -> str:
        if self.differences.empty:
            return ""
        cells = [tuple(self.differences), *(tuple(map(str, row)) for row in self.differences.itertuples(index=False))]
        return f"differences of the configs\n{text_table(cells, left=len(cells[0]))}"

    def _footer(self) -> str:
        return (
            f"The intervals ({self.resamples} paired resamples of the images) tell what other images of the same kind\n"
            "would say of these very networks. They do not tell what training again with another seed would\n"
            "give: for that, several seeds of each must be trained. 'shown' means that 0 lies outside intervals\n"
            "that hold for all metrics and runs at once."
        )


class Row(NamedTuple):
    """One number of two runs.

    Attributes:
        labels: what number of which run it is, by column.
        baseline: ``(1 + B,)`` of the first run: over all images, then in each resample.
        values: ``(1 + B,)`` of the other run.
        images: how many there are behind it; where they are less than `FEWEST_IMAGES` there is no interval.
    """

    labels: Mapping[str, str]
    baseline: Floats
    values: Floats
    images: int


def difference_frame(rows: Sequence[Row], labels: Sequence[str]) -> pd.DataFrame:
    """Return differences with their intervals; the intervals together are those of all rows.

    Args:
        rows: of the frame.
        labels: names of the columns before the numbers.
    """
    named = pd.DataFrame([row.labels for row in rows], columns=list(labels))
    if not rows:
        return named.assign(**{name: [] for name in _COLUMNS})
    baseline, values = (np.stack([getattr(row, key) for row in rows], axis=1) for key in ("baseline", "values"))
    differences = values - baseline  # (1 + B, m)
    images = np.array([row.images for row in rows])
    found = paired_intervals(differences[0], np.where(images >= FEWEST_IMAGES, differences[1:], np.nan))
    numbers = (values[0], baseline[0], differences[0], *found, found.shown, images)
    return named.assign(**dict(zip(_COLUMNS, numbers, strict=True)))


def image_frame(image_ids: Sequence[str], names: Sequence[str], scores: Sequence[Mapping[str, Floats]]) -> pd.DataFrame:
    """Return the scores of single images, those that differ most first.

    Args:
        image_ids: N.
        names: of the runs.
        scores: of each run, by task, ``(N,)`` each; NaN where nobody looked.

    Example:
        >>> scores = [{"seg": np.array([0.5, 0.5])}, {"seg": np.array([0.5, 0.25])}]
        >>> image_frame(["x", "y"], ["a", "b"], scores)["difference"].tolist()
        [-0.25, 0.0]
    """
    frames = []
    whole = [{"score": _mean(of_run, len(image_ids)), **of_run} for of_run in scores]
    for name, of_run in zip(names[1:], whole[1:], strict=True):
        columns: dict[str, Any] = {"image": list(image_ids), "run": name}
        for task, values in of_run.items():
            start = "" if task == "score" else f"{task}_"
            columns |= {task: values, f"{start}baseline": whole[0][task]}
            columns[f"{start}difference"] = values - whole[0][task]
        frames.append(pd.DataFrame(columns))
    together = pd.concat(frames, ignore_index=True)
    order = together["difference"].abs().sort_values(ascending=False, kind="stable", na_position="last").index
    return together.loc[order].reset_index(drop=True)


def _mean(of_tasks: Mapping[str, Floats], num_images: int) -> Floats:
    """Return the mean over the tasks that are not NaN, ``(N,)``."""
    nothing = np.full(num_images, np.nan)
    return mean_of_classes(np.stack([nothing, *of_tasks.values()], axis=-1))


def _number(value: float, sign: str = "") -> str:
    return "-" if np.isnan(value) else f"{value:{sign}.4f}"


def _interval(row: Mapping[Any, Any]) -> str:
    return "-" if np.isnan(row["low"]) else f"{row['low']:+.4f} to {row['high']:+.4f}"
