import copy
import pickle
from functools import partial

import pytest
import timm
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn
from torchvision.ops import FrozenBatchNorm2d as TorchvisionFrozen

from contract import check_compiles, check_export
from mtvision.activations import is_nonlinearity, replace_activations
from mtvision.errors import ConfigError, RegistryError
from mtvision.initializers import initialize, reset_norms
from mtvision.layers.blocks import ConvNormAct, FrozenBatchNorm2d, make_norm
from mtvision.norms import replace_norms
from mtvision.registries import INITIALIZERS, NORMS
from mtvision.registry import Component

MODELS = ["test_resnet", "test_efficientnet"]
CHOICES = ["group", "sync", "frozen"]


def scrambled(module):
    """Give every norm weights and statistics that no default has."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for norm in module.modules():
            if isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm):
                for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                    if value is not None:
                        value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
                if norm.num_batches_tracked is not None:
                    norm.num_batches_tracked.fill_(7)
    return module


def network(name):
    torch.manual_seed(0)
    return scrambled(timm.create_model(name, pretrained=False, features_only=True))


def maps(channels=8):
    return torch.randn(3, channels, 5, 6, generator=torch.Generator().manual_seed(1))


def batch_norm(channels=8, **options):
    return scrambled(nn.BatchNorm2d(channels, **options))


def test_the_family():
    assert NORMS.names() == ["batch", "frozen", "group", "sync"]


@pytest.mark.parametrize("name", ["batch", "sync"])
def test_batch_norm_formula(name):
    x = maps()
    norm = NORMS.build(Component(name, {"momentum": 0.25, "eps": 0.01}), 8)
    variance, mean = torch.var_mean(x, (0, 2, 3), correction=0, keepdim=True)
    torch.testing.assert_close(norm(x), (x - mean) / (variance + 0.01).sqrt())
    torch.testing.assert_close(norm.running_mean, 0.25 * x.mean((0, 2, 3)))


def test_sync_in_one_process_is_batch_norm():
    batch, sync = NORMS.build("batch", 8), NORMS.build("sync", 8)
    sync.load_state_dict(batch.state_dict())
    for _ in range(3):
        x = torch.randn(4, 8, 5, 6)
        assert torch.equal(sync(x), batch(x))
    assert all(torch.equal(a, b) for a, b in zip(sync.state_dict().values(), batch.state_dict().values(), strict=True))
    assert torch.equal(sync.eval()(x), batch.eval()(x))


def groups_of(norm, x):
    """Return the normalized maps by the paper's equation: the statistics of each group of channels of each image."""
    grouped = x.unflatten(1, (norm.num_groups, -1))
    variance, mean = torch.var_mean(grouped, (2, 3, 4), correction=0, keepdim=True)
    return ((grouped - mean) / (variance + norm.eps).sqrt()).flatten(1, 2)


@pytest.mark.parametrize(
    ("options", "num_groups"), [({}, 3), ({"num_groups": 8}, 8), ({"channels_per_group": 8}, 6), ({"num_groups": 1}, 1)]
)
def test_group_norm_formula(options, num_groups):
    norm = NORMS.build(Component("group", options), 48)
    assert norm.num_groups == num_groups
    torch.testing.assert_close(norm(maps(48)), groups_of(norm, maps(48)))


@given(st.integers(1, 2048))
def test_groups_divide_and_are_wide_by_default(channels):
    norm = NORMS.build("group", channels)
    assert channels % norm.num_groups == 0
    assert norm.num_groups == 1 or channels // norm.num_groups >= 16
    assert norm.num_groups == make_norm("group", channels).num_groups


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"num_groups": 5}, "norm 'group': num_groups=5 does not divide the 8 channels of a layer"),
        ({"channels_per_group": 3}, "norm 'group': channels_per_group=3 does not divide the 8 channels of a layer"),
        (
            {"num_groups": 2, "channels_per_group": 4},
            "norm 'group': num_groups and channels_per_group say the same; give one of them",
        ),
    ],
)
def test_groups_that_do_not_fit(options, sentence):
    with pytest.raises(ConfigError) as caught:
        NORMS.build(Component("group", options), 8)
    assert caught.value.problems == (sentence,)


@pytest.mark.parametrize(
    "choice",
    [
        Component("batch", {"momentum": 0.0}),
        Component("sync", {"eps": 0.0}),
        Component("frozen", {"momentum": 0.1}),
        Component("group", {"num_groups": 0}),
    ],
    ids=str,
)
def test_wrong_options_are_refused(choice):
    with pytest.raises(ValidationError):
        NORMS.build(choice, 8)


def frozen_like(batch):
    frozen = NORMS.build(Component("frozen", {"eps": batch.eps}), batch.num_features)
    frozen.load_state_dict(batch.state_dict())
    return frozen


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_frozen_is_batch_norm_in_evaluation(dtype):
    batch = batch_norm(eps=1e-3).eval().to(dtype)
    x = maps().to(dtype).requires_grad_()
    frozen = frozen_like(batch).to(dtype)
    frozen.load_state_dict(batch.state_dict())
    expected = batch(x)
    (gradient,) = torch.autograd.grad(expected.square().sum(), x)
    for training in (True, False):
        output = frozen.train(training)(x)
        assert torch.equal(output, expected)
        assert torch.equal(torch.autograd.grad(output.square().sum(), x)[0], gradient)


def test_frozen_stays_frozen():
    frozen = frozen_like(batch_norm())
    before = copy.deepcopy(frozen.state_dict())
    assert list(frozen.parameters()) == []
    frozen.train()(maps()).sum()
    assert all(torch.equal(value, before[key]) for key, value in frozen.state_dict().items())


def test_frozen_is_torchvisions():
    batch = batch_norm()
    oracle = TorchvisionFrozen(8)
    oracle.load_state_dict(batch.state_dict())
    frozen = frozen_like(batch)
    torch.testing.assert_close(frozen(maps()), oracle(maps()))
    fresh = FrozenBatchNorm2d(8)
    fresh.load_state_dict(oracle.state_dict())
    assert torch.equal(fresh(maps()), frozen(maps()))


def test_frozen_weights_go_back_into_a_batch_norm():
    batch = batch_norm()
    thawed = nn.BatchNorm2d(8)
    thawed.load_state_dict(frozen_like(batch).state_dict())
    assert torch.equal(thawed.eval()(maps()), batch.eval()(maps()))


def test_frozen_refuses_other_weights():
    state = batch_norm().state_dict()
    with pytest.raises(RuntimeError, match="Missing key"):
        FrozenBatchNorm2d(8).load_state_dict({key: value for key, value in state.items() if key != "running_var"})
    with pytest.raises(RuntimeError, match="Unexpected key"):
        FrozenBatchNorm2d(8).load_state_dict({**state, "gamma": torch.ones(8)})
    assert "num_batches_tracked" in state  # of the caller, not taken away


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("name", MODELS)
def test_no_batch_norm_is_left_and_training_runs(name, choice):
    model = network(name)
    number = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    names = [key for key, _ in model.named_parameters()]
    assert replace_norms(model, Component(choice)) == number > 0
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert sum(type(module) is type(NORMS.build(choice, 16)) for module in model.modules()) == number
    kept = [key for key, _ in model.named_parameters()]
    assert kept == names if choice != "frozen" else set(kept) < set(names)
    assert model.training
    sum(feature.square().mean() for feature in model(torch.randn(2, 3, 65, 97))).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("choice", ["batch", "sync", "frozen"])
@pytest.mark.parametrize("name", [*MODELS, "tf_mobilenetv3_small_minimal_100"])
def test_norms_with_statistics_change_nothing_in_evaluation(name, choice):
    model = network(name).eval()
    state = copy.deepcopy(model.state_dict())
    images = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        expected = model(images)
        replace_norms(model, choice)
        assert all(torch.equal(a, b) for a, b in zip(model(images), expected, strict=True))
    fresh = timm.create_model(name, pretrained=False, features_only=True).eval()
    replace_norms(fresh, choice)
    fresh.load_state_dict(state)  # a checkpoint with batch norms, strictly
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(fresh(images), expected, strict=True))


def test_frozen_norms_of_a_network_ignore_the_mode():
    model = network("test_resnet")
    replace_norms(model, "frozen")
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model.train()(images)[-1], model.eval()(images)[-1])


@pytest.mark.parametrize(
    ("name", "norm_layer"),
    [("test_resnet", timm.layers.GroupNorm), ("test_efficientnet", timm.layers.GroupNormAct)],
)
def test_group_norm_is_what_timm_builds_with_it(name, norm_layer):
    oracle = timm.create_model(name, features_only=True, norm_layer=partial(norm_layer, num_groups=4))
    model = timm.create_model(name, features_only=True)
    replace_norms(model, Component("group", {"num_groups": 4}))
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in oracle.parameters():
            parameter.add_(0.1 * torch.rand_like(parameter))
    model.load_state_dict(oracle.state_dict())
    images = torch.randn(2, 3, 65, 97)
    for training in (True, False):
        for ours, theirs in zip(model.train(training)(images), oracle.train(training)(images), strict=True):
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("name", "choice"),
    [("test_resnet", "sync"), ("test_resnet", "frozen"), *[("test_efficientnet", n) for n in CHOICES]],
)
def test_export_and_compilation(name, choice):
    model = network(name).eval()
    replace_norms(model, choice)
    check_export(model)
    check_compiles(model)


class Minus(nn.Module):
    """Stands for a dropout: it changes what an activation after it gives."""

    def forward(self, x):
        return x - 0.5


@pytest.mark.parametrize("choice", ["group", "frozen"])
def test_norms_that_drop_and_activate_go_on_to_do_so(choice):
    old = timm.layers.BatchNormAct2d(32, act_layer=nn.ReLU, drop_layer=Minus)
    model = nn.Sequential(scrambled(old))
    act, drop = old.act, old.drop
    replace_norms(model, choice)
    assert model[0].act is act
    assert model[0].drop is drop
    output = model(maps(32))
    plain = NORMS.build(choice, 32)
    plain.load_state_dict(model[0].state_dict())
    assert torch.equal(output, (plain(maps(32)) - 0.5).relu())
    assert replace_activations(model, nn.Tanh) == 1
    assert torch.equal(model(maps(32)), (plain(maps(32)) - 0.5).tanh())


def test_activations_and_norms_are_replaced_in_any_order():
    first, second = network("test_efficientnet"), network("test_efficientnet")
    replace_norms(first, "group")
    assert replace_activations(first, nn.GELU) == replace_activations(second, nn.GELU) > 0
    replace_norms(second, "group")
    assert {type(module) for module in first.modules() if is_nonlinearity(module)} == {nn.GELU}
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(first(images)[-1], second(images)[-1])


@pytest.mark.parametrize("choice", ["batch", "sync", "group"])
def test_parameters_keep_their_identity_and_flags(choice):
    model = nn.Sequential(batch_norm(), batch_norm().eval())
    model[0].weight.requires_grad_(False)
    before = list(model.parameters())
    replace_norms(model, choice)
    assert all(new is old for new, old in zip(model.parameters(), before, strict=True))
    assert [parameter.requires_grad for parameter in model.parameters()] == [False, True, True, True]
    assert [part.training for part in model] == [True, False]


@pytest.mark.parametrize("choice", NORMS.names())
def test_device_and_dtype_are_kept(choice):
    model = nn.Sequential(nn.BatchNorm2d(8).double(), nn.BatchNorm2d(8, device="meta"))
    before = {key: (value.device, value.dtype) for key, value in model.state_dict().items()}
    assert replace_norms(model, choice) == 2
    assert {key: (value.device, value.dtype) for key, value in model.state_dict().items()}.items() <= before.items()
    assert model[0](maps().double()).dtype == torch.float64


def test_shared_norms_stay_shared():
    shared = nn.BatchNorm2d(8)
    model = nn.Sequential(shared, nn.Conv2d(8, 8, 1), shared, nn.Sequential(shared))
    assert replace_norms(model, "group") == 1
    assert model[0] is model[2] is model[3][0]


def test_other_norms_and_the_module_itself_stay():
    kept = [nn.GroupNorm(2, 8), nn.LayerNorm(6), nn.BatchNorm1d(8), nn.InstanceNorm2d(8), FrozenBatchNorm2d(8)]
    model = nn.Sequential(*kept)
    assert replace_norms(model, "sync") == 0
    assert list(model) == kept
    assert replace_norms(nn.BatchNorm2d(8), "group") == 0
    block = ConvNormAct(8, 32, norm="group")
    assert replace_norms(block, "batch") == 0
    assert isinstance(block[1], nn.GroupNorm)


def test_settings_are_the_old_ones_unless_given():
    for choice in ("batch", "sync", "frozen"):
        model = nn.Sequential(nn.BatchNorm2d(8, eps=1e-3, momentum=0.01))
        replace_norms(model, choice)
        assert model[0].eps == 1e-3
        assert getattr(model[0], "momentum", 0.01) == 0.01
        replace_norms(model, Component("batch", {"momentum": 0.5}))
        if choice != "frozen":
            assert (model[0].eps, model[0].momentum) == (1e-3, 0.5)
    model = nn.Sequential(nn.BatchNorm2d(8, eps=1e-3))
    replace_norms(model, Component("frozen", {"eps": 1e-4}))
    assert model[0].eps == 1e-4


@pytest.mark.parametrize("choice", NORMS.names())
def test_norms_without_weights_have_none_afterwards(choice):
    model = scrambled(nn.Sequential(nn.BatchNorm2d(8, affine=False)))
    expected = model.eval()(maps())
    replace_norms(model, choice)
    assert list(model.parameters()) == []
    assert getattr(model[0], "affine", False) is False
    if choice == "group":
        torch.testing.assert_close(model(maps()), F.group_norm(maps(), 1))
    else:
        assert torch.equal(model(maps()), expected)


@pytest.mark.parametrize("choice", ["batch", "sync", "group"])
def test_norms_without_statistics_have_none_afterwards(choice):
    model = nn.Sequential(nn.BatchNorm2d(8, track_running_stats=False))
    expected = model.eval()(maps())
    replace_norms(model, choice)
    assert set(model.state_dict()) == {"0.weight", "0.bias"}
    if choice != "group":
        assert torch.equal(model(maps()), expected)
    model.train()(maps())


def test_refusals_name_every_problem_and_change_nothing():
    widths = (8, 12, 12, 10, 16)
    model = nn.Sequential(*(nn.BatchNorm2d(width) for width in widths))
    before = list(model)
    with pytest.raises(ConfigError) as caught:
        replace_norms(model, Component("group", {"num_groups": 8}))
    assert caught.value.problems == ("norm 'group': num_groups=8 does not divide the 10 or 12 channels of a layer",)
    assert list(model) == before
    with pytest.raises(ConfigError, match="norm 'frozen': a batch norm of 8 channels keeps no statistics"):
        replace_norms(nn.Sequential(nn.BatchNorm2d(8, track_running_stats=False)), "frozen")
    with pytest.raises(RegistryError, match=r"unknown norm 'grup'\. Did you mean 'group'\?"):
        replace_norms(model, "grup")
    with pytest.raises(ValidationError):
        replace_norms(model, Component("group", {"groups": 2}))


@pytest.mark.parametrize("choice", NORMS.names())
def test_timms_blocks_still_start_as_the_identity(choice):
    model = timm.create_model("resnet18", pretrained=False, features_only=True)
    replace_norms(model, choice)
    last = [block.bn2 for block in model.modules() if hasattr(block, "zero_init_last")]
    assert len(last) == 8
    assert not any(norm.weight.any() for norm in last)  # timm's default, carried over
    report = initialize(model, INITIALIZERS.build("kaiming"))
    assert all((norm.weight == 1).all() for norm in last)
    assert ("layer1.0.bn2.weight" in report) == (choice != "frozen")
    reset_norms(model, zero_init_residual=True)
    assert not any(norm.weight.any() for norm in last)
    assert (model.bn1.weight == 1).all()


@pytest.mark.parametrize("choice", NORMS.names())
def test_copies_and_pickles(choice):
    model = network("test_efficientnet").eval()
    replace_norms(model, choice)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(twin(images)[-1], model(images)[-1])


def test_a_norm_of_ones_own():
    @NORMS.register("shift")
    class Shift(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(channels))
            self.weight = nn.Parameter(torch.ones(channels, 1, 1))
            self.gamma = nn.Parameter(torch.ones(1))

        def forward(self, x):
            return self.weight * x + self.bias[:, None, None]

    model = nn.Sequential(batch_norm().double(), nn.BatchNorm2d(8, device="meta"))
    bias = model[0].bias
    assert replace_norms(model, "shift") == 2
    assert model[0].bias is bias
    assert model[0].gamma.dtype == torch.float64
    assert model[1].gamma.device.type == "meta"
    torch.testing.assert_close(model[0](maps().double()), maps() + bias[:, None, None])  # the weight is another thing
