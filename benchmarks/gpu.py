"""Training on a CUDA device: the step alone in each precision, and whether the loader keeps up with it.

    python benchmarks/gpu.py --root FOLDER [--size 256] [--batch 64] [--workers 8] [--repeat 8] [--level heavy]

``step`` repeats one batch that is on the device already: forward, losses of both tasks, backward and AdamW. ``fit`` is
`Trainer.fit` on the folder's images, epochs after the first, validation left out. ``waits`` is the share of a fit's
time that is not the step's: loading, copying, and the loop around it. ``cached`` reads from `data.cache`. An epoch has
every image ``--repeat`` times: in a short one the wait for its first batch is most of what one sees.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

import mtvision as mtv

MODES: dict[str, dict[str, Any]] = {
    "fp32": {},
    "bf16": {"system.precision": "bf16"},
    "fp16": {"system.precision": "fp16"},
    "bf16, channels_last": {"system.precision": "bf16", "system.channels_last": True},
    "bf16, channels_last, compiled": {
        "system.precision": "bf16",
        "system.channels_last": True,
        "system.compile": True,
    },
}
_REPEATS, _EPOCHS = 30, 4


class EpochClock(mtv.Callback):
    """Notes when each epoch begins."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_epoch_start(self, trainer: mtv.Trainer, epoch: int) -> None:  # noqa: ARG002 - the signature of the hook
        """Note the time, once the device has done all that it was told."""
        torch.cuda.synchronize()
        self.times.append(time.perf_counter())


def fit_speed(config: mtv.Config, data: Any) -> float:
    """Return images a second of the epochs after the first."""
    clock = EpochClock()
    trainer = mtv.Trainer(mtv.build_model(config, classes=data.classes), config, progress=False, callbacks=[clock])
    trainer.fit(data)
    batch_size = int(config.training.batch_size)
    images = len(data) // batch_size * batch_size
    between = [after - before for before, after in zip(clock.times[1:], clock.times[2:], strict=False)]
    return images / min(between)


def step_speed(config: mtv.Config, data: Any) -> float:
    """Return images a second of the step alone, by `Trainer.fit` on one batch that is on the device already."""
    batch = next(iter(mtv.build_loader(config, data, training=True))).to(torch.device("cuda"))
    clock = EpochClock()
    epochs = config.replace({"system.epochs": _EPOCHS})
    trainer = mtv.Trainer(mtv.build_model(config, classes=data.classes), epochs, progress=False, callbacks=[clock])
    repeated: Any = [batch] * _REPEATS
    trainer.fit(DataLoader(repeated, batch_size=None))
    between = [after - before for before, after in zip(clock.times[1:], clock.times[2:], strict=False)]
    return len(batch.images) * _REPEATS / min(between)


def main(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    whole = mtv.data.VOC(options.root, "train")
    data = mtv.data.Subset(whole, list(range(len(whole))) * options.repeat)
    rows: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        base = mtv.Config(
            system={"epochs": _EPOCHS, "device": "cuda", "trackers": []},
            model={"backbone": options.backbone},
            training={"batch_size": options.batch},
            data={"image_size": options.size, "num_workers": options.workers, "augmentation_level": options.level},
        )
        for name in options.modes:
            config = base.replace(MODES[name])
            step = step_speed(config, data)
            fit, cached = (fit_speed(config.replace({"data.cache": cache}), data) for cache in (False, folder))
            rows[name] = {
                "step": step,
                "fit": fit,
                "fit cached": cached,
                "waits": 1 - fit / step,
                "waits cached": 1 - cached / step,
            }
            torch._dynamo.reset()
            print(name, {key: round(value, 3) for key, value in rows[name].items()}, flush=True)
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=8)
    parser.add_argument("--modes", nargs="+", choices=list(MODES), default=list(MODES))
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--level", default="heavy")
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args()
    results = main(chosen)
    if chosen.output is not None:
        chosen.output.write_text(json.dumps(results, indent=1))
