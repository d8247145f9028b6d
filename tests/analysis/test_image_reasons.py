"""What can be measured of an image, and whether it goes along with the score."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from analysis_by_hand import CLASSES, sample
from scipy import stats

from mtvision.analysis.image_reasons import correlations, facts_table, measure, outer_sides


def test_what_is_measured_of_an_image():
    boxes = [[0, 20, 40, 60], [20, 20, 60, 60], [70, 70, 80, 80], [90, 0, 100, 10]]
    facts = measure(sample(boxes, [0, 0, 1, 1], [False, False, False, True], value=51), CLASSES)
    assert facts.classes == ("cat", "cat", "dog", "dog")
    expected = {
        "size": 0.25,  # sides 0.4, 0.4, 0.1, 0.1
        "smallest": 0.1,
        "truncated": 0.5,
        "covered": 0.25,  # half of the first lies in the second, and the other way round
        "difficult": 0.25,
        "objects": 4,
        "brightness": 0.2,
        "contrast": 0,
    }
    assert {key: pytest.approx(value, abs=1e-6) for key, value in expected.items()} == facts.values


def test_without_boxes_each_class_of_the_mask_is_an_object():
    mask = np.zeros((100, 100), dtype=np.uint8)
    mask[10:30, 20:60] = 2
    mask[0, 0] = 255
    facts = measure(replace(sample(), boxes=None, labels=None, difficult=None, mask=mask), CLASSES)
    assert facts.classes == ("dog",)
    assert facts.values["size"] == pytest.approx(np.sqrt(20 * 40) / 100)
    table = facts_table([facts, measure(sample([[0, 0, 10, 10]]), CLASSES)])  # boxes elsewhere: regions do not compare
    assert np.isnan(table["size"][0])
    assert table["objects"].tolist()[1] == 1


def test_rarity_is_the_share_of_the_rarest_class_in_the_data():
    box = [0, 0, 10, 10]
    facts = [measure(sample([box] * len(labels), labels), CLASSES) for labels in ([0, 0, 0], [0, 1], [])]
    assert facts_table(facts)["rarity"].tolist()[:2] == pytest.approx([0.8, 0.2])
    assert np.isnan(facts_table(facts)["rarity"][2])


def test_only_the_outer_fifths_are_unusual():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.permutation(50), "b": [0.0] * 30 + [1.0] * 8 + [np.nan] * 12})
    sides = outer_sides(table)
    assert (sides["a"] == np.where(table["a"] < 10, -1, np.where(table["a"] >= 40, 1, 0))).all()
    assert (sides["b"] != 0).sum() == 0  # 8 of 38 are more than a fifth
    assert outer_sides(table.assign(b=[0.0] * 31 + [1.0] * 7 + [np.nan] * 12))["b"].sum() == 7


def test_correlations_are_scipys_and_shown_after_holm():
    rng = np.random.default_rng(0)
    score = rng.normal(size=40)
    table = pd.DataFrame({key: rng.normal(size=40) for key in ("smallest", "truncated", "covered", "objects")})
    table["size"] = score + 0.5 * rng.normal(size=40)
    table["contrast"] = np.where(rng.random(40) < 0.2, np.nan, -score)
    table["difficult"] = 0.0
    for key in ("rarity", "brightness"):
        table[key] = np.nan
    result = correlations(table, pd.DataFrame({"score": score, "seg": -score})).set_index("key")
    assert set(result.index) == {"smallest", "truncated", "covered", "objects", "size", "contrast"}
    for key, row in result.iterrows():
        both = table[key].notna()
        expected = stats.spearmanr(table[key][both], score[both])
        assert (row["rho"], row["p"], row["n"]) == (expected.statistic, expected.pvalue, both.sum())
        assert row["rho_seg"] == pytest.approx(-row["rho"])
    adjusted = sorted(result["p"])
    passed = [p * (len(adjusted) - place) <= 0.05 for place, p in enumerate(adjusted)]
    limit = passed.index(False)
    assert sorted(result["p"][result["shown"]]) == adjusted[:limit]
    assert {"size", "contrast"} <= set(result.index[result["shown"]])
    few = correlations(table[:9], pd.DataFrame({"score": score[:9]}))
    assert few["p"].min() < 0.001
    assert not few["shown"].any()
