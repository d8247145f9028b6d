"""Several workers on this machine, each a process of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mtvision.errors import TrainingError
from mtvision.study.running.queue import Queue
from mtvision.study.running.worker import progress_line
from mtvision.training.interrupts import interruptible
from mtvision.training.progress import Reporter

STORAGE_VARIABLE = "MTVISION_STORAGE"
_POLL_SECONDS = 1.0


def work_in_processes(folder: Path, queue: Queue, workers: int, reporter: Reporter) -> None:
    """Let worker processes do the runs that are left, and wait for them; Ctrl-C and SIGTERM end them too, after saving.

    Args:
        folder: of the study.
        queue: of the study.
        workers: how many; they divide the machine's cores.
        reporter: says how far the study is, whenever a run has ended.

    Raises:
        TrainingError: if workers died and runs are left.
    """
    command = [sys.executable, "-m", "mtvision.cli", "study", "work", str(folder), "--name", queue.name, "--quiet"]
    with interruptible() as interruption, _started(command, _environment(queue, workers), workers) as processes:
        done = queue.count().done
        while any(process.poll() is None for process in processes):
            time.sleep(_POLL_SECONDS)
            now = queue.count().done
            if now > done:
                done = now
                reporter.say(progress_line(queue, workers))
            if interruption:
                break
    if interruption:
        interruption.leave("the study was stopped; the same call goes on with it")
    died = [process.returncode for process in processes if process.returncode != 0]
    left = queue.count()
    if died and left.total > left.done and not queue.is_spent():
        raise TrainingError(
            f"{len(died)} of {workers} workers died (exit code {died[0]}) and {left.total - left.done} runs are left; "
            "what they said stands above, and the same call goes on"
        )


@contextmanager
def _started(command: list[str], environment: dict[str, str], number: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start processes; at the end ask those that still run to save and leave, and wait for them."""
    processes = [subprocess.Popen(command, env=environment) for _ in range(number)]
    try:
        yield processes
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
        for process in processes:
            process.wait()


def _environment(queue: Queue, workers: int) -> dict[str, str]:
    threads = max((os.cpu_count() or 1) // workers, 1)
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
    if queue.storage.url is not None:
        environment[STORAGE_VARIABLE] = queue.storage.url  # not on the command line, which everybody can read
    return environment
