"""Which factors matter: a model of the results by Optuna's evaluators, with its own uncertainty."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import optuna
import pandas as pd

from mtvision.errors import ConfigError, did_you_mean
from mtvision.study.analysis.bootstrap import Array
from mtvision.study.analysis.cells import Cells
from mtvision.study.analysis.changes import JOIN

IMPORTANCE_COLUMNS = ("factor", "importance", "low", "high")
EVALUATORS = ("fanova", "mean_decrease_impurity", "ped_anova")
FEWEST = 8  # configurations; a forest of fewer sees noise only
_RESAMPLES = 30
_BEST = 8
_TREES, _FEWER_TREES = 64, 8  # of the estimate; of a resample, whose own noise is small against that of resampling


def importances(
    cells: Cells,
    evaluator: str = "fanova",
    *,
    higher_is_better: bool = True,
    together: Sequence[Sequence[str]] = (),
    resamples: int = _RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Return each factor's share in what single factors explain of the variance, largest first.

    The evaluator is Optuna's; it sees every configuration once, by its mean over the seeds: runs that differ by the
    seed only would look like more evidence than there is. Shares add up to 1 whether or not anything matters, so that
    only ``low`` and ``high`` tell how much to believe: 95 % of the shares from resampled configurations.

    Sources: Hutter, Hoos and Leyton-Brown 2014, ICML (fANOVA); Watanabe, Bansal and Hutter 2023, arXiv 2304.10255
    (PED-ANOVA).

    Args:
        cells: of the finished runs.
        evaluator: ``fanova``, ``mean_decrease_impurity`` or ``ped_anova``; the last asks what sets the best tenth of
            the configurations apart, or the best 8 (half, if they are fewer than 16) where a tenth is less.
        higher_is_better: of the values.
        together: factors that always change together; each such set is one row.
        resamples: number of bootstrap resamples of configurations.
        seed: of the resamples and of the forests.

    Returns:
        With ``IMPORTANCE_COLUMNS``; 0 and NaN for a factor of which one level was run. Empty if there are fewer than 8
        configurations, or no factor varies, or the values do not.

    Raises:
        ConfigError: if there is no such evaluator.
    """
    _check(evaluator)
    columns = _columns(cells, together)
    varying = columns.loc[:, columns.nunique() > 1]
    if len(cells.configs) < FEWEST or varying.empty or np.ptp(cells.means) == 0:
        return pd.DataFrame(columns=list(IMPORTANCE_COLUMNS))
    direction = "maximize" if higher_is_better else "minimize"
    whole = _shares(varying, cells.means, direction, _evaluator(evaluator, _TREES, seed, len(varying)))
    quick = _evaluator(evaluator, _FEWER_TREES, seed, len(varying))
    generator = np.random.default_rng(seed)
    drawn = [generator.integers(len(varying), size=len(varying)) for _ in range(resamples)]
    spread = [_shares(varying.iloc[rows], cells.means[rows], direction, quick) for rows in drawn]
    low, high = np.nanquantile(np.array(spread), [0.025, 0.975], axis=0)
    found = pd.DataFrame(dict(zip(IMPORTANCE_COLUMNS, (list(varying), whole, low, high), strict=True)))
    fixed = [(name, 0.0, np.nan, np.nan) for name in columns if name not in varying]
    found = found.sort_values("importance", ascending=False, kind="stable")
    return pd.DataFrame([*found.itertuples(index=False, name=None), *fixed], columns=list(IMPORTANCE_COLUMNS))


def _check(evaluator: str) -> None:
    if evaluator not in EVALUATORS:
        known = ", ".join(EVALUATORS)
        raise ConfigError(
            [f"importance: no evaluator '{evaluator}'; known: {known}.{did_you_mean(evaluator, EVALUATORS)}"]
        )


def _columns(cells: Cells, together: Sequence[Sequence[str]]) -> pd.DataFrame:
    """Return the levels by factor, factors that change together as one."""
    leader = {name: names for names in together for name in names}
    columns = {}
    for name in cells.configs:
        names = leader.get(name, (name,))
        columns[JOIN.join(names)] = cells.configs[names[0]]
    return pd.DataFrame(columns)


def _evaluator(name: str, trees: int, seed: int, configs: int) -> Any:
    if name == "fanova":
        return optuna.importance.FanovaImportanceEvaluator(n_trees=trees, seed=seed)
    if name == "mean_decrease_impurity":
        return optuna.importance.MeanDecreaseImpurityImportanceEvaluator(n_trees=trees, seed=seed)
    return optuna.importance.PedAnovaImportanceEvaluator(target_quantile=min(0.5, max(0.1, _BEST / configs)))


def _shares(columns: pd.DataFrame, values: Array, direction: str, evaluator: Any) -> Array:
    """Return the shares of the columns, 0 where a resample has one level only; NaN where its values do not vary."""
    varying = columns.loc[:, columns.nunique() > 1]
    if varying.empty or np.ptp(values) == 0:
        return np.full(columns.shape[1], np.nan)
    levels = {name: optuna.distributions.CategoricalDistribution(sorted(set(varying[name]))) for name in varying}
    trials = [
        optuna.trial.create_trial(params=row, distributions=levels, value=float(value))
        for row, value in zip(varying.to_dict("records"), values, strict=True)
    ]
    with _quiet():
        study = optuna.create_study(direction=direction)
        study.add_trials(trials)
        # sorted: Optuna's mean decrease in impurity gives the shares of sorted names to the names in the order given
        found = optuna.importance.get_param_importances(study, evaluator=evaluator, params=sorted(varying))
    return np.array([float(found.get(name, 0.0)) for name in columns])


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna from announcing a study in memory."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
