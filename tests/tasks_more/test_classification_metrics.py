import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from mtvision.errors import DataError
from mtvision.tasks.classification_metrics import MultilabelAveragePrecision, average_precision


def prediction(scores):
    order = np.random.default_rng(0).permutation(len(scores))
    return {"scores": scores[order], "labels": torch.from_numpy(order)}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 30), st.sampled_from([3, 1000]))
def test_equals_scikit_learn(seed, images, steps):
    """With few distinct scores, many are equal: one threshold."""
    rng = np.random.default_rng(seed)
    scores = torch.from_numpy(rng.integers(0, steps, (images, 4)) / steps).float()
    truths = torch.from_numpy(rng.choice([0.0, 1.0, np.nan], (images, 4), p=[0.6, 0.3, 0.1])).float()
    metric = MultilabelAveragePrecision(4)
    half = images // 2
    metric.update([prediction(row) for row in scores[:half]], list(truths[:half]))
    metric.update([prediction(row) for row in scores[half:]], list(truths[half:]))
    expected = []
    for column in range(4):
        known = ~truths[:, column].isnan()
        t, s = truths[known, column].numpy(), scores[known, column].numpy()
        expected.append(average_precision_score(t, s) if t.sum() else np.nan)
    numbers = metric.compute()
    np.testing.assert_allclose(numbers["ap"], expected, atol=1e-6)
    mean = np.nan if np.isnan(expected).all() else np.nanmean(expected)
    np.testing.assert_allclose(numbers["map"], mean, atol=1e-6)


def test_absent_classes_are_nan_and_left_out_of_the_mean():
    metric = MultilabelAveragePrecision(3)
    metric.update([prediction(torch.tensor([0.9, 0.8, 0.1]))], [torch.tensor([1.0, 0.0, torch.nan])])
    metric.update([prediction(torch.tensor([0.1, 0.9, 0.1]))], [None])
    numbers = metric.compute()
    torch.testing.assert_close(numbers["ap"], torch.tensor([1.0, torch.nan, torch.nan]), equal_nan=True)
    assert numbers["map"] == 1


def test_nothing_annotated_is_nan():
    for updates in ([], [([prediction(torch.zeros(2))], [None])]):
        metric = MultilabelAveragePrecision(2)
        for update in updates:
            metric.update(*update)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchmetrics warns of what is meant here
            numbers = metric.compute()
        assert numbers["map"].isnan()
        assert numbers["ap"].isnan().tolist() == [True, True]


def test_soft_truths_count_from_a_half():
    metric = MultilabelAveragePrecision(1)
    scores = [{"scores": torch.tensor([s]), "labels": torch.tensor([0])} for s in (0.9, 0.8, 0.7)]
    metric.update(scores, [torch.tensor([0.49]), torch.tensor([0.5]), torch.tensor([0.9])])
    torch.testing.assert_close(metric.compute()["map"], torch.tensor((1 / 2 + 2 / 3) / 2))


@pytest.mark.parametrize("truth", [torch.zeros(3), torch.zeros(1, 2), torch.tensor([0.0, 255.0])])
def test_truths_that_are_none_are_named(truth):
    with pytest.raises(DataError, match="a classification truth: expected"):
        MultilabelAveragePrecision(2).update([prediction(torch.zeros(2))], [truth])


def test_no_image_at_all():
    assert average_precision(torch.zeros(0), torch.zeros(0, dtype=torch.bool)).isnan()
