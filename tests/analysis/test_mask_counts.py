"""Counts of each image against scikit-learn, and mIoU of parts against the protocol that scores whole data sets."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, jaccard_score

from mtvision.analysis.image_scores import mask_miou
from mtvision.analysis.mask_counts import class_iou, count_masks, image_miou, miou_of, weighted_miou
from mtvision.errors import DataError
from mtvision.tasks.segmentation_protocols import StandardProtocol
from mtvision.types import VOID

SIZES = ((9, 14), (1, 3), (20, 7), (5, 5))


def random_masks(seed, num_classes, sizes=SIZES):
    """Masks of few classes an image, and an image without a true one."""
    rng = np.random.default_rng(seed)
    few = [rng.choice(num_classes, 3) for _ in sizes]
    predictions = [torch.from_numpy(rng.choice(kinds, size)) for kinds, size in zip(few, sizes, strict=True)]
    truths = [
        torch.from_numpy(rng.choice([*kinds[:2], VOID], size).astype(np.uint8))
        for kinds, size in zip(few, sizes, strict=True)
    ]
    truths[int(rng.integers(len(sizes)))] = None
    return predictions, truths


def protocol_miou(predictions, truths, num_classes):
    evaluator = StandardProtocol(num_classes)
    evaluator.update(predictions, truths)
    return evaluator.compute().metrics["miou"]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 21))
def test_counts_equal_scikit_learn(seed, num_classes):
    predictions, truths = random_masks(seed, num_classes)
    counts = count_masks(iter(predictions), iter(truths), num_classes)
    total = np.zeros((num_classes, num_classes), dtype=np.int64)
    scores = image_miou(counts)
    for image, (prediction, truth) in enumerate(zip(predictions, truths, strict=True)):
        if truth is None:
            assert not counts.annotated[image]
            assert not counts.true[image].any()
            assert np.isnan(scores[image])
            continue
        flat, known = truth.numpy().ravel(), truth.numpy().ravel() != VOID
        pair = flat[known], prediction.numpy().ravel()[known]
        confusion = confusion_matrix(*pair, labels=range(num_classes)) if known.any() else np.zeros_like(total)
        assert counts.true[image].tolist() == confusion.sum(axis=1).tolist()
        assert counts.predicted[image].tolist() == confusion.sum(axis=0).tolist()
        assert counts.common[image].tolist() == confusion.diagonal().tolist()
        total += confusion
        expected = jaccard_score(*pair, labels=np.unique(pair), average="macro") if known.any() else np.nan
        assert scores[image] == pytest.approx(expected, nan_ok=True)
        assert scores[image] == pytest.approx(mask_miou(prediction, truth.numpy()), nan_ok=True)
    assert counts.confusion.tolist() == total.tolist()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 100), st.lists(st.integers(0, 3), max_size=7))
def test_any_images_have_the_miou_of_the_protocol_to_the_last_bit(seed, num_classes, rows):
    predictions, truths = random_masks(seed, num_classes)
    counts = count_masks(predictions, truths, num_classes)
    assert miou_of(counts) == protocol_miou(predictions, truths, num_classes)
    chosen = np.array(rows, dtype=np.int64)
    expected = protocol_miou([predictions[row] for row in rows], [truths[row] for row in rows], num_classes)
    np.testing.assert_equal(miou_of(counts, chosen), expected)
    weights = np.stack([np.bincount(chosen, minlength=len(SIZES)), np.ones(len(SIZES))])
    np.testing.assert_allclose(
        weighted_miou(counts, weights), [expected, protocol_miou(predictions, truths, num_classes)], rtol=1e-14
    )


def test_a_class_by_hand():
    """Class 1: 1 of 2 pixels in the first image, all of 1 in the second; class 2 is only predicted; 3 is nowhere."""
    predictions, truths = (
        [torch.tensor([[1, 2]]), torch.tensor([[1, 0]])],
        [
            torch.tensor([[1, 1]]),
            torch.tensor([[1, 255]]),
        ],
    )
    counts = count_masks(predictions, truths, 4)
    np.testing.assert_equal(class_iou(counts), [np.nan, 2 / 3, 0.0, np.nan])
    np.testing.assert_equal(class_iou(counts, np.array([1])), [np.nan, 1.0, np.nan, np.nan])
    np.testing.assert_equal(class_iou(counts, np.array([0, 1, 1])), [np.nan, 3 / 4, 0.0, np.nan])
    np.testing.assert_equal(image_miou(counts), [1 / 4, 1.0])


def test_weights_of_any_shape_scale_and_sparsity():
    predictions, truths = random_masks(3, 5)
    counts = count_masks(predictions, truths, 5)
    weights = np.random.default_rng(0).random((2, 3, len(SIZES)))
    scores = weighted_miou(counts, weights)
    assert scores.shape == (2, 3)
    np.testing.assert_allclose(weighted_miou(counts, 7 * weights), scores)
    assert np.isnan(weighted_miou(counts, np.zeros(len(SIZES))))
    assert np.isnan(weighted_miou(counts, ~counts.annotated))


def test_no_images_at_all():
    counts = count_masks([], [], 3)
    assert counts.true.shape == (0, 3)
    assert image_miou(counts).shape == (0,)
    assert np.isnan(miou_of(counts))


@pytest.mark.parametrize("weights", [[1, 1, 1], [1, 1, 1, -1], [1, 1, 1, np.nan], 1.0])
def test_weights_that_are_none_are_refused(weights):
    counts = count_masks(*random_masks(0, 3), 3)
    with pytest.raises(ValueError, match="expected 4 in the last axis, none negative or NaN"):
        weighted_miou(counts, weights)


def test_the_image_at_fault_is_named():
    masks = [torch.zeros(2, 2, dtype=torch.int64)] * 2
    with pytest.raises(DataError, match="image 1: the true mask is"):
        count_masks(masks, [masks[0], torch.zeros(2, 3, dtype=torch.int64)], 3)
    with pytest.raises(DataError, match="image 0: a true mask has the class id 3"):
        count_masks(masks, [masks[0] + 3, None], 3)
    with pytest.raises(ValueError, match="shorter"):
        count_masks(masks, [None], 3)
