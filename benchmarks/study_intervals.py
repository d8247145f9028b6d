"""Whether a study's intervals keep what they promise: simulated studies with a known truth, and studies of nothing.

    python benchmarks/study_intervals.py [--studies 1000] [--resamples 1000] [--noise normal heavy skewed uneven]

For each design: how often the 95 % interval of a row holds the true effect (all rows, the worst and the best), and in
how many studies without any effect some difference is shown all the same (5 % are promised). Noise: ``heavy`` has
Student's t with 3 degrees of freedom, ``skewed`` is exponential, of ``uneven`` one configuration has four times the
noise of the others. It takes about half an hour of one core for 1,000 studies of each design.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd
from simulated_studies import (
    MIXED,
    Truth,
    at_random,
    balanced,
    full_factorial,
    no_effects,
    one_at_a_time,
    repeat,
    some_effects,
)

from mtvision.text_table import text_table

SMALL, CROSSED, THREE = (2, 3, 2), (2, 2, 3), (2, 3, 3)
PLANTED = {("f0", "f1"): 0.01}


@dataclass(frozen=True)
class Case:
    """A design, and what is planted in it."""

    name: str
    configs: pd.DataFrame
    levels: tuple[int, ...]
    seeds: int
    at_base: bool = False
    interactions: Mapping[tuple[str, str], float] = field(default_factory=dict)


def cases() -> list[Case]:
    return [
        Case("one_at_a_time, 1 factor, 2 seeds", one_at_a_time((2,)), (2,), 2, at_base=True),
        Case("one_at_a_time, 1 factor, 3 seeds", one_at_a_time((2,)), (2,), 3, at_base=True),
        Case("one_at_a_time, 3 factors, 2 seeds", one_at_a_time(SMALL), SMALL, 2, True, PLANTED),
        Case("one_at_a_time, 3 factors, 3 seeds", one_at_a_time(SMALL), SMALL, 3, True, PLANTED),
        Case("one_at_a_time, 3 factors, 5 seeds", one_at_a_time(SMALL), SMALL, 5, True, PLANTED),
        Case("one_at_a_time, 11 factors, 2 seeds", one_at_a_time(MIXED), MIXED, 2, True, PLANTED),
        Case("one_at_a_time, 11 factors, 3 seeds", one_at_a_time(MIXED), MIXED, 3, True, PLANTED),
        Case("full_factorial 2 x 2 x 3, 2 seeds", full_factorial(CROSSED), CROSSED, 2, False, PLANTED),
        Case("full_factorial 2 x 2 x 3, 1 seed", full_factorial(CROSSED), CROSSED, 1),
        Case("27 configurations of 11 factors, 2 seeds", balanced(MIXED, 27), MIXED, 2),
        Case("the same, with an interaction", balanced(MIXED, 27), MIXED, 2, False, PLANTED),
        Case("random 27 of 11 factors, 2 seeds", at_random(MIXED, 27), MIXED, 2),
        Case("random 8 of 2 x 3 x 3, 2 seeds", at_random(THREE, 8), THREE, 2),
        Case("random 40 of 11 factors, 1 seed", at_random(MIXED, 40), MIXED, 1),
    ]


def measure(case: Case, studies: int, resamples: int, noise: str) -> tuple[str, ...]:
    """Return the cells of a design's row."""
    truth = Truth(some_effects(case.levels).effects, case.interactions)
    again = partial(repeat, studies=studies, bootstrap=resamples, kind=noise)
    some = again(case.configs, truth, case.seeds, at_base=case.at_base)
    none = again(case.configs, no_effects(case.levels), case.seeds)
    rows = np.nanmean(some.covered, axis=0)
    return (
        case.name,
        str(len(case.configs) * case.seeds),
        str(some.covered.shape[1]),
        f"{100 * np.nanmean(some.covered):.1f}",
        f"{100 * rows.min():.1f}",
        f"{100 * rows.max():.1f}",
        f"{100 * none.false.mean():.1f}",
    )


def main(studies: int, resamples: int, noises: Sequence[str], names: str = "") -> None:
    for noise in noises:
        rows: list[tuple[str, ...]] = [
            ("design", "runs", "rows", "covered %", "worst row", "best row", "null studies with a claim %")
        ]
        rows += [measure(case, studies, resamples, noise) for case in cases() if names in case.name]
        print(f"{noise} noise, {studies} studies of each design\n{text_table(rows)}\n", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--noise", nargs="+", choices=("normal", "heavy", "skewed", "uneven"), default=["normal"])
    parser.add_argument("--design", default="", help="only designs with this in their name")
    arguments = parser.parse_args()
    main(arguments.studies, arguments.resamples, arguments.noise, arguments.design)
