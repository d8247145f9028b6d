import pytest
import timm
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import nn

import mtvision as mtv
from contract import check_compiles, check_export
from families import FAMILIES, ONE_STRIDE
from mtvision.activations import is_nonlinearity, replace_activations
from mtvision.registries import ACTIVATIONS
from mtvision.registry import Component

MODELS = [name for name in FAMILIES if name != ONE_STRIDE]

FORMULAS = {
    "relu": lambda x: x.clamp(min=0),
    "relu6": lambda x: x.clamp(0, 6),
    "leaky_relu": lambda x: torch.where(x > 0, x, 0.01 * x),
    "prelu": lambda x: torch.where(x > 0, x, 0.25 * x),
    "elu": lambda x: torch.where(x > 0, x, x.exp() - 1),
    "gelu": lambda x: x * (1 + torch.erf(x / 2**0.5)) / 2,
    "silu": lambda x: x * torch.sigmoid(x),
    "mish": lambda x: x * torch.tanh(F.softplus(x)),
    "hardswish": lambda x: x * (x + 3).clamp(0, 6) / 6,
}


@pytest.mark.parametrize("name", ACTIVATIONS.names())
def test_formula(name):
    x = torch.linspace(-8, 8, 101)
    torch.testing.assert_close(ACTIVATIONS.build(name)(x.clone()), FORMULAS[name](x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ACTIVATIONS.names())
def test_compiles_and_exports(name):
    model = nn.Sequential(nn.Conv2d(3, 8, 3, 32, 1), ACTIVATIONS.build(name), nn.Conv2d(8, 4, 1)).eval()
    check_compiles(model)
    check_export(model)


@pytest.mark.parametrize(
    ("model_name", "name"), [(model, "leaky_relu") for model in MODELS] + [("test_resnet", "gelu")]
)
def test_no_other_nonlinearity_is_left(model_name, name):
    torch.manual_seed(0)
    model = timm.create_model(model_name, pretrained=False, features_only=True).eval()
    images = torch.randn(1, 3, 224, 224)
    gates = [key for key, module in model.named_modules() if isinstance(module, nn.Sigmoid | nn.Hardsigmoid)]
    with torch.no_grad():
        before = model(images)[-1]
    replaced = replace_activations(model, lambda: ACTIVATIONS.build(name))
    after = [module for module in model.modules() if is_nonlinearity(module)]
    assert {type(module) for module in after} == {type(ACTIVATIONS.build(name))}
    assert replaced == len(after) > 0
    assert gates == [key for key, module in model.named_modules() if isinstance(module, nn.Sigmoid | nn.Hardsigmoid)]
    with torch.no_grad():
        assert not torch.equal(model(images)[-1], before)


@pytest.mark.parametrize(("backbone", "head"), [("test_resnet", "fcn"), ("test_efficientnet", "unet")])
@pytest.mark.parametrize("name", ACTIVATIONS.names())
def test_every_activation_acts_in_backbone_and_heads(name, backbone, head, monkeypatch):
    """The whole model is the one with its parts' own activations, each of which computes the formula instead."""
    config = {"backbone": backbone, "segmentation_head": head, "num_classes": {"seg": 3, "det": 2}}
    model = mtv.build_model({**config, "activation": name}).eval()
    for part in (model.backbone, *model.tasks.values()):
        assert {type(m) for m in part.modules() if is_nonlinearity(m)} == {type(ACTIVATIONS.build(name))}
    images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    oracle = mtv.build_model({**config, "activation": None}).eval()
    with torch.no_grad():
        got = model(images)
        for kind in {type(module) for module in oracle.modules() if is_nonlinearity(module)}:
            monkeypatch.setattr(kind, "forward", lambda self, x: FORMULAS[name](x))
        expected = oracle(images)
    torch.testing.assert_close(got["seg"].logits, expected["seg"].logits, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(got["det"].box_regression, expected["det"].box_regression, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(got["det"].class_logits, expected["det"].class_logits, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("model_name", MODELS)
def test_nothing_activation_like_is_overlooked(model_name):
    """Whatever timm or torch define as an activation is either a nonlinearity or one of the gates we know."""
    model = timm.create_model(model_name, pretrained=False, features_only=True)
    activations = {
        type(module).__name__
        for module in model.modules()
        if type(module).__module__
        in ("torch.nn.modules.activation", "timm.layers.activations", "timm.layers.activations_me")
        and not is_nonlinearity(module)
    }
    assert activations <= {"Sigmoid", "Hardsigmoid", "HardSigmoid", "Softmax"}


def test_shared_modules_stay_shared():
    shared = nn.ReLU()
    model = nn.Sequential(shared, nn.Linear(2, 2), shared, nn.Sequential(shared))
    assert replace_activations(model, nn.PReLU) == 1
    assert model[0] is model[2] is model[3][0]
    assert isinstance(model[0], nn.PReLU)
    assert replace_activations(model, nn.GELU) == 1


def test_places_that_are_no_nonlinearity_stay():
    kept = [nn.Sigmoid(), nn.Hardsigmoid(), nn.Softmax(1), nn.Identity(), nn.Tanh()]
    model = nn.Sequential(*kept)
    assert replace_activations(model, nn.ReLU) == 0
    assert list(model) == kept


def test_inplace_and_mode_are_kept():
    model = nn.Sequential(nn.ReLU(inplace=True), nn.ReLU(), nn.GELU()).eval()
    replace_activations(model, lambda: nn.SiLU(inplace=True))
    assert [module.inplace for module in model] == [True, False, False]
    assert not model[0].training


def test_every_place_of_parameters_of_its_own():
    model = nn.Sequential(nn.ReLU(), nn.ReLU())
    replace_activations(model, lambda: ACTIVATIONS.build("prelu"))
    assert len(list(model.parameters())) == 2


def test_batch_norm_act_of_timm():
    norm = timm.layers.BatchNormAct2d(4, act_layer=nn.ReLU)
    assert replace_activations(norm, nn.GELU) == 1
    x = torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(norm.eval()(x), F.gelu(x / (1 + norm.eps) ** 0.5))


def test_options():
    assert ACTIVATIONS.build(Component("leaky_relu", {"negative_slope": 0.2})).negative_slope == 0.2
    with pytest.raises(ValidationError):
        ACTIVATIONS.build(Component("leaky_relu", {"negative_slope": -0.2}))
    with pytest.raises(ValidationError):
        ACTIVATIONS.build(Component("relu", {"negative_slope": 0.2}))
