"""Balancers on losses against torchjd's scalarizers, which share no code with them."""

import copy

import pytest
import torch
from torchjd.scalarization import DWA, FAMO, IMTLL, UW, GeometricMean, Random

from balancing.toy import Toy, balanced, build, data, step
from mtvision.training.balancing.adam_vector import AdamVector

STEPS = 9
EPOCH = 3


def trained_by(scalarizer):
    """Train as torchjd's examples do."""
    model = Toy()
    optimizer = torch.optim.SGD([*model.parameters(), *_learned(scalarizer)], lr=0.1)
    for number in range(STEPS):
        inputs, targets = data(number)
        optimizer.zero_grad()
        scalarizer(torch.stack(model.losses(inputs, targets))).backward()
        optimizer.step()
        if isinstance(scalarizer, FAMO):
            with torch.no_grad():
                scalarizer.update(torch.stack(model.losses(inputs, targets)))
        if isinstance(scalarizer, DWA) and number % EPOCH == EPOCH - 1:
            scalarizer.step()
    return model


def _learned(scalarizer):
    return [] if isinstance(scalarizer, FAMO) else scalarizer.parameters()  # FAMO moves its own


def trained_by_ours(balancer):
    model = Toy()
    balancing = balanced(model, balancer)
    optimizer = torch.optim.SGD([*model.parameters(), *balancer.parameters()], lr=0.1)
    for number in range(STEPS):
        step(model, balancing, optimizer, number)
        if number % EPOCH == EPOCH - 1:
            balancer.end_epoch()
    return model


@pytest.mark.parametrize(
    ("name", "options", "scalarizer"),
    [
        ("uncertainty", {}, lambda: UW(3)),
        ("imtl_l", {}, lambda: IMTLL(3)),
        ("dwa", {}, lambda: DWA()),
        ("dwa", {"temperature": 0.5}, lambda: DWA(0.5)),
        ("famo", {}, lambda: FAMO(3)),
        ("famo", {"lr": 0.3, "weight_decay": 0.1}, lambda: FAMO(3, lr=0.3, weight_decay=0.1)),
        ("geometric_mean", {}, lambda: GeometricMean()),
    ],
)
def test_several_steps_are_those_of_torchjd(name, options, scalarizer):
    torch.testing.assert_close(
        trained_by_ours(build(name, **options)).state_dict(), trained_by(scalarizer()).state_dict()
    )


def test_random_draws_are_those_of_torchjd():
    balancer = build("random", seed=11)
    torch.manual_seed(11)
    for _ in range(3):
        losses = torch.tensor([0.5, 2.0, 1.0], requires_grad=True)
        (expected,) = torch.autograd.grad(Random()(losses), losses)
        torch.testing.assert_close(balancer.weigh(losses.detach()), expected)


def test_dwa_by_the_numbers_of_its_paper():
    """Equation 7: L(t-1) / L(t-2) is 1/2 and 1, so the weights are 2 softmax(1/4, 1/2) for T = 2."""
    balancer = build("dwa", 2)
    for losses in ([4.0, 3.0], [2.0, 3.0]):
        assert torch.equal(balancer.weigh(torch.tensor(losses)), torch.ones(2))
        balancer.end_epoch()
    expected = 2 * torch.tensor([0.25, 0.5]).softmax(dim=0)
    torch.testing.assert_close(balancer.weigh(torch.tensor([1.0, 1.0])), expected)


def test_dwa_leaves_absent_batches_out_of_its_means():
    sparse, dense = build("dwa", 2), build("dwa", 2)
    for first, second in ((8.0, 5.0), (2.0, 4.0)):
        for losses in ([first, second], [0.0, second], [0.0, second]):  # a plain mean would have a third of `first`
            sparse.weigh(torch.tensor(losses))
        dense.weigh(torch.tensor([first, second]))
        sparse.end_epoch()
        dense.end_epoch()
    ones = torch.ones(2)
    torch.testing.assert_close(sparse.weigh(ones), dense.weigh(ones))


def test_dwa_keeps_the_means_of_a_task_through_an_epoch_without_it():
    absent, never = build("dwa", 2), build("dwa", 2)
    for losses in ([8.0, 5.0], [2.0, 5.0]):
        for balancer in (absent, never):
            balancer.weigh(torch.tensor(losses))
            balancer.end_epoch()
    absent.weigh(torch.tensor([0.0, 5.0]))
    absent.end_epoch()
    ones = torch.ones(2)
    torch.testing.assert_close(absent.weigh(ones), never.weigh(ones))


@pytest.mark.parametrize("name", ["uncertainty", "imtl_l"])
def test_what_is_learned_of_an_absent_task_stays(name):
    balancer = build(name)
    before = [parameter.detach().clone() for parameter in balancer.parameters()]
    balancer.own_loss(torch.tensor([0.5, 0.0, 1.7])).backward()
    (parameter,) = balancer.parameters()
    assert parameter.grad[1] == 0
    assert parameter.grad[[0, 2]].all()
    assert torch.equal(parameter.detach(), before[0])


@pytest.mark.parametrize("name", ["uncertainty", "imtl_l"])
def test_learned_weights_find_their_optimum(name):
    """Both are stationary where the weight is proportional to 1 / L: 1 / 2L for uncertainty, 1 / L for IMTL-L."""
    losses, balancer = torch.tensor([0.2, 5.0]), build(name, 2)
    optimizer = torch.optim.LBFGS(balancer.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = balancer.own_loss(losses)
        value.backward()
        return value

    optimizer.step(closure)
    share = 0.5 if name == "uncertainty" else 1.0
    torch.testing.assert_close(balancer.weigh(losses), share / losses, rtol=1e-3, atol=0)


def test_famo_shifts_weight_to_the_task_whose_logarithm_fell_least():
    balancer, losses = build("famo", 2), torch.tensor([1.0, 1.0])
    equal = balancer.weigh(losses)
    balancer.after_step(torch.tensor([0.5, 0.99]))
    weights = balancer.weigh(losses)
    torch.testing.assert_close(equal, torch.tensor([0.5, 0.5]))
    assert weights[1] > equal[1]


def test_famo_leaves_an_absent_task_where_it_is():
    balancer = build("famo")
    for number in range(3):
        balancer.weigh(torch.tensor([1.0, 2.0, 3.0]))
        balancer.after_step(torch.tensor([0.9, 1.9, 2.0 - 0.1 * number]))
    before = copy.deepcopy(balancer.logits)
    balancer.weigh(torch.tensor([1.0, 0.0, 3.0]))
    balancer.after_step(torch.tensor([0.9, 0.0, 2.9]))
    for name, value in before.named_buffers():
        assert value[1] == balancer.logits.get_buffer(name)[1], name
    assert (balancer.logits.value != before.value).tolist() == [True, False, True]


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adam_vector_is_torchs_adam(weight_decay):
    start = torch.tensor([1.0, -2.0, 0.0])
    vector, parameter = AdamVector(start, 0.05, weight_decay), torch.nn.Parameter(start.clone())
    optimizer = torch.optim.Adam([parameter], lr=0.05, weight_decay=weight_decay)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        parameter.grad = torch.randn(3, generator=generator) * torch.tensor([1.0, 100.0, 1e-3])
        vector.step(parameter.grad, torch.ones(3, dtype=torch.bool))
        optimizer.step()
        torch.testing.assert_close(vector.value, parameter.detach())
