"""What holds for every balancer: names, one task, absent tasks, degenerate gradients, state."""

import io

import pytest
import torch

from balancing.toy import ALL, OF_GRADIENTS, OF_GRAMIAN, OF_LOSSES, build, scripted
from mtvision.errors import ConfigError, RegistryError, TrainingError
from mtvision.registries import BALANCERS
from mtvision.registry import Component
from mtvision.training.balancing import gradients as of_gradients

LOSSES = torch.tensor([0.5, 2.0, 1.0])
NEEDS = {
    "aligned_mtl": ["torchjd"],
    "cagrad": ["torchjd", "cvxpy", "clarabel"],
    "mgda": ["torchjd"],
    "nash_mtl": ["torchjd", "cvxpy", "ecos"],
    "pcgrad": ["torchjd"],
    "upgrad": ["torchjd", "qpsolvers", "quadprog"],
}


def rows(num_tasks=3):
    return torch.randn(num_tasks, 20, generator=torch.Generator().manual_seed(7))


def weigh(balancer, losses, gradients):
    return balancer.weigh(losses, gradients if balancer.on_gradients else None)


def test_every_balancer_is_tested_here():
    assert BALANCERS.own_names() == ALL


@pytest.mark.parametrize("name", ALL)
def test_attributes_say_what_a_balancer_needs(name):
    balancer = build(name)
    assert balancer.on_gradients == (name in OF_GRADIENTS)
    assert balancer.shared_only == (name in OF_GRAMIAN)
    assert balancer.looks_after_step == (name == "famo")
    assert (
        bool(list(balancer.parameters()))
        == (balancer.own_loss(LOSSES) is not None)
        == (name in {"uncertainty", "imtl_l"})
    )


@pytest.mark.parametrize("name", OF_GRADIENTS)
def test_gradients_are_asked_for(name):
    with pytest.raises(ValueError, match="needs the gradients"):
        build(name).weigh(LOSSES)


@pytest.mark.parametrize("name", ALL)
def test_weights_have_no_graph_and_the_type_of_the_losses(name):
    weights = weigh(build(name), LOSSES.double(), rows().double())
    assert (weights.shape, weights.dtype, weights.requires_grad) == ((3,), torch.float64, False)


@pytest.mark.parametrize("name", ALL)
def test_one_task_alone_is_weighed(name):
    balancer = build(name, 1, **({"max_norm": 0.0} if name == "nash_mtl" else {}))
    for loss in (2.0, 0.5):
        weights = weigh(balancer, torch.tensor([loss]), loss * rows(1))
        torch.testing.assert_close(weights, torch.tensor([0.5 if name == "uncertainty" else 1.0]))
        balancer.after_step(torch.tensor([loss / 2]))
        balancer.end_epoch()
    assert weigh(balancer, torch.zeros(1), torch.zeros(1, 20)).isfinite().all()


@pytest.mark.parametrize("name", sorted(set(ALL) - {"dwa", "fixed", "gradnorm", "imtl_l", "random", "uncertainty"}))
def test_an_absent_task_leaves_the_others_as_if_it_did_not_exist(name):
    present = torch.tensor([True, False, True])
    without = weigh(build(name, 2), LOSSES[present], rows()[present])
    weights = weigh(build(name), LOSSES * present, rows() * present[:, None])
    torch.testing.assert_close(weights[present], without)
    assert weights[1] == 0


@pytest.mark.parametrize(("name", "expected"), [("fixed", 1.0), ("dwa", 1.0), ("imtl_l", 1.0), ("uncertainty", 0.5)])
def test_an_absent_task_leaves_the_others_at_their_own_weights(name, expected):
    weights = build(name).weigh(LOSSES * torch.tensor([1, 0, 1]))
    torch.testing.assert_close(weights[[0, 2]], torch.full((2,), expected))


def test_random_weights_go_to_those_that_are_there():
    weights = build("random", seed=3).weigh(LOSSES * torch.tensor([1, 0, 1]))
    assert weights[1] == 0
    torch.testing.assert_close(weights.sum(), torch.tensor(1.0))
    whole = build("random", seed=3).weigh(LOSSES)
    torch.testing.assert_close(weights[0] / weights[2], whole[0] / whole[2])


@pytest.mark.parametrize("name", ALL)
def test_a_batch_without_any_annotation_changes_no_later_weight(name):
    balancer, other = build(name), build(name)
    if name == "random":
        other.weigh(LOSSES)  # it draws anew in each step
    nothing = weigh(balancer, torch.zeros(3), torch.zeros(3, 20))
    balancer.after_step(torch.zeros(3))
    assert nothing.isfinite().all()
    assert torch.equal(scripted(balancer, range(6)), scripted(other, range(6)))


@pytest.mark.parametrize("name", OF_GRADIENTS)
@pytest.mark.parametrize(
    ("case", "gradients"),
    {
        "all zero": torch.zeros(3, 20),
        "one zero": rows() * torch.tensor([[0.0], [1.0], [1.0]]),
        "identical": rows(1).expand(3, -1).clone(),
        "opposed": torch.cat([rows(1), -rows(1), rows(3)[2:]]),
        "opposed and longer": torch.cat([rows(1), -1e3 * rows(1), rows(3)[2:]]),
        "cancelling out": torch.cat([rows(2), -rows(2).sum(dim=0, keepdim=True)]),
        "tiny": 1e-18 * rows(),
        "huge": 1e16 * rows(),
        "of all lengths": rows() * torch.tensor([[1e-15], [1.0], [1e15]]),
        "no shared parameter": torch.zeros(3, 0),
    }.items(),
)
def test_degenerate_gradients_have_finite_weights(name, case, gradients):
    balancer = build(name)
    for _ in range(2):
        assert balancer.weigh(LOSSES, gradients).isfinite().all()


@pytest.mark.parametrize("name", sorted(set(OF_GRAMIAN) - {"nash_mtl"}))
@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_the_unit_of_the_gradients_does_not_matter(name, unit):
    torch.testing.assert_close(build(name).weigh(LOSSES, unit * rows()), build(name).weigh(LOSSES, rows()))


def new(name, **options):
    """Return a balancer with something to remember: of 5 tasks where the order of 3 hardly matters."""
    more = {"update_every": 2} if name == "nash_mtl" else {}
    return build(name, 5 if name == "pcgrad" else 3, **options, **more)


@pytest.mark.parametrize("name", ALL)
def test_a_restored_balancer_goes_on_as_if_nothing_had_happened(name):
    torch.manual_seed(1)
    uninterrupted = new(name)
    whole = scripted(uninterrupted, range(12))
    torch.manual_seed(1)
    first = new(name)
    begun = scripted(first, range(7))
    stored = io.BytesIO()
    torch.save(first.state_dict(), stored)
    stored.seek(0)
    torch.manual_seed(2)
    second = new(name)
    second.load_state_dict(torch.load(stored, weights_only=True))
    resumed = torch.cat([begun, scripted(second, range(7, 12))])
    assert torch.equal(resumed, whole)
    torch.testing.assert_close(second.state_dict(), uninterrupted.state_dict(), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", ["dwa", "famo", "gradnorm", "imtl_l", "nash_mtl", "pcgrad", "random", "uncertainty"])
def test_the_scripted_steps_tell_a_restored_balancer_from_a_new_one(name):
    torch.manual_seed(1)
    whole = scripted(new(name), range(12))
    torch.manual_seed(1)
    assert not torch.equal(scripted(new(name), range(7, 12)), whole[7:])


@pytest.mark.parametrize("name", ["pcgrad", "random"])
def test_draws_come_from_a_seed_and_leave_the_global_generator_alone(name):
    torch.manual_seed(5)
    first, same = new(name, seed=8), new(name, seed=8)
    state = torch.get_rng_state()
    weights = scripted(first, range(5))
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert torch.equal(scripted(same, range(5)), weights)
    assert torch.equal(scripted(new(name), range(5)), scripted(new(name, seed=5), range(5)))
    assert not torch.equal(scripted(new(name, seed=9), range(5)), weights)


def test_nash_mtl_gets_away_from_a_weight_of_zero():
    balancer = build("nash_mtl")
    balancer.alpha[0] = 0
    torch.testing.assert_close(balancer.weigh(LOSSES, rows()), build("nash_mtl").weigh(LOSSES, rows()))


@pytest.mark.parametrize("name", ["famo", "geometric_mean", "gradnorm"])
def test_negative_losses_are_refused_where_a_method_has_no_sense_for_them(name):
    with pytest.raises(TrainingError, match=rf"'{name}' needs losses of 0 or more, .* 0\.5, -2, 1$"):
        weigh(build(name), LOSSES * torch.tensor([1, -1, 1]), rows())


@pytest.mark.parametrize(("name", "module"), [(name, module) for name, modules in NEEDS.items() for module in modules])
def test_a_missing_package_is_named_with_what_to_install(name, module, monkeypatch):
    found = of_gradients.find_spec
    monkeypatch.setattr(of_gradients, "find_spec", lambda wanted: None if wanted == module else found(wanted))
    with pytest.raises(ConfigError) as caught:
        build(name)
    assert caught.value.problems == (
        f"training.balancer: '{name}' needs {module}; install it: pip install \"mtvision[balancing]\"",
    )


@pytest.mark.parametrize("name", [*OF_LOSSES, "gradnorm"])
def test_the_others_need_no_package(name, monkeypatch):
    monkeypatch.setattr(of_gradients, "find_spec", lambda wanted: None)
    assert weigh(build(name), LOSSES, rows()).isfinite().all()


def test_options_are_checked_by_the_registry():
    with pytest.raises(ValueError, match="temperature"):
        BALANCERS.check_options(Component("dwa", {"temperature": 0.0}))
    with pytest.raises(ValueError, match="scale_mode"):
        BALANCERS.check_options(Component("aligned_mtl", {"scale_mode": "max"}))
    with pytest.raises(RegistryError, match="Did you mean 'uncertainty'"):
        build("uncertainy")
