"""Simulated studies whose truth is known."""

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from mtvision.study.analysis.cells import read_cells
from mtvision.study.analysis.effects import Effects, estimate_effects
from mtvision.study.analysis.table import FINISHED, RunTable

BASE = 0.5


MIXED = (2, 2, 3, 3, 3, 2, 2, 3, 2, 3, 2)  # levels of 11 factors


@dataclass(frozen=True)
class Truth:
    """Effects by factor and level index, products of two factors' effects, and two sources of noise."""

    effects: Mapping[str, Sequence[float]]
    interactions: Mapping[tuple[str, str], float] = field(default_factory=dict)
    noise: float = 0.01
    seed_noise: float = 0.01

    def means(self, configs: pd.DataFrame) -> np.ndarray:
        """Return the expected score of every config, without noise; interactions average out over balanced levels."""
        total = np.full(len(configs), BASE)
        for name, values in self.effects.items():
            total += np.asarray(values, dtype=float)[configs[name].to_numpy()]
        for (one, other), size in self.interactions.items():
            total += (
                size
                * _centred(configs[one], len(self.effects[one]))
                * _centred(configs[other], len(self.effects[other]))
            )
        return total


def _centred(column: pd.Series, levels: int) -> np.ndarray:
    centred: np.ndarray = column.to_numpy() / (levels - 1) * 2 - 1
    return centred


def no_effects(levels: Sequence[int]) -> Truth:
    """Nothing matters."""
    return Truth({f"f{place}": [0.0] * count for place, count in enumerate(levels)})


def some_effects(levels: Sequence[int], size: float = 0.03, *, noise: float = 0.01, seed_noise: float = 0.01) -> Truth:
    """Every third factor does nothing; the others differ by up to ``size``."""
    return Truth(
        {
            f"f{place}": [0.0 if place % 3 == 2 else size * index / (count - 1) for index in range(count)]
            for place, count in enumerate(levels)
        },
        noise=noise,
        seed_noise=seed_noise,
    )


def one_at_a_time(levels: Sequence[int]) -> pd.DataFrame:
    rows = [[0] * len(levels)]
    for place, count in enumerate(levels):
        rows += [[index if other == place else 0 for other in range(len(levels))] for index in range(1, count)]
    return _frame(rows)


def full_factorial(levels: Sequence[int]) -> pd.DataFrame:
    return _frame(list(itertools.product(*map(range, levels))))


@functools.cache
def balanced(levels: tuple[int, ...], runs: int, steps: int = 3000) -> pd.DataFrame:
    """Balanced columns, made nearly orthogonal: swap entries while that lowers their squared correlations."""
    generator = np.random.default_rng(0)
    columns = [generator.permutation(np.arange(runs) % count) for count in levels]
    block = np.repeat(np.arange(len(levels)), levels)

    def badness(columns: list[np.ndarray]) -> float:
        coded = np.hstack([np.eye(n)[c] - np.bincount(c) / runs for c, n in zip(columns, levels, strict=True)])
        return float((((coded.T @ coded) ** 2) * (block[:, None] != block)).sum())

    best = badness(columns)
    for _ in range(steps):
        place = generator.integers(len(levels))
        swapped = columns[place].copy()
        one, other = generator.integers(runs, size=2)
        swapped[one], swapped[other] = swapped[other], swapped[one]
        tried = [*columns[:place], swapped, *columns[place + 1 :]]
        if (value := badness(tried)) <= best:
            best, columns = value, tried
    return _frame(np.stack(columns, axis=1).tolist())


def at_random(levels: Sequence[int], runs: int) -> pd.DataFrame:
    generator = np.random.default_rng(1)
    every = {tuple(int(generator.integers(count)) for count in levels) for _ in range(3 * runs)}
    return _frame([list(row) for row in sorted(every)[:: max(1, len(every) // runs)][:runs]])


def simulate(
    configs: pd.DataFrame, truth: Truth, seeds: int, generator: np.random.Generator, kind: str = "normal"
) -> RunTable:
    """Run every config with every seed: the truth, what a seed does to all configs, and noise."""
    scores = draw(configs, truth, seeds, generator, kind)
    rows = [
        {
            "run": f"r{row}s{seed}",
            "config": f"c{row}s{seed}",
            "seed": seed,
            "state": FINISHED,
            "score": scores[row, seed],
        }
        | {name: label(configs[name].iloc[row]) for name in configs}
        for row in range(len(configs))
        for seed in range(seeds)
    ]
    factors = {name: tuple(label(index) for index in range(len(values))) for name, values in truth.effects.items()}
    return RunTable(pd.DataFrame(rows), factors)


def draw(
    configs: pd.DataFrame, truth: Truth, seeds: int, generator: np.random.Generator, kind: str = "normal"
) -> np.ndarray:
    """Return a score for every config and seed, ``(configs, seeds)``."""
    shape = (len(configs), seeds)
    own = truth.noise * _noise(kind, shape, generator)
    shared = truth.seed_noise * generator.standard_normal(seeds)
    scores: np.ndarray = truth.means(configs)[:, None] + shared + own
    return scores


def _noise(kind: str, shape: tuple[int, int], generator: np.random.Generator) -> np.ndarray:
    """Return noise of mean 0 and variance 1; of ``uneven`` the last config has four times as much."""
    if kind == "heavy":
        noise: np.ndarray = generator.standard_t(3, shape) / np.sqrt(3)
        return noise
    if kind == "skewed":
        return generator.exponential(size=shape) - 1
    noise = generator.standard_normal(shape)
    if kind == "uneven":
        noise[-1] *= 4
    return noise


@dataclass(frozen=True)
class Record:
    """What many simulated studies of one design came to.

    Attributes:
        covered: by study and row of effects and interactions, whether the 95 % interval holds the truth; NaN without.
        together: by study, whether the joint intervals hold all truths.
        false: by study, whether a difference is shown that is not there, or with the wrong sign.
    """

    covered: np.ndarray
    together: np.ndarray
    false: np.ndarray


def repeat(
    configs: pd.DataFrame,
    truth: Truth,
    seeds: int,
    *,
    studies: int,
    bootstrap: int,
    kind: str = "normal",
    at_base: bool = False,
) -> Record:
    """Simulate a study many times and hold its intervals against the truth."""
    generator = np.random.default_rng(1)
    cells = read_cells(simulate(configs, truth, seeds, generator))
    real: np.ndarray | None = None
    covered, together, false = [], [], []
    for number in range(studies):
        drawn = replace(cells, values=draw(configs, truth, seeds, generator, kind).ravel())
        found = estimate_effects(drawn, bootstrap=bootstrap, seed=number)
        if real is None:
            real = true_values(truth, found, at_base)
        effect, low, high, low_all, high_all, shown = (
            np.concatenate([found.effects[name], found.interactions[name]]).astype(float)
            for name in ("effect", "low", "high", "low_all", "high_all", "shown")
        )
        known = ~np.isnan(low)
        covered.append(np.where(known, (low <= real) & (real <= high), np.nan))
        together.append(np.all(((low_all <= real) & (real <= high_all))[known]))
        false.append(np.any((shown > 0) & (np.sign(effect) != np.sign(np.round(real, 12)))))
    return Record(np.array(covered), np.array(together), np.array(false))


def true_values(truth: Truth, found: Effects, at_base: bool) -> np.ndarray:
    """Return the true effects and interactions in the order of the tables; at the base, or on the average of levels."""
    rows = [true_effect(truth, row.factor, int(row.level[1:]), at_base) for row in found.effects.itertuples()]
    for row in found.interactions.itertuples():
        size = truth.interactions.get((row.factor_a, row.factor_b), 0.0)
        steps = [
            2 * int(level[1:]) / (len(truth.effects[name]) - 1)
            for name, level in ((row.factor_a, row.level_a), (row.factor_b, row.level_b))
        ]
        rows.append(size * steps[0] * steps[1])
    return np.array(rows)


def true_effect(truth: Truth, factor: str, level: int, at_base: bool) -> float:
    values = truth.effects[factor]
    step = 2 * level / (len(values) - 1)
    crossed = sum(size for pair, size in truth.interactions.items() if factor in pair)
    return values[level] - values[0] - (crossed * step if at_base else 0.0)  # the partner is at -1 in the base


def label(index: int) -> str:
    return f"l{index}"


def _frame(rows: Sequence[Sequence[int]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=[f"f{place}" for place in range(len(rows[0]))])
