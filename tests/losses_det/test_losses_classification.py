import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torchvision.ops import sigmoid_focal_loss as torchvision_focal

from mtvision.losses.classification import quality_focal_loss, sigmoid_focal_loss, varifocal_loss
from mtvision.registries import CLASSIFICATION_LOSSES
from mtvision.registry import Component

LOGITS = torch.linspace(-8, 8, 33)
QUALITY_LOSSES = ["quality_focal", "varifocal"]


def cross_entropy(targets):
    return F.binary_cross_entropy_with_logits(LOGITS, targets, reduction="none")


def gradient_of(loss, targets, logits=LOGITS):
    logits = logits.clone().requires_grad_()
    return torch.autograd.grad(loss(logits, targets).sum(), logits)[0]


# -- focal and binary cross-entropy --


@pytest.mark.parametrize("gamma", [0.0, 1.5, 2.0])
@pytest.mark.parametrize("alpha", [None, 0.25, 0.9])
@pytest.mark.parametrize("target", [0.0, 1.0])
def test_equals_torchvisions_for_hard_targets(gamma, alpha, target):
    targets = torch.full_like(LOGITS, target)

    def expected(logits, targets):
        return torchvision_focal(logits, targets, alpha=-1 if alpha is None else alpha, gamma=gamma)

    ours = CLASSIFICATION_LOSSES.build(Component("focal", {"gamma": gamma, "alpha": alpha}))
    torch.testing.assert_close(ours(LOGITS, targets), expected(LOGITS, targets))
    torch.testing.assert_close(gradient_of(ours, targets), gradient_of(expected, targets))


def test_gamma_zero_is_binary_cross_entropy():
    targets = torch.linspace(0, 1, 33)
    expected = cross_entropy(targets)
    torch.testing.assert_close(CLASSIFICATION_LOSSES.build("bce")(LOGITS, targets), expected)
    torch.testing.assert_close(sigmoid_focal_loss(LOGITS, targets, gamma=0.0), expected)


# -- quality focal --


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0, 3.5])
def test_quality_focal_on_hard_targets_is_focal_without_alpha(beta):
    loss = CLASSIFICATION_LOSSES.build(Component("quality_focal", {"beta": beta}))
    targets = (torch.arange(33) % 2).float()
    torch.testing.assert_close(loss(LOGITS, targets), torchvision_focal(LOGITS, targets, alpha=-1, gamma=beta))


def test_quality_focal_equals_its_equation():
    targets = torch.linspace(0, 1, 33)
    expected = [
        -(abs(q - p) ** 2) * ((1 - q) * math.log(1 - p) + q * math.log(p))
        for q, p in zip(targets.tolist(), LOGITS.double().sigmoid().tolist(), strict=True)
    ]
    torch.testing.assert_close(quality_focal_loss(LOGITS, targets), torch.tensor(expected), atol=1e-6, rtol=1e-5)


# -- varifocal --


@pytest.mark.parametrize(("alpha", "gamma"), [(0.75, 2.0), (1.0, 1.5), (0.25, 0.0)])
def test_varifocal_at_negatives_is_focal(alpha, gamma):
    loss = CLASSIFICATION_LOSSES.build(Component("varifocal", {"alpha": alpha, "gamma": gamma}))

    def expected(logits, targets):  # torchvision weighs negatives by 1 - alpha
        if alpha == 1:
            return torchvision_focal(logits, targets, alpha=-1, gamma=gamma)
        return torchvision_focal(logits, targets, alpha=1 - alpha, gamma=gamma)

    negatives = torch.zeros(33)
    torch.testing.assert_close(loss(LOGITS, negatives), expected(LOGITS, negatives))
    torch.testing.assert_close(gradient_of(loss, negatives), gradient_of(expected, negatives))


@pytest.mark.parametrize("quality", [1e-3, 0.3, 1.0])
def test_varifocal_at_positives_is_cross_entropy_weighted_by_quality(quality):
    targets = torch.full((33,), quality)
    for alpha, gamma in ((0.75, 2.0), (0.1, 0.0)):  # which positives do not know
        torch.testing.assert_close(varifocal_loss(LOGITS, targets, alpha, gamma), quality * cross_entropy(targets))


# -- all of them --


@pytest.mark.parametrize("name", CLASSIFICATION_LOSSES.names())
@pytest.mark.parametrize("target", [0.0, 0.1, 0.5, 0.83, 1.0])
def test_a_soft_target_is_the_minimum(name, target):
    logits = torch.linspace(-6, 6, 1201)
    loss = CLASSIFICATION_LOSSES.build(name)(logits, torch.full_like(logits, target))
    assert logits[loss.argmin()].sigmoid().item() == pytest.approx(target, abs=0.01)


@pytest.mark.parametrize("name", CLASSIFICATION_LOSSES.names())
@settings(max_examples=80, deadline=None)
@given(logit=st.floats(-(2.0**120), 2.0**120, width=32), target=st.floats(0, 1, width=32))  # times gamma: no overflow
def test_finite_and_not_negative_for_every_logit(name, logit, target):
    loss, targets, logits = CLASSIFICATION_LOSSES.build(name), torch.tensor([target]), torch.tensor([logit])
    value = loss(logits, targets)
    assert value.isfinite().all()
    assert value >= 0
    assert gradient_of(loss, targets, logits).isfinite().all()


@pytest.mark.parametrize("options", [("focal", "gamma"), ("quality_focal", "beta"), ("varifocal", "gamma")])
@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0])
def test_gradient_is_finite_where_nothing_is_wrong(options, exponent):
    name, option = options
    loss = CLASSIFICATION_LOSSES.build(Component(name, {option: exponent}))
    logits, targets = torch.tensor([0.0, 200.0, -200.0, -1e30]), torch.tensor([0.5, 1.0, 0.0, 0.0])
    assert gradient_of(loss, targets, logits).isfinite().all()


@pytest.mark.parametrize("name", CLASSIFICATION_LOSSES.names())
def test_gradient_is_that_of_the_value(name):
    logits = torch.linspace(-4, 4, 9, dtype=torch.float64).requires_grad_()
    targets = torch.tensor([0.0, 1.0, 0.3, 0.9, 0.1, 0.0, 1.0, 0.2, 0.7], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: CLASSIFICATION_LOSSES.build(name)(x, targets), (logits,))


@pytest.mark.parametrize("name", CLASSIFICATION_LOSSES.names())
def test_contract(name):
    loss = CLASSIFICATION_LOSSES.build(name)
    logits, targets = LOGITS.view(1, 11, 3), torch.linspace(0, 1, 33).view(1, 11, 3)
    assert loss(logits, targets).shape == (1, 11, 3)
    assert loss(logits[:, :0], targets[:, :0]).shape == (1, 0, 3)
    assert loss(LOGITS.half(), torch.zeros(33).half()).dtype == torch.float32
    torch.testing.assert_close(loss(LOGITS.bfloat16(), torch.zeros(33)), loss(LOGITS, torch.zeros(33)))  # exact in both
    assert torch.equal(pickle.loads(pickle.dumps(loss))(logits, targets), loss(logits, targets))


@pytest.mark.parametrize("name", CLASSIFICATION_LOSSES.names())
def test_compiles_in_one_graph(name):
    loss, targets = CLASSIFICATION_LOSSES.build(name), torch.linspace(0, 1, 33)
    compiled = torch.compile(loss.function if name in QUALITY_LOSSES else loss, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(LOGITS, targets), loss(LOGITS, targets))


def test_only_quality_losses_say_so():
    built = {name: CLASSIFICATION_LOSSES.build(name) for name in CLASSIFICATION_LOSSES.names()}
    assert [name for name, loss in built.items() if getattr(loss, "wants_quality", False)] == QUALITY_LOSSES


@pytest.mark.parametrize(
    "choice",
    [
        Component("focal", {"alpha": 1.5}),
        Component("focal", {"gamma": -1}),
        Component("varifocal", {"alpha": -0.1}),
        Component("quality_focal", {"gamma": 2}),
    ],
    ids=str,
)
def test_options_are_bounded(choice):
    with pytest.raises(ValidationError):
        CLASSIFICATION_LOSSES.build(choice)
