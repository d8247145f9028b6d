"""Effects of the levels against the base level, and interactions, with 95 % intervals that allow for many questions."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from mtvision.study.analysis.bootstrap import LEVEL, Intervals, Noise, bootstrap_intervals
from mtvision.study.analysis.cells import Cells
from mtvision.study.analysis.changes import Comparison
from mtvision.study.analysis.comparisons import find_comparisons
from mtvision.study.analysis.contrasts import (
    MODEL,
    NONE,
    PAIRED,
    Contrast,
    config_noise,
    corner_differences,
    effect_contrast,
    run_noise,
)
from mtvision.study.analysis.main_effects import MainEffects
from mtvision.study.analysis.sentences import effect_sentence, interaction_sentence

_NUMBERS = ("effect", "low", "high", "low_all", "high_all")
EFFECT_COLUMNS = ("factor", "level", "base", *_NUMBERS, "pairs", "method", "shown", "sentence")
INTERACTION_COLUMNS = ("factor_a", "level_a", "factor_b", "level_b", *_NUMBERS, "pairs", "shown", "sentence")


@dataclass(frozen=True)
class Effects:
    """All that a study says about its factors.

    Attributes:
        comparisons: in the order of ``effects``.
        effects: a row a comparison, with ``EFFECT_COLUMNS``.
        interactions: a row a pair of comparisons that the design crosses, with ``INTERACTION_COLUMNS``.
    """

    comparisons: tuple[Comparison, ...]
    effects: pd.DataFrame
    interactions: pd.DataFrame


@dataclass(frozen=True)
class _Row:
    """One question: a comparison, or two of which one may change the other's effect."""

    of: tuple[Comparison, ...]
    contrast: Contrast


def estimate_effects(cells: Cells, *, higher_is_better: bool = True, bootstrap: int = 10_000, seed: int = 0) -> Effects:
    """Estimate every level's effect and every interaction that the runs can tell, with intervals.

    An effect is the mean of the differences of pairs of runs (same seed, same other levels) where there are such pairs,
    else the least-squares contrast of a main-effects model over the configurations' means. The 95 % intervals are of
    `bootstrap_intervals`. A difference is ``shown`` where the interval that holds for all rows of both tables at once
    leaves out 0: all false claims together stay below 5 % of the studies. Paired rows and model rows, which have noise
    of their own, share these 5 % by their numbers (Bonferroni).

    A paired effect is the mean over the settings in which the pairs were run: in a ``one_at_a_time`` design, at the
    base. A model's effect takes the effects to add up: where they do not, it may be off by parts of an interaction.

    Args:
        cells: of the finished runs.
        higher_is_better: of the values.
        bootstrap: number of resamples.
        seed: of the resamples.
    """
    model = MainEffects(cells)
    comparisons = find_comparisons(cells, model)
    rows = [_Row((each,), effect_contrast(each, cells, model)) for each in comparisons]
    rows += _interaction_rows([row.of[0] for row in rows if row.contrast.method == PAIRED], cells)
    of_runs, of_configs = run_noise(cells, model), config_noise(cells, model)
    # with as many columns as configurations, nothing but the spread over seeds is left to judge by
    noise = {PAIRED: of_runs, MODEL: of_configs if of_configs.freedom else of_runs}
    estimates = _Estimates(cells, rows, noise, bootstrap, seed)
    effects = [estimates.effect(place, higher_is_better) for place in range(len(comparisons))]
    interactions = [estimates.interaction(place) for place in range(len(comparisons), len(rows))]
    return Effects(
        tuple(comparisons),
        pd.DataFrame(effects, columns=list(EFFECT_COLUMNS)),
        pd.DataFrame(interactions, columns=list(INTERACTION_COLUMNS)),
    )


def _interaction_rows(comparisons: Sequence[Comparison], cells: Cells) -> list[_Row]:
    """Return the pairs of comparisons that are crossed in at least two settings and half of the runs with both."""
    rows = []
    for one, other in combinations(comparisons, 2):
        if set(one.level) & set(other.level):
            continue
        both = int(np.sum(cells.which({**one.level, **other.level})[cells.config]))
        if both < 2:
            continue
        corners = corner_differences([one, other], cells)
        if len(corners) >= 2 and 2 * len(corners) >= both:
            equal = np.ptp(corners @ cells.values) == 0
            reason = f"the same in all {len(corners)} settings" if equal else ""
            rows.append(_Row((one, other), Contrast(corners.mean(axis=0), len(corners), PAIRED, reason)))
    return rows


class _Estimates:
    """Estimates and intervals of all rows."""

    def __init__(self, cells: Cells, rows: Sequence[_Row], noise: dict[str, Noise], bootstrap: int, seed: int) -> None:
        self._cells = cells
        self._rows = rows
        self._without = {method: "no spread to build one on" for method, each in noise.items() if not each.is_usable}
        self._half = np.full((2, len(rows)), np.nan)
        self._value = np.array([row.contrast.weights @ cells.values for row in rows])
        asked = {name: [i for i, row in enumerate(rows) if self._has_interval(row, name)] for name in noise}
        for method, places in asked.items():
            share = (1 - LEVEL) * len(places) / max(1, sum(map(len, asked.values())))
            found = self._intervals(noise[method], places, bootstrap, seed, share)
            self._half[:, places] = found.alone, found.together

    def _has_interval(self, row: _Row, method: str) -> bool:
        return row.contrast.method == method and not row.contrast.reason and method not in self._without

    def _intervals(self, noise: Noise, places: list[int], bootstrap: int, seed: int, miss: float) -> Intervals:
        weights = np.array([self._rows[place].contrast.weights for place in places])
        if len(noise.residuals) != len(self._cells.values):  # over configurations: a mean's weight is its runs' sum
            weights = weights @ self._cells.of_config if places else weights
        generator = np.random.default_rng(seed)
        return bootstrap_intervals(noise, weights, resamples=bootstrap, generator=generator, miss=miss)

    def _numbers(self, place: int) -> dict[str, float]:
        value = self._value[place] if self._rows[place].contrast.method != NONE else np.nan
        alone, together = self._half[:, place]
        ends = {"low": value - alone, "high": value + alone, "low_all": value - together, "high_all": value + together}
        return {"effect": float(value), **{name: float(end) for name, end in ends.items()}}

    def effect(self, place: int, higher_is_better: bool) -> dict[str, object]:
        """Return a row of the table of effects."""
        row, numbers = self._rows[place], self._numbers(place)
        comparison, contrast, shown = row.of[0], row.contrast, _leaves_out_zero(numbers, "_all")
        sentence = effect_sentence(
            comparison,
            numbers["effect"],
            (numbers["low"], numbers["high"]),
            shown=shown,
            behind=self._behind(contrast, "pair"),
            reason=contrast.reason or self._without.get(contrast.method, ""),
            better=(numbers["effect"] > 0) == higher_is_better,
            nearly=_leaves_out_zero(numbers, ""),
            joint=(numbers["low_all"], numbers["high_all"]),
        )
        names = {"factor": comparison.factor_name, "level": comparison.level_name, "base": comparison.base_name}
        behind = {"pairs": contrast.pairs, "method": contrast.method}
        return {**names, **numbers, **behind, "shown": shown, "sentence": sentence}

    def interaction(self, place: int) -> dict[str, object]:
        """Return a row of the table of interactions."""
        row, numbers = self._rows[place], self._numbers(place)
        shown = _leaves_out_zero(numbers, "_all")
        sentence = interaction_sentence(
            row.of,
            numbers["effect"],
            (numbers["low"], numbers["high"]),
            shown=shown,
            behind=self._behind(row.contrast, "setting"),
            reason=row.contrast.reason or self._without.get(row.contrast.method, ""),
        )
        names = {
            f"{part}_{letter}": getattr(comparison, f"{part}_name")
            for letter, comparison in zip("ab", row.of, strict=True)
            for part in ("factor", "level")
        }
        return {**names, **numbers, "pairs": row.contrast.pairs, "shown": shown, "sentence": sentence}

    def _behind(self, contrast: Contrast, unit: str) -> str:
        if contrast.method == MODEL:
            return f"adjusted, {len(self._cells.configs)} configurations"
        return f"{contrast.pairs} {unit}{'' if contrast.pairs == 1 else 's'}"


def _leaves_out_zero(numbers: dict[str, float], which: str) -> bool:
    """Tell whether an interval is there and leaves out 0."""
    return numbers[f"low{which}"] > 0 or numbers[f"high{which}"] < 0
