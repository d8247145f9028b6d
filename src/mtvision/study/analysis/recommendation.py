"""The best configuration, the recommended one, and what to expect of it."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from mtvision.study.analysis.bootstrap import LEVEL, noise_of
from mtvision.study.analysis.cells import Cells
from mtvision.study.analysis.effects import Effects
from mtvision.study.analysis.sentences import digits_for
from mtvision.study.analysis.table import RunTable


def best_config(table: RunTable, cells: Cells) -> dict[str, Any]:
    """Return the configuration with the best mean over its seeds.

    Returns:
        Its levels by factor; ``mean`` over ``n`` seeds with the 95 % interval ``low, high`` of `config_interval`;
        ``runs``, their names; ``sentence``. The best of many is partly the luckiest: neither mean nor interval allows
        for that, and the sentence says so.
    """
    means = cells.means if table.higher_is_better else -cells.means
    place = int(np.argmax(means))
    levels = {str(name): str(label) for name, label in cells.configs.iloc[place].items()}
    expected = config_interval(cells, place)
    digits = digits_for(0.1 * abs(expected["mean"]))
    seeds = f"{expected['n']:.0f} seed{'' if expected['n'] == 1 else 's'}"
    sentence = (
        f"{table.objective} {expected['mean']:.{digits}f} over {seeds}, the best of {len(means)} configurations: "
        "the choice favours lucky runs, so expect less on new data and new seeds"
    )
    return {**levels, **expected, "runs": runs_with(table, levels), "sentence": sentence}


def recommend(table: RunTable, effects: Effects) -> dict[str, str]:
    """Return the level to use by factor.

    It is the base level unless another one is shown to be better; of several, the one with the largest effect. Levels
    of joint rows come together. What is within the noise is no reason to change anything.
    """
    levels = {name: labels[0] for name, labels in table.factors.items()}
    rows = zip(effects.comparisons, effects.effects["effect"], effects.effects["shown"], strict=True)
    gains = [(effect if table.higher_is_better else -effect, of) for of, effect, shown in rows if shown]
    for gain, comparison in sorted(gains, key=lambda each: each[0]):  # the largest last, which stands
        if gain > 0:
            levels.update(comparison.level)
    return levels


def runs_with(table: RunTable, levels: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of the finished runs that have exactly these levels."""
    runs = table.finished
    found = np.ones(len(runs), dtype=bool)
    for name, label in levels.items():
        found &= (runs[name].astype(str) == label).to_numpy(dtype=bool)
    return tuple(map(str, runs["run"][found]))


def expect(table: RunTable, cells: Cells, levels: Mapping[str, str]) -> dict[str, float] | None:
    """Return ``mean, low, high, n`` and ``seconds`` a run of a configuration; None if it was not run."""
    places = np.flatnonzero(cells.which(levels))
    if not len(places):
        return None
    runs = table.finished
    seconds = pd.to_numeric(runs["seconds"], errors="coerce") if "seconds" in runs else pd.Series(dtype=float)
    of_runs = runs["run"].astype(str).isin(runs_with(table, levels))
    return {
        **config_interval(cells, int(places[0])),
        "seconds": float(seconds[of_runs].mean()) if len(seconds) else math.nan,
    }


def config_interval(cells: Cells, place: int) -> dict[str, float]:
    """Return the mean of a configuration over its ``n`` seeds with the 95 % t-interval ``low, high``.

    Its standard error comes from the spread within all configurations, since a few seeds of one do not tell. What a
    seed does to all configurations alike is part of the spread, and is seen as often as there are seeds, however many
    configurations there are: the degrees of freedom follow Satterthwaite (1946, Biometrics Bulletin 2).

    Args:
        cells: of the finished runs.
        place: row of the configuration.

    Returns:
        ``low`` and ``high`` are NaN if no configuration has two seeds.
    """
    values = cells.values[cells.config == place]
    within = noise_of(cells.values, cells.of_config)
    both = noise_of(cells.values, np.hstack([cells.of_config, cells.of_seed]))
    left, all_squares = np.sum(both.residuals**2), np.sum(within.residuals**2)
    # sum of squares and degrees of freedom: of what seeds do to all configurations, and of the rest
    parts = [(all_squares - left, within.freedom - both.freedom), (left, both.freedom)]
    spread = sum(squares**2 / freedom for squares, freedom in parts if freedom)
    half = math.nan
    if within.freedom and spread > 0:
        freedom = all_squares**2 / spread
        half = float(stats.t.ppf((1 + LEVEL) / 2, freedom) * within.scale / math.sqrt(len(values)))
    mean = float(values.mean())
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": len(values)}
