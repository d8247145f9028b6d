"""How many processes load images where nobody says it."""

import os
import subprocess
import sys

import pytest
import torch

import mtvision as mtv
from mtvision.data.loading import workers
from mtvision.data.loading.workers import usable_cores, worker_count


@pytest.fixture
def machine(monkeypatch):
    """A machine with CUDA and 16 cores, whose processes fork."""

    def made(cuda=True, cores=16, start="fork", processes=None):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(workers, "usable_cores", lambda: cores)
        monkeypatch.setattr(workers, "_start_method", lambda: start)
        monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
        if processes is not None:
            monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))

    return made


def on(device="auto", **data):
    return mtv.Config(system={"device": device}, data=data)


@pytest.mark.parametrize(
    ("given", "device", "expected"),
    [
        ({}, "auto", 12),
        ({}, "cuda:1", 12),
        ({}, "cpu", 0),
        ({}, "mps", 0),
        ({"cuda": False}, "auto", 0),
        ({"cores": 8}, "cuda", 7),
        ({"cores": 1}, "cuda", 1),
        ({"processes": 4}, "cuda", 3),
        ({"processes": 16}, "cuda", 1),
        ({"start": "spawn"}, "cuda", 0),
        ({"start": "forkserver"}, "cuda", 0),
    ],
)
def test_auto_takes_what_training_leaves(machine, given, device, expected):
    machine(**given)
    assert worker_count(on(device)) == expected


def test_a_number_is_that_number(machine):
    machine()
    assert [worker_count(on(num_workers=number)) for number in (0, 1, 40)] == [0, 1, 40]


def test_the_loader_takes_it(machine, monkeypatch):
    machine(cores=3)
    config = mtv.Config(data={"dataset": {"name": "shapes", "num_images": 8}, "image_size": 32})
    data = mtv.build_dataset(config)
    for training in (True, False):
        loader = mtv.build_loader(config, data, training=training)
        assert (loader.num_workers, loader.persistent_workers, loader.pin_memory) == (2, True, True)


def test_only_a_number_or_auto_is_taken():
    with pytest.raises(mtv.ConfigError, match=r"data\.num_workers"):
        on(num_workers=-1)
    with pytest.raises(mtv.ConfigError, match=r"data\.num_workers"):
        on(num_workers="many")


def test_cores_are_those_that_the_process_may_use():
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
    if hasattr(os, "sched_getaffinity"):
        assert usable_cores() == len(os.sched_getaffinity(0))


def test_asking_does_not_decide_how_processes_begin():
    code = (
        "import multiprocessing; from mtvision.data.loading import workers; workers._start_method(); "
        "assert multiprocessing.get_start_method(allow_none=True) is None"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
