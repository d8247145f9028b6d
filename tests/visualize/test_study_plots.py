"""The pictures of a study: small, readable with one factor and with eleven, and drawn whatever is missing."""

import importlib
import math
import random
from itertools import combinations

import pytest
from matplotlib.axis import Axis
from matplotlib.text import Text
from PIL import Image

from mtvision.visualize.effects import EffectRow, write_effects
from mtvision.visualize.importance import ImportanceRow, write_importance
from mtvision.visualize.interactions import InteractionPanel, write_interactions
from mtvision.visualize.levels import write_level_curves
from mtvision.visualize.parallel import write_parallel
from mtvision.visualize.pareto import Measure, write_pareto

NAN = math.nan
MANY = {
    "backbone": ["resnet18", "resnet34", "mobilenetv3_large_100"],
    "segmentation_head": ["fcn", "deeplabv3plus", "unet"],
    "detection_head": ["fpn", "retinanet"],
    "activation": ["relu", "gelu", "leaky_relu"],
    "init_scheme": ["xavier", "kaiming", "normal"],
    "dropout_rate": ["0.3", "0.1", "0.5"],
    "lr": ["0.002", "0.01"],
    "seg_loss": ["cross_entropy", "focal(gamma=2.0)"],
    "det_loss": ["ciou", "smooth_l1"],
    "preprocessing": ["standardize", "none"],
    "augmentation_level": ["basic", "none"],
}
ONE = {"activation": ["relu", "gelu"]}
WRITERS = ("effects", "importance", "curves", "interactions", "parallel", "pareto")
MODULES = dict(zip(WRITERS, ("effects", "importance", "levels", "interactions", "parallel", "pareto"), strict=True))


def effect_rows(factors):
    draw = random.Random(0)
    for factor, levels in factors.items():
        for level in levels[1:]:
            effect, half = draw.gauss(0, 0.02), draw.uniform(0.005, 0.02)
            ends = (effect - half, effect + half, effect - 1.6 * half, effect + 1.6 * half)
            yield EffectRow(
                f"{factor}: {level} against {levels[0]}", effect, *ends, "adjusted", abs(effect) > 1.6 * half
            )


def level_curves(factors):
    draw = random.Random(0)
    return {
        factor: {
            level: [[0.4 * (1 - math.exp(-e / 8)) + draw.gauss(0, 0.02) for e in range(30)] for _ in range(9)]
            for level in levels
        }
        for factor, levels in factors.items()
    }


def panels(factors):
    draw = random.Random(0)
    pairs = [*combinations(factors, 2)][:6] or [(next(iter(factors)),) * 2]
    return [
        InteractionPanel(
            a, b, {x: {y: [draw.gauss(0.3, 0.03) for _ in range(3)] for y in factors[b]} for x in factors[a]}
        )
        for a, b in pairs
    ]


def draw_one(name, factors, path):
    draw = random.Random(1)
    values = [(draw.gauss(0.4, 0.05), draw.gauss(0.3, 0.05), draw.uniform(5, 20)) for _ in range(54)]
    match name:
        case "effects":
            return write_effects(list(effect_rows(factors)), path, measure="score")
        case "importance":
            rows = [ImportanceRow(factor, 0.1, 0.05, 0.2) for factor in factors]
            return write_importance(rows, path)
        case "curves":
            return write_level_curves(level_curves(factors), path, measure="validation score")
        case "interactions":
            return write_interactions(panels(factors), path, measure="score")
        case "parallel":
            runs = [({f: draw.choice(levels) for f, levels in factors.items()}, value[0]) for value in values]
            return write_parallel(factors, runs, path, measure="score")
        case "pareto":
            measures = [Measure("mIoU", True), Measure("mAP50", True), Measure("seconds", False)]
            return write_pareto(measures, values, range(min(len(factors), 8)), path)


@pytest.mark.parametrize("factors", [MANY, ONE], ids=["eleven", "one"])
@pytest.mark.parametrize("name", WRITERS)
def test_pictures_are_small(name, factors, tmp_path):
    path = draw_one(name, factors, tmp_path / "new" / f"{name}.png")
    assert path == tmp_path / "new" / f"{name}.png"
    assert path.stat().st_size < 60_000
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert 300 < picture.width <= 900


@pytest.mark.parametrize("factors", [MANY, ONE], ids=["eleven", "one"])
@pytest.mark.parametrize("name", WRITERS)
def test_no_text_lies_on_another_one_or_outside(name, factors, tmp_path, monkeypatch):
    figures = []
    module = importlib.import_module(f"mtvision.visualize.{MODULES[name]}")
    monkeypatch.setattr(module, "save_small", lambda figure, path, **options: figures.append(figure))
    draw_one(name, factors, tmp_path / "p.png")
    figures[0].draw_without_rendering()
    texts = [text for text in figures[0].findobj(Text) if text.get_visible() and text.get_text().strip()]
    level = [text for text in texts if text.get_rotation() % 90 == 0]  # of turned text, the boxes say too much
    hidden = set(not_drawn(figures[0]))
    boxes = [(text.get_text(), text.get_window_extent()) for text in level if text not in hidden]
    assert len(boxes) >= 4
    for text, box in boxes:
        assert box.x0 >= -1, text
        assert box.y0 >= -1, text
        assert box.x1 <= figures[0].bbox.width + 1, text
        assert box.y1 <= figures[0].bbox.height + 1, text
    for (one, first), (other, second) in combinations(boxes, 2):
        width = min(first.x1, second.x1) - max(first.x0, second.x0)
        height = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert min(width, height) <= 1, (one, other)


def not_drawn(figure):
    """Return the labels of ticks beyond the limits, which matplotlib has but does not draw."""
    for axis in figure.findobj(Axis):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            if not low <= tick.get_loc() <= high:
                yield from (tick.label1, tick.label2)


def test_what_is_unknown_is_left_out_and_labels_are_no_formulas(tmp_path):
    rows = [EffectRow("a_$x: b$ against <c>", NAN, NAN, NAN, NAN, NAN, "cannot be told", False)]
    rows.append(EffectRow("_x: " + "very " * 40 + "long", 0.1, NAN, NAN, NAN, NAN, "1 pair", False))
    for path in (
        write_effects(rows, tmp_path / "effects.png", measure="score $"),
        write_effects([], tmp_path / "none.png", measure="score"),
        write_importance([ImportanceRow("$\\frac", 0.0, NAN, NAN)], tmp_path / "importance.png"),
        write_level_curves({"_f": {"_$a": [[0.1, NAN], [0.2]], "b": [[NAN]]}}, tmp_path / "curves.png", measure="$"),
        write_interactions([InteractionPanel("_a", "$b", {"x": {"_y": []}})], tmp_path / "i.png", measure="$"),
        write_parallel({"a": ["$x", "_y"]}, [({"a": "_y"}, NAN), ({"a": "$x"}, 0.5)], tmp_path / "p.png", measure="$"),
        write_pareto([Measure("a", True), Measure("b", False)], [(NAN, 1.0), (1.0, 1.0)], [1], tmp_path / "o.png"),
    ):
        with Image.open(path) as picture:
            assert picture.format == "PNG"


def test_a_shown_difference_is_blue_and_another_one_grey(tmp_path):
    row = EffectRow("a: b against c", 0.1, 0.05, 0.15, 0.01, 0.19, "8 pairs", True)
    blue = {}
    for shown in (True, False):
        path = write_effects([row._replace(shown=shown)], tmp_path / "p.png", measure="score")
        with Image.open(path) as picture:
            pixels = picture.convert("RGB").getcolors(100_000)
        blue[shown] = sum(count for count, (r, _, b) in pixels if b > r + 80)
    assert blue[True] > 2 * blue[False] > 0  # the legend has a blue one too


def test_a_pareto_plot_of_one_measure_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="2 or 3 measures, got 1"):
        write_pareto([Measure("a", True)], [], [], tmp_path / "p.png")
