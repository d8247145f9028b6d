"""Plots of an analysis: what is drawn is what is given, and nothing given is drawn too."""

import numpy as np
import pytest
from PIL import Image

from mtvision.visualize import confusion, error_costs, group_rates, reliability, score_curves
from mtvision.visualize.error_colors import ERROR_COLORS, rgb
from mtvision.visualize.marks import Mark, draw_marks
from mtvision.visualize.tiles import tiles


@pytest.fixture
def drawn(monkeypatch):
    """Return the axes of each figure that is saved, with their texts."""
    figures = []

    def save(figure, path, colors=64):
        figure.canvas.draw()
        figures.append(figure)
        figure.savefig(path, dpi=50)
        return path

    for module in (confusion, error_costs, group_rates, reliability, score_curves):
        monkeypatch.setattr(module, "save_small", save)
    return figures


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_a_confusion_matrix_shows_shares_of_rows_and_counts(drawn, tmp_path):
    matrix = np.array([[30, 10, 0], [0, 5, 0], [0, 0, 0]])
    names = ["cat $", "_dog", "never"]
    path = confusion.write_confusion(matrix, names, names, tmp_path / "c.png", unit="pixels")
    assert Image.open(path).width > 100
    axes = drawn[0].axes[0]
    assert texts(axes) == ["75%\n30", "25%\n10", "100%\n5"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat \\$", " _dog"]  # never is left out
    assert axes.images[0].get_array().tolist() == [[0.75, 0.25], [0, 1]]


def test_a_large_confusion_matrix_has_per_cent_and_one_of_a_thousand_classes_the_most_frequent(drawn, tmp_path):
    matrix = np.diag(np.arange(1, 22)) * 10
    names = [f"class {number}" for number in range(21)]
    confusion.write_confusion(matrix, names, names, tmp_path / "c.png", unit="pixels")
    assert texts(drawn[0].axes[0]) == ["100"] * 21
    matrix = np.diag(np.arange(1, 1001))
    names = [f"class {number}" for number in range(1000)]
    confusion.write_confusion(matrix, names, names, tmp_path / "c.png", unit="pixels")
    assert drawn[1].axes[0].get_title() == "the 60 most frequent of 1000 classes"
    assert drawn[1].axes[0].get_yticklabels()[0].get_text() == "class 940"
    confusion.write_confusion(np.zeros((2, 2), dtype=np.int64), ["a", "b"], ["a", "b"], tmp_path / "c.png", unit="x")


def test_the_score_that_is_used_is_marked_at_its_precision_and_recall(drawn, tmp_path):
    thresholds, precision = np.array([0.9, 0.6, 0.3]), np.array([1.0, 0.8, 0.5])
    recall = np.array([0.2, 0.6, 0.9])
    f1 = 2 * precision * recall / (precision + recall)
    points = score_curves.CurvePoints(np.stack([recall, precision], 1), thresholds, precision, recall, f1, 0.5, 0.6)
    score_curves.write_score_curves(points, tmp_path / "s.png")
    left, right = drawn[0].axes
    assert [line.get_xydata().tolist() for line in left.lines[1:]] == [[[0.6, 0.8]]]  # 0.6 is the lowest above 0.5
    labels = [text.get_text() for text in right.get_legend().get_texts()]
    assert labels == ["precision", "recall", "F1", "used here: 0.50", "best F1: 0.60"]


def test_a_reliability_diagram_leaves_empty_bins_out(drawn, tmp_path):
    nan = float("nan")
    panel = reliability.ReliabilityPanel(
        "pixels",
        np.array([0, 0.5]),
        np.array([0.5, 1]),
        np.array([0, 8]),
        np.array([nan, 0.8]),
        np.array([nan, 0.6]),
        0.2,
    )
    reliability.write_reliability([panel, panel._replace(title="boxes")], tmp_path / "r.png")
    upper = drawn[0].axes[0]
    assert upper.get_title() == "pixels: ECE 0.200"
    assert upper.lines[1].get_xydata().tolist() == [[0.8, 0.6]]
    assert [(bar.get_x(), bar.get_height()) for bar in upper.patches] == [(0.5, 0.6)]


def test_bars_of_errors_have_the_colours_of_the_marks(drawn, tmp_path):
    rows = [error_costs.ErrorCost("localisation", 0.25, 7), error_costs.ErrorCost("missed", float("nan"), 3)]
    error_costs.write_error_costs(rows, tmp_path / "e.png", ap=0.5)
    left, right = drawn[0].axes
    assert texts(left) == ["+0.250", ""]
    assert texts(right) == ["7", "3"]
    color = [round(255 * part) for part in left.patches[0].get_facecolor()[:3]]
    assert tuple(color) == rgb(ERROR_COLORS["localisation"])
    error_costs.write_error_costs([rows[0]._replace(delta_ap=0.0, number=0)], tmp_path / "e.png", ap=0.0)


def test_rates_of_two_series_stand_in_one_row_each(drawn, tmp_path):
    model = [
        group_rates.GroupRate("size", "small", 10, 0.5, 0.2, 0.8),
        group_rates.GroupRate("size", "large", 0, *[float("nan")] * 3),
    ]
    data = [group_rates.GroupRate("size", "small", 1200, 0.9, 0.85, 0.95)]
    group_rates.write_group_rates({"model": model, "data": data}, tmp_path / "g.png", measure="found")
    axes = drawn[0].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["size: small", "size: large"]
    assert texts(axes) == ["10", "1,200"]  # nothing is drawn of no case
    points = [line.get_xydata().tolist() for line in axes.lines if line.get_marker() == "o"]
    assert points == [[[0.5, -0.16]], [[0.9, 0.16]]]
    group_rates.write_group_rates({"": []}, tmp_path / "g.png", measure="found")


def test_a_dashed_box_has_gaps_and_texts_do_not_hide_each_other():
    black = np.zeros((60, 120, 3), dtype=np.uint8)
    solid = draw_marks(black, [Mark((10, 10, 100, 50), "#ffffff")])
    dashed = draw_marks(black, [Mark((10, 10, 100, 50), "#ffffff", dashed=True)])
    assert (solid[10, 12:98] == 255).all()
    assert 0.3 < (dashed[10, 12:98] == 255).mean() < 0.8
    assert not black.any()
    red, blue = Mark((10, 20, 60, 50), "#ff0000", "red"), Mark((10, 20, 60, 50), "#0000ff", "blue")
    both = draw_marks(black, [red, blue])
    alone = draw_marks(black, [blue])
    area = (alone == (0, 0, 255)).all(axis=2) & ~(draw_marks(black, [blue._replace(text="")]) == (0, 0, 255)).all(
        axis=2
    )
    assert (both[area] == (0, 0, 255)).all()  # the last lies on top, the other text goes elsewhere
    assert ((both == (255, 0, 0)).all(axis=2)).sum() > 100
    many = draw_marks(black, [red] * 30)
    assert many.shape == black.shape


def test_tiles_fill_rows_of_equal_length():
    picture = ("x", np.zeros((10, 30, 3), np.uint8))
    assert tiles([picture] * 3, 70).shape[0] == 2 * 24 + 4
    assert tiles([picture] * 5, 110).shape == (52, 98, 3)  # 3 and 2
    assert tiles([("wide", np.zeros((5, 300, 3), np.uint8))], 50).shape == (19, 300, 3)
