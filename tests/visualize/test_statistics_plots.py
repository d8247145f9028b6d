"""The pictures of a data set's statistics, also where there is little to draw."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from PIL import Image

from mtvision.data import Classes, Shapes, stats
from mtvision.types import Sample
from mtvision.visualize import statistics

PICTURES = ("class_frequencies", "box_sizes", "image_sizes", "co_occurrence")


def sample(*, mask=None, boxes=None, labels=()):
    number = len(labels)
    annotated = boxes is not None
    return Sample(
        image=np.zeros((24, 36, 3), np.uint8),
        mask=mask,
        boxes=np.array(boxes, np.float32).reshape(-1, 4) if annotated else None,
        labels=np.array(labels, np.int64) if annotated else None,
        difficult=np.zeros(number, bool) if annotated else None,
        image_id="a",
        original_size=(24, 36),
    )


def named(number):
    return Classes(("background", *(f"thing_{i}" for i in range(number))), tuple(f"thing_{i}" for i in range(number)))


CASES = {
    "nobody looked": (named(3), [sample()]),
    "no boxes": (named(3), [sample(boxes=[], mask=np.zeros((24, 36), np.uint8))]),
    "one box, one class": (named(1), [sample(boxes=[(0, 0, 1, 1)], labels=[0])]),
    "no classes": (Classes((), ()), [sample(boxes=[])]),
    "100 classes": (named(100), [sample(boxes=[(0, 0, i % 20 + 1, 9) for i in range(100)], labels=range(100))]),
    "odd names": (Classes(("_", "$a_b$"), ("$x^$", "a" * 80)), [sample(boxes=[(0, 0, 9, 9)] * 2, labels=[0, 1])]),
}


@pytest.mark.parametrize("case", CASES)
def test_whatever_was_found_is_drawn(case, tmp_path):
    classes, samples = CASES[case]
    paths = statistics(stats(samples, classes=classes), tmp_path / "new" / "folder")
    assert tuple(paths) == ("stats", *PICTURES)
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == sorted(
        path.name for path in paths.values()
    )
    for name in PICTURES:
        with Image.open(paths[name]) as picture:
            assert picture.format == "PNG"
            assert 200 < min(picture.size) <= max(picture.size) < 2500
            assert len(picture.convert("RGB").getcolors(1 << 16)) > 2


def test_the_file_has_all_numbers(tmp_path):
    found = stats(Shapes("train", num_images=6, image_size=64))
    paths = statistics(found, str(tmp_path))
    read = json.loads(paths["stats"].read_text())
    assert read == json.loads(json.dumps(asdict(found)))
    assert read["class_boxes"][0] == {
        "name": "disc",
        **{k: v for k, v in asdict(found.class_boxes[0]).items() if k != "name"},
    }
    assert read["box_cooccurrence"] == [list(row) for row in found.box_cooccurrence]


def test_a_second_call_replaces_the_pictures_of_the_first(tmp_path):
    mask = np.eye(24, 36, dtype=np.uint8)
    many = statistics(stats([sample(mask=mask, boxes=[(0, 0, 9, 9)], labels=[0])], classes=named(3)), tmp_path)
    before = {name: path.read_bytes() for name, path in many.items()}
    few = statistics(stats([sample()], classes=named(3)), tmp_path)
    assert sorted(many.values()) == sorted(few.values())
    assert all(before[name] != path.read_bytes() for name, path in few.items() if name != "image_sizes")


def test_names_are_drawn_as_they_are(tmp_path, monkeypatch):
    figures = {}
    monkeypatch.setitem(
        statistics.__globals__, "save_small", lambda figure, path, **_: figures.update({path.stem: figure}) or path
    )
    classes, samples = CASES["odd names"]
    statistics(stats(samples, classes=classes), tmp_path)
    heat = figures["co_occurrence"].axes[0]  # nothing is in the masks: they have no panel
    for labels in (
        heat.get_yticklabels(),
        heat.get_xticklabels(),
        figures["class_frequencies"].axes[1].get_yticklabels(),
    ):
        assert [label.get_text() for label in labels] == ["\\$x^\\$", "aaaaaaaaaaa…aaaaaaaaaa"]


def test_bars_and_cells_hold_the_numbers(tmp_path, monkeypatch):
    figures = {}
    monkeypatch.setitem(
        statistics.__globals__,  # the module's name in its package is that of the function
        "save_small",
        lambda figure, path, **_: figures.update({path.stem: figure}) or path,
    )
    found = stats(Shapes("train", num_images=20, image_size=64))
    statistics(found, tmp_path)
    _, boxes = figures["class_frequencies"].axes
    drawn = dict(
        zip(
            (label.get_text() for label in boxes.get_yticklabels()),
            (bar.get_width() for bar in boxes.patches),
            strict=True,
        )
    )
    assert drawn == {row.name: row.boxes for row in found.class_boxes}
    assert list(drawn.values()) == sorted(drawn.values(), reverse=True)
    heat = figures["co_occurrence"].axes[1]
    names = [label.get_text() for label in heat.get_yticklabels()]
    assert names == [label.get_text() for label in heat.get_xticklabels()]
    order = [Shapes.classes.detection.index(name) for name in names]
    counts = np.array(found.box_cooccurrence)[np.ix_(order, order)]
    shares = counts / counts.diagonal()[:, None]
    shown = np.ma.filled(heat.images[0].get_array(), np.nan)
    assert np.allclose(shown[~np.eye(5, dtype=bool)], shares[~np.eye(5, dtype=bool)])
    assert np.ma.getmaskarray(heat.images[0].get_array()).diagonal().all()
    assert figures["image_sizes"].axes[0].collections[0].get_offsets().tolist() == [[64, 64]]
