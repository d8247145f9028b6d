"""A run that is killed again and again ends as one that is left alone: the same weights, byte by byte.

    python benchmarks/kill_resume.py [--kills 20] [--seed 0] [--folder DIR]

One run goes through. Another is started, killed with SIGKILL after a random time (in a step, in validation, while a
checkpoint is written), and started again with the same call, until it was killed often enough and has come to its end.
It has all that a resumed run can get wrong: dropout, heavy augmentation, loader processes, accumulated batches, an
average of the weights, a balancer that learns, early stopping. Compared are the files of weights, the history (but for
its seconds) and the summary.
"""

import argparse
import importlib
import json
import os
import random
import signal
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import torch

import mtvision as mtv

HEAVY = ("accelerate", "albumentations", "faster_coco_eval", "matplotlib.pyplot", "timm", "torchmetrics.detection")
CONFIG: dict[str, dict[str, Any]] = {
    "system": {"epochs": 6, "device": "cpu", "seed": 3, "checkpoint_steps": 2, "progress": "quiet"},
    "model": {"backbone": "test_resnet", "dropout_rate": 0.3},
    "training": {
        "batch_size": 4,
        "accumulate": 2,
        "ema_decay": 0.9,
        "balancer": "uncertainty",
        "patience": 5,
        "keep_best": 2,
    },
    "data": {
        "dataset": {"name": "shapes", "num_images": 48, "image_size": 64},
        "image_size": 64,
        "augmentation_level": "heavy",
        "num_workers": 2,
    },
}


def main(kills: int, seed: int, folder: Path, config: dict[str, dict[str, Any]] | None = None) -> dict[str, Any]:
    """Return how the campaign went; ``differences`` is empty if all runs are the same."""
    torch.set_num_threads(1)
    for package in HEAVY:  # once here, not in each child
        importlib.import_module(package)
    settings = config or CONFIG
    whole = folder / "whole"
    began = time.perf_counter()
    _wait(_start(settings, whole))
    alone = time.perf_counter() - began
    generator = random.Random(seed)
    reached: list[str] = []
    runs: list[Path] = []
    while len(reached) < kills:
        runs.append(folder / f"killed-{len(runs)}")
        _run_and_kill(settings, runs[-1], generator, alone / 4, kills, reached)
    found = [f"{run.name}: {difference}" for run in runs for difference in differences(whole, run)]
    return {"runs": len(runs), "reached": reached, "seconds_alone": alone, "differences": found}


def _run_and_kill(
    settings: dict[str, dict[str, Any]],
    folder: Path,
    generator: random.Random,
    longest: float,
    kills: int,
    reached: list[str],
) -> None:
    """Start a run until it has come to its end, and kill it after random times, ``kills`` in all."""
    while not (folder / "plots" / "predictions.png").exists():
        child = _start(settings, folder)
        if len(reached) < kills:
            time.sleep(generator.uniform(0, longest))
            if _is_running(child):
                os.kill(child, signal.SIGKILL)
                reached.append(_reached(folder))
        _wait(child, may_die=True)


def differences(a: Path, b: Path) -> list[str]:
    """Return what differs between two run folders, of what must not."""
    files = [path.relative_to(a) for path in (a / "checkpoints").glob("*/*.safetensors") if not path.parent.suffix]
    found = [str(file) for file in sorted(files) if not _same(a / file, b / file)]
    if not files:
        found.append("there are no weights to compare")
    if _history(a) != _history(b):
        found.append("history.jsonl")
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in (a, b)]
    found += [f"summary.json: {key}" for key in ("metrics", "best_epoch") if summaries[0][key] != summaries[1][key]]
    return found


def _reached(folder: Path) -> str:
    """Return epochs and then batches done at the last checkpoint, or ``-``."""
    try:
        content = json.loads((folder / "checkpoints" / "last" / "checkpoint.json").read_text())
    except (OSError, ValueError):
        return "-"
    return f"{content['epoch']}.{content['step']}"


def _same(a: Path, b: Path) -> bool:
    return b.exists() and a.read_bytes() == b.read_bytes()


def _history(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def _start(config: dict[str, dict[str, Any]], folder: Path) -> int:
    """Train in a child of this process, which has imported all and computed nothing; return its number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        mtv.train(config, folder, progress=False)
        code = 0
    except BaseException:
        (folder.parent / f"{folder.name}-error.txt").write_text(traceback.format_exc())
        raise
    finally:
        os._exit(code)


def _is_running(child: int) -> bool:
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def _wait(child: int, may_die: bool = False) -> None:
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in ((0, -signal.SIGKILL) if may_die else (0,)):
        raise SystemExit(f"a run ended with exit code {code}; see the *-error.txt beside its folder")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--folder", type=Path, help="for the two runs; a temporary one without")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        result = main(options.kills, options.seed, options.folder or Path(temporary))
    number, runs, seconds = len(result["reached"]), result["runs"], result["seconds_alone"]
    print(f"{number} kills in {runs} runs; alone a run takes {seconds:.0f} s")
    print("checkpoint (epochs.batches done) at each kill: " + " ".join(result["reached"]))
    print("differences: " + (", ".join(result["differences"]) or "none"))
    raise SystemExit(bool(result["differences"]))
