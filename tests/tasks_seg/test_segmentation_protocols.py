"""The numbers of the segmentation protocols against scikit-learn and SciPy, and cases worked out by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score, recall_score

from mtvision.errors import DataError
from mtvision.ops.boundary import boundary_band, boundary_width
from mtvision.tasks.segmentation_protocols import SEGMENTATION_PROTOCOLS, BoundaryProtocol, StandardProtocol
from mtvision.types import VOID


def random_masks(seed, num_classes, sizes=((9, 14), (1, 3), (20, 7))):
    rng = np.random.default_rng(seed)
    predictions = [torch.from_numpy(rng.integers(0, num_classes, size)) for size in sizes]
    truths = [torch.from_numpy(rng.choice([*range(num_classes), VOID], size)) for size in sizes]
    return predictions, truths


def blobs(seed, num_classes, size):
    """Return a label map of large smooth regions, with a few void ones."""
    noise = np.random.default_rng(seed).normal(size=(num_classes + 1, *size))
    smooth = np.stack([ndimage.gaussian_filter(plane, 6) for plane in noise])
    smooth[-1] -= 0.5 * smooth.std()
    labels = smooth.argmax(axis=0)
    return np.where(labels == num_classes, VOID, labels)


def scored(protocol, predictions, truths):
    evaluator = SEGMENTATION_PROTOCOLS[protocol](number_of(predictions, truths))
    evaluator.update(predictions, truths)
    return evaluator.compute()


def number_of(predictions, truths):
    return 1 + max(int(mask[mask != VOID].max(initial=0)) for mask in map(np.asarray, [*predictions, *truths]))


def flat(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors]).numpy()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 21))
def test_standard_equals_scikit_learn(seed, num_classes):
    predictions, truths = random_masks(seed, num_classes)
    evaluator = StandardProtocol(num_classes)
    evaluator.update(predictions[:2], truths[:2])
    evaluator.update(predictions[2:], truths[2:])
    result = evaluator.compute()
    keep = flat(truths) != VOID
    truth, prediction = flat(truths)[keep], flat(predictions)[keep]
    options = {"labels": range(num_classes), "average": None, "zero_division": np.nan}
    expected = {
        "iou": jaccard_score(truth, prediction, **{**options, "zero_division": 0}),
        "dice": f1_score(truth, prediction, **options),
        "accuracy": recall_score(truth, prediction, **options),
    }
    expected["iou"][np.isnan(expected["dice"])] = np.nan  # this one has no zero_division=nan
    for name, values in expected.items():
        np.testing.assert_allclose(result.per_class[name], values, rtol=1e-12, err_msg=name)
    frequency = confusion_matrix(truth, prediction, labels=range(num_classes)).sum(1) / len(truth)
    assert result.metrics == pytest.approx(
        {
            "miou": np.nanmean(expected["iou"]),
            "mean_accuracy": np.nanmean(expected["accuracy"]),
            "pixel_accuracy": np.mean(truth == prediction),
            "frequency_weighted_iou": np.nansum(frequency * expected["iou"]),
            "mean_dice": np.nanmean(expected["dice"]),
        },
        rel=1e-12,
    )


def test_standard_by_hand():
    prediction, truth = torch.tensor([[0, 0, 1, 2, 1, 1]]), torch.tensor([[0, 0, 0, 0, 1, VOID]])
    evaluator = StandardProtocol(4)  # class 2 is only predicted, class 3 is nowhere
    evaluator.update([prediction], [truth])
    result = evaluator.compute()
    nan = math.nan
    np.testing.assert_allclose(result.per_class["iou"], [2 / 4, 1 / 2, 0, nan])
    np.testing.assert_allclose(result.per_class["dice"], [4 / 6, 2 / 3, 0, nan])
    np.testing.assert_allclose(result.per_class["accuracy"], [2 / 4, 1, nan, nan])
    assert result.metrics == pytest.approx(
        {
            "miou": (1 / 2 + 1 / 2 + 0) / 3,
            "mean_accuracy": (1 / 2 + 1) / 2,
            "pixel_accuracy": 3 / 5,
            "frequency_weighted_iou": 4 / 5 * 1 / 2 + 1 / 5 * 1 / 2,
            "mean_dice": (2 / 3 + 2 / 3 + 0) / 3,
        }
    )


def eroded(mask, width):
    """Erode by a square as the definition says: what is outside of the image is not of the mask."""
    return ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=width, border_value=0)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 9), st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_the_bands_of_all_labels_are_what_erosion_takes_away_from_each(seed, width, size):
    labels = blobs(seed, 3, size)
    band = boundary_band(torch.from_numpy(labels).to(torch.uint8), width).numpy()
    for label in np.unique(labels):
        mask = labels == label
        np.testing.assert_array_equal(band & mask, mask & ~eroded(mask, width))


def slow_boundary_iou(predictions, truths, num_classes):
    """The definition, class by class and image by image; void pixels are no class's in either of the masks."""
    sums = np.zeros((2, num_classes))
    for prediction, truth in zip(predictions, truths, strict=True):
        width = max(1, round(0.02 * math.sqrt(truth.shape[0] ** 2 + truth.shape[1] ** 2)))
        for label in range(num_classes):
            true = truth == label
            predicted = (prediction == label) & (truth != VOID)
            bands = [mask & ~eroded(mask, width) for mask in (true, predicted)]
            sums[:, label] += (bands[0] & bands[1]).sum(), (bands[0] | bands[1]).sum()
    with np.errstate(invalid="ignore"):
        return sums[0] / sums[1]


@pytest.mark.parametrize("num_classes", [2, 5])
@pytest.mark.parametrize("seed", range(3))
def test_boundary_iou_equals_the_definition(seed, num_classes):
    sizes = [(90, 130), (150, 60), (5, 4), (70, 70)]
    truths = [blobs(seed + 10 * k, num_classes, size) for k, size in enumerate(sizes)]
    predictions = []
    for k, truth in enumerate(truths):
        other = np.roll(truth, (2, 3), axis=(0, 1))
        predictions.append(np.where(other == VOID, k % num_classes, other))
    evaluator = BoundaryProtocol(num_classes + 1)  # the last class is nowhere
    for prediction, truth in zip(predictions, truths, strict=True):
        evaluator.update([torch.from_numpy(prediction)], [torch.from_numpy(truth)])
    result = evaluator.compute()
    expected = slow_boundary_iou(predictions, truths, num_classes + 1)
    np.testing.assert_allclose(result.per_class["iou"], expected, rtol=1e-12)
    assert math.isnan(expected[-1])
    assert result.metrics == pytest.approx({"miou": np.nanmean(expected)})
    assert 0.05 < result.metrics["miou"] < 0.95


def test_boundary_iou_of_a_shifted_square_by_hand():
    """In 50 x 50 pixels a boundary is 1 wide: 36 pixels around a square of 10 x 10.

    Shifted by one column, the rings share 9 pixels of the upper and 9 of the lower row, and nothing of the columns: but
    for the corners, which those rows have already.
    """
    truth = torch.zeros(50, 50, dtype=torch.int64)
    truth[20:30, 20:30] = 1
    assert boundary_width((50, 50)) == 1
    result = scored("boundary", [truth.roll(1, dims=1)], [truth])
    assert result.per_class["iou"][1] == 18 / (36 + 36 - 18)


def test_boundary_iou_of_a_mask_cut_by_the_edge_of_the_image_by_hand():
    """The whole image is one class: its boundary is the outermost ring, the truth's upper half has one of its own."""
    prediction = torch.zeros(10, 10, dtype=torch.int64)
    truth = prediction.clone()
    truth[5:] = 1
    ring, half = 36, 2 * 10 + 2 * 3  # pixels
    common = 10 + 2 * 4  # of the upper half's ring: the upper row and the sides down to the cut
    assert scored("boundary", [prediction], [truth]).per_class["iou"] == [common / (ring + half - common), 0.0]


def test_the_widths_are_shares_of_the_diagonal():
    assert [boundary_width(size) for size in [(375, 500), (1024, 2048), (3, 4), (30, 40), (60, 80)]] == [
        12,
        46,
        1,
        1,
        2,
    ]


def test_void_takes_no_part_in_boundaries():
    truth = torch.zeros(60, 60, dtype=torch.int64)
    truth[20:40, 20:40] = 1
    truth[18:20, 18:42] = truth[40:42, 18:42] = truth[18:42, 18:20] = truth[18:42, 40:42] = VOID
    for unknown in (0, 1, 2):  # whatever is said of the void pixels
        prediction = torch.where(truth == VOID, unknown, truth)
        result = scored("boundary", [prediction], [truth])
        assert result.per_class["iou"][:2] == [1.0, 1.0]
        assert result.metrics == {"miou": 1.0}


@pytest.mark.parametrize("protocol", SEGMENTATION_PROTOCOLS)
@pytest.mark.parametrize("truths", [[], [None], [torch.full((4, 4), VOID)]])
def test_nothing_annotated_is_nan(protocol, truths):
    evaluator = SEGMENTATION_PROTOCOLS[protocol](3)
    evaluator.update([torch.zeros(4, 4, dtype=torch.int64)] * len(truths), truths)
    result = evaluator.compute()
    numbers = [*result.metrics.values(), *(value for values in result.per_class.values() for value in values)]
    assert all(math.isnan(number) for number in numbers)


@pytest.mark.parametrize("protocol", SEGMENTATION_PROTOCOLS)
def test_an_image_that_nobody_looked_at_is_left_out(protocol):
    predictions, truths = random_masks(1, 3)
    evaluator = SEGMENTATION_PROTOCOLS[protocol](3)
    evaluator.update(predictions, [truths[0], None, truths[2]])
    some = evaluator.compute()
    assert some == scored(protocol, predictions[::2], truths[::2])
    assert some != scored(protocol, predictions, truths)


@pytest.mark.parametrize("protocol", SEGMENTATION_PROTOCOLS)
def test_merged_states_are_one_evaluation(protocol):
    predictions, truths = random_masks(2, 4)
    parts = [SEGMENTATION_PROTOCOLS[protocol](4) for _ in predictions]
    for part, prediction, truth in zip(parts, predictions, truths, strict=True):
        part.update([prediction], [truth])
    parts[1].merge([part.state() for part in parts])
    assert parts[1].compute() == scored(protocol, predictions, truths)


@pytest.mark.parametrize("protocol", SEGMENTATION_PROTOCOLS)
def test_a_state_is_a_copy(protocol):
    evaluator = SEGMENTATION_PROTOCOLS[protocol](2)
    state = evaluator.state()
    evaluator.update([torch.zeros(4, 4, dtype=torch.int64)], [torch.zeros(4, 4, dtype=torch.int64)])
    assert not state.any()
    assert evaluator.state().any()


@pytest.mark.parametrize("protocol", SEGMENTATION_PROTOCOLS)
def test_most_classes_that_a_mask_can_hold(protocol):
    truth = torch.arange(256).view(16, 16)
    evaluator = SEGMENTATION_PROTOCOLS[protocol](255)
    evaluator.update([truth.clamp(max=254)], [truth])
    assert evaluator.compute().per_class["iou"] == [1.0] * 255


@pytest.mark.parametrize("protocol", SEGMENTATION_PROTOCOLS)
def test_what_cannot_be_scored_is_a_sentence(protocol):
    evaluator = SEGMENTATION_PROTOCOLS[protocol](3)
    mask = torch.zeros(2, 3, dtype=torch.int64)
    with pytest.raises(DataError, match=r"the true mask is \(2, 2\), but the predicted one is \(2, 3\)"):
        evaluator.update([mask], [mask[:, :2]])
    with pytest.raises(DataError, match="has the class id 7, expected 0 to 2 or 255"):
        evaluator.update([mask], [mask + 7])
    assert not evaluator.state().any()
