"""How verbs end that cannot do their work."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
import typer
from command_line import SETTINGS, run
from typer.testing import CliRunner

import mtvision as mtv
from mtvision.cli.verbs import Verbs, add_verb


def ended(error):
    """Return how a verb ends that raises."""
    app = typer.Typer(cls=Verbs, rich_markup_mode=None)

    def fail():
        """Fail."""
        raise error

    add_verb(app, fail)
    add_verb(app, lambda: None, "other")
    return CliRunner().invoke(app, ["fail"])


MISSING = ModuleNotFoundError("No module named 'optuna'", name="optuna")
NEMO = ModuleNotFoundError("No module named 'nemo'", name="nemo")
HINTED = ModuleNotFoundError("x needs optuna: pip install 'mtvision[study]'", name="optuna")


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (mtv.ConfigError(["training.lr: no", "training.lrr: no"]), 2, "error: training.lr: no\ntraining.lrr: no\n"),
        (mtv.RegistryError("unknown neck 'fpm'"), 2, "error: unknown neck 'fpm'\n"),
        (mtv.DataError("a.jpg: is no image"), 1, "error: a.jpg: is no image\n"),
        (mtv.CheckpointError("runs/a: damaged"), 1, "error: runs/a: damaged\n"),
        (mtv.TrainingError("loss = nan"), 1, "error: loss = nan\n"),
        (KeyboardInterrupt("saved; the same call goes on"), 130, "saved; the same call goes on\n"),
        (KeyboardInterrupt(), 130, "stopped\n"),
        (PermissionError(errno.EACCES, "Permission denied", "/root/x"), 1, "error: /root/x: Permission denied\n"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "error: No space left on device\n"),
        (MISSING, 1, "error: No module named 'optuna': pip install 'mtvision[study]'\n"),
        (NEMO, 1, "error: No module named 'nemo'\n"),
        (HINTED, 1, "error: x needs optuna: pip install 'mtvision[study]'\n"),
    ],
)
def test_what_a_person_can_mend_is_a_sentence(error, code, text):
    result = ended(error)
    assert (result.exit_code, result.output) == (code, text)


def test_a_device_without_memory_is_told_what_helps():
    result = ended(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nsee the documentation"))
    assert result.exit_code == 1
    first, second = result.output.splitlines()
    assert first == "error: CUDA out of memory. Tried to allocate 2 GiB."
    assert "training.batch_size" in second


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("Unable to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"),
    ],
)
def test_a_processor_without_memory_is_told_the_same(error):
    result = ended(error)
    assert result.exit_code == 1
    assert result.output.splitlines()[0] == f"error: {str(error) or 'out of memory'}"


@pytest.mark.parametrize("error", [RuntimeError("a mistake"), ValueError("a mistake"), OSError("a mistake")])
def test_a_mistake_of_ours_keeps_its_traceback(error):
    assert ended(error).exception is error


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["trian"], 2, "No such command 'trian'"),
        (["train", "--lr", "1"], 2, "No such option: --lr"),
        (["train", "training.lrr=1"], 2, "error: training.lrr: unknown key. Did you mean 'lr'?"),
        (["train", "lr=1"], 2, "Did you mean 'training.lr'?"),
        (["train", "none.yaml"], 2, "error: none.yaml: cannot be read"),
        (["train", "a.yaml", "b.yaml"], 2, "expected one config"),
        (["train", "--data-root", "nowhere"], 1, "error: nowhere: the data set's folder does not exist"),
        (["train", *SETTINGS, "system.device=cuda:77"], 2, "'cuda:77' is not available"),
        (["evaluate", "nowhere"], 1, "error: nowhere: there is no such run folder"),
        (["evaluate", "nowhere", "--batch-size", "0"], 2, "'--batch-size'"),
        (["list", "nothing"], 2, "role: there is no 'nothing'"),
        (["list", "necks", "z*"], 2, "necks: no name matches 'z*'"),
        (["stats", "nowhere"], 1, "error: nowhere"),
    ],
)
def test_wrong_words_and_what_they_end_with(words, code, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*words)
    assert result.exit_code == code, result.output
    assert sentence in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_ctrl_c_saves_first(tmp_path):
    words = [
        "-m",
        "mtvision.cli",
        "train",
        *SETTINGS,
        "system.epochs=9999",
        "system.checkpoint_steps=1",
        "--run-dir",
        str(tmp_path / "a"),
    ]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=one_thread,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background ignore Ctrl-C
    )
    last = tmp_path / "a" / "checkpoints" / "last"
    until = time.monotonic() + 60
    while not last.is_dir() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    try:
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "the same call goes on" in said
    assert "Traceback" not in said
    assert mtv.load_model(tmp_path / "a", "last").tasks.keys() == {"seg", "det"}
