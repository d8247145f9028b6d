"""``batch_size: auto``: where it is refused, how the number is found, and that a run keeps it."""

import logging

import pytest
import torch
from small_runs import built, configured, fitted, parameters, same

import mtvision as mtv
from mtvision import ConfigError, TrainingError
from mtvision.training import batch_size
from mtvision.training.batch_size import largest_that_fits, with_batch_size
from mtvision.training.run_folder import with_batch_size_of

AUTO = configured(training__batch_size="auto")


class Memory:
    """Runs out above ``limit``, and notes what was tried."""

    def __init__(self, limit):
        self.limit, self.tried = limit, []

    def __call__(self, size):
        self.tried.append(size)
        if size > self.limit:
            raise torch.OutOfMemoryError("fake")


@pytest.mark.parametrize(
    ("fits", "images", "found", "tried"),
    [
        (5, 1000, 4, [1, 2, 4, 8]),
        (8, 1000, 8, [1, 2, 4, 8, 16]),
        (1, 1000, 1, [1, 2]),
        (1000, 6, 4, [1, 2, 4]),
        (1000, 8, 8, [1, 2, 4, 8]),
        (1000, 1, 1, [1]),
    ],
)
def test_the_greatest_power_of_two_is_found(fits, images, found, tried):
    memory = Memory(fits)
    assert largest_that_fits(memory, images) == found
    assert memory.tried == tried


def test_not_even_one_image_is_a_sentence_and_another_error_is_not_hidden():
    with pytest.raises(TrainingError, match=r"not even two images fit the memory: choose a smaller data\.image_size"):
        largest_that_fits(Memory(0), 8)

    def fails(size):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        largest_that_fits(fails, 8)


def test_on_the_cpu_it_is_a_sentence(tmp_path):
    sentence = r"training\.batch_size: 'auto' measures the memory of a CUDA device, but the run's is 'cpu'"
    with pytest.raises(ConfigError, match=sentence):
        mtv.train(AUTO, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("training", [True, False])
def test_where_nobody_looks_for_the_number_it_is_a_sentence(training):
    model, data = built(AUTO)
    sentence = r"training\.batch_size: 'auto' is found by mtv\.train; give a number here"
    with pytest.raises(ConfigError, match=sentence):
        mtv.build_loader(AUTO, data, training=training)
    with pytest.raises(ConfigError, match=sentence):
        mtv.Trainer(model, AUTO, progress=False).fit(data)


def test_several_processes_are_a_sentence(monkeypatch):
    monkeypatch.setattr("mtvision.training.processes.launched", lambda: 2)
    model, data = built(AUTO)
    with pytest.raises(ConfigError, match="'auto' is found by one process alone; give a number to several"):
        with_batch_size(AUTO, model, data)


def test_on_a_device_with_memory_for_five_images_it_is_four(monkeypatch, caplog):
    """12 images; each trial trains a copy of the model."""
    memory = Memory(5)
    monkeypatch.setattr(batch_size, "resolve_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(batch_size, "_train_once", lambda config, model, data, size: memory(size))
    model, data = built(AUTO)
    with caplog.at_level(logging.INFO, logger="mtvision"):
        found = with_batch_size(AUTO, model, data)
    assert found == configured(training__batch_size=4)
    assert "training.batch_size: auto is 4 images" in caplog.text
    assert with_batch_size(found, model, data) is found


@pytest.mark.parametrize(("size", "images"), [(1, 2), (2, 2), (8, 8)])
def test_a_trial_does_two_steps_with_so_many_images_and_leaves_no_trace(size, images):
    """A single image is two, since batch norm cannot take one."""
    model, data = built(
        cfg := configured(training__batch_size="auto", training__accumulate=4, system__channels_last=True)
    )
    seen = []
    model.backbone.register_forward_pre_hook(lambda module, inputs: seen.append((id(module), len(inputs[0]))))
    before = parameters(model)
    batch_size._train_once(cfg, model, data, size)
    assert same(parameters(model), before)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert [number for _, number in seen] == [images, images if images < 8 else 4]
    assert {owner for owner, _ in seen} != {id(model.backbone)}


class CutOffError(BaseException):
    """What no handler of the package catches, as SIGKILL is."""


class Dies(mtv.Callback):
    def on_epoch_start(self, trainer, epoch):
        if epoch == 1:
            raise CutOffError


def test_an_unfinished_run_goes_on_with_the_number_that_it_found(tmp_path):
    folder = tmp_path / "run"
    assert with_batch_size_of(folder, AUTO) is AUTO
    number = configured(system__epochs=2, training__batch_size=6)
    with pytest.raises(CutOffError):
        mtv.train(number, folder, progress=False, callbacks=[Dies()])
    auto = number.replace({"training.batch_size": "auto"})
    assert with_batch_size_of(folder, auto).training.batch_size == 6
    assert with_batch_size_of(folder, configured()).training.batch_size == 4
    mtv.train(auto, folder, progress=False)
    whole = fitted(number)
    assert same(mtv.load_model(folder, "last").state_dict(), whole.model.state_dict())
    assert len(mtv.train(auto, folder, progress=False).history) == 2  # finished: only read
