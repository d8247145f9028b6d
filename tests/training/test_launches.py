"""What a training step costs on a device where to launch and to wait costs more than to compute."""

import dataclasses
import weakref

import pytest
import torch
from small_runs import as_loader, batches_of, configured, fitted, same, statistics, without_cpp
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

import mtvision as mtv
from mtvision.training.compiling import CompiledFunction, compiled_losses
from mtvision.training.kept_buffers import KeptBuffers
from mtvision.training.loop import Loop
from mtvision.training.optimizers import fuse

pytestmark = pytest.mark.usefixtures("without_curves")


class Waits(TorchDispatchMode):
    """Counts the operations for whose result the processor waits."""

    NAMES = frozenset({"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal"})

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in self.NAMES or (name in ("index", "index_put", "_index_put_impl_") and picks_by_flags(args[1])):
            self.found.append(name)
        return function(*args, **(kwargs or {}))


def picks_by_flags(indices):
    return any(index is not None and index.dtype == torch.bool for index in indices)


def test_the_mode_notices_who_waits():
    with Waits() as waits:
        float(torch.ones(()))
        torch.ones(3)[torch.ones(3) > 0].sum()
    assert waits.found == ["_local_scalar_dense", "index"]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_training_step_asks_for_no_value_but_in_its_one_message(accumulate, monkeypatch):
    """The message is a copy of a vector; nothing else of a step reads a value. SGD: it has no step counter to read."""
    batches, found, messages = batches_of(configured()), [], []
    step, look = Loop._step, Loop._look

    def counted(self, *arguments):
        with Waits() as waits:
            step(self, *arguments)
        found.append(waits.found)

    monkeypatch.setattr(Loop, "_step", counted)
    monkeypatch.setattr(Loop, "_look", lambda *given: messages.append(1) or look(*given))
    fitted(configured(training__accumulate=accumulate), train=as_loader(batches))
    assert found == [[]] * len(messages)
    assert len(messages) == -(-len(batches) // accumulate)


def test_the_images_of_a_group_of_batches_do_not_pile_up(monkeypatch):
    """What has been learned from is let go before the optimizer acts, as in a plain loop that accumulates."""
    made, alive, look = [], [], Loop._look

    class Fresh(list):
        def __getitem__(self, index):
            batch = super().__getitem__(index)
            images = batch.images.clone()
            made.append(weakref.ref(images))
            return dataclasses.replace(batch, images=images)

    def counted(self, scalars):
        alive.append(sum(each() is not None for each in made))
        return look(self, scalars)

    monkeypatch.setattr(Loop, "_look", counted)
    loader = DataLoader(Fresh(batches_of(configured())), batch_size=None)
    fitted(configured(training__accumulate=3), train=loader)
    assert len(made) == 3
    assert alive == [1]


def test_a_batch_counts_by_its_images_also_without_names():
    """A loader of one's own may leave the names empty."""
    named = batches_of(configured())
    nameless = [dataclasses.replace(batch, image_ids=[]) for batch in named]
    histories = [fitted(configured(), train=as_loader(batches)).history[0] for batches in (named, nameless)]
    losses = [{key: value for key, value in row.items() if key.startswith("train/")} for row in histories]
    assert losses[0] == losses[1]


def test_a_balancer_that_looks_at_losses_is_told_of_broken_ones_before_it_sees_them(monkeypatch):
    seen = []
    weigh = mtv.BALANCERS.get("uncertainty").weigh_losses
    monkeypatch.setattr(
        mtv.BALANCERS.get("uncertainty"),
        "weigh_losses",
        lambda self, losses: seen.append(losses) or weigh(self, losses),
    )
    batches = batches_of(configured())
    batches[1].images = torch.full(batches[1].images.shape, torch.nan)
    trainer = fitted(configured(training__balancer="uncertainty"), train=as_loader(batches))
    assert trainer.history[0]["train/skipped_steps"] == 1
    assert len(seen) == 2
    assert all(torch.isfinite(losses).all() for losses in seen)


def test_buffers_come_back_as_they_were():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4).double())
    kept, before = KeptBuffers(model), statistics(model)
    kept.keep()
    for buffer in model.buffers():
        buffer.add_(1)
    assert not same(statistics(model), before)
    kept.put_back()
    assert same(statistics(model), before)
    model.append(nn.BatchNorm2d(7))  # one that comes later
    kept.keep()
    model[3].running_mean.fill_(5.0)
    kept.put_back()
    assert (model[3].running_mean == 0).all()


def test_only_torchs_own_optimizers_on_cuda_are_fused():
    parameter = nn.Parameter(torch.ones(2))
    for optimizer in (torch.optim.AdamW([parameter]), torch.optim.SGD([parameter])):
        fuse(optimizer)
        assert not optimizer.param_groups[0].get("fused")
    if torch.cuda.is_available():
        on_cuda = torch.optim.AdamW([nn.Parameter(torch.ones(2, device="cuda"))])
        fuse(on_cuda)
        assert on_cuda.param_groups[0]["fused"]


def test_compiled_losses_are_the_losses_and_the_plain_functions_come_back(monkeypatch):
    graphs = without_cpp(monkeypatch)
    (batch, *_) = batches_of(configured())
    torch.manual_seed(0)
    model = mtv.build_model({"backbone": "test_resnet", "dropout_rate": 0.0})
    task = model.task("det")
    plain = [getattr(task, name) for name in task.compilable]
    outputs = model(batch.images)
    expected = task.loss(outputs["det"], batch.targets["det"])
    with compiled_losses(model, enabled=True):
        assert all(isinstance(getattr(task, name), CompiledFunction) for name in task.compilable)
        assert task.assigner.soft
        found = task.loss(outputs["det"], batch.targets["det"])
    assert len(graphs) == len(plain) == 3
    assert [getattr(task, name) for name in task.compilable] == plain
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-7)
    with compiled_losses(model, enabled=False):
        assert [getattr(task, name) for name in task.compilable] == plain
