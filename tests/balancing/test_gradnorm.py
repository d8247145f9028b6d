"""GradNorm against algorithm 1 of its paper, written down slowly."""

import pytest
import torch

from balancing.toy import Toy, balanced, build, data, step

STEPS = 8


def by_the_paper(alpha, lr):
    """Return the weights of each step and the model after them (Chen et al. 2018, arXiv 1711.02257, algorithm 1)."""
    model, first, history = Toy(), None, []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    weights = torch.ones(3, requires_grad=True)
    weights_optimizer = torch.optim.Adam([weights], lr=lr)
    for number in range(STEPS):
        inputs, targets = data(number)
        losses = torch.stack(model.losses(inputs, targets))
        first = losses.detach() if first is None else first
        lengths = []
        for weight, loss in zip(weights, losses, strict=True):
            found = torch.autograd.grad(weight * loss, model.shared, retain_graph=True, create_graph=True)
            lengths.append(torch.cat([each.flatten() for each in found]).norm())
        ratios = losses.detach() / first
        rates = ratios / ratios.mean()
        target = (torch.stack(lengths).mean() * rates**alpha).detach()
        distance = (torch.stack(lengths) - target).abs().sum()
        (weights.grad,) = torch.autograd.grad(distance, weights, retain_graph=True)
        history.append(weights.detach().clone())
        optimizer.zero_grad()
        (weights.detach() * losses).sum().backward()
        weights_optimizer.step()
        with torch.no_grad():
            weights *= 3 / weights.sum()
        optimizer.step()
    return torch.stack(history), model


@pytest.mark.parametrize(("alpha", "lr"), [(1.5, 0.025), (0.0, 0.1), (0.12, 0.05)])
def test_weights_and_parameters_are_those_of_the_paper(alpha, lr):
    expected, expected_model = by_the_paper(alpha, lr)
    model = Toy()
    balancing = balanced(model, build("gradnorm", alpha=alpha, lr=lr))
    optimizer, found = torch.optim.SGD(model.parameters(), lr=0.1), []
    for number in range(STEPS):
        step(model, balancing, optimizer, number)
        found.append(torch.stack(list(balancing.weights.values())))
    assert not torch.equal(expected[0], expected[-1])
    torch.testing.assert_close(torch.stack(found), expected)
    torch.testing.assert_close(model.state_dict(), expected_model.state_dict())


def test_weights_sum_to_the_number_of_tasks_and_stay_above_zero():
    balancer = build("gradnorm", lr=1.0)
    rows = torch.eye(3) * torch.tensor([[1e6], [1.0], [1e-6]])
    found = torch.stack([balancer.weigh(torch.tensor([1.0, 0.5, 0.1]), rows) for _ in range(50)])
    torch.testing.assert_close(found.sum(dim=1), torch.full((50,), 3.0))
    assert (found > 0).all()
    assert (found[1:, 0] < 0.01).all()  # without a bound, Adam's first step would make it 0


def test_an_absent_task_keeps_its_weight_and_enters_no_mean():
    whole, pair = build("gradnorm"), build("gradnorm", 2)
    there = torch.tensor([True, False, True])
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        losses, rows = torch.rand(3, generator=generator) * there, torch.randn(3, 9, generator=generator)
        torch.testing.assert_close(whole.weigh(losses, rows)[there], pair.weigh(losses[there], rows[there]))
    back = whole.weigh(torch.tensor([0.4, 0.7, 0.2]), torch.randn(3, 9))
    assert back[1] == 1
    torch.testing.assert_close(back.sum(), torch.tensor(3.0))


def test_the_first_loss_is_that_of_the_first_batch_in_which_a_task_is_there():
    balancer = build("gradnorm", 2)
    for losses in ([2.0, 0.0], [1.0, 8.0], [1.0, 4.0]):
        balancer.weigh(torch.tensor(losses), torch.eye(2))
    assert balancer.initial.tolist() == [2.0, 8.0]
