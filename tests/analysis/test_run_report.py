"""The report of a run: complete in itself, safe, all images in it, and what it marks is what the analysis says."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
import torch
from analysis_by_hand import analysis_of, found, sample
from box_columns import crowded
from PIL import Image

import mtvision as mtv
from mtvision.analysis.box_errors import ERROR_NAMES, Verdict
from mtvision.analysis.box_findings import BoxFindings
from mtvision.analysis.error_examples import box_examples, largest_missed, mask_examples, worst_detections
from mtvision.analysis.observations import BoxObservations
from mtvision.analysis.pictures import ImageViews, Located, around, marked_detections, marked_objects
from mtvision.analysis.run_report import write_run_report
from mtvision.analysis.run_report_lessons import lessons
from mtvision.analysis.run_report_numbers import run_numbers
from mtvision.config import Config
from mtvision.visualize.error_colors import rgb
from mtvision.visualize.marks import PIXEL_COLORS

EVIL = "<b>cat</b>"
CLASSES = mtv.Classes(("background", EVIL, "dog"), (EVIL, "dog"))
BOX = [10.0, 20.0, 50.0, 60.0]
AWAY = [70.0, 70.0, 95.0, 95.0]


def masked(image, rows, value=1):
    mask = np.zeros((100, 100), dtype=np.uint8)
    mask[:rows] = value
    return replace(image, mask=mask)


def said(boxes, scores, labels, rows, value=1):
    mask = torch.zeros((100, 100), dtype=torch.int64)
    mask[:rows] = value
    return {"seg": mask, "det": found(boxes, scores, labels)}


@pytest.fixture(scope="module")
def case():
    """Six images with one thing wrong in each, by hand."""
    samples = [
        masked(sample([BOX], name="right", value=60), 40),
        masked(sample([BOX], name="class", value=80), 40),
        masked(sample([BOX], name="place", value=100), 40, 2),
        masked(sample([BOX], name="twice", value=120), 40),
        masked(sample([BOX, AWAY], name="lost", value=140), 40),
        masked(sample([BOX, AWAY], [1, 1], [False, True], name="more <i>", value=160), 40),
    ]
    shifted = [30.0, 20.0, 70.0, 60.0]  # IoU of 1/3
    predictions = [
        said([BOX], [0.9], [0], 40),
        said([BOX], [0.8], [1], 40, 2),
        said([shifted], [0.7], [0], 30),
        said([BOX, [11.0, 20.0, 50.0, 60.0]], [0.9, 0.6], [0, 0], 50),
        said([BOX], [0.9], [0], 40),
        said([BOX, [0.0, 80.0, 20.0, 99.0]], [0.9, 0.5], [1, 0], 0),
    ]
    return samples, analysis_of(samples, predictions, CLASSES, threshold=0.4)


@pytest.fixture(scope="module")
def files(case, tmp_path_factory):
    samples, analysis = case
    slices = pd.DataFrame({"image_id": [each.image_id for each in samples], "weather": list("ababab")})
    analysis = replace(analysis, slices=slices)
    folder = tmp_path_factory.mktemp("run") / "report"
    history = [{"epoch": 1, "lr": 0.1, "train/loss": 2.0}, {"epoch": 2, "lr": 0.05, "train/loss": 1.0}]
    return write_run_report(analysis, samples, folder, title=f"A {EVIL}", config=Config(), history=history, number=3)


class Page(HTMLParser):
    """Collects tags with their attributes, and the text of each kind of tag."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.open, self.text, self.rows = [], [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "input"):
            self.open.append(tag)
        self.text.setdefault(tag, []).append("")
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        for tag in self.open:
            self.text[tag][-1] += data
        if "td" in self.open:
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def page(files):
    found_page = Page(files.html.read_text(encoding="utf-8"))
    assert not found_page.open
    return found_page


def test_the_page_needs_nothing_else(files, page):
    links = [
        attributes[name] for _, attributes in page.tags for name in ("src", "href", "srcset") if name in attributes
    ]
    assert links
    assert all(link.startswith(("data:image/", "#")) for link in links)
    assert not re.search(r"https?:|@import|url\(", files.html.read_text(encoding="utf-8"))
    policy = next(
        attributes["content"] for _, attributes in page.tags if "default-src" in attributes.get("content", "")
    )
    assert "default-src 'none'" in policy
    anchors = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(anchors) == len(set(anchors))


def test_pictures_decode_and_tell_what_they_show(page):
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) > 20
    for attributes in pictures:
        kind, _, content = attributes["src"].partition(";base64,")
        with Image.open(BytesIO(base64.b64decode(content))) as picture:
            assert kind == f"data:image/{picture.format.lower()}"
            picture.load()
        assert attributes["alt"]


def test_no_name_becomes_a_tag(files, page):
    assert "b" not in page.text
    assert "i" not in page.text
    assert "strong" in page.text
    everything = " ".join(page.text["body"])
    assert everything.count(EVIL) > 10
    assert "more <i>" in everything
    assert {path.name for path in files.panels} >= {"best.png", "worst.png", "errors_dog.png"}


def test_every_image_is_in_the_table_of_all(case, page):
    samples, analysis = case
    rows = {row[1]: row for row in page.rows if len(row) > 10}
    assert set(rows) == {each.image_id for each in samples}
    scores = analysis.images.set_index("image_id")["score"]
    assert {name: float(row[4]) for name, row in rows.items()} == pytest.approx(scores.to_dict(), abs=0.005)


def test_all_that_was_asked_for_has_its_section(files, page):
    assert page.text["h2"] == [
        "What one learns", "What was scored", "Classes", "Masks", "Boxes", "Calibration", "Agreement of the tasks",
        "What goes along with the score", "Slices", "Worst and best images", "Examples of errors", "All images",
        "Training", "How to read it",
    ]  # fmt: skip
    assert set(files.plots) >= {
        "seg/confusion", "det/confusion", "det/errors", "det/curves", "det/recall", "reliability", "agreement",
        "training",
    }  # fmt: skip
    assert all(path.is_file() for path in (*files.plots.values(), *files.tables, *files.panels))
    stored = pd.read_csv(next(path for path in files.tables if path.stem == "images"))
    assert "picture" not in stored
    assert len(stored) == 6


def test_cards_can_be_sorted_by_what_their_options_say(case, page):
    _, analysis = case
    cards = [each["data-values"].split(" ") for tag, each in page.tags if tag == "article" and "data-values" in each]
    assert cards
    assert {each["value"] for tag, each in page.tags if tag == "option"} == {
        "", "1 0", "-1 0", "1 1", "-1 1", "1 2", "-1 2",
    }  # fmt: skip
    assert "errors of boxes, highest first" in page.text["option"]
    rows = analysis.images.set_index("image_id")
    names = [text.partition(":")[0] for text in page.text["strong"]][: len(cards)]
    for (seg, det, errors), name in zip(cards, names, strict=True):
        assert (float(seg), float(det)) == pytest.approx((rows.loc[name, "seg"], rows.loc[name, "det"]))
        assert float(errors) == sum(rows.loc[name, f"det/{error}"] for error in ERROR_NAMES)


def test_marked_boxes_are_the_verdicts_of_the_analysis(case):
    _, analysis = case
    boxes = analysis.boxes["det"]
    names = CLASSES.detection
    marked = {place: marked_detections(boxes, place, names) for place in range(6)}
    assert [[box.kind for box in marked[place]] for place in range(6)] == [
        ["true"], ["classification"], ["localisation"], ["true", "duplicate"], ["true"], ["true", "background"],
    ]  # fmt: skip
    assert [box.text for box in marked[1]] == ["C dog 0.80"]
    assert [box.text for box in marked[3]] == [f"{EVIL} 0.90", f"D {EVIL} 0.60"]
    counts = boxes.image_counts()
    for verdict in Verdict:
        name = verdict.name.lower()
        assert counts[name].tolist() == [sum(box.kind == name for box in marked[place]) for place in range(6)]
    objects = [[box.kind for box in marked_objects(boxes, place, names)] for place in range(6)]
    assert objects == [["found"], ["explained"], ["explained"], ["found"], ["found", "missed"], ["found", "difficult"]]


def test_of_each_error_and_class_the_clearest_is_shown(case):
    samples, analysis = case
    boxes = analysis.boxes["det"]
    examples = box_examples(analysis, samples)
    places = {kind: [(example.title, example.image_id) for example in rows] for kind, rows in examples.items()}
    assert places == {
        "classification": [("dog", "class")],
        "localisation": [(EVIL, "place")],
        "duplicate": [(EVIL, "twice")],
        "background": [(EVIL, "more <i>")],
        "missed": [(EVIL, "lost")],
    }
    assert examples["localisation"][0].text == f"score 0.70, overlaps {EVIL} by 0.33"
    assert examples["missed"][0].text == "25 x 25 pixels"
    for name in ERROR_NAMES[:-1]:
        for row in worst_detections(boxes, name):
            same = (boxes.used_errors.verdicts == Verdict[name.upper()]) & (boxes.used.labels == boxes.used.labels[row])
            assert boxes.used.scores[row] == boxes.used.scores[same].max()
    assert [int(boxes.objects.image[row]) for row in largest_missed(boxes)] == [4]


def test_of_confused_classes_the_image_with_most_pixels_is_found(case):
    samples, analysis = case
    titles = {example.title: (example.image_id, example.value) for example in mask_examples(analysis, samples)}
    assert titles == {
        f"{EVIL} taken for background": ("more <i>", 4000.0),
        f"{EVIL} taken for dog": ("class", 4000.0),
        f"dog taken for {EVIL}": ("place", 3000.0),
        "dog taken for background": ("place", 1000.0),
        f"background taken for {EVIL}": ("twice", 1000.0),
    }


def test_of_a_class_the_highest_score_and_the_largest_object_are_chosen():
    detections, objects = crowded(3, num_images=20)
    boxes = BoxFindings(BoxObservations(detections, objects, np.ones(20, dtype=np.bool_), 3), 0.0)
    verdicts, labels = boxes.used_errors.verdicts, boxes.used.labels
    for name in ERROR_NAMES[:-1]:
        rows = worst_detections(boxes, name)
        of_type = verdicts == Verdict[name.upper()]
        assert sorted(labels[rows]) == sorted(set(labels[of_type])) == [0, 1, 2]
        scores = boxes.used.scores[rows]
        assert scores.tolist() == sorted(scores, reverse=True)
        assert [boxes.used.scores[of_type & (labels == label)].max() for label in labels[rows]] == scores.tolist()
    lost = largest_missed(boxes)
    areas = (objects.boxes[:, 2:] - objects.boxes[:, :2]).prod(axis=1)
    for row in lost:
        same = boxes.used_errors.missed & (objects.labels == objects.labels[row])
        assert areas[row] == areas[same].max()
    assert len(lost) == 3


def test_an_image_where_both_classes_are_wrong_elsewhere_is_not_taken_for_confused():
    samples = [masked(sample(name=name, value=value), 40) for name, value in (("apart", 50), ("confused", 90))]
    apart, confused = said([], [], [], 0), said([], [], [], 40)
    apart["seg"][60:] = 2  # 40 rows of 1 are lost, and 40 rows of 2 found where nothing is
    confused["seg"][:10] = 2
    found_examples = mask_examples(analysis_of([*samples], [apart, confused]), samples)
    images = {example.title: (example.image_id, example.value) for example in found_examples}
    assert images["cat taken for dog"] == ("confused", 1000.0)


def test_wrong_pixels_have_their_colour(case):
    samples, analysis = case
    views = ImageViews(analysis, samples)
    errors = dict(views.views(2, height=100))["mask errors"]  # 30 of 40 rows of dog taken for another class
    grey = np.float32(100 * 0.55)
    for row, name in ((5, "wrong class"), (35, "missed object")):
        expected = 0.2 * grey + 0.8 * np.array(rgb(PIXEL_COLORS[name]))
        assert errors[row, 50] == pytest.approx(expected, abs=1)
    assert errors[80, 50].tolist() == [55, 55, 55]


def test_images_that_were_left_out_move_the_places():
    samples = [sample(name=name) for name in "abcd"]

    class Torn(list):
        def __getitem__(self, index):
            if index == 1:
                raise mtv.DataError("b cannot be read")
            return super().__getitem__(index)

    located = Located(Torn(samples), ["a", "c", "d"])
    assert [located.sample(place).image_id for place in range(3)] == ["a", "c", "d"]
    with pytest.raises(mtv.DataError, match="the image 'x' of the analysis is not in the data set where it was"):
        Located(samples, ["x"]).sample(0)


def test_a_part_is_within_the_image_and_holds_the_box():
    part = around(np.array([-10.0, 5.0, 8.0, 9.0]), np.array([40, 30]))
    assert (part.left, part.top) == (0, 0)
    assert part.right <= 30
    assert part.bottom <= 40
    outside = around(np.array([50.0, 60.0, 70.0, 80.0]), np.array([40, 30]))
    assert outside.right > outside.left
    assert outside.bottom > outside.top


def test_nothing_is_said_of_too_few_cases(case):
    _, analysis = case
    text = " ".join(lessons(analysis, run_numbers(analysis)))
    assert "costs most" not in text  # one case of each error
    assert "strongest" not in text
    assert "go along" in text  # that nothing is shown to


def test_what_is_plain_is_said():
    samples, predictions = [], []
    for number in range(20):
        image = masked(sample([BOX, AWAY], [0, 1], name=str(number), value=100 + number), 40)
        samples.append(image)
        shifted = [30.0, 20.0, 70.0, 60.0]
        predictions.append(said([shifted, AWAY], [0.9, 0.8], [0, 1], 40))
    analysis = analysis_of(samples, predictions)
    numbers = run_numbers(analysis)
    assert numbers.metrics["det/map50"].value == pytest.approx(0.5)
    assert numbers.per_class["det"].value.tolist() == pytest.approx([0, 1])
    assert numbers.per_class["det"].images.tolist() == [20, 20]
    text = lessons(analysis, numbers)
    assert any(
        line.startswith("Boxes: the strongest class is dog (AP50 1.00") and "weakest cat" in line for line in text
    )
    assert any("costs most on these images is a box of the right class that fits badly" in line for line in text)
    assert any("AP50 would be 1.000 instead of 0.500 (20 cases" in line for line in text)
    assert "Masks are under-confident: on average 75 % sure of a pixel, and right in 100 % of them." in text


def test_the_intervals_hold_the_numbers_and_need_images(case):
    _, analysis = case
    for values in run_numbers(analysis).metrics.values():
        assert values.low <= values.value <= values.high
    iou = run_numbers(analysis).per_class["seg"]
    known = ~np.isnan(iou.value)
    assert (iou.low[known] <= iou.value[known] + 1e-9).all()
    assert (iou.value[known] <= iou.high[known] + 1e-9).all()


@pytest.mark.parametrize("task", ["seg", "det"])
def test_one_task_alone_has_a_report(tmp_path, task):
    samples = [masked(sample([BOX], name=str(n), value=90 + n), 30 + n) for n in range(3)]
    predictions = [{task: said([BOX], [0.9], [0], 30)[task]} for _ in samples]
    files = write_run_report(analysis_of(samples, predictions), samples, tmp_path, title="alone", number=1)
    headings = Page(files.html.read_text(encoding="utf-8")).text["h2"]
    assert ("Masks" in headings, "Boxes" in headings) == (task == "seg", task == "det")
