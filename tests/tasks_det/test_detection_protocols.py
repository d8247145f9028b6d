import contextlib
import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scored_boxes import (
    CLASSES,
    EMPTY,
    HIT,
    NOTHING,
    ONE,
    WIDE,
    by_pycocotools,
    detections,
    entries,
    evaluate,
    image,
    objects,
    random_case,
)

from mtvision.tasks import detection_scoring
from mtvision.tasks.detection_protocols import DETECTION_PROTOCOLS

COCO_NAMES = (
    *("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
    *("ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large"),
)


def assert_as_pycocotools(predictions, truths, classes=CLASSES):
    table, evaluation = by_pycocotools(predictions, truths, classes)
    result = evaluate("coco", predictions, truths, classes=classes)
    assert tuple(sorted(result.per_class)) == tuple(sorted(COCO_NAMES)) == tuple(sorted(result.metrics))
    for name, row in zip(COCO_NAMES, table, strict=True):
        np.testing.assert_allclose(result.per_class[name], row, atol=1e-9, err_msg=name)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.summarize()
    means = np.where(evaluation.stats < 0, np.nan, evaluation.stats)
    np.testing.assert_allclose([result.metrics[name] for name in COCO_NAMES], means, atol=1e-9)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"grid": 16, "most": 8},  # equal overlaps
        {"difficult": 0.0},
        {"difficult": 1.0},
        {"difficult": 0.5, "most": 12, "spread": 300},  # crowds that hold many detections
        {"copies": 40, "most": 8, "false": 300, "num_images": 3},  # more than 100 detections of a class
    ],
    ids=["plain", "ties", "no_crowds", "only_crowds", "many_crowds", "over_100"],
)
def test_coco_is_pycocotools_on_random_images(seed, options):
    assert_as_pycocotools(*random_case(seed, **options))


@pytest.mark.parametrize(
    ("predictions", "truths"),
    [
        ([NOTHING], [EMPTY]),
        ([NOTHING, NOTHING], [ONE, EMPTY]),
        ([HIT], [EMPTY]),
        ([HIT, HIT], [ONE, EMPTY]),
        ([HIT], [WIDE]),
        ([HIT, HIT], [WIDE, ONE]),
        ([detections([[10, 10, 60, 60]] * 3, [0.5] * 3, [1] * 3)], [ONE]),
        ([detections([[0, 0, 32, 32], [0, 0, 96, 96]], [0.5, 0.4], [0, 1])], [objects([[0, 0, 32, 32]], [0])]),
        ([detections([[0, 0, 32, 32], [0, 0, 96, 96]], [0.5, 0.4], [0, 1])], [objects([[0, 0, 96, 96]], [1])]),
        ([detections([[5, 5, 5, 9]], [0.5], [1])], [objects([[5, 5, 5, 9], [1, 1, 4, 4]], [1, 1])]),
    ],
    ids=["nothing", "none_found", "no_truth", "hit_and_false", "only_crowd", "crowd", "same", "small", "large", "thin"],
)
def test_coco_is_pycocotools_on_edge_cases(predictions, truths):
    assert_as_pycocotools(predictions, truths)


def test_coco_is_pycocotools_with_many_classes():
    predictions, truths = random_case(7)
    for number, entry in enumerate([*predictions, *truths]):
        entry["labels"] = entry["labels"] * 20 + number % 3
    assert_as_pycocotools(predictions, truths, classes=81)


@settings(max_examples=60, deadline=None)
@given(st.lists(image, min_size=1, max_size=3))
def test_coco_is_pycocotools_where_everything_ties(images):
    assert_as_pycocotools(*entries(images), classes=2)


@pytest.mark.parametrize("protocol", DETECTION_PROTOCOLS)
class TestEveryProtocol:
    def test_a_class_without_objects_has_no_value_and_is_left_out_of_the_mean(self, protocol):
        wrong = detections([[10, 10, 60, 60], [0, 0, 5, 5]], [0.9, 0.8], [1, 2])
        result = evaluate(protocol, [wrong], [ONE])
        for name, values in result.per_class.items():
            assert [math.isnan(value) for value in (values[0], *values[2:])] == [True, True, True]
            if name in result.metrics:
                assert result.metrics[name] == pytest.approx(values[1], nan_ok=True)

    def test_without_objects_nothing_has_a_value(self, protocol):
        for predictions, truths in (([HIT], [EMPTY]), ([NOTHING], [EMPTY]), ([], []), ([HIT], [WIDE])):
            result = evaluate(protocol, predictions, truths)
            assert all(math.isnan(value) for value in result.metrics.values())
            assert all(math.isnan(value) for values in result.per_class.values() for value in values)

    def test_what_is_never_found_has_the_worst_value(self, protocol):
        miss = detections([[200, 200, 230, 230]], [0.9], [1])
        for found in (NOTHING, miss):
            for name, value in evaluate(protocol, [found], [ONE]).metrics.items():
                exists = not name.endswith(("_small", "_large", "_localisation", "_false_positive"))
                worst = 1.0 if name.startswith("olrp") else 0.0
                assert value == pytest.approx(worst if exists else math.nan, nan_ok=True), name

    def test_an_image_that_nobody_annotated_is_skipped(self, protocol):
        with_it = evaluate(protocol, [HIT, HIT, HIT], [ONE, None, EMPTY])
        assert_same(with_it, evaluate(protocol, [HIT, HIT], [ONE, EMPTY]))

    def test_blocks_change_nothing(self, protocol, monkeypatch):
        predictions, truths = random_case(3)
        whole = evaluate(protocol, predictions, truths)
        monkeypatch.setattr(detection_scoring, "NUM_WAITING", 1)
        assert_same(evaluate(protocol, predictions, truths, batch=1), whole)

    def test_several_evaluators_give_what_one_gives(self, protocol):
        predictions, truths = random_case(4)
        parts = []
        for start, end in ((0, 4), (4, 4), (4, 10)):
            parts.append(DETECTION_PROTOCOLS[protocol](CLASSES))
            parts[-1].update(predictions[start:end], truths[start:end])
        parts[0].merge([part.state() for part in parts])
        assert_same(parts[0].compute(), evaluate(protocol, predictions, truths))

    def test_updates_after_a_merge_or_a_compute_count(self, protocol):
        predictions, truths = random_case(5)
        first, second = DETECTION_PROTOCOLS[protocol](CLASSES), DETECTION_PROTOCOLS[protocol](CLASSES)
        first.update(predictions[:5], truths[:5])
        first.compute()
        second.update(predictions[:1], truths[:1])
        second.merge([first.state()])
        second.update(predictions[5:], truths[5:])
        assert_same(second.compute(), evaluate(protocol, predictions, truths))

    def test_merging_no_state_forgets(self, protocol):
        evaluator = DETECTION_PROTOCOLS[protocol](CLASSES)
        evaluator.update([HIT], [ONE])
        evaluator.merge([])
        assert_same(evaluator.compute(), evaluate(protocol, [], []))

    def test_the_state_holds_no_more_than_a_short_row_a_detection(self, protocol):
        evaluator = DETECTION_PROTOCOLS[protocol](CLASSES)
        evaluator.update(*random_case(6, num_images=30))
        state = evaluator.state()
        bytes_of_a_row = sum(array.nbytes for name, array in state.items() if name != "objects") / len(state["scores"])
        assert bytes_of_a_row <= 25

    def test_what_the_caller_changes_later_does_not_count(self, protocol):
        found = {name: tensor.clone() for name, tensor in HIT.items()}
        evaluator = DETECTION_PROTOCOLS[protocol](CLASSES)
        evaluator.update([found], [ONE])
        found["boxes"].zero_(), found["labels"].zero_()
        assert_same(evaluator.compute(), evaluate(protocol, [HIT], [ONE]))

    def test_what_cannot_be_scored_is_refused(self, protocol):
        evaluator = DETECTION_PROTOCOLS[protocol](CLASSES)
        with pytest.raises(ValueError, match="got 1 predictions but 2 truths"):
            evaluator.update([HIT], [ONE, EMPTY])
        with pytest.raises(ValueError, match="expected labels from 0 to 3, a prediction has 4 to 4"):
            evaluator.update([{**HIT, "labels": torch.tensor([4])}], [ONE])
        with pytest.raises(ValueError, match="expected labels from 0 to 3, the truth has -1 to -1"):
            evaluator.update([HIT], [{**ONE, "labels": torch.tensor([-1])}])
        with pytest.raises(ValueError, match="score of NaN"):
            evaluator.update([{**HIT, "scores": torch.tensor([math.nan])}], [ONE])


def assert_same(first, second):
    np.testing.assert_equal(first.metrics, second.metrics)
    np.testing.assert_equal(first.per_class, second.per_class)
