import numpy as np
import pytest
from box_columns import columns, found, there
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from mtvision.analysis.box_confusion import box_confusion, normalised
from mtvision.analysis.curves import score_curves
from mtvision.analysis.detections import match_objects
from mtvision.ops.detection_matching import paired_overlap
from tasks_det.scored_boxes import CLASSES, entries, image, random_case

SQUARE = (0, 0, 10, 10)


def confusion(detections, objects, num_classes=2, score_threshold=0.5):
    return box_confusion(detections, objects, num_classes, score_threshold=score_threshold).tolist()


def test_a_right_class_goes_before_a_larger_overlap():
    rows = (0, (0, 0, 10, 6), 0, 0.6), (0, SQUARE, 1, 0.9)  # IoU 0.6 and 1
    assert confusion(found(*rows), there((0, SQUARE, 0))) == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]
    # without it, the wrong class has the object
    assert confusion(found(rows[1]), there((0, SQUARE, 0))) == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]


def test_across_classes_the_largest_overlap_goes_first_whatever_the_scores():
    rows = (0, (0, 0, 10, 6), 1, 0.9), (0, (0, 0, 10, 9), 2, 0.6)  # IoU 0.6 and 0.9 with an object of class 0
    assert confusion(found(*rows), there((0, SQUARE, 0)), 3) == [[0, 0, 1, 0], [0] * 4, [0] * 4, [0, 1, 0, 0]]
    # one detection, one partner: of two objects the other is missed, and the next detection may have it
    objects = there((0, (0, 0, 10, 8), 0), (0, SQUARE, 1))  # IoU with SQUARE: 0.8 and 1
    assert confusion(found((0, SQUARE, 2, 0.9)), objects, 3) == [[0, 0, 0, 1], [0, 0, 1, 0], [0] * 4, [0] * 4]
    more = found((0, SQUARE, 2, 0.6), (0, (0, 0, 10, 9), 2, 0.9))
    assert confusion(more, objects, 3) == [[0, 0, 1, 0], [0, 0, 1, 0], [0] * 4, [0] * 4]


def test_duplicates_are_background_and_what_nobody_finds_is_missed():
    detections = found((0, SQUARE, 0, 0.9), (0, SQUARE, 0, 0.8), (1, SQUARE, 1, 0.7))
    objects = there((0, SQUARE, 0), (1, (0, 0, 10, 4), 1))
    assert confusion(detections, objects) == [[1, 0, 0], [0, 0, 1], [1, 1, 0]]


def test_exactly_the_threshold_and_the_least_overlap_are_enough():
    detections, objects = found((0, (0, 0, 10, 5), 1, 0.25)), there((0, SQUARE, 0))
    assert confusion(detections, objects, score_threshold=0.25) == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert confusion(detections, objects, score_threshold=0.26) == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]
    stricter = box_confusion(detections, objects, 2, score_threshold=0.25, least_overlap=0.51)
    assert stricter.tolist() == [[0, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_difficult_objects_are_neither_missed_nor_background():
    hard = there((0, SQUARE, 0, True))
    nothing, background = [[0, 0, 0]] * 3, [[0, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert confusion(found(), hard) == nothing
    assert (
        confusion(found((0, SQUARE, 0, 0.9), (0, (0, 0, 4, 4), 0, 0.8)), hard) == nothing
    )  # any number that lie in it
    assert confusion(found((0, SQUARE, 1, 0.9)), hard) == nothing  # another class, where it is
    assert confusion(found((0, (0, 0, 4, 4), 1, 0.9)), hard) == background  # another class, somewhere in it
    # a counted object is found all the same, and by the wrong class too
    both = there((0, SQUARE, 0, True), (0, (0, 0, 10, 9), 0))
    assert confusion(found((0, SQUARE, 0, 0.9)), both) == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert confusion(found((0, SQUARE, 1, 0.9)), both) == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("seed", range(3))
def test_where_boxes_meet_at_most_once_it_is_scikit_learns_matrix_of_the_pairs(seed):
    """Objects far apart, none or one detection each, and detections where nothing is."""
    generator = np.random.default_rng(seed)
    classes, count = 4, 60
    low = np.arange(count)[:, None] * 50.0 + generator.random((count, 2))
    boxes = np.concatenate([low, low + 20 + generator.random((count, 2))], axis=1)
    images = generator.integers(0, 5, count)
    true, guess = generator.integers(0, classes, (2, count))
    is_object, is_found = generator.random((2, count)) < 0.7
    scores = generator.random(count)
    kept = is_found & (scores >= 0.3)
    pairs = np.where(is_object, true, classes), np.where(kept, guess, classes)
    some = is_object | kept
    objects = there(*zip(images[is_object], boxes[is_object], true[is_object], strict=True))
    detections = found(*zip(images[is_found], boxes[is_found] + 2, guess[is_found], scores[is_found], strict=True))
    got = box_confusion(detections, objects, classes, score_threshold=0.3)
    labels = range(classes + 1)
    np.testing.assert_array_equal(got, confusion_matrix(pairs[0][some], pairs[1][some], labels=labels))
    shares = confusion_matrix(pairs[0][some], pairs[1][some], labels=labels, normalize="true")
    np.testing.assert_allclose(normalised(got), shares)


def one_pass(detections, objects, num_classes, score_threshold):
    """The definition, one pair after the other."""
    kept = detections.take(detections.scores >= score_threshold)
    matches = match_objects(kept, objects)
    partner = {row: index for row, index in enumerate(matches.object) if matches.true[row]}
    ranked = []
    for row in np.flatnonzero(matches.false):
        for index in np.flatnonzero((objects.image == kept.image[row]) & ~objects.difficult):
            overlap = paired_overlap(kept.boxes[[row]], objects.boxes[[index]], np.array([False]))[0]
            ranked += [(-overlap, row, index)] if overlap >= 0.5 else []
    for _, row, index in sorted(ranked):
        if row not in partner and index not in partner.values():
            partner[row] = index
    matrix = np.zeros((num_classes + 1, num_classes + 1), dtype=int)
    for row, index in partner.items():
        matrix[objects.labels[index], kept.labels[row]] += 1
    return matrix[:-1, :-1]


@settings(max_examples=25, deadline=None)
@given(st.lists(image, min_size=1, max_size=3), st.sampled_from([0.0, 0.5, 0.75, 1.0]))
def test_pairs_are_those_of_one_pass(images, score_threshold):
    detections, objects = columns(*entries(images))
    got = box_confusion(detections, objects, 2, score_threshold=score_threshold)
    np.testing.assert_array_equal(got[:-1, :-1], one_pass(detections, objects, 2, score_threshold))


@pytest.mark.parametrize("seed", range(3))
def test_pairs_in_a_crowd_are_those_of_one_pass(seed):
    generator = np.random.default_rng(seed)
    boxes = np.array([0, 0, 100, 100]) + generator.normal(size=(60, 4)) * 12
    labels, images = generator.integers(0, 6, 60), generator.integers(0, 2, 60)
    objects = there(*zip(images[:30], boxes[:30], labels[:30], strict=True))
    detections = found(*zip(images[30:], boxes[30:], labels[30:], generator.random(30), strict=True))
    got = box_confusion(detections, objects, 6, score_threshold=0.1)
    np.testing.assert_array_equal(got[:-1, :-1], one_pass(detections, objects, 6, 0.1))


@pytest.mark.parametrize("score_threshold", [0.0, 0.4, 0.7])
def test_sums_and_diagonal(score_threshold):
    detections, objects = columns(*random_case(2, difficult=0))
    matrix = box_confusion(detections, objects, CLASSES, score_threshold=score_threshold)
    kept = detections.labels[detections.scores >= score_threshold]
    np.testing.assert_array_equal(matrix.sum(axis=1)[:-1], np.bincount(objects.labels, minlength=CLASSES))
    np.testing.assert_array_equal(matrix.sum(axis=0)[:-1], np.bincount(kept, minlength=CLASSES))
    assert matrix[-1, -1] == 0
    # the recall of each class, from the curves
    curves = score_curves(detections, objects, CLASSES).per_class
    recalls = [curve.recall[curve.thresholds >= score_threshold][-1] for curve in curves]
    np.testing.assert_allclose(normalised(matrix).diagonal()[:-1], recalls)


def test_without_detections_or_objects():
    assert confusion(found(), there(), num_classes=1) == [[0, 0], [0, 0]]
    assert np.isnan(normalised(np.zeros((2, 2), dtype=np.int64))).all()
    assert confusion(found(), there((0, SQUARE, 0)), num_classes=1) == [[0, 1], [0, 0]]
    assert confusion(found((0, SQUARE, 0, 0.9)), there(), num_classes=1) == [[0, 0], [1, 0]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_threshold": float("nan")}, "score_threshold: expected a number, got NaN"),
        ({"score_threshold": 0.5, "least_overlap": 0.0}, "least_overlap: expected a fraction above 0 and at most 1"),
        ({"score_threshold": 0.5, "num_classes": 0}, "objects: expected labels of 0 to -1"),
    ],
)
def test_what_cannot_be_counted(options, message):
    with pytest.raises(ValueError, match=message):
        box_confusion(found(), there((0, SQUARE, 0)), **({"num_classes": 1} | options))
