import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss as torchvision_focal

from mtvision.losses.classification import sigmoid_focal_loss
from mtvision.registries import CLASSIFICATION_LOSSES

LOGITS = torch.linspace(-8, 8, 33)


@pytest.mark.parametrize("gamma", [0.0, 1.5, 2.0])
@pytest.mark.parametrize("alpha", [None, 0.25, 0.9])
@pytest.mark.parametrize("target", [0.0, 1.0])
def test_equals_torchvisions_for_hard_targets(gamma, alpha, target):
    targets = torch.full_like(LOGITS, target)
    expected = torchvision_focal(LOGITS, targets, alpha=-1 if alpha is None else alpha, gamma=gamma)
    torch.testing.assert_close(sigmoid_focal_loss(LOGITS, targets, gamma, alpha), expected)


def test_gamma_zero_is_binary_cross_entropy():
    targets = torch.linspace(0, 1, 33)
    expected = F.binary_cross_entropy_with_logits(LOGITS, targets, reduction="none")
    torch.testing.assert_close(CLASSIFICATION_LOSSES.build("bce")(LOGITS, targets), expected)
    torch.testing.assert_close(sigmoid_focal_loss(LOGITS, targets, gamma=0.0), expected)


@pytest.mark.parametrize("name", CLASSIFICATION_LOSSES.names())
@pytest.mark.parametrize("target", [0.0, 0.1, 0.5, 0.83, 1.0])
def test_a_soft_target_is_the_minimum(name, target):
    logits = torch.linspace(-6, 6, 1201)
    loss = CLASSIFICATION_LOSSES.build(name)(logits, torch.full_like(logits, target))
    assert logits[loss.argmin()].sigmoid().item() == pytest.approx(target, abs=0.01)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_gradient_is_finite_where_nothing_is_wrong(gamma):
    logits = torch.tensor([0.0, 200.0, -200.0], requires_grad=True)
    sigmoid_focal_loss(logits, torch.tensor([0.5, 1.0, 0.0]), gamma).sum().backward()
    assert logits.grad.isfinite().all()


def test_half_precision_is_computed_in_float32():
    assert sigmoid_focal_loss(LOGITS.half(), torch.zeros(33).half()).dtype == torch.float32
