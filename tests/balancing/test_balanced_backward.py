"""The backward passes under a balancer against plain autograd and torchjd's own."""

import threading

import pytest
import torch
from torch import nn
from torchjd import aggregation
from torchjd.autojac import jac_to_grad, mtl_backward

import mtvision as mtv
from balancing.toy import ALL, OF_GRADIENTS, OF_GRAMIAN, Toy, balanced, build, data, gradients, named, names, step
from mtvision.training.balanced_backward import BalancedBackward, shared_parameters
from tests.core.test_factory import SMALL, synthetic_targets

AGGREGATORS = {
    "aligned_mtl": lambda: aggregation.AlignedMTL(),
    "cagrad": lambda: aggregation.CAGrad(0.4),
    "mgda": lambda: aggregation.MGDA(),
    "nash_mtl": lambda: aggregation.NashMTL(3),
    "pcgrad": lambda: aggregation.PCGrad(),
    "upgrad": lambda: aggregation.UPGrad(),
}


def assert_same(found, expected, **tolerance):
    for each, other in zip(found, expected, strict=True):
        assert (each is None) == (other is None)
        if each is not None:
            torch.testing.assert_close(each, other, **tolerance)


def one_step(name, model, losses, **options):
    """Return the gradients after one batch."""
    balancing = balanced(model, build(name, len(model.heads)), **options)
    balancing.backward(named(losses), 1.0)
    balancing.finish()
    return gradients(model)


@pytest.mark.parametrize("factors", [{}, {"task0": 0.7, "task2": 3.1}])
@pytest.mark.parametrize("share", [1.0, 1 / 3])
def test_fixed_is_exactly_the_plain_sum(factors, share):
    model, twin = Toy(), Toy()
    balancing = BalancedBackward(
        build("fixed"), names(3), factors, model.shared, model.own, backward=torch.Tensor.backward
    )
    for number in range(3):
        balancing.backward(named(model.losses(*data(number))), share)
        terms = [factors.get(name, 1.0) * loss for name, loss in named(twin.losses(*data(number))).items()]
        (torch.stack(terms).sum() * share).backward()
    balancing.finish()
    assert_same(gradients(model), gradients(twin), rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore::UserWarning:torchjd")  # of the solver behind NashMTL
@pytest.mark.parametrize("name", OF_GRAMIAN)
def test_several_steps_are_those_of_torchjd(name):
    model, twin = Toy(), Toy()
    optimizer, other = (torch.optim.Adam(each.parameters(), lr=0.05) for each in (model, twin))
    balancing, aggregator = (
        balanced(model, build(name, **({"seed": 4} if name == "pcgrad" else {}))),
        AGGREGATORS[name](),
    )
    torch.manual_seed(4)
    for number in range(6):
        step(model, balancing, optimizer, number)
        inputs, targets = data(number)
        other.zero_grad()
        features = twin.features(inputs)
        mtl_backward(twin.losses(inputs, targets, features), features)
        jac_to_grad(twin.shared, aggregator)
        other.step()
        assert_same(gradients(model), gradients(twin), rtol=1e-4, atol=1e-6)
    assert not all(torch.equal(weight, torch.ones(())) for weight in balancing.weights.values())


@pytest.mark.parametrize("name", OF_GRADIENTS)
def test_two_half_batches_are_the_whole_one(name):
    whole, halves = Toy(), Toy()
    found = []
    for model, batches in ((whole, 1), (halves, 2)):
        balancing = balanced(model, build(name, **({"seed": 0} if name == "pcgrad" else {})))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for number in range(3):
            step(model, balancing, optimizer, number, batches)
        found.append(torch.stack(list(balancing.weights.values())))
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(whole.state_dict(), halves.state_dict(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["uncertainty", "imtl_l"])
def test_what_a_balancer_learns_is_shared_out_too(name):
    (whole, _), (parts, _) = (_learned(name, batches) for batches in (1, 2))
    torch.testing.assert_close(whole, parts)
    assert whole.any()


def _learned(name, batches):
    model, balancer = Toy(), build(name)
    step(model, balanced(model, balancer), torch.optim.SGD(model.parameters(), lr=0.0), 0, batches)
    (parameter,) = balancer.parameters()
    return parameter.grad, parameter


@pytest.mark.parametrize("name", ALL)
def test_weights_act_where_the_balancer_says(name):
    model, twin = Toy(), Toy()
    balancing = balanced(model, build(name))
    balancing.backward(named(model.losses(*data(0))), 1.0)
    balancing.finish()
    weights = torch.stack(list(balancing.weights.values()))
    losses = torch.stack(twin.losses(*data(0)))
    (weights * losses).sum().backward(inputs=twin.shared, retain_graph=True)
    (losses.sum() if balancing.balancer.shared_only else (weights * losses).sum()).backward(inputs=twin.own)
    assert_same(gradients(model), gradients(twin), rtol=1e-5, atol=1e-6)
    assert list(balancing.weights) == names(3)


@pytest.mark.parametrize("name", ALL)
def test_a_task_without_annotation_disturbs_nobody(name):
    model = Toy()
    losses = model.losses(*data(0))
    losses[1] = losses[1] * 0
    found = one_step(name, model, losses)
    assert all(gradient.isfinite().all() for gradient in found)
    assert not any(p.grad.any() for p in model.heads[1].parameters())
    assert all(p.grad.any() for p in [*model.shared, *model.heads[0].parameters(), *model.heads[2].parameters()])


@pytest.mark.parametrize("name", OF_GRAMIAN)
def test_with_one_task_annotated_the_step_is_that_tasks(name):
    model, twin = Toy(2), Toy(2)
    losses = model.losses(*data(0, 2))
    balancing = balanced(model, build(name, 2, **({"max_norm": 0.0} if name == "nash_mtl" else {})))
    balancing.backward(named([losses[0], losses[1] * 0]), 1.0)
    balancing.finish()
    twin.losses(*data(0, 2))[0].backward(inputs=[*twin.shared, *twin.heads[0].parameters()])
    assert_same(gradients(model)[:4], gradients(twin)[:4])


@pytest.mark.parametrize("name", OF_GRADIENTS)
def test_a_task_annotated_in_one_batch_of_the_group_counts(name):
    model = Toy()
    balancing = balanced(model, build(name))
    for number in range(2):
        losses = model.losses(*data(number))
        losses[2] = losses[2] * number
        balancing.backward(named(losses), 0.5)
    balancing.finish()
    assert balancing.weights["task2"] != 0
    assert all(p.grad.any() and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", ["fixed", "mgda", "gradnorm"])
def test_what_no_task_uses_has_no_gradient(name):
    model = Toy(2)
    idle, frozen = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2), requires_grad=False)
    balancing = BalancedBackward(
        build(name, 3),
        names(3),
        {},
        [idle, *model.shared, frozen],
        [*model.own, idle],
        backward=torch.Tensor.backward,
    )
    unconnected = torch.tensor(0.0)
    balancing.backward(named([*model.losses(*data(0, 2)), unconnected]), 1.0)
    balancing.finish()
    assert idle.grad is None
    assert frozen.grad is None
    assert all(p.grad is not None for p in model.parameters())


def test_a_parameter_may_be_frozen_between_two_steps():
    model = Toy()
    balancing, optimizer = balanced(model, build("mgda")), torch.optim.SGD(model.parameters(), lr=0.1)
    step(model, balancing, optimizer, 0)
    for parameter in model.shared:
        parameter.requires_grad_(False)
    before = model.trunk.weight.clone()
    step(model, balancing, optimizer, 1)
    assert torch.equal(model.trunk.weight, before)
    assert all(parameter.grad.any() for parameter in model.own)
    model.trunk.weight.requires_grad_(True)
    step(model, balancing, optimizer, 2)
    assert not torch.equal(model.trunk.weight, before)


def test_gradients_are_added_to_those_that_are_there():
    once, twice = Toy(), Toy()
    balancing = balanced(twice, build("mgda"))
    for _ in range(2):
        balancing.backward(named(twice.losses(*data(0))), 1.0)
        balancing.finish()
    assert_same(gradients(twice), [2 * gradient for gradient in one_step("mgda", once, once.losses(*data(0)))])


def test_a_discarded_step_leaves_nothing_behind():
    model, twin = Toy(), Toy()
    balancing = balanced(model, build("mgda"))
    balancing.backward(named(model.losses(*data(1))), 0.5)
    balancing.discard()
    balancing.finish()
    assert gradients(model) == [None] * len(list(model.parameters()))
    balancing.backward(named(model.losses(*data(0))), 1.0)
    balancing.finish()
    assert_same(gradients(model), one_step("mgda", twin, twin.losses(*data(0))), rtol=0, atol=0)


@pytest.mark.parametrize("name", OF_GRADIENTS)
def test_scaled_losses_give_scaled_gradients_and_the_same_weights(name):
    model, twin = Toy(), Toy()
    expected = one_step(name, twin, twin.losses(*data(0)))
    found = one_step(name, model, model.losses(*data(0)), scale=lambda value: value * 2**12)
    assert_same([gradient / 2**12 for gradient in found], expected)


def test_gradients_that_are_not_finite_go_past_the_balancer():
    model, balancer = Toy(), build("gradnorm")
    balancing = balanced(model, balancer)
    losses = model.losses(*data(0))
    losses[0] = losses[0] + (model.trunk.weight.sum() * 0).sqrt()  # 0 with an infinite slope
    before = {key: value.clone() for key, value in balancer.state_dict().items()}
    balancing.backward(named(losses), 1.0)
    balancing.finish()
    torch.testing.assert_close(balancer.state_dict(), before, rtol=0, atol=0)
    assert not model.trunk.weight.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.heads.parameters())


class Exchange:
    """The mean over threads that stand for processes."""

    def __init__(self, number):
        self.barrier, self.values = threading.Barrier(number, timeout=20), [None] * number

    def mean(self, index):
        def call(value):
            self.values[index] = value.clone()
            self.barrier.wait()
            total = torch.stack(self.values).mean(dim=0)
            self.barrier.wait()
            return total

        return call


def in_threads(run):
    threads = [threading.Thread(target=run, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("name", OF_GRADIENTS)
def test_two_processes_are_one(name):
    options = {"seed": 0} if name == "pcgrad" else {}
    models, exchange = [Toy(), Toy()], Exchange(2)
    balancings = [
        balanced(model, build(name, **options), mean_over_processes=exchange.mean(index))
        for index, model in enumerate(models)
    ]

    def run(index):
        inputs, targets = data(0)
        losses = models[index].losses(inputs[index::2], [target[index::2] for target in targets])
        balancings[index].backward(named(losses), 1.0)
        balancings[index].finish()

    in_threads(run)
    alone = Toy()
    balancing = balanced(alone, build(name, **options))
    balancing.backward(named(alone.losses(*data(0))), 1.0)
    balancing.finish()
    assert_same(gradients(models[0]), gradients(models[1]), rtol=0, atol=0)
    assert_same(gradients(models[0]), gradients(alone), rtol=1e-3, atol=1e-5)


def test_a_parameter_that_only_another_process_uses_has_a_gradient_in_both():
    models, exchange = [Toy(2), Toy(2)], Exchange(2)

    def run(index):
        balancing = balanced(models[index], build("mgda", 2), mean_over_processes=exchange.mean(index))
        losses = models[index].losses(*data(index, 2))
        balancing.backward(named([losses[0], losses[1] if index else torch.tensor(0.0)]), 1.0)
        balancing.finish()

    in_threads(run)
    assert models[0].heads[1].weight.grad.any()
    assert_same(gradients(models[0]), gradients(models[1]), rtol=0, atol=0)


def test_processes_that_draw_differently_do_not_drift_apart():
    models, exchange = [Toy(3), Toy(3)], Exchange(2)
    drawn = [torch.tensor([1.0, 2.0, 3.0]), torch.tensor([3.0, 2.0, 1.0])]

    def run(index):
        balancer = build("pcgrad")
        balancer.weigh = lambda losses, gradients: drawn[index]
        balancing = balanced(models[index], balancer, mean_over_processes=exchange.mean(index))
        balancing.backward(named(models[index].losses(*data(index))), 1.0)
        balancing.finish()

    in_threads(run)
    assert_same(gradients(models[0]), gradients(models[1]), rtol=0, atol=0)


def test_losses_of_all_processes_decide_on_weights():
    model = Toy(2)
    balancing = balanced(model, build("geometric_mean", 2), mean_over_processes=lambda values: 0 * values + 4)
    balancing.backward(named(model.losses(*data(0, 2))), 1.0)
    torch.testing.assert_close(torch.stack(list(balancing.weights.values())), torch.full((2,), 0.5))


def test_gradients_have_the_memory_format_of_their_parameters():
    conv = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    head = nn.Conv2d(4, 2, 1).to(memory_format=torch.channels_last)
    balancing = BalancedBackward(
        build("mgda", 1), ["a"], {}, [*conv.parameters()], [*head.parameters()], backward=torch.Tensor.backward
    )
    images = torch.randn(2, 3, 8, 8)
    balancing.backward({"a": head(conv(images)).square().mean()}, 1.0)
    balancing.finish()
    (expected,) = torch.autograd.grad(head(conv(images)).square().mean(), conv.weight)
    assert conv.weight.grad.stride() == conv.weight.stride()
    torch.testing.assert_close(conv.weight.grad, expected)


def test_a_balancer_of_another_number_of_tasks_is_refused():
    with pytest.raises(ValueError, match="a balancer of 2 tasks for 3"):
        balanced(Toy(3), build("fixed", 2))


def test_there_are_no_weights_before_the_first_ones():
    assert balanced(Toy(), build("mgda")).weights == {}


@pytest.mark.parametrize("shares", [False, True])
def test_shared_parameters_are_those_of_the_backbone_and_of_a_shared_neck(shares):
    model = mtv.build_model({**SMALL, "neck": "fpn", "share_neck": shares})
    shared, own = shared_parameters(model)
    expected = [*model.backbone.parameters(), *(model.neck.parameters() if shares else [])]
    assert [id(p) for p in shared] == [id(p) for p in expected]
    assert {id(p) for p in own} == {id(p) for p in model.parameters()} - {id(p) for p in shared}
    assert len(shared) + len(own) == len(list(model.parameters()))


def test_a_whole_model_takes_a_step_on_gradients():
    model = mtv.build_model(SMALL)
    shared, own = shared_parameters(model)
    balancing = BalancedBackward(build("pcgrad", 2), ["det", "seg"], {}, shared, own, backward=torch.Tensor.backward)
    parts = model.loss(model(torch.rand(2, 3, 64, 64)), synthetic_targets())
    balancing.backward({task: torch.stack(list(found.values())).sum() for task, found in parts.items()}, 1.0)
    balancing.finish()
    learning = [p for p in model.parameters() if p.grad is not None]
    assert len(learning) > 0.9 * len(list(model.parameters()))
    assert all(p.grad.isfinite().all() for p in learning)
