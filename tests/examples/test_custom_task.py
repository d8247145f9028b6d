"""A task in a script of one's own."""

import numpy as np
import pytest
import torch

import mtvision as mtv
from tests.examples.test_examples import load
from tests.tasks_more.contract_task import check_task


def normals_of(size):
    """Return unit vectors of which some are void."""
    vectors = torch.nn.functional.normalize(torch.randn(3, *size, generator=torch.Generator().manual_seed(0)), dim=0)
    vectors[:, ::3, ::2] = torch.nan
    return vectors


def test_the_task_keeps_the_contract():
    load("custom_task")
    check_task("normals", normals_of)


def test_it_learns_and_says_so(tmp_path, capsys):
    before, after = load("custom_task").main(epochs=4, images=24, run_dir=tmp_path / "run")
    assert after < 30 < before
    assert f"mean angular error: {before:.1f} degrees before training, {after:.1f} after it" in capsys.readouterr().out
    assert list(mtv.load_model(tmp_path / "run").tasks) == ["normals"]


def test_the_normals_are_those_of_a_surface():
    """Of unit length; and the slopes of a surface have no curl: d(dz/dx)/dy = d(dz/dy)/dx."""
    bumps = load("custom_task").Bumps("", "val", num_images=8, side=128)
    assert mtv.data.check(bumps) == []
    for sample in bumps:
        normals = sample.maps["normals"].astype(np.float64)
        np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1, rtol=1e-6)
        dx, dy = -normals[..., 0] / normals[..., 2], -normals[..., 1] / normals[..., 2]
        cross_x, cross_y = np.gradient(dx, axis=0), np.gradient(dy, axis=1)
        inner = (slice(1, -1), slice(1, -1))
        np.testing.assert_allclose(cross_x[inner], cross_y[inner], atol=0.02 * np.abs(cross_x).max())
        assert np.abs(cross_x).max() > 1e-3


def test_the_angle_is_that_between_vectors():
    metric = load("custom_task").Angle()
    predicted = torch.tensor([[0.0, 1.0, 0.0]] * 3).T[:, None]  # (3, 1, 3): three pixels
    true = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, torch.nan]]).T[:, None]
    metric.update([predicted, predicted], [true, None])
    assert metric.compute() == pytest.approx((0 + 90) / 2)
