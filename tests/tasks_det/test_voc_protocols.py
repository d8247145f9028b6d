import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scored_boxes import CLASSES, detections, entries, evaluate, image, objects, random_case


def overlap_of_pixels(first, second):
    """Intersection over union of inclusive pixel coordinates, as an exact fraction."""
    width = min(first[2], second[2]) - max(first[0], second[0]) + 1
    height = min(first[3], second[3]) - max(first[1], second[1]) + 1
    if width <= 0 or height <= 0:
        return Fraction(-1)
    areas = [(x2 - x1 + 1) * (y2 - y1 + 1) for x1, y1, x2, y2 in (first, second)]
    return Fraction(width * height) / Fraction(areas[0] + areas[1] - width * height)


def voc_flags(predictions, truths, wanted):
    """'true', 'false' or 'ignored' of each detection of a class, best first, by the development kit's definition."""
    rows = []
    for index, entry in enumerate(predictions):
        columns = zip(entry["boxes"].tolist(), entry["scores"].tolist(), entry["labels"].tolist(), strict=True)
        rows += [(index, pixels(found), score) for found, score, label in columns if label == wanted]
    rows.sort(key=lambda row: -row[2])  # stable
    claimed, flags = set(), []
    for index, found, _ in rows:
        best, where = Fraction(-1), None
        for number, other in enumerate(truths[index]["boxes"].tolist()):
            if int(truths[index]["labels"][number]) == wanted and overlap_of_pixels(found, pixels(other)) > best:
                best, where = overlap_of_pixels(found, pixels(other)), (index, number)
        if best < Fraction(1, 2):
            flags.append("false")
        elif truths[index]["difficult"][where[1]]:
            flags.append("ignored")
        else:
            flags.append("false" if where in claimed else "true")
            claimed.add(where)
    return flags


def pixels(box):
    """Continuous edges, here whole numbers, as the first and last pixel inside, counted from 1."""
    return [int(box[0]) + 1, int(box[1]) + 1, int(box[2]), int(box[3])]


def voc_average(predictions, truths, wanted, rule):
    """Average precision by plain loops over exact fractions; NaN without objects."""
    count = sum(
        int(label) == wanted and not bool(difficult)
        for truth in truths
        for label, difficult in zip(truth["labels"], truth["difficult"], strict=True)
    )
    if not count:
        return math.nan
    curve, true, false = [], 0, 0
    for flag in voc_flags(predictions, truths, wanted):
        true, false = true + (flag == "true"), false + (flag == "false")
        if true + false:
            curve.append((Fraction(true, count), Fraction(true, true + false)))

    def best_from(recall):
        return max((precision for reached, precision in curve if reached >= recall), default=Fraction(0))

    if rule == "voc2007":
        return float(sum(best_from(Fraction(step, 10)) for step in range(11)) / 11)
    recalls = sorted({Fraction(0), *(recall for recall, _ in curve)})
    return float(sum((high - low) * best_from(high) for low, high in itertools.pairwise(recalls)))


def assert_as_devkit(predictions, truths, classes=CLASSES):
    for rule in ("voc", "voc2007"):
        wanted = [voc_average(predictions, truths, label, rule) for label in range(classes)]
        result = evaluate(rule, predictions, truths, classes=classes)
        np.testing.assert_allclose(result.per_class["ap50"], wanted, atol=1e-12)
        present = [value for value in wanted if not math.isnan(value)]
        assert result.metrics["ap50"] == pytest.approx(np.mean(present) if present else math.nan, nan_ok=True)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("grid", [1, 16])
def test_voc_is_the_development_kits_definition_on_random_images(seed, grid):
    assert_as_devkit(*random_case(seed, grid=grid, most=8))


@settings(max_examples=100, deadline=None)
@given(st.lists(image, min_size=1, max_size=3))
def test_voc_is_the_development_kits_definition_where_everything_ties(images):
    assert_as_devkit(*entries(images), classes=2)


def test_voc_by_hand():
    """Two objects and a difficult one; the detections by falling score: true, duplicate, difficult, false, true."""
    truth = objects([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]], [0, 0, 0], [False, False, True])
    boxes = [[0, 0, 10, 10], [0, 0, 10, 8], [40, 0, 50, 9], [60, 0, 70, 10], [20, 0, 30, 5]]  # the last: IoU 0.5
    found = detections(boxes, [0.9, 0.8, 0.7, 0.6, 0.5], [0] * 5)
    # precision 1 at recall 1/2, then 2 true of 4 counted at recall 1
    assert evaluate("voc", [found], [truth], classes=1).metrics == {"ap50": pytest.approx(0.5 * 1 + 0.5 * 0.5)}
    assert evaluate("voc2007", [found], [truth], classes=1).metrics == {"ap50": pytest.approx((6 + 5 * 0.5) / 11)}


def test_voc_counts_a_second_claim_as_false_where_coco_takes_the_next_object():
    truth = objects([[0, 0, 10, 10], [0, 0, 10, 8]], [0, 0])
    found = detections([[0, 0, 10, 10], [0, 0, 10, 10]], [0.9, 0.8], [0, 0])
    assert evaluate("voc", [found], [truth], classes=1).metrics["ap50"] == 0.5
    assert evaluate("coco", [found], [truth], classes=1).metrics["ap50"] == pytest.approx(1)


@pytest.mark.parametrize(("difficult", "wanted"), [([False, True], 1.0), ([True, False], 0.0)])
def test_of_equal_overlaps_the_earlier_object_is_claimed(difficult, wanted):
    truth = objects([[0, 0, 10, 10], [0, 0, 10, 10]], [0, 0], difficult)
    found = detections([[0, 0, 10, 10]], [0.9], [0])
    assert evaluate("voc", [found], [truth], classes=1).metrics["ap50"] == wanted
    assert_as_devkit([found], [truth], classes=1)


def test_what_lies_within_a_difficult_object_is_false_to_voc_and_ignored_by_coco():
    truth = objects([[0, 0, 100, 100], [0, 0, 20, 20]], [0, 0], [True, False])
    found = detections([[40, 40, 80, 80], [0, 0, 20, 20]], [0.9, 0.8], [0, 0])
    assert evaluate("voc", [found], [truth], classes=1).metrics["ap50"] == 0.5
    assert evaluate("coco", [found], [truth], classes=1).metrics["ap50"] == pytest.approx(1)


def test_eleven_points_reach_three_of_ten_objects_at_a_recall_of_three_tenths():
    boxes = [[20 * index, 0, 20 * index + 10, 10] for index in range(10)]
    found = detections(boxes[:3], [0.9, 0.8, 0.7], [0] * 3)
    assert evaluate("voc2007", [found], [objects(boxes, [0] * 10)], classes=1).metrics["ap50"] == 4 / 11
