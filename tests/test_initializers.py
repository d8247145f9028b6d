import pytest
import timm
import torch
from pydantic import ValidationError
from torch import nn

from mtvision.initializers import initialize, reset_norms, reset_priors
from mtvision.registries import INITIALIZERS
from mtvision.registry import Component

WIDE = (64, 96)  # in, out channels, 3 x 3
FAN_IN, FAN_OUT = 64 * 9, 96 * 9
STDS = [
    (Component("kaiming"), (2 / FAN_IN) ** 0.5),
    (Component("kaiming", {"mode": "fan_out"}), (2 / FAN_OUT) ** 0.5),
    (Component("kaiming", {"mode": "fan_out", "distribution": "uniform"}), (2 / FAN_OUT) ** 0.5),
    (Component("xavier"), (2 / (FAN_IN + FAN_OUT)) ** 0.5),
    (Component("xavier", {"distribution": "normal", "gain": 2.0}), 2 * (2 / (FAN_IN + FAN_OUT)) ** 0.5),
    (Component("normal"), 0.01),
    (Component("normal", {"std": 0.1}), 0.1),
]


def is_uniform(choice):
    return choice.options.get("distribution", "uniform" if choice.name == "xavier" else "normal") == "uniform"


@pytest.mark.parametrize(("choice", "std"), STDS, ids=[str(choice) for choice, _ in STDS])
@pytest.mark.parametrize("make", [nn.Conv2d, nn.ConvTranspose2d, "grouped"])
def test_statistics_are_those_of_the_scheme(choice, std, make):
    torch.manual_seed(0)
    # each of the four groups is a convolution of 64 to 96 channels
    layer = nn.Conv2d(4 * WIDE[0], 4 * WIDE[1], 3, groups=4) if make == "grouped" else make(*WIDE, 3)
    initialize(layer, INITIALIZERS.build(choice))
    assert layer.weight.std().item() == pytest.approx(std, rel=0.03)
    assert layer.weight.mean().abs() < 0.05 * std
    assert not layer.bias.any()
    bound = layer.weight.abs().max().item()
    if is_uniform(choice):  # a uniform distribution ends at sqrt(3) standard deviations
        assert bound <= 3**0.5 * std * (1 + 1e-6)
        assert bound > 0.99 * 3**0.5 * std
    else:
        assert bound > 3 * std


def test_depthwise_fans_are_those_of_one_channel():
    torch.manual_seed(0)
    layer = nn.Conv2d(4096, 4096, 3, groups=4096)
    for mode in ("fan_in", "fan_out"):
        initialize(layer, INITIALIZERS.build(Component("kaiming", {"mode": mode})))
        assert layer.weight.std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.03)


def test_grouped_transposed_convolution():
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(4 * WIDE[0], 4 * WIDE[1], 3, groups=4)
    initialize(layer, INITIALIZERS.build("kaiming"))
    assert layer.weight.std().item() == pytest.approx((2 / FAN_IN) ** 0.5, rel=0.03)


def test_linear_and_norms():
    model = nn.Sequential(nn.Linear(300, 400), nn.BatchNorm1d(4), nn.GroupNorm(2, 4), nn.LayerNorm(4), nn.RMSNorm(4))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.3)
    initialize(model, INITIALIZERS.build("xavier"))
    assert model[0].weight.std().item() == pytest.approx((2 / 700) ** 0.5, rel=0.03)
    assert not model[0].bias.any()
    for norm in model[1:]:
        assert (norm.weight == 1).all()
        assert getattr(norm, "bias", None) is None or not norm.bias.any()


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext"])
def test_norms_of_timm_are_one_after_initialization(name):
    model = timm.create_model(name, pretrained=False, features_only=True)
    initialize(model, INITIALIZERS.build("kaiming"))
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm)]
    assert norms
    assert all((m.weight == 1).all() and not m.bias.any() for m in norms)


def last_norms(model):
    return [block.bn2.weight for block in model.modules() if hasattr(block, "zero_init_last")]


def test_residual_norms_are_zero_only_when_asked():
    model = timm.create_model("resnet18", pretrained=False, features_only=True)
    assert not any(weight.any() for weight in last_norms(model))  # timm's own default, and why reset_norms exists
    before = model.conv1.weight.clone()
    reset_norms(model)
    assert len(last_norms(model)) == 8
    assert all((weight == 1).all() for weight in last_norms(model))
    assert torch.equal(model.conv1.weight, before)
    reset_norms(model, zero_init_residual=True)
    assert not any(weight.any() for weight in last_norms(model))
    initialize(model, INITIALIZERS.build("kaiming"))
    assert all((weight == 1).all() for weight in last_norms(model))
    initialize(model, INITIALIZERS.build("kaiming"), zero_init_residual=True)
    assert not any(weight.any() for weight in last_norms(model))
    assert (model.bn1.weight == 1).all()


def test_norms_without_weights_pass():
    norms = nn.Sequential(nn.BatchNorm2d(3, affine=False), nn.InstanceNorm2d(3))
    initialize(norms, INITIALIZERS.build("normal"))
    assert list(norms.parameters()) == []


def test_other_parameters_are_kept():
    model = timm.create_model("test_vit", pretrained=False)
    before = model.pos_embed.clone()
    initialize(model, INITIALIZERS.build("normal"))
    assert torch.equal(model.pos_embed, before)


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.score = nn.Conv2d(3, 2, 1)

    def reset_prior(self):
        self.score.bias.fill_(-4.0)


def test_priors_come_after_the_scheme():
    model = nn.Sequential(Head(), nn.Sequential(Head()))
    initialize(model, INITIALIZERS.build("kaiming"))
    assert not model[0].score.bias.any()
    reset_priors(model)
    assert (model[0].score.bias == -4).all()
    assert (model[1][0].score.bias == -4).all()
    assert model[0].score.bias.requires_grad


def test_same_seed_same_weights():
    layers = [nn.Conv2d(8, 8, 3) for _ in range(2)]
    for layer in layers:
        torch.manual_seed(3)
        initialize(layer, INITIALIZERS.build("xavier"))
    assert torch.equal(layers[0].weight, layers[1].weight)


@pytest.mark.parametrize(
    "choice",
    [
        Component("kaiming", {"mode": "fan"}),
        Component("xavier", {"gain": 0.0}),
        Component("normal", {"std": -1.0}),
        Component("normal", {"sdt": 1.0}),
    ],
    ids=str,
)
def test_wrong_options_are_refused(choice):
    with pytest.raises(ValidationError):
        INITIALIZERS.build(choice)
