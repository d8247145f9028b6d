import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mean_absolute_percentage_error, root_mean_squared_error

from mtvision.errors import DataError
from mtvision.tasks.depth_metrics import depth_errors, depth_metrics

NEAR, FAR = 0.2, 9.0


def example(seed, images=3):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 20, (images, 2))
    predictions = [torch.from_numpy(rng.uniform(NEAR, FAR, size)).float() for size in sizes]
    truths = [torch.from_numpy(p.numpy() * rng.uniform(0.6, 1.6, p.shape)).float() for p in predictions]
    for truth in truths:
        truth[torch.from_numpy(rng.random(truth.shape) < 0.2)] = torch.nan
        truth[0, 0] = 1.0  # at least one is known
    return predictions, truths


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_equals_scikit_learn_and_the_formulas_image_by_image(seed):
    predictions, truths = example(seed)
    metrics = depth_metrics(NEAR, FAR)
    metrics.update(predictions[:2], truths[:2])
    metrics.update(predictions[2:], truths[2:])
    expected = []
    for prediction, truth in zip(predictions, truths, strict=True):
        known = (truth.numpy() >= np.float32(NEAR)) & (truth.numpy() <= FAR)
        p, t = prediction.numpy()[known].astype(np.float64), truth.numpy()[known].astype(np.float64)
        d = np.log(p) - np.log(t)
        silog = np.sqrt(max(np.mean(d**2) - np.mean(d) ** 2, 0))
        delta = np.mean((p < 1.25 * t) & (t < 1.25 * p))
        expected.append([mean_absolute_percentage_error(t, p), root_mean_squared_error(t, p), silog, delta])
    numbers = metrics.compute()
    got = [float(numbers[key]) for key in ("abs_rel", "rmse", "silog", "delta1")]
    np.testing.assert_allclose(got, np.mean(expected, axis=0), rtol=1e-4, atol=1e-6)


def test_each_image_weighs_the_same():
    metrics = depth_metrics(NEAR, FAR)
    metrics.update([torch.full((1, 1), 2.0), torch.full((9, 9), 1.0)], [torch.ones(1, 1), torch.ones(9, 9)])
    numbers = metrics.compute()
    assert {key: float(value) for key, value in numbers.items()} == {
        "abs_rel": 0.5,
        "rmse": 0.5,
        "silog": 0.0,
        "delta1": 0.5,
    }


def test_silog_does_not_see_the_scale_and_the_others_do():
    truth = torch.rand(8, 8) * 3 + 1
    right, doubled = (depth_errors(factor * truth, truth, NEAR, FAR) for factor in (1, 2))
    torch.testing.assert_close(right, torch.tensor([0.0, 0.0, 0.0, 1.0]))
    rmse = truth.square().mean().sqrt()
    torch.testing.assert_close(doubled, torch.tensor([1.0, rmse, 0.0, 0.0]), atol=1e-5, rtol=1e-5)


def test_the_factor_is_1_25_either_way():
    truth = torch.ones(1, 4)
    prediction = torch.tensor([[1.2499, 1.2501, 1 / 1.2499, 1 / 1.2501]])
    assert depth_errors(prediction, truth, NEAR, FAR)[3] == 0.5


def test_all_are_nan_where_nothing_is_known():
    for truth in (None, torch.full((2, 2), torch.nan), torch.zeros(2, 2)):
        metrics = depth_metrics(NEAR, FAR)
        metrics.update([torch.ones(2, 2)], [truth])
        assert all(value.isnan() for value in metrics.compute().values())


def test_directions():
    directions = {name: metric.higher_is_better for name, metric in depth_metrics(NEAR, FAR).items()}
    assert directions == {"abs_rel": False, "rmse": False, "silog": False, "delta1": True}


def test_another_size_is_named():
    with pytest.raises(DataError, match=r"the true depth is \(2, 3\), but the predicted one is \(3, 2\)"):
        depth_errors(torch.ones(3, 2), torch.ones(2, 3), NEAR, FAR)


def test_states_of_two_processes_add_up():
    predictions, truths = example(4)
    whole, one, other = (depth_metrics(NEAR, FAR)["abs_rel"] for _ in range(3))
    whole.update(predictions, truths)
    one.update(predictions[:1], truths[:1])
    other.update(predictions[1:], truths[1:])
    for state, reduce in one._reductions.items():
        setattr(one, state, reduce(torch.stack([getattr(one, state), getattr(other, state)])))
    torch.testing.assert_close(one.compute(), whole.compute())
