"""The plots of a report, from the findings."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from mtvision.report.numbers import heading
from mtvision.study.analysis.changes import JOIN
from mtvision.study.analysis.findings import Findings
from mtvision.study.report.names import short_names, shorten
from mtvision.study.report.tables import joint_labels
from mtvision.visualize.effects import EffectRow, write_effects
from mtvision.visualize.importance import ImportanceRow, write_importance
from mtvision.visualize.interactions import InteractionPanel, write_interactions
from mtvision.visualize.levels import write_level_curves
from mtvision.visualize.parallel import write_parallel
from mtvision.visualize.pareto import Measure, write_pareto

_PANELS = 6


def write_plots(findings: Findings, folder: Path) -> dict[str, Path]:
    """Draw what the findings have, and return the files by name.

    Args:
        findings: of a study.
        folder: for the files.

    Returns:
        Some of ``effects, importance, curves, interactions, parallel, pareto``.
    """
    drawn = {name: draw(findings, folder / f"{name}.png") for name, draw in _PLOTS.items()}
    return {name: path for name, path in drawn.items() if path is not None}


def _effects(findings: Findings, path: Path) -> Path | None:
    short = short_names(list(findings.table.factors))
    rows = [
        EffectRow(
            label=f"{shorten(row.factor, short)}: {row.level} against {row.base}",
            effect=float(row.effect),
            low=float(row.low),
            high=float(row.high),
            low_all=float(row.low_all),
            high_all=float(row.high_all),
            note=_behind(row.method, int(row.pairs)),
            shown=bool(row.shown),
        )
        for row in findings.effects.itertuples()
    ]
    return write_effects(rows, path, measure=_measure(findings)) if rows else None


def _behind(method: str, pairs: int) -> str:
    if method == "none":
        return "cannot be told"
    return f"{pairs} pair{'' if pairs == 1 else 's'}" if pairs else "adjusted"


def _measure(findings: Findings) -> str:
    return f"{heading(findings.table.objective)} ({'more' if findings.table.higher_is_better else 'less'} is better)"


def _importance(findings: Findings, path: Path) -> Path | None:
    short = short_names(list(findings.table.factors))
    rows = [
        ImportanceRow(shorten(row.factor, short), float(row.importance), float(row.low), float(row.high))
        for row in findings.importance.itertuples()
    ]
    return write_importance(rows, path) if rows else None


def _curves(findings: Findings, path: Path) -> Path | None:
    table = findings.table
    known = {key for curves in table.curves.values() for key in curves}
    name = next((key for key in (f"val/{table.objective}", table.objective, "val/loss") if key in known), None)
    if name is None:
        return None
    short = short_names(list(table.factors))
    drawn: dict[str, dict[str, list[list[float]]]] = {}
    for run in table.finished.to_dict("records"):
        curve = table.curves.get(run["run"], {}).get(name)
        if curve is not None:
            values = [math.nan if value is None else float(value) for value in curve]
            for factor, labels in table.factors.items():
                levels = drawn.setdefault(short[factor], {label: [] for label in labels})
                levels.setdefault(str(run[factor]), []).append(values)
    kept = {factor: {label: found for label, found in levels.items() if found} for factor, levels in drawn.items()}
    return write_level_curves(kept, path, measure=heading(name)) if kept else None


def _interactions(findings: Findings, path: Path) -> Path | None:
    """Draw the pairs of factors with the largest interactions, those that are shown first."""
    found = findings.interactions
    if found.empty:
        return None
    order = found.assign(_size=found["effect"].abs()).sort_values(["shown", "_size"], ascending=False, kind="stable")
    pairs = list(dict.fromkeys(zip(order["factor_a"], order["factor_b"], strict=True)))
    panels = [panel for panel in (_panel(findings, *pair) for pair in pairs) if panel is not None][:_PANELS]
    return write_interactions(panels, path, measure=heading(findings.table.objective)) if panels else None


def _panel(findings: Findings, across: str, lines: str) -> InteractionPanel | None:
    runs, short = findings.table.finished, short_names(list(findings.table.factors))
    columns = joint_labels(runs, across), joint_labels(runs, lines)
    if columns[0] is None or columns[1] is None:
        return None
    values: dict[str, dict[str, list[float]]] = {}
    for level in _ordered(findings.table.factors, across, columns[0]):
        own = values.setdefault(level, {})
        for line in _ordered(findings.table.factors, lines, columns[1]):
            here = runs[(columns[0] == level) & (columns[1] == line)]
            own[line] = [float(value) for value in here[findings.table.objective]]
    return InteractionPanel(shorten(across, short), shorten(lines, short), values)


def _ordered(factors: Mapping[str, tuple[str, ...]], name: str, column: pd.Series) -> list[str]:
    """Return the labels of a column, those of a single factor in its own order."""
    present = list(dict.fromkeys(column))
    return [label for label in factors[name] if label in present] if JOIN not in name and name in factors else present


def _parallel(findings: Findings, path: Path) -> Path | None:
    table = findings.table
    short = short_names(list(table.factors))
    runs = table.finished
    if len(table.factors) < 2:
        return None
    levels = {
        short[name]: list(dict.fromkeys([*labels, *runs[name].astype(str)])) for name, labels in table.factors.items()
    }
    lines = [
        ({short[name]: str(run[name]) for name in table.factors}, float(run[table.objective]))
        for run in runs.to_dict("records")
    ]
    return write_parallel(
        levels, lines, path, measure=heading(table.objective), higher_is_better=table.higher_is_better
    )


def _pareto(findings: Findings, path: Path) -> Path | None:
    """Draw the means of the configurations over their seeds."""
    axes = findings.pareto_axes
    if len(axes) not in (2, 3) or findings.pareto.empty:
        return None
    names = list(findings.table.factors)
    means = findings.table.finished.groupby(names, sort=False, dropna=False)[list(axes)].mean().reset_index()
    places = {tuple(row): index for index, row in enumerate(means[names].itertuples(index=False, name=None))}
    front = [places[tuple(row)] for row in findings.pareto[names].itertuples(index=False, name=None)]
    measures = [Measure(heading(name), more) for name, more in axes.items()]
    return write_pareto(measures, means[list(axes)].to_numpy(dtype=float).tolist(), front, path)


_PLOTS: Mapping[str, Callable[[Findings, Path], Path | None]] = {
    "effects": _effects,
    "importance": _importance,
    "curves": _curves,
    "interactions": _interactions,
    "parallel": _parallel,
    "pareto": _pareto,
}
