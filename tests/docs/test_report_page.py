"""The page on the published report has the figures of the files that it speaks of."""

import re
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "report.md").read_text()
KEYS = {
    "activation": "model.activation",
    "segmentation loss": "training.seg_loss",
    "initialization": "model.init_scheme",
    "dropout": "model.dropout_rate",
    "augmentation": "data.augmentation_level",
}


def rows(title):
    """Return the cells of the first table after a heading."""
    lines = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0].splitlines()
    table = [line for line in lines if line.startswith("|")][2:]
    return [
        [cell.strip().replace("`", "").replace("\N{MINUS SIGN}", "-") for cell in row.split("|")[1:-1]] for row in table
    ]


@pytest.mark.parametrize(
    "cells", rows("The statistical summary: means by level"), ids=lambda cells: " ".join(cells[:2])
)
def test_means_by_level_are_those_of_the_reported_runs(cells):
    factor, levels, number, mean = cells
    runs = pd.read_csv(ROOT / "tests" / "study" / "reported_runs.csv", dtype=str, keep_default_na=False)
    groups = [runs[runs[KEYS[factor]] == level]["miou"].astype(float) for level in levels.split(" and ")]
    assert " + ".join(str(len(group)) for group in groups) == number
    total = sum(len(group) * round(group.mean(), 4) for group in groups) / sum(map(len, groups))
    assert f"{total:.4f}" == mean


def test_effects_are_those_of_the_committed_study():
    found = pd.read_csv(ROOT / "docs" / "study" / "tables" / "effects.csv", dtype={"level": str, "base": str})
    told = rows("The same factors, in a design that can tell")
    assert len(told) == len(found)
    for (factor, level, base, effect, own, together, verdict), row in zip(told, found.itertuples(), strict=True):
        assert (factor, level, base) == (row.factor, row.level, row.base)
        numbers = [effect, *own.split(" to "), *together.split(" to ")]
        exact = (row.effect, row.low, row.high, row.low_all, row.high_all)
        assert [float(text) for text in numbers] == [pytest.approx(number, abs=5.1e-4) for number in exact]
        assert ("worse" in verdict) == row.shown


def test_figures_of_the_best_run_again_are_those_of_the_committed_study():
    found = pd.read_csv(ROOT / "docs" / "study" / "tables" / "confirmation.csv")
    for number in [*found["held_out"], found["selected"][0]]:
        assert re.search(rf"\b{number:.3f}\b", PAGE), number
