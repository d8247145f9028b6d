import math

import pytest
import timm
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from scipy import stats
from torch import nn

import mtvision as mtv
from mtvision.initializers import initialize, reset_norms, reset_priors, scheme_text
from mtvision.layers.blocks import FrozenBatchNorm2d
from mtvision.registries import INITIALIZERS
from mtvision.registry import Component

WIDE = (64, 96)  # in, out channels, 3 x 3
FAN_IN, FAN_OUT = 64 * 9, 96 * 9
CUT = stats.truncnorm(-2, 2)  # a normal distribution cut at two standard deviations
STDS = [
    (Component("kaiming"), (2 / FAN_IN) ** 0.5),
    (Component("kaiming", {"mode": "fan_out"}), (2 / FAN_OUT) ** 0.5),
    (Component("kaiming", {"mode": "fan_out", "distribution": "uniform"}), (2 / FAN_OUT) ** 0.5),
    (Component("xavier"), (2 / (FAN_IN + FAN_OUT)) ** 0.5),
    (Component("xavier", {"distribution": "normal", "gain": 2.0}), 2 * (2 / (FAN_IN + FAN_OUT)) ** 0.5),
    (Component("normal"), 0.01),
    (Component("normal", {"std": 0.1}), 0.1),
    (Component("trunc_normal"), 0.02 * CUT.std()),
    (Component("trunc_normal", {"std": 0.5}), 0.5 * CUT.std()),
]
LAYERS = {
    "conv": lambda: nn.Conv2d(*WIDE, 3),
    "transposed": lambda: nn.ConvTranspose2d(*WIDE, 3),
    # each of the four groups is a convolution of 64 to 96 channels
    "grouped": lambda: nn.Conv2d(4 * WIDE[0], 4 * WIDE[1], 3, groups=4),
    "grouped transposed": lambda: nn.ConvTranspose2d(4 * WIDE[0], 4 * WIDE[1], 3, groups=4),
    "linear": lambda: nn.Linear(FAN_IN, FAN_OUT),
}


def expected_distribution(choice, std):
    """Return a scipy distribution of mean 0 and the given standard deviation."""
    if choice.name == "trunc_normal":
        return stats.truncnorm(-2, 2, scale=std / CUT.std())
    if choice.options.get("distribution", "uniform" if choice.name == "xavier" else "normal") == "uniform":
        return stats.uniform(-(3**0.5) * std, 2 * 3**0.5 * std)
    return stats.norm(0, std)


@pytest.mark.parametrize(("choice", "std"), STDS, ids=[str(choice) for choice, _ in STDS])
@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_statistics_are_those_of_the_scheme(choice, std, make):
    torch.manual_seed(0)
    layer = make()
    initialize(layer, INITIALIZERS.build(choice))
    weight, expected = layer.weight.detach().flatten(), expected_distribution(choice, std)
    assert expected.std() == pytest.approx(std)
    count = weight.numel()
    assert abs(weight.mean().item()) < 4 * std / count**0.5
    assert weight.std().item() == pytest.approx(std, rel=4 / count**0.5)  # a normal sample's: 0.7 of that at 1 sigma
    assert stats.kstest(weight[:20_000].numpy(), expected.cdf).pvalue > 1e-3
    assert not layer.bias.any()
    _, bound = expected.support()
    if math.isfinite(bound):
        assert 0.98 * bound < weight.abs().max() <= bound * (1 + 1e-6)
    else:
        assert weight.abs().max() > 4 * std


@pytest.mark.parametrize("gain", [1.0, 2**0.5])
@pytest.mark.parametrize(
    "make",
    [
        *LAYERS.values(),
        lambda: nn.Conv2d(3, 64, 3),
        lambda: nn.Conv2d(64, 64, 3, groups=64),
        lambda: nn.ConvTranspose2d(64, 64, 3, groups=64),
        lambda: nn.Linear(40, 30).double(),
        lambda: nn.Conv2d(20, 10, 3).bfloat16(),
    ],
    ids=[*LAYERS, "tall", "depthwise", "depthwise transposed", "double", "bfloat16"],
)
def test_orthogonal_matrices_of_each_group(make, gain):
    torch.manual_seed(0)
    layer = make()
    initialize(layer, INITIALIZERS.build(Component("orthogonal", {"gain": gain})))
    tolerance = {torch.bfloat16: 2e-2, torch.float32: 1e-5, torch.float64: 1e-6}[layer.weight.dtype]
    for group in layer.weight.detach().chunk(getattr(layer, "groups", 1)):
        rows = group.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else group
        matrix = rows.flatten(1).double()
        product = matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix
        identity = gain**2 * torch.eye(len(product), dtype=torch.float64)
        torch.testing.assert_close(product, identity, rtol=0, atol=tolerance)
    assert not layer.bias.any()


def test_an_orthogonal_layer_keeps_lengths():
    torch.manual_seed(0)
    layer = nn.Linear(50, 50)
    initialize(layer, INITIALIZERS.build("orthogonal"))
    x = torch.randn(7, 50)
    torch.testing.assert_close(layer(x).norm(dim=1), x.norm(dim=1))


def test_depthwise_fans_are_those_of_one_channel():
    torch.manual_seed(0)
    layer = nn.Conv2d(4096, 4096, 3, groups=4096)
    for mode in ("fan_in", "fan_out"):
        initialize(layer, INITIALIZERS.build(Component("kaiming", {"mode": mode})))
        assert layer.weight.std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.03)


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


def test_frozen_norms_are_reset_too():
    norm = FrozenBatchNorm2d(3)
    norm.weight.fill_(0.0)
    norm.bias.fill_(2.0)
    assert reset_norms(nn.Sequential(norm)) == {}  # it has no parameters to speak of
    assert (norm.weight == 1).all()
    assert not norm.bias.any()


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
        Component("trunc_normal", {"std": 0.0}),
        Component("orthogonal", {"gain": 0.0}),
    ],
    ids=str,
)
def test_wrong_options_are_refused(choice):
    with pytest.raises(ValidationError):
        INITIALIZERS.build(choice)


@pytest.mark.parametrize("scheme", INITIALIZERS.names())
def test_pretrained_weights_are_bit_identical_and_priors_kept(scheme, tmp_path):
    torch.manual_seed(0)
    donor = timm.create_model("test_resnet", pretrained=False, num_classes=0)
    with torch.no_grad():
        for value in (*donor.parameters(), *donor.buffers()):
            if value.is_floating_point():
                value.copy_(torch.rand_like(value))  # norms too: none of them is 1 or 0
    save_file(donor.state_dict(), tmp_path / "w.safetensors")
    config = {"backbone": "test_resnet", "pretrained": str(tmp_path / "w.safetensors"), "init_scheme": scheme}
    model = mtv.build_model(config)
    stored = donor.state_dict()
    assert all(torch.equal(value, stored[key]) for key, value in model.backbone.net.state_dict().items())
    assert len(stored) == len(model.backbone.net.state_dict())
    before = {key: value.clone() for key, value in model.named_parameters()}
    priors = reset_priors(model)  # nothing new: they were in place
    assert "prior (p = 0.01)" in priors.values()
    assert all(torch.equal(value, before[key]) for key, value in model.named_parameters())


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext", "test_vit"])
def test_the_report_is_true(name):
    """What it names holds what it says, and what it does not name was left alone."""
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(0.2, 0.3)
    before = {key: value.clone() for key, value in model.named_parameters()}
    report = initialize(model, INITIALIZERS.build("xavier"), scheme="xavier")
    assert set(report.values()) == {"xavier", "norm: 1", "0"}
    parameters = dict(model.named_parameters())
    for key, text in report.items():
        value = parameters[key]
        if text == "xavier":
            assert value.ndim >= 2
            assert value.min() < 0 < value.max()
        else:
            assert (value == (1 if text == "norm: 1" else 0)).all()
    left = set(parameters) - set(report)
    assert all(torch.equal(parameters[key], before[key]) for key in left)
    assert ("pos_embed" in left) == (name == "test_vit")


def test_the_report_of_residual_norms():
    model = timm.create_model("resnet18", pretrained=False, num_classes=0)
    of = {id(parameter): name for name, parameter in model.named_parameters()}
    report = reset_norms(model, zero_init_residual=True)
    zero = {name for name, text in report.items() if text == "zero (residual)"}
    assert zero == {of[id(weight)] for weight in last_norms(model)}
    assert all(model.get_parameter(name).any() == (text == "norm: 1") for name, text in report.items())


def test_what_a_block_zeroes_is_no_longer_the_schemes():
    class Block(nn.Sequential):
        def zero_init_last(self):
            nn.init.zeros_(self[1].weight)

    model = Block(nn.Conv2d(3, 3, 1, bias=False), nn.Conv2d(3, 3, 1, bias=False))
    report = initialize(model, INITIALIZERS.build("normal"), scheme="normal", zero_init_residual=True)
    assert report == {"0.weight": "normal", "1.weight": "zero (residual)"}
    assert not model[1].weight.any()


def test_the_report_leaves_out_what_is_no_parameter():
    model = nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)), nn.BatchNorm2d(3, affine=False), nn.Linear(4, 3, False)
    )
    report = initialize(model, INITIALIZERS.build("normal"), scheme="normal")
    assert report == {"0.bias": "0", "2.weight": "normal"}


class PriorHead(nn.Module):
    """A head whose prior is written as ``write`` does it."""

    def __init__(self, write, probability=None):
        super().__init__()
        self.score = nn.Conv2d(3, 2, 1)
        self.scale = nn.Parameter(torch.ones(1))
        self.write = write
        if probability is not None:
            self.prior_probability = probability

    def reset_prior(self):
        self.write(self.score)


def fill(value):
    return lambda layer: nn.init.constant_(layer.bias, value)


def fill_data(value):
    return lambda layer: layer.bias.data.fill_(value)


def new_bias(value):
    def write(layer):
        layer.bias = nn.Parameter(torch.full((2,), value))

    return write


@pytest.mark.parametrize("write", [fill, fill_data, new_bias])
@pytest.mark.parametrize(
    ("value", "probability", "text"),
    [
        (-math.log(99), 0.01, "prior (p = 0.01)"),
        (-math.log(9), 0.1, "prior (p = 0.1)"),
        (-math.log(9), 0.2, "prior"),
        (-2.0, None, "prior"),
    ],
)
def test_the_report_of_priors(write, value, probability, text):
    model = nn.Sequential(nn.Conv2d(3, 3, 1), PriorHead(write(value), probability))
    assert reset_priors(model) == {"1.score.bias": text}
    assert reset_priors(model[1]) == (
        {"score.bias": text} if write is not fill_data else {}
    )  # .data tells a change only


def test_a_scheme_is_named_with_all_its_options():
    assert scheme_text(Component("kaiming", {"mode": "fan_out"})) == "kaiming(mode='fan_out', distribution='normal')"
    assert scheme_text(Component("trunc_normal")) == "trunc_normal(std=0.02)"
    with pytest.raises(ValidationError):
        scheme_text(Component("normal", {"sdt": 1.0}))
