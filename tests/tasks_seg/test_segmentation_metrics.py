import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, jaccard_score

from mtvision.errors import DataError
from mtvision.tasks.segmentation_metrics import ClassIoU, MeanIoU, PixelAccuracy, count_pairs, segmentation_metrics
from mtvision.types import VOID
from quick_processes import together


def masks(seed, num_classes, images=3):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 20, (images, 2))
    predictions = [torch.from_numpy(rng.integers(0, num_classes, size)) for size in sizes]
    truths = [torch.from_numpy(rng.choice([*range(num_classes), VOID], size)) for size in sizes]
    return predictions, truths


def flat(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors]).numpy()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 21))
def test_equals_scikit_learn(seed, num_classes):
    predictions, truths = masks(seed, num_classes)
    metrics = segmentation_metrics(num_classes)
    metrics.update(predictions[:2], truths[:2])
    metrics.update(predictions[2:], truths[2:])
    numbers = metrics.compute()
    keep = flat(truths) != VOID
    truth, prediction = flat(truths)[keep], flat(predictions)[keep]
    matrix = confusion_matrix(truth, prediction, labels=range(num_classes)).astype(float)
    with np.errstate(invalid="ignore"):
        iou = np.diag(matrix) / (matrix.sum(0) + matrix.sum(1) - np.diag(matrix))
        accuracy = np.trace(matrix) / matrix.sum()
    np.testing.assert_allclose(numbers["iou"], iou, rtol=1e-6)
    np.testing.assert_allclose(numbers["pixel_accuracy"], accuracy, rtol=1e-6)
    present = np.union1d(truth, prediction)
    if len(present):
        expected = jaccard_score(truth, prediction, labels=present, average="macro", zero_division=0)
        np.testing.assert_allclose(numbers["miou"], expected, rtol=1e-6)


def test_confusion_matrix_has_true_rows():
    prediction, truth = torch.tensor([[0, 1, 1, 2]]), torch.tensor([[0, 2, 1, VOID]], dtype=torch.uint8)
    assert count_pairs(prediction, truth, 3).tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0]]


def test_most_classes_that_a_mask_can_hold():
    truth = torch.arange(256).view(16, 16)
    metric = PixelAccuracy(255)
    metric.update([truth.clamp(max=254)], [truth])
    assert metric.compute() == 1
    assert metric.confusion.sum() == 255


def test_it_is_the_data_set_that_counts_not_the_mean_of_images():
    metric = ClassIoU(2)
    metric.update([torch.tensor([[1]]), torch.tensor([[0, 0, 0]])], [torch.tensor([[1]]), torch.tensor([[1, 1, 1]])])
    assert metric.compute().tolist() == [0.0, 0.25]


def test_absent_and_only_predicted_classes():
    prediction, truth = torch.tensor([[0, 0, 2]]), torch.tensor([[0, 0, 0]])
    iou, mean = ClassIoU(4), MeanIoU(4)
    for metric in (iou, mean):
        metric.update([prediction], [truth])
    torch.testing.assert_close(iou.compute(), torch.tensor([2 / 3, torch.nan, 0.0, torch.nan]), equal_nan=True)
    torch.testing.assert_close(mean.compute(), torch.tensor(1 / 3))


@pytest.mark.parametrize("truths", [[None], [torch.full((2, 2), VOID)]])
def test_nothing_annotated_is_nan(truths):
    metrics = segmentation_metrics(3)
    metrics.update([torch.zeros(2, 2, dtype=torch.int64)], truths)
    numbers = metrics.compute()
    assert all(value.isnan().all() for value in numbers.values())


def test_images_without_truth_are_left_out():
    predictions, truths = masks(0, 4)
    some, rest = segmentation_metrics(4), segmentation_metrics(4)
    some.update(predictions, [truths[0], None, truths[2]])
    rest.update([predictions[0], predictions[2]], [truths[0], truths[2]])
    torch.testing.assert_close(some.compute(), rest.compute(), equal_nan=True)


def test_the_state_is_counted_once_and_reset():
    metrics = segmentation_metrics(3)
    assert list(metrics.compute_groups.values()) == [["miou", "pixel_accuracy", "iou"]]
    predictions, truths = masks(0, 3)
    metrics.update(predictions, truths)
    first = metrics.compute()
    metrics.reset()
    metrics.update(predictions, truths)
    torch.testing.assert_close(metrics.compute(), first)
    assert all(metric.higher_is_better for metric in metrics.values())


def test_wrong_input_is_a_clear_error():
    with pytest.raises(DataError, match=r"the true mask is \(3, 2\), but the predicted one is \(2, 3\)"):
        count_pairs(torch.zeros(2, 3, dtype=torch.int64), torch.zeros(3, 2, dtype=torch.int64), 2)
    with pytest.raises(DataError, match=r"class id 7, expected 0 to 1 or 255 \(void\)"):
        count_pairs(torch.zeros(1, 2, dtype=torch.int64), torch.tensor([[0, 7]]), 2)


def _count_half(rank, path):
    predictions, truths = masks(0, 4, images=4)
    metrics = segmentation_metrics(4)
    metrics.update(predictions[rank::2], truths[rank::2])
    torch.save(metrics.compute(), path / f"{rank}.pt")


def test_two_processes_equal_one(tmp_path):
    together(_count_half, 2, tmp_path, tmp_path)
    metrics = segmentation_metrics(4)
    metrics.update(*masks(0, 4, images=4))
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), metrics.compute())
