import logging

import numpy as np
import pytest
import torch
from contract_task import check_task
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mtvision.errors import ConfigError, DataError
from mtvision.registries import SEGMENTATION_HEADS, TASKS
from mtvision.registry import Component
from mtvision.tasks.depth import DepthOutput, DepthTask, ScaleInvariantLog, l1
from mtvision.types import FeatureInfo

INFO = [FeatureInfo(4, 8), FeatureInfo(4, 16), FeatureInfo(4, 32)]


class FirstFeature(nn.Module):
    def forward(self, features):
        return features[0]


def make_task(loss=None, **limits):
    return DepthTask(FirstFeature(), loss, **{"min_depth": 0.5, "max_depth": 8.0, **limits})


def depth_of(size):
    """Depths of which some are void, too near, or too far."""
    depth = torch.linspace(0.5, 9.0, size[0] * size[1]).view(size).clone()
    depth[::3, ::2] = torch.nan
    depth[1] = 0
    return depth


def example(seed, images=3):
    rng = np.random.default_rng(seed)
    depth = torch.from_numpy(rng.uniform(0.5, 8, (images, 5, 6)))
    target = torch.from_numpy(rng.uniform(0.5, 8, (images, 5, 6)))
    target[torch.from_numpy(rng.random((images, 5, 6)) < 0.3)] = torch.nan
    return depth, target


@pytest.mark.parametrize("loss", ["l1", "scale_invariant_log"])
def test_contract(loss):
    check_task("depth", depth_of, loss=loss, min_depth=0.1, max_depth=8.5)


def test_contract_with_another_head():
    check_task("depth", depth_of, head=Component("unet"), max_depth=10.0)


def test_the_depth_is_the_sigmoid_within_the_limits():
    maps = torch.randn(2, 1, 8, 8) * 4
    depth = make_task()([maps], (61, 64)).depth
    resized = nn.functional.interpolate(maps, size=(61, 64), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(depth, 0.5 + 7.5 / (1 + (-resized).exp()))
    extreme = make_task()([torch.tensor([-1e4, 1e4]).view(2, 1, 1, 1)], (1, 1)).depth
    assert extreme.flatten().tolist() == [0.5, 8.0]
    assert make_task()([torch.zeros(1, 1, 1, 1)], (2, 2)).depth.unique().tolist() == [4.25]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1))
def test_scale_invariant_log_is_equation_4(seed, focus):
    depth, target = example(seed)
    expected = []
    for own, truth in zip(depth.numpy(), target.numpy(), strict=True):
        d = np.log(own) - np.log(truth)
        d = d[~np.isnan(d)]
        expected.append((d**2).sum() / len(d) - focus / len(d) ** 2 * d.sum() ** 2)
    torch.testing.assert_close(ScaleInvariantLog(focus)(depth, target).item(), float(np.mean(expected)))


def test_scale_invariant_log_is_also_the_sum_over_pairs_of_pixels():
    """Equation 2 of the paper, twice of which is equation 1: what pairs of pixels say of their ratio."""
    depth, target = example(1, images=1)
    d = (depth.log() - target.log())[~target.isnan()]
    pairs = (d[:, None] - d[None]).square().mean() / 2
    torch.testing.assert_close(ScaleInvariantLog(1.0)(depth, target), pairs)
    torch.testing.assert_close(ScaleInvariantLog(1.0)(3 * depth, target), pairs)
    torch.testing.assert_close(ScaleInvariantLog()(depth, target), pairs + d.mean().square() / 2)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_l1_is_the_mean_over_known_pixels(seed):
    depth, target = example(seed)
    torch.testing.assert_close(l1(depth, target).item(), float(np.nanmean(np.abs((depth - target).numpy()))))


@pytest.mark.parametrize("loss", [l1, ScaleInvariantLog(), ScaleInvariantLog(1.0)])
def test_gradients_are_right_and_nothing_where_nothing_is_known(loss):
    depth, target = example(3)
    target[1] = torch.nan
    depth.requires_grad_()
    assert torch.autograd.gradcheck(lambda values: loss(values, target), depth)
    loss(depth, target).backward()
    assert not depth.grad[target.isnan()].any()
    assert depth.grad[~target.isnan()].all()


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 0.0, -1.0, 0.49, 8.01])
@pytest.mark.parametrize("loss", [l1, ScaleInvariantLog()])
def test_what_is_not_within_the_limits_counts_nowhere(loss, value):
    depth, target = (values.float() for values in example(5))
    target[target.isnan()] = value
    void = target.clone()
    void[void == value] = torch.nan
    task = make_task(loss)
    got = task.loss(DepthOutput(depth), list(target))["depth"]
    torch.testing.assert_close(got, loss(depth, void))
    scored = []
    for truth in (target, void):
        metrics = task.metrics()
        metrics.update(list(depth), list(truth))
        scored.append(metrics.compute())
    assert scored[0] == scored[1]
    assert all(number.isfinite() for number in scored[0].values())


@pytest.mark.parametrize("edge", [0.5, 8.0])
def test_the_limits_themselves_count(edge):
    loss = make_task().loss(DepthOutput(torch.ones(1, 2, 2)), [torch.full((2, 2), edge)])["depth"]
    assert loss == abs(1 - edge)


def test_a_loss_of_ones_own():
    task = make_task(lambda depth, target: (depth - target).square().nansum())
    target = torch.tensor([[2.0, torch.nan]])
    assert task.loss(DepthOutput(torch.tensor([[[5.0, 1.0]]])), [target])["depth"] == 9
    with pytest.raises(ConfigError, match=r"must return a scalar, got \(1, 1, 2\)"):
        make_task(lambda depth, target: depth - target).loss(DepthOutput(torch.ones(1, 1, 2)), [target])


def test_postprocess_resizes_to_each_images_own_size():
    depth = torch.rand(2, 16, 12) + 1
    first, second = make_task().postprocess(DepthOutput(depth), [(16, 12), (33, 9)])
    assert torch.equal(first, depth[0])
    expected = nn.functional.interpolate(depth[1:, None], size=(33, 9), mode="bilinear", align_corners=False)
    torch.testing.assert_close(second, expected[0, 0])
    assert torch.equal(torch.stack(make_task().postprocess(DepthOutput(depth))), depth)


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ([torch.ones(4, 4)], r"expected one an image \(2\), got 1"),
        ([None, torch.ones(4, 5)], r"expected float \(4, 4\), got float32 \(4, 5\)"),
        ([torch.ones(4, 4, dtype=torch.int64), None], r"expected float \(4, 4\), got int64 \(4, 4\)"),
    ],
)
def test_targets_that_do_not_fit_are_named(target, sentence):
    with pytest.raises(DataError, match=sentence):
        make_task().loss(DepthOutput(torch.ones(2, 4, 4)), target)


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="0 < min_depth < max_depth, got 2 and 2"):
        TASKS.build(Component("depth", {"min_depth": 2.0, "max_depth": 2.0}), INFO)
    with pytest.raises(ConfigError, match="variance_focus in"):
        ScaleInvariantLog(1.5)
    with pytest.raises(ConfigError, match="must give 1 map, got 3"):
        make_task()([torch.zeros(1, 3, 2, 2)], (4, 4))


def dropout_of(task):
    return [module.p for module in task.modules() if isinstance(module, nn.Dropout2d)]


def test_dropout_goes_to_the_head_unless_it_has_its_own():
    own = {"head": Component("fcn", {"dropout_rate": 0.1}), "dropout_rate": 0.4}
    assert dropout_of(TASKS.build(Component("depth", {"dropout_rate": 0.4}), INFO)) == [0.4]
    assert dropout_of(TASKS.build(Component("depth", own), INFO)) == [0.1]


def test_a_head_without_dropout_is_named(caplog):
    @SEGMENTATION_HEADS.register("plain")
    class Plain(nn.Module):
        def __init__(self, feature_info, num_classes):
            super().__init__()
            self.layer = nn.Conv2d(feature_info[0].channels, num_classes, 1)

    with caplog.at_level(logging.WARNING):
        TASKS.build(Component("depth", {"head": Component("plain"), "dropout_rate": 0.3}), INFO)
    assert "segmentation head 'plain' has no option 'dropout_rate': model.dropout_rate=0.3 does not act" in caplog.text
