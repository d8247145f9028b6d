"""The plots of a run's report, from the analysis."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mtvision.analysis.analysis import Analysis
from mtvision.analysis.box_errors import ERROR_NAMES
from mtvision.analysis.box_findings import BoxFindings
from mtvision.analysis.curves import ScoreCurve, precision_recall_points, thinned
from mtvision.visualize import curves
from mtvision.visualize.confusion import write_confusion
from mtvision.visualize.error_costs import ErrorCost, write_error_costs
from mtvision.visualize.group_rates import GroupRate, write_group_rates
from mtvision.visualize.reliability import ReliabilityPanel, write_reliability
from mtvision.visualize.score_curves import CurvePoints, write_score_curves

_MOST_POINTS = 400
_RATES = ["column", "group", "n", "rate", "low", "high"]


def write_run_plots(
    analysis: Analysis, folder: Path, history: Sequence[Mapping[str, Any]] | None = None
) -> dict[str, Path]:
    """Draw what the analysis has, and return the files by name.

    Args:
        analysis: of the model.
        folder: for the files; made if it is missing.
        history: of the training, rows as in ``history.jsonl``.

    Returns:
        ``<task>/confusion``, of boxes also ``<task>/errors``, ``<task>/curves`` and ``<task>/recall``; ``reliability``,
        ``agreement`` and ``training``, as far as there is something to draw.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plots: dict[str, Path] = {}
    for task in analysis.observations.masks:
        plots[f"{task}/confusion"] = _confusion(analysis, task, folder, "pixels")
    for task, found in analysis.boxes.items():
        if found.observed.annotated.any():
            plots |= _of_boxes(analysis, task, found, folder)
    panels = [panel for task in analysis.tables for panel in _reliability(analysis, task)]
    if panels:
        plots["reliability"] = write_reliability(panels, folder / "reliability.png")
    if "agreement" in analysis.tables:
        plots["agreement"] = _agreement(analysis.tables["agreement"], folder / "agreement.png")
    if history:
        plots["training"] = curves.write_curves(history, folder)
    return plots


def _of_boxes(analysis: Analysis, task: str, found: BoxFindings, folder: Path) -> dict[str, Path]:
    errors = analysis.tables[f"{task}/errors"].set_index("error")
    rows = [
        ErrorCost(name, float(errors.loc[name, "delta_ap"]), int(errors.loc[name, "n_used"])) for name in ERROR_NAMES
    ]
    ap = float(analysis.tables[f"{task}/errors_by_class"]["ap50"].mean())
    plots = {
        f"{task}/confusion": _confusion(analysis, task, folder, "objects"),
        f"{task}/errors": write_error_costs(rows, folder / f"errors_{task}.png", ap=ap),
        f"{task}/recall": write_group_rates(
            {"": group_rates(analysis.tables[f"{task}/recall"])},
            folder / f"recall_{task}.png",
            measure="objects that are found",
        ),
    }
    curve = found.curves.overall
    if len(curve.thresholds) and curve.num_objects:
        path = folder / f"curves_{task}.png"
        plots[f"{task}/curves"] = write_score_curves(_points(curve, found.score_threshold), path)
    return plots


def _points(curve: ScoreCurve, used: float) -> CurvePoints:
    columns = np.stack([curve.thresholds, curve.precision, curve.recall, curve.f1], axis=1)
    columns = columns[np.isfinite(columns).all(axis=1)]
    columns = columns[thinned(columns, _MOST_POINTS)]
    thresholds, precision, recall, f1 = columns.T
    points = precision_recall_points(curve)
    return CurvePoints(points, thresholds, precision, recall, f1, used, float(curve.best.threshold))


def _confusion(analysis: Analysis, task: str, folder: Path, unit: str) -> Path:
    table = analysis.tables[f"{task}/confusion"]
    names, matrix = list(table.iloc[:, 0]), table.iloc[:, 1:]
    path = folder / f"confusion_{task}.png"
    return write_confusion(matrix.to_numpy(dtype=np.int64), names, list(matrix.columns), path, unit=unit)


def _reliability(analysis: Analysis, name: str) -> list[ReliabilityPanel]:
    """Return the panel of a table ``<task>/calibration``, none of another table."""
    task, _, kind = name.partition("/")
    if kind != "calibration":
        return []
    bins = analysis.tables[name]
    ece = float(analysis.tables[f"{task}/calibration_by_class"]["ece"].iloc[0])
    title = "pixels of masks" if task in analysis.observations.masks else "boxes of all scores"
    columns = {key: bins[key].to_numpy() for key in ("low", "high", "decisions", "confidence", "accuracy")}
    return [ReliabilityPanel(title=f"{title} ({task})", ece=ece, **columns)]


def _agreement(table: pd.DataFrame, path: Path) -> Path:
    """Draw how often the tasks agree, and the annotations."""
    whats = list(dict.fromkeys(table["what"]))  # predicted boxes and regions, then true ones
    parts = (("boxes", 0, "mask agrees with box"), ("regions", 1, "region has a box"))
    series: dict[str, list[GroupRate]] = {"model": [], "annotations": []}
    for _, place, title in parts:
        for name, at in (("model", place), ("annotations", place + 2)):
            rows = group_rates(table[(table["what"] == whats[at]) & table["column"].isin(["all", "size"])])
            series[name] += [row._replace(column=title, group=row.group or "all") for row in rows]
    return write_group_rates(series, path, measure="share that agrees")


def group_rates(table: pd.DataFrame) -> list[GroupRate]:
    """Return the rows of `outcome_rates` as they are drawn."""
    return [
        GroupRate(column, _words(column, group), int(number), float(rate), float(low), float(high))
        for column, group, number, rate, low, high in table[_RATES].itertuples(index=False)
    ]


def _words(column: str, group: str) -> str:
    if column == "truncated":
        return {"True": "yes", "False": "no"}.get(group, group)
    return group
