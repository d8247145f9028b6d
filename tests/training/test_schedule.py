"""Schedules are pure functions of the epoch."""

import pytest
import torch

from mtvision.registries import SCHEDULES
from mtvision.registry import Component
from mtvision.training.schedule import learning_rate


def test_cosine_equals_torchs():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20, eta_min=0.001)
    ours = SCHEDULES.build(Component("cosine", {"final_factor": 0.01}), 20)
    for epoch in range(21):
        assert 0.1 * ours(epoch) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6)
        optimizer.step()
        theirs.step()


def test_cosine_may_start_late_as_the_report_does():
    factor = SCHEDULES.build(Component("cosine", {"start_epoch": 30}), 60)
    assert [factor(epoch) for epoch in (0, 15, 30)] == [1, 1, 1]
    assert factor(45) == pytest.approx(0.5)
    assert factor(60) == pytest.approx(0, abs=1e-12)


def test_step_halves_at_30_and_45():
    factor = SCHEDULES.build("step", 60)
    assert [factor(epoch) for epoch in (0, 29.9, 30, 44.9, 45, 59)] == [1, 1, 0.5, 0.5, 0.25, 0.25]
    assert SCHEDULES.build(Component("step", {"milestones": [1], "gamma": 0.1}), 9)(2) == pytest.approx(0.1)


def test_constant_and_warmup():
    factor = SCHEDULES.build("constant", 10)
    assert {factor(epoch) for epoch in (0, 3.7, 10)} == {1.0}
    rates = [learning_rate(0.2, factor, epoch, warmup_epochs=2.0) for epoch in (0.5, 1.0, 2.0, 5.0)]
    assert rates == pytest.approx([0.05, 0.1, 0.2, 0.2])
    assert learning_rate(0.2, factor, 0.0, warmup_epochs=0.0) == 0.2
