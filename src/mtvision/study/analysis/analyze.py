"""The analysis of a study: from the table of its runs to what they say."""

from collections.abc import Mapping

from mtvision.errors import ConfigError
from mtvision.study.analysis.cells import Cells, read_cells
from mtvision.study.analysis.checks import check_results
from mtvision.study.analysis.effects import estimate_effects
from mtvision.study.analysis.findings import Findings
from mtvision.study.analysis.importance import FEWEST, importances
from mtvision.study.analysis.learning import summarise_cost, summarise_learning
from mtvision.study.analysis.levels import summarise_levels
from mtvision.study.analysis.pareto import default_axes, pareto_front
from mtvision.study.analysis.recommendation import best_config, expect, recommend, runs_with
from mtvision.study.analysis.table import RunTable
from mtvision.study.planning.aliasing import check_aliasing

_FEWEST_RESAMPLES = 200


def analyze(
    table: RunTable,
    *,
    bootstrap: int = 10_000,
    seed: int = 0,
    importance: str = "fanova",
    pareto_axes: Mapping[str, bool] | None = None,
) -> Findings:
    """Say what the runs of a study show, and no more.

    Args:
        table: of runs, made here or elsewhere.
        bootstrap: number of resamples behind the intervals, at least 200.
        seed: of the resamples; the same table and seed give the same findings.
        importance: evaluator, see `importances`.
        pareto_axes: columns, and whether more of each is better; by default mIoU, mAP and cost, as far as known.

    Raises:
        ConfigError: if there are fewer than 200 resamples, no such evaluator or no such column.
        DataError: if no run has a result.
    """
    if bootstrap < _FEWEST_RESAMPLES:
        raise ConfigError([f"bootstrap: expected at least {_FEWEST_RESAMPLES} resamples, got {bootstrap}"])
    cells = read_cells(table)
    aliasing = check_aliasing(cells.configs, cells.factors)
    effects = estimate_effects(cells, higher_is_better=table.higher_is_better, bootstrap=bootstrap, seed=seed)
    shares = importances(
        cells, importance, higher_is_better=table.higher_is_better, together=aliasing.factor_sets, seed=seed
    )
    axes = default_axes(table.finished) if pareto_axes is None else dict(pareto_axes)
    recommended = recommend(table, effects)
    return Findings(
        table=table,
        aliasing=aliasing,
        levels=summarise_levels(table),
        effects=effects.effects,
        interactions=effects.interactions,
        importance=shares,
        learning=summarise_learning(table),
        cost=summarise_cost(table),
        pareto=pareto_front(table, axes),
        pareto_axes=axes,
        best=best_config(table, cells),
        recommended=recommended,
        recommended_runs=runs_with(table, recommended),
        flags=(*check_results(table), *_too_few(cells)),
        expected=expect(table, cells, recommended),
    )


def _too_few(cells: Cells) -> list[str]:
    number = len(cells.configs)
    return [f"importance: {number} configurations are too few, at least {FEWEST} are needed"] if number < FEWEST else []
