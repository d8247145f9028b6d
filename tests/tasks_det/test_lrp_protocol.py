import math

import numpy as np
import pytest
import torch
from scored_boxes import CLASSES, by_pycocotools, detections, evaluate, objects, random_case


def test_lrp_by_hand():
    """Four objects; by falling score: IoU 0.8, false, IoU 0.6, false, false."""
    truth = objects([[20 * index, 0, 20 * index + 10, 10] for index in range(4)], [0] * 4)
    boxes = [[0, 0, 10, 8], [90, 0, 95, 5], [20, 0, 30, 6], [90, 0, 95, 5], [90, 0, 95, 5]]
    result = evaluate("lrp", [detections(boxes, [0.9, 0.8, 0.7, 0.7, 0.5], [0] * 5)], [truth], classes=1)
    # kept 1: (0.2 / 0.5 + 0 + 3) / 4 = 0.85; kept 2: 4.4 / 5 = 0.88; kept 4 (a tie): ((0.2 + 0.4) / 0.5 + 2 + 2) / 6
    wanted = {"olrp": 0.85, "olrp_localisation": 0.2, "olrp_false_positive": 0.0, "olrp_false_negative": 0.75}
    # F1 of 1: 2 / (1 + 4) = 0.4; of 2: 2 / 6; of 4: 4 / (4 + 4) = 0.5; of 5: 4 / 9
    assert result.metrics == pytest.approx(wanted | {"f1": 0.5}, abs=1e-6)
    assert result.per_class["lrp_threshold"] == pytest.approx([0.9])
    assert result.per_class["f1_threshold"] == pytest.approx([0.7])


def lrp_by_definition(predictions, truths, wanted, threshold):
    """LRP and F1 of the detections of at least a score, matched anew by pycocotools; None without objects."""
    kept = [
        {name: column[(entry["scores"] >= threshold) & (entry["labels"] == wanted)] for name, column in entry.items()}
        for entry in predictions
    ]
    _, evaluation = by_pycocotools(kept, truths)
    images = [e for e in evaluation.evalImgs if e and e["category_id"] == wanted and e["aRng"] == [0, 1e10]]
    count = sum(int((np.asarray(e["gtIgnore"]) == 0).sum()) for e in images)
    true = false = 0
    error = 0.0
    for entry in images:
        overlaps = evaluation.ious[entry["image_id"], wanted]
        columns = {row["id"]: column for column, row in enumerate(evaluation._gts[entry["image_id"], wanted])}
        rows = zip(entry["dtMatches"][0], entry["dtIgnore"][0], strict=True)
        for row, (match, ignored) in enumerate(rows):
            true, false = true + int(match > 0 and not ignored), false + int(match == 0 and not ignored)
            error += 1 - overlaps[row, columns[int(match)]] if match > 0 and not ignored else 0.0
    if not count:
        return None
    missed = count - true
    return (error / 0.5 + false + missed) / (true + false + missed), 2 * true / (2 * true + false + missed)


@pytest.mark.parametrize("seed", range(3))
def test_lrp_and_f1_are_the_best_over_all_thresholds(seed):
    predictions, truths = random_case(seed, num_images=4)
    result = evaluate("lrp", predictions, truths)
    scores = torch.cat([entry["scores"] for entry in predictions]).unique().tolist()
    for label in range(CLASSES):
        values = {score: lrp_by_definition(predictions, truths, label, score) for score in scores}
        if values[scores[0]] is None:
            assert math.isnan(result.per_class["olrp"][label])
            continue
        best = min(value[0] for value in values.values())
        assert result.per_class["olrp"][label] == pytest.approx(best)
        assert values[result.per_class["lrp_threshold"][label]][0] == pytest.approx(best)
        best = max(value[1] for value in values.values())
        assert result.per_class["f1"][label] == pytest.approx(best)
        assert values[result.per_class["f1_threshold"][label]][1] == pytest.approx(best)
