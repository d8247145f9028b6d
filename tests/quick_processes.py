"""Processes that start at once: forks of a server that has imported what they need, and has computed nothing.

A new Python takes seconds to import torch and all that belongs to it. What such a process does is not tested by that;
tests of how the user starts processes (``torchrun``, the command line) start them in earnest.
"""

import multiprocessing
import os
import socket
import sys
from pathlib import Path

import torch

_IMPORTED = (
    "mtvision.training.trainer",
    "accelerate",
    "albumentations",
    "faster_coco_eval",
    "matplotlib.pyplot",
    "optuna",
    "tensorboard",
    "timm",
    "torch.distributed.tensor",
    "torchmetrics.detection",
)
_SECONDS = 240


class QuickProcess:
    """A process that calls a function, with one thread; what it prints goes into a file.

    Args:
        function: of a module's top level.
        arguments: that can be pickled.
        output: the file.
        environment: further variables.
    """

    def __init__(self, function, arguments, output, environment=()):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(_IMPORTED))
        self.output = Path(output)
        settings = (multiprocessing.get_start_method(), dict(environment))
        self.process = context.Process(target=_call, args=(self.output, *settings, function, arguments))
        self.process.start()

    @property
    def text(self):
        """What it has printed so far."""
        return self.output.read_text() if self.output.exists() else ""

    @property
    def is_alive(self):
        return self.process.is_alive()

    def kill(self, how):
        """Send a signal, and wait for the end."""
        os.kill(self.process.pid, how)
        self.wait()

    def wait(self):
        """Wait for the end, and return the exit code."""
        self.process.join(_SECONDS)
        assert self.process.exitcode is not None, f"it does not end; it said: {self.text[-3000:]}"
        return self.process.exitcode


def spread(function, arguments, number, folder):
    """Call ``function(*arguments)`` in processes that find each other as those of ``torchrun`` do.

    Args:
        function: of a module's top level.
        arguments: that can be pickled.
        number: of the processes.
        folder: where what they print goes.

    Returns:
        Their exit codes, and all that they printed.
    """
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    common |= {"WORLD_SIZE": str(number), "LOCAL_WORLD_SIZE": str(number)}
    started = [
        QuickProcess(function, arguments, folder / f"printed-{rank}.txt", {**common, **_rank(rank)})
        for rank in range(number)
    ]
    codes = [process.wait() for process in started]
    return codes, "".join(process.text for process in started)


def together(function, number, folder, *arguments):
    """Call ``function(rank, *arguments)`` in processes that talk to each other; all of them must come to their end.

    Args:
        function: of a module's top level.
        number: of the processes.
        folder: where what they print goes, and by which they find each other.
        arguments: that can be pickled.
    """
    started = [
        QuickProcess(_in_group, (folder, number, function, rank, arguments), folder / f"printed-{rank}.txt")
        for rank in range(number)
    ]
    codes = [process.wait() for process in started]
    assert codes == [0] * number, "".join(process.text for process in started)[-3000:]


def _in_group(folder, number, function, rank, arguments):
    where = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", init_method=where, rank=rank, world_size=number)
    function(rank, *arguments)
    torch.distributed.destroy_process_group()


def _rank(rank):
    return {"RANK": str(rank), "LOCAL_RANK": str(rank)}


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _call(output, start_method, environment, function, arguments):
    multiprocessing.set_start_method(start_method, force=True)  # that of workers for loading; it would be a server too
    with output.open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
    os.environ.update(environment)
    torch.set_num_threads(1)
    function(*arguments)
