"""The picture of gradient similarities, also where there is little to draw."""

import math

import pytest
from PIL import Image

from mtvision.visualize.similarity import write_similarity

FULL = {"stem": [0.1, -0.2], "layer1": [0.9, 1.0], "all shared": [0.3, 0.2]}


@pytest.mark.parametrize(
    "similarities",
    [
        {"initialization": {"seg and det": FULL}, "best epoch": {"seg and det": FULL}},
        {"best epoch": {"a and b": FULL, "a and c": FULL, "b and c": {}}},
        {"best epoch": {"seg and det": {"stem": [0.1]}}},
        {"best epoch": {"seg and det": {"stem": [math.nan]}}},
        {"initialization": {}, "best epoch": {}},
    ],
)
def test_whatever_was_found_is_drawn(similarities, tmp_path):
    path = write_similarity(similarities, tmp_path / "new" / "similarity.png")
    assert path == tmp_path / "new" / "similarity.png"
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 200


def test_each_pair_has_a_panel_of_the_same_width(tmp_path):
    widths = []
    for pairs in (["a and b"], ["a and b", "a and c", "b and c"]):
        with Image.open(write_similarity({"x": dict.fromkeys(pairs, FULL)}, tmp_path / "p.png")) as picture:
            widths.append(picture.width)
    assert widths[1] == 3 * widths[0]
