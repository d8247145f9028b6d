"""Calibration errors against torchmetrics, and the decisions that go into them against the evaluation protocols."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from mtvision.analysis.calibration import Reliability, judge_detections, judge_pixels
from mtvision.analysis.detections import Detections, Objects
from mtvision.errors import DataError
from mtvision.tasks.detection_protocols import LrpProtocol
from tasks_det.scored_boxes import CLASSES, random_case


def decisions(seed, size=400):
    rng = np.random.default_rng(seed)
    confidence = rng.beta(2, 1, size)
    return confidence, rng.random(size) < confidence**2


def reliability_of(confidence, correct, **options):
    reliability = Reliability(**options)
    reliability.add(np.asarray(confidence), np.asarray(correct))
    return reliability


@pytest.mark.parametrize("num_bins", [1, 7, 15])
@pytest.mark.parametrize("seed", range(3))
def test_errors_equal_torchmetrics(seed, num_bins):
    confidence, correct = decisions(seed)
    reliability = reliability_of(confidence, correct, num_bins=num_bins)
    given_to_it = torch.from_numpy(confidence), torch.from_numpy(correct).long()
    for norm, value in (("l1", reliability.ece), ("max", reliability.mce)):
        expected = binary_calibration_error(*given_to_it, n_bins=num_bins, norm=norm)
        assert value == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_pixels_of_many_classes_equal_torchmetrics_with_void_left_out(seed):
    generator = torch.Generator().manual_seed(seed)
    probabilities = torch.randn(5, 20, 30, generator=generator).mul(2).softmax(dim=0)
    truth = torch.randint(0, 5, (20, 30), generator=generator)
    truth[torch.rand(20, 30, generator=generator) < 0.2] = 255
    confidence, prediction = probabilities.max(dim=0)
    reliability = Reliability(num_classes=5, num_bins=10)
    reliability.add(*judge_pixels(prediction, confidence, truth))
    for norm, value in (("l1", reliability.ece), ("max", reliability.mce)):
        expected = multiclass_calibration_error(
            probabilities[None].double(), truth[None], num_classes=5, n_bins=10, norm=norm, ignore_index=255
        )
        assert value == pytest.approx(float(expected), abs=1e-6)  # its input is softmax of float32


def test_a_bound_belongs_to_the_bin_below():
    """As in Guo et al.; torchmetrics has it above, so it agrees once everything is turned round."""
    confidence, correct = np.array([0.25, 0.5, 0.5, 0.75, 1.0, 0.0]), np.array([True, True, False, False, True, False])
    reliability = reliability_of(confidence, correct, num_bins=4)
    assert reliability.bins().decisions.tolist() == [2, 2, 1, 1]
    turned = torch.from_numpy(1 - confidence[:5]), torch.from_numpy(~correct[:5]).long()
    for norm, name in (("l1", "ece"), ("max", "mce")):
        value = getattr(reliability_of(confidence[:5], correct[:5], num_bins=4), name)
        assert value == pytest.approx(float(binary_calibration_error(*turned, n_bins=4, norm=norm)))


def test_a_float32_beside_a_bound_is_on_its_own_side():
    confidence = np.array([0.7, 0.1], dtype=np.float32)  # 0.69999999 and 0.10000000149
    decisions = reliability_of(confidence, [True, True], num_bins=10).bins().decisions
    assert decisions.nonzero()[0].tolist() == [1, 6]


def test_rows_of_the_diagram_by_hand():
    bins = reliability_of([0.1, 0.3, 0.9, 0.9, 0.6], [False, True, True, False, True], num_bins=3).bins()
    np.testing.assert_allclose(bins.low, [0, 1 / 3, 2 / 3])
    np.testing.assert_allclose(bins.high, [1 / 3, 2 / 3, 1])
    assert bins.decisions.tolist() == [2, 1, 2]
    np.testing.assert_allclose(bins.confidence, [0.2, 0.6, 0.9])
    np.testing.assert_allclose(bins.accuracy, [0.5, 1, 0.5])
    empty = reliability_of([0.9], [True], num_bins=2).bins()
    assert np.isnan([empty.confidence[0], empty.accuracy[0]]).all()


def test_a_class_is_scored_by_the_decisions_for_it():
    confidence, correct = decisions(5)
    labels = np.random.default_rng(6).integers(0, 3, len(correct))
    reliability = Reliability(num_classes=4)
    reliability.add(confidence, correct, labels)
    for label in range(3):
        alone = reliability_of(confidence[labels == label], correct[labels == label])
        assert reliability.class_ece()[label] == pytest.approx(alone.ece, abs=1e-12)
        assert reliability.class_mce()[label] == pytest.approx(alone.mce, abs=1e-12)
        for row, expected in zip(reliability.bins(label), alone.bins(), strict=True):
            np.testing.assert_allclose(row, expected, atol=1e-12)
    assert np.isnan([reliability.class_ece()[3], reliability.class_mce()[3]]).all()
    assert reliability.ece == pytest.approx(reliability_of(confidence, correct).ece, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 400), max_size=4), st.randoms())
def test_parts_add_up_in_any_order(seed, cuts, random):
    confidence, correct = decisions(seed)
    parts = list(zip(np.split(confidence, sorted(cuts)), np.split(correct, sorted(cuts)), strict=True))
    random.shuffle(parts)
    merged = Reliability()
    merged.merge([reliability_of(*part) for part in parts])
    whole = reliability_of(confidence, correct)
    assert merged.bins().decisions.tolist() == whole.bins().decisions.tolist()
    assert merged.bins().accuracy.tolist() == pytest.approx(whole.bins().accuracy.tolist(), abs=0, nan_ok=True)
    assert merged.ece == pytest.approx(whole.ece, abs=1e-12)
    assert merged.mce == pytest.approx(whole.mce, abs=1e-12)


def test_what_is_said_is_what_happens_and_no_decision_is_nan():
    assert reliability_of([1.0, 1.0, 0.0], [True, True, False]).ece == 0
    assert reliability_of([1.0, 1.0], [False, False]).mce == 1
    empty = Reliability(num_classes=2)
    assert np.isnan([empty.ece, empty.mce, *empty.class_ece(), *empty.class_mce()]).all()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (([0.5, 1.5], [True, True]), r"expected confidences in \[0, 1\]"),
        (([np.nan], [True]), "outside or NaN"),
        (([0.5], [True, True]), "got 1 confidences, 2 of bool"),
        (([0.5], [1]), "1 of int64"),
        (([0.5], [True], [2]), "expected labels from 0 to 1, got 2 to 2"),
        (([0.5], [True], [0, 1]), "and 2 labels"),
        (([0.5], [True]), "of 2 classes, each decision needs its label"),
    ],
)
def test_what_is_no_decision_is_refused(arguments, sentence):
    num_classes = 2 if len(arguments) == 3 or "classes" in sentence else 1
    with pytest.raises(ValueError, match=sentence):
        Reliability(num_classes).add(*map(np.asarray, arguments))


def test_other_bins_classes_and_sizes_are_refused():
    with pytest.raises(ValueError, match="expected 1 classes and 15 bins, got 1 and 10"):
        Reliability().merge([Reliability(num_bins=10)])
    with pytest.raises(ValueError, match="from 1, got 1 and 0"):
        Reliability(num_bins=0)
    with pytest.raises(DataError, match=r"classes are \(1, 2\), their confidences \(1, 2\), the true mask is \(2, 1\)"):
        judge_pixels(torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(2, 1))


def columns(predictions, truths):
    """Return the cases of the protocols as columns."""
    images = [np.repeat(np.arange(len(rows)), [len(row["labels"]) for row in rows]) for rows in (predictions, truths)]
    joined = {
        name: torch.cat([row[name] for row in rows]).numpy()
        for rows, names in ((predictions, ["scores"]), (truths, ["difficult"]))
        for name in names
    }
    boxes, labels = (
        [torch.cat([row[name] for row in rows]).numpy() for rows in (predictions, truths)]
        for name in ("boxes", "labels")
    )
    found = Detections(images[0], boxes[0].astype(np.float64), labels[0], joined["scores"].astype(np.float64))
    return found, Objects(images[1], boxes[1].astype(np.float64), labels[1], joined["difficult"])


@pytest.mark.parametrize("seed", range(4))
def test_detections_are_true_and_left_out_as_in_the_protocol(seed):
    predictions, truths = random_case(seed, difficult=0.4)
    evaluator = LrpProtocol(CLASSES)
    evaluator.update(predictions, truths)
    state = evaluator.state()
    counted = state["true"] | state["false"]
    judged = judge_detections(*columns(predictions, truths))
    assert 0 < counted.sum() < len(counted)
    for label in range(CLASSES):  # within a class the protocol has the same order: by image, best first
        here, there = judged.labels == label, counted & (state["labels"] == label)
        assert judged.confidence[here].tolist() == state["scores"][there].tolist()
        assert judged.correct[here].tolist() == state["true"][there].tolist()


def test_detections_by_hand():
    """One of two that find an object is true; one on a difficult object is left out, and so is a missed object."""
    box, other = [0, 0, 10, 10], [50, 50, 60, 60]
    found = Detections(
        np.array([0, 0, 0, 1]),
        np.array([box, [0, 0, 10, 9], other, other], dtype=np.float64),
        np.array([0, 0, 1, 1]),
        np.array([0.6, 0.9, 0.8, 0.7]),
    )
    objects = Objects(
        np.array([0, 0, 1]),
        np.array([box, other, box], dtype=np.float64),
        np.array([0, 1, 1]),
        np.array([False, True, False]),
    )
    judged = judge_detections(found, objects)
    assert judged.confidence.tolist() == [0.9, 0.6, 0.7]
    assert judged.correct.tolist() == [True, False, False]
    assert judged.labels.tolist() == [0, 0, 1]
    nothing = judge_detections(found.take(np.zeros(4, dtype=bool)), objects)
    assert len(nothing.confidence) == 0
    assert judge_detections(found, objects.take(np.zeros(3, dtype=bool))).correct.tolist() == [False] * 4
