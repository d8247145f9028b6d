import numpy as np
import pytest
import torch

from mtvision.tasks.detection_metrics import MeanAveragePrecision
from quick_processes import together
from tasks_det.scored_boxes import CLASSES, EMPTY, HIT, NOTHING, ONE, by_pycocotools, detections, objects


def random_case(seed, num_images=12, num_labels=CLASSES):
    """Boxes near the truth and false ones, some images without objects, some objects difficult."""
    generator = torch.Generator().manual_seed(seed)
    predictions, truths = [], []
    for _ in range(num_images):
        count = int(torch.randint(0, 6, (1,), generator=generator))
        low = torch.rand(count, 2, generator=generator) * 200
        boxes = torch.cat([low, low + 5 + torch.rand(count, 2, generator=generator) * 150], dim=1)
        labels = torch.randint(0, num_labels, (count,), generator=generator)
        difficult = torch.rand(count, generator=generator) < 0.2
        truths.append({"boxes": boxes, "labels": labels, "difficult": difficult})
        found = boxes.repeat(3, 1) + torch.randn(3 * count, 4, generator=generator) * 8
        extra = torch.rand(8, 2, generator=generator) * 200
        found = torch.cat([found, torch.cat([extra, extra + 40], dim=1)])
        wrong = torch.randint(0, num_labels, (8,), generator=generator)
        scores = (torch.rand(len(found), generator=generator) * 20).round() / 20  # with ties
        predictions.append({"boxes": found, "labels": torch.cat([labels.repeat(3), wrong]), "scores": scores})
    return predictions, truths


def pycocotools_table(predictions, truths):
    """Average precision (10, C) by the reference implementation; -1 where there is nothing to find."""
    _, evaluation = by_pycocotools(predictions, truths)
    return evaluation.eval["precision"][..., 0, -1].mean(axis=1)


def score(predictions, truths):
    metric = MeanAveragePrecision(CLASSES)
    metric.update(predictions, truths)
    return metric.compute()


CASES = {
    "random 0": random_case(0),
    "random 1": random_case(1),
    "random 2": random_case(2),
    "absent class": random_case(3, num_labels=CLASSES - 1),
    "no detections": ([NOTHING, NOTHING], [ONE, EMPTY]),
    "no objects in one image": ([HIT, HIT], [ONE, EMPTY]),
    "no objects at all": ([HIT, NOTHING], [EMPTY, EMPTY]),
    "only difficult": ([HIT], [objects([[10, 10, 60, 60]], [1], [True])]),
    "several in a difficult one": (
        [detections([[10, 10, 40, 40], [30, 30, 60, 60], [10, 10, 60, 60]], [0.9, 0.8, 0.3], [1, 1, 1])],
        [objects([[10, 10, 61, 60], [0, 0, 100, 100]], [1, 1], [False, True])],
    ),
    "more than a hundred": (
        [detections([[i, i, i + 30, i + 30] for i in range(150)], np.linspace(0.1, 0.9, 150).tolist(), [1] * 150)],
        [objects([[3, 3, 33, 33], [140, 140, 170, 170]], [1, 1])],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_equals_pycocotools(case):
    predictions, truths = CASES[case]
    table = pycocotools_table(predictions, truths)
    table = np.where(table < 0, np.nan, table)
    values = score(predictions, truths)
    np.testing.assert_allclose(values["ap50"].numpy(), table[0], atol=1e-6)
    np.testing.assert_allclose(values["ap50_95"].numpy(), table.mean(axis=0), atol=1e-6)
    present = table[:, ~np.isnan(table[0])]
    expected = [present[0].mean(), present.mean()] if present.size else [np.nan, np.nan]
    np.testing.assert_allclose([values["map50"], values["map50_95"]], expected, atol=1e-6)


def test_nothing_to_score_is_nan_and_nothing_found_is_zero():
    assert score([HIT], [EMPTY])["map50"].isnan()
    assert score([NOTHING], [ONE])["map50"] == 0
    assert score([], [])["ap50"].isnan().all()


def test_images_that_nobody_annotated_are_skipped():
    with_none = score([HIT, HIT], [ONE, None])
    torch.testing.assert_close(with_none["ap50_95"], score([HIT], [ONE])["ap50_95"], equal_nan=True)
    assert score([HIT, detections([[0, 0, 9, 9]], [0.9], [1])], [ONE, EMPTY])["map50"] < with_none["map50"]


def test_batches_do_not_matter():
    predictions, truths = random_case(5)
    metric = MeanAveragePrecision(CLASSES)
    for start in (0, 5, 8):
        stop = {0: 5, 5: 8, 8: 12}[start]
        metric.update(predictions[start:stop], truths[start:stop])
    torch.testing.assert_close(metric.compute(), score(predictions, truths), atol=0, rtol=0)
    metric.reset()
    metric.update([HIT], [ONE])
    assert metric.compute()["map50"] == 1


def score_a_share(rank, folder):
    """Score a share of the images: 7, 5 and none."""
    predictions, truths = random_case(6)
    share = [slice(0, 7), slice(7, 12), slice(0, 0)][rank]
    metric = MeanAveragePrecision(CLASSES)
    if predictions[share]:
        metric.update(predictions[share], truths[share])
    torch.save(metric.compute(), folder / f"{rank}.pt")


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_three_processes_score_as_one(tmp_path):
    together(score_a_share, 3, tmp_path, tmp_path)
    single = score(*random_case(6))
    for rank in range(3):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), single, equal_nan=True, atol=0, rtol=0)


def test_it_is_quiet(capfd):
    score(*CASES["random 0"])
    assert capfd.readouterr() == ("", "")


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="got 1 predictions but 2 truths"):
        score([HIT], [ONE, ONE])


def test_higher_is_better():
    assert MeanAveragePrecision(CLASSES).higher_is_better is True
