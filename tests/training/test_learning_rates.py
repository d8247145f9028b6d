"""Which parameter is moved how far: groups, factors, decay, and the rate that belongs to a number of images."""

import pytest
import torch
from small_runs import built, configured, distance, fitted, parameters

import mtvision as mtv
from mtvision.registries import BALANCERS
from mtvision.training.parameters import parameter_groups

EXACT = torch.float64
ONE_STEP = {"training__batch_size": 12}
OPTIMIZERS = ["sgd", "adamw", "lion"]


def grouped(cfg):
    model, _ = built(cfg)
    balancer = BALANCERS.build(cfg.training.balancer, len(model.tasks))
    return model, balancer, parameter_groups(model, balancer, cfg.training)


@pytest.mark.parametrize("norms", [False, True])
@pytest.mark.parametrize("balancer", ["fixed", "uncertainty"])
def test_each_parameter_is_in_one_group_with_its_decay_and_factor(norms, balancer):
    values = {"backbone_lr_factor": 0.25, "weight_decay": 0.1, "decay_norms_and_biases": norms, "balancer": balancer}
    model, weights, groups = grouped(configured(**{f"training__{key}": value for key, value in values.items()}))
    owner = {id(parameter): group for group in groups for parameter in group["params"]}
    named = {**dict(model.named_parameters()), **dict(weights.named_parameters(prefix="balancer"))}
    assert len(owner) == sum(len(group["params"]) for group in groups)
    assert owner.keys() == {id(parameter) for parameter in named.values()}
    assert any(name.startswith("balancer.") for name in named) == (balancer == "uncertainty")
    for name, parameter in named.items():
        group = owner[id(parameter)]
        assert group["lr_factor"] == (0.25 if name.startswith("backbone.") else 1.0), name
        decays = not name.startswith("balancer") and (norms or parameter.ndim >= 2)
        assert group["weight_decay"] == (0.1 if decays else 0.0), name
    assert not any(group["params"] == [] for group in groups)


def moved(**values):
    """Return how far one step moves each parameter, and the parameters before it."""
    cfg = configured(**ONE_STEP, **{f"training__{key}": value for key, value in values.items()})
    start = parameters(built(cfg, EXACT)[0])
    after = parameters(fitted(cfg, dtype=EXACT).model)
    return {name: after[name] - start[name] for name in start}, start


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_factor_multiplies_the_steps_of_the_backbone_alone(optimizer):
    (whole, _), (part, _) = (moved(optimizer=optimizer, backbone_lr_factor=factor) for factor in (1.0, 0.125))
    assert max(step.abs().max() for step in whole.values()) > 1e-3
    for name in whole:
        factor = 0.125 if name.startswith("backbone.") else 1.0
        torch.testing.assert_close(part[name], factor * whole[name], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_decay_takes_a_share_of_the_weights_and_of_norms_and_biases_only_if_wanted(optimizer):
    """Of SGD with momentum too in its first step: the decay is part of the gradient, and nothing is remembered yet."""
    without, start = moved(optimizer=optimizer)
    for norms in (False, True):
        decayed, _ = moved(optimizer=optimizer, weight_decay=0.1, decay_norms_and_biases=norms)
        for name, value in start.items():
            share = 0.01 * 0.1 if norms or value.ndim >= 2 else 0.0
            torch.testing.assert_close(decayed[name], without[name] - share * value, rtol=1e-6, atol=1e-12)


def test_factors_hold_for_every_optimizer_of_timm_that_needs_no_gpu_and_no_second_derivatives():
    elsewhere = ("bnb", "fused", "adahessian", "kron")  # CUDA, or (kron) too slow to begin with
    names = [name for name in mtv.OPTIMIZERS.names() if not name.startswith(elsewhere)]
    assert len(names) > 50
    for name in names:
        weight, bias = torch.nn.Parameter(torch.ones(4, 4)), torch.nn.Parameter(torch.ones(4))
        groups = [
            {"params": [weight], "weight_decay": 0.1, "lr_factor": 0.5},
            {"params": [bias], "weight_decay": 0.0, "lr_factor": 1.0},
        ]
        optimizer = mtv.OPTIMIZERS.build(mtv.registry.Component(name), groups, 0.01, 0.1)
        assert [group["lr_factor"] for group in optimizer.param_groups] == [0.5, 1.0], name
        assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0], name
        for _ in range(2):  # some only look around in the first one
            optimizer.zero_grad()
            (weight @ bias).square().sum().backward()
            optimizer.step()
        assert torch.isfinite(weight).all(), name
        assert not torch.equal(weight, torch.ones(4, 4)), name


@pytest.mark.parametrize(("accumulate", "expected"), [(1, 0.005), (3, 0.015)])
def test_the_rate_grows_with_the_images_a_step(accumulate, expected):
    cfg = configured(training__lr_batch_size_reference=8, training__accumulate=accumulate)
    assert fitted(cfg).history.column("lr") == pytest.approx([expected], rel=1e-12)


def test_the_rate_that_is_scaled_is_the_rate_that_acts():
    (scaled, _), (plain, _) = moved(lr_batch_size_reference=48), moved(lr=0.0025)
    assert distance(scaled, plain) < 1e-15
