"""What an analysis finds, as plain tables; no arithmetic here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mtvision.study.analysis.table import RunTable
from mtvision.study.planning.aliasing import Aliasing


@dataclass(frozen=True)
class Findings:
    """What the runs of a study say.

    Attributes:
        table: the runs.
        aliasing: which factors cannot be told apart, balance of the levels, empty cells.
        levels: a row a factor and level: ``factor, level, n`` (distinct runs), ``mean, spread`` (standard deviation
            over seeds within a config, pooled; NaN with one seed), ``best``.
        effects: a row a factor and level other than the base: ``factor, level, base, effect, low, high`` (95 %
            interval), ``low_all, high_all`` (95 % for all rows of effects and interactions at once), ``pairs``,
            ``method`` (``paired``, ``model`` or ``none``), ``shown`` (whether a difference is shown: the interval for
            all rows leaves out 0) and ``sentence``. Aliased factors share one row, their names and levels joined by
            `` + ``.
        interactions: a row a pair of factors and of levels: ``factor_a, level_a, factor_b, level_b, effect, low, high,
            low_all, high_all, pairs, shown, sentence``: by how much the effect of ``level_a`` is larger with
            ``level_b`` than with its base, and in how many settings that was seen; empty where the design cannot tell.
        importance: a row a factor: ``factor, importance, low, high``; shares of the variance, largest first; empty,
            with a flag, for fewer than 8 configurations.
        learning: a row a run: ``run, epochs_to_95, best_epoch, train_val_gap, first_5_epochs_loss``.
        cost: a row a run: ``run, seconds, seconds_per_epoch, parameters, multiply_adds``, as far as known.
        pareto: the configs, by means over seeds, that no other one beats in all of the ``pareto_axes``: ``run`` (the
            first), ``n``, the factors and the axes.
        pareto_axes: columns and whether more of each is better.
        best: of the best config: the levels by factor, ``mean`` of the objective over ``n`` seeds, ``low``, ``high``,
            ``runs`` (names) and a ``sentence`` that warns of the winner's curse.
        recommended: by factor the level to use.
        recommended_runs: names of the runs that had exactly these levels; empty: the recommendation was not run.
        flags: sentences about what is wrong or suspicious in the results.
        expected: of the recommended configuration: ``mean, low, high, n, seconds``; None where it was not run.
    """

    table: RunTable
    aliasing: Aliasing
    levels: pd.DataFrame
    effects: pd.DataFrame
    interactions: pd.DataFrame
    importance: pd.DataFrame
    learning: pd.DataFrame
    cost: pd.DataFrame
    pareto: pd.DataFrame
    pareto_axes: Mapping[str, bool]
    best: Mapping[str, Any]
    recommended: Mapping[str, str]
    recommended_runs: tuple[str, ...]
    flags: tuple[str, ...]
    expected: Mapping[str, float] | None
