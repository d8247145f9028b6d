"""The tables of a report, from the findings."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pandas as pd

from mtvision.report.blocks import Column, Table
from mtvision.report.numbers import bare_name, heading
from mtvision.study.analysis.changes import JOIN
from mtvision.study.analysis.findings import Findings
from mtvision.study.analysis.table import FINISHED, PRUNED
from mtvision.study.report.names import short_names, shorten

_RESULTS = (
    "miou",
    "map",
    "map50",
    "map50_95",
    "pixel_accuracy",
    "val_loss",
    "best_epoch",
    "first_5_epochs_loss",
    "train_val_gap",
)
"""Columns of the per-factor tables, as far as known, in `bare_name`'s spelling."""

_INTERVAL = (
    Column("low", "low", "signed", "effect"),
    Column("high", "high", "signed", "effect"),
    Column("low_all", "low, all at once", "signed", "effect"),
    Column("high_all", "high, all at once", "signed", "effect"),
)


class Tables:
    """Makes the tables of one study; names of factors are short in all of them.

    Args:
        findings: of the study.
    """

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._table = findings.table
        self._factors = list(findings.table.factors)
        self.short = short_names(self._factors)
        self._results = _with_learning(findings.table.runs, findings.learning)
        done = findings.table.finished["run"]
        self._finished = self._results[self._results["run"].isin(done) & (self._results["state"] == FINISHED)]

    def configurations(self) -> Table:
        """Return the levels of the base, the best and the recommended configuration."""
        rows = [
            (
                self.short[name],
                labels[0],
                str(self._findings.best.get(name, "")),
                self._findings.recommended.get(name, ""),
            )
            for name, labels in self._table.factors.items()
        ]
        names = ("factor", "base", "best", "recommended")
        frame = pd.DataFrame(rows, columns=list(names))
        return Table("configurations", "Levels of the configurations", [Column(name, name) for name in names], frame)

    def best_runs(self) -> Table | None:
        """Return the runs of the best configuration."""
        runs = self._finished
        for name in self._factors:
            runs = runs[runs[name].astype(str) == str(self._findings.best.get(name))]
        return self._of_runs("best_runs", "Runs of the best configuration", runs, [])

    def levels(self) -> Table:
        """Return the statistical summary."""
        frame = self._with_short_factors(self._findings.levels)
        columns = [
            Column("factor", "factor"),
            Column("level", "level"),
            Column("n", "N", "number"),
            Column("mean", f"mean {self._objective}", "number", "value"),
            Column("spread", "spread over seeds", "number", "spread"),
            Column("best", "best", "number", "value"),
        ]
        return Table("levels", "Every level by itself", columns, frame)

    def effects(self) -> Table:
        """Return the effects with their intervals."""
        names = [Column(name, name) for name in ("factor", "level", "base")]
        more = [Column("pairs", "pairs", "number"), Column("method", "method"), Column("shown", "shown")]
        columns = [*names, Column("effect", "effect", "signed", "effect"), *_INTERVAL, *more]
        return Table(
            "effects", "Effects against the base level", columns, self._with_short_factors(self._findings.effects)
        )

    def interactions(self) -> Table | None:
        """Return the interactions; None where the design tells of none."""
        found = self._findings.interactions
        if found.empty:
            return None
        names = [Column(name, name.replace("_", " ")) for name in ("factor_a", "level_a", "factor_b", "level_b")]
        more = [Column("pairs", "settings", "number")] if "pairs" in found else []
        columns = [*names, Column("effect", "effect", "signed", "effect"), *_INTERVAL, *more, Column("shown", "shown")]
        caption = "By how much the effect of level a is larger with level b than with the base of b"
        return Table("interactions", caption, columns, self._with_short_factors(found))

    def importance(self) -> Table | None:
        """Return the ranking of the factors; None where there is none."""
        if self._findings.importance.empty:
            return None
        frame = self._with_short_factors(self._findings.importance)
        frame.insert(0, "rank", list(range(1, len(frame) + 1)))
        columns = [
            Column("rank", "rank", "number"),
            Column("factor", "factor"),
            Column("importance", "share", "number", "share"),
            Column("low", "low", "number", "share"),
            Column("high", "high", "number", "share"),
        ]
        return Table("importance", "Importance of the factors", columns, frame)

    def learning(self) -> Table | None:
        """Return the summaries of the learning curves, as far as known, with what each run reached."""
        found = _of_numbers("learning", "How each run learned", self._findings.learning)
        if found is None:
            return None
        reached = self._finished[["run", self._table.objective]]
        columns = [*found.columns, Column(self._table.objective, self._objective, "number")]
        return replace(found, columns=columns, frame=found.frame.merge(reached, on="run", how="left"))

    def cost(self) -> Table | None:
        """Return what the runs cost, as far as known."""
        return _of_numbers("cost", "What each run cost", self._findings.cost)

    def pareto(self) -> Table | None:
        """Return the configurations on the front, numbered as in the plot."""
        found = self._findings.pareto
        if found.empty or not self._findings.pareto_axes:
            return None
        frame = found.reset_index(drop=True).copy()
        frame.insert(0, "#", list(range(1, len(frame) + 1)))
        first = [Column("#", "#", "number"), Column("run", "first run")]
        numbers = [Column(name, heading(name), "number") for name in self._findings.pareto_axes]
        columns = [*first, *numbers, *(Column(name, self.short[name]) for name in self._factors if name in frame)]
        return Table("pareto", "Configurations that no other one beats in everything", columns, frame)

    def of_factor(self, name: str) -> Table:
        """Return the runs that bear on a factor, level by level.

        Where runs differ in nothing but this factor, these are shown, else all runs.
        """
        runs = self._finished
        others = [other for other in self._factors if other != name]
        partners = runs.groupby([*others, "seed"], dropna=False)[name].transform("nunique") > 1
        about = "runs that differ in this factor only" if partners.any() else "all runs; other factors change too"
        runs = runs[partners] if partners.any() else runs
        place = {label: index for index, label in enumerate(self._table.factors[name])}
        order = runs.assign(_level=runs[name].astype(str).map(place)).sort_values(
            ["_level", self._table.objective], ascending=[True, not self._table.higher_is_better], kind="stable"
        )
        caption = f"{self.short[name]}: {about}"
        return self._of_runs(f"runs_by_{self.short[name]}", caption, order.drop(columns="_level"), [name])

    def runs(self) -> Table:
        """Return all runs with all levels, the best first."""
        ordered = self._results.sort_values(
            self._table.objective, ascending=not self._table.higher_is_better, na_position="last", kind="stable"
        )
        table = self._of_runs("runs", "All runs", ordered, ["state", *self._factors], searchable=True)
        shown = {column.key for column in table.columns}
        more = [name for name in ordered if name not in shown and _is_numeric(ordered[name])]
        known = [name for name in more if ordered[name].notna().any() and name != "config"]
        columns = [*table.columns, *(Column(name, heading(name), "number") for name in known)]
        return replace(table, columns=columns, frame=ordered[[column.key for column in columns]])

    def failures(self, failures: Sequence[tuple[str, str]]) -> Table | None:
        """Return the failed runs with their errors."""
        frame = pd.DataFrame(failures, columns=["run", "error"])
        columns = [Column("run", "run"), Column("error", "error")]
        return Table("failures", "Failed runs", columns, frame) if failures else None

    def pruned(self) -> Table | None:
        """Return the runs that were given up early."""
        runs = self._results[self._results["state"] == PRUNED]
        columns = [Column(name, self.short.get(name, name)) for name in ("run", "seed", *self._factors)]
        caption = "Pruned runs: given up early, since they were behind the others"
        return Table("pruned", caption, columns, runs) if len(runs) else None

    def confirmation(self, frame: pd.DataFrame) -> Table:
        """Return what the chosen configurations reached with fresh seeds."""
        known = {
            "configuration": Column("configuration", "configuration"),
            "n": Column("n", "fresh seeds", "number"),
            "selected": Column("selected", "in the study", "number", "value"),
            "fresh": Column("fresh", "fresh seeds, same split", "number", "value"),
            "held_out": Column("held_out", "split kept for this", "number", "value"),
            "low": Column("low", "low", "number", "value"),
            "high": Column("high", "high", "number", "value"),
        }
        columns = [column for key, column in known.items() if key in frame]
        levels = [Column(name, self.short[name]) for name in self._factors if name in frame]
        return Table("confirmation", f"{self._objective}, run again", [*columns, *levels], frame)

    def aliasing(self) -> list[Table]:
        """Return how the levels are spread over the configurations."""
        found = self._findings.aliasing
        pairs = found.cramers_v.rename(index=self.short, columns=self.short)
        pairs = pairs.rename_axis(None, axis=1).rename_axis("factor").reset_index()
        titled = {
            "cramers_v": ("Cramér's V of each pair of factors: 0 independent, 1 aliased", pairs),
            "balance": ("Configurations a level", self._with_short_factors(found.balance)),
            "empty_cells": (
                "Combinations of two levels that were not run",
                self._with_short_factors(found.empty_cells),
            ),
        }
        return [Table(name, text, _columns(frame), frame) for name, (text, frame) in titled.items() if len(frame)]

    @property
    def _objective(self) -> str:
        return heading(self._table.objective)

    def _with_short_factors(self, frame: pd.DataFrame) -> pd.DataFrame:
        found = frame.copy()
        for name in ("factor", "factor_a", "factor_b"):
            if name in found:
                found[name] = [shorten(str(value), self.short) for value in found[name]]
        return found

    def _of_runs(
        self, name: str, caption: str, runs: pd.DataFrame, levels: Sequence[str], *, searchable: bool = False
    ) -> Table:
        """Return a table of runs with their levels and results."""
        results = [self._table.objective, *_results(runs, self._table.objective)]
        texts = [Column("run", "run"), Column("seed", "seed", "number" if _is_numeric(runs["seed"]) else "text")]
        texts += [Column(level, self.short.get(level, level)) for level in levels]
        columns = [*texts, *(Column(result, heading(result), "number") for result in results)]
        return Table(name, caption, columns, runs[[column.key for column in columns]], searchable)


def joint_labels(runs: pd.DataFrame, factor: str) -> pd.Series | None:
    """Return the levels of a factor, or of several that are joined; None if one is no column."""
    names = [factor] if factor in runs else factor.split(JOIN)
    if any(name not in runs for name in names):
        return None
    return runs[names].astype(str).agg(JOIN.join, axis=1)


def _with_learning(runs: pd.DataFrame, learning: pd.DataFrame) -> pd.DataFrame:
    new = [name for name in learning if name == "run" or name not in runs]
    return runs.merge(learning[new].drop_duplicates("run"), on="run", how="left") if len(learning) else runs


def _results(runs: pd.DataFrame, objective: str) -> list[str]:
    """Return the columns of results that have numbers, in a fixed order."""
    numeric = [str(name) for name in runs if _is_numeric(runs[name]) and runs[name].notna().any()]
    return [name for key in _RESULTS for name in numeric if bare_name(name) == key and name != objective]


def _of_numbers(name: str, caption: str, frame: pd.DataFrame) -> Table | None:
    """Return a table of runs and numbers without columns that are unknown; None if nothing is known."""
    numbers = [key for key in frame if key != "run" and frame[key].notna().any()]
    columns = [Column("run", "run"), *(Column(key, heading(key), "number") for key in numbers)]
    return Table(name, caption, columns, frame[["run", *numbers]]) if numbers else None


def _columns(frame: pd.DataFrame) -> list[Column]:
    sides = {f"{part}_{letter}": f"{part} {letter}" for part in ("factor", "level") for letter in "ab"}
    texts: Iterable[str] = map(str, frame.columns)
    return [Column(key, sides.get(key, key), "number" if _is_numeric(frame[key]) else "text") for key in texts]


def _is_numeric(column: pd.Series) -> bool:
    return bool(pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column))
