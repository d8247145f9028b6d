"""Training on a CUDA device: the step alone in each precision, what it waits for, and whether the loader keeps up.

    python benchmarks/gpu.py --root FOLDER [--size 256] [--batch 64] [--workers 8] [--repeat 8] [--level heavy]

``step`` repeats one batch that is on the device already: forward, losses of both tasks, backward and AdamW. ``fit`` is
`Trainer.fit` on the folder's images, epochs after the first, validation left out. ``waits`` is the share of a fit's
time that is not the step's: loading, copying, and the loop around it. ``cached`` reads from `data.cache`. An epoch has
every image ``--repeat`` times: in a short one the wait for its first batch is most of what one sees.

The second table is of one step under the profiler: time on the device, kernels launched, copies, and how often the
processor waits for the device (as ``torch.cuda.set_sync_debug_mode`` tells). A step whose device time is far below its
time is bound by the launching of kernels.
"""

import argparse
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from ceilings import ceilings, operations
from common import make_targets, total_loss
from reporting import Row, Table, report
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader

import mtvision as mtv
from mtvision.training.callbacks import StepInfo

MODES: dict[str, dict[str, Any]] = {
    "fp32, NCHW": {"system.channels_last": False},
    "fp32": {},
    "bf16": {"system.precision": "bf16"},
    "fp16": {"system.precision": "fp16"},
    "fp32, compiled": {"system.compile": True},
    "bf16, compiled": {"system.precision": "bf16", "system.compile": True},
}
_REPEATS, _EPOCHS = 30, 4
_WARM, _PROFILED = 12, 5


class EpochClock(mtv.Callback):
    """Notes when each epoch begins."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_epoch_start(self, trainer: mtv.Trainer, epoch: int) -> None:  # noqa: ARG002 - the signature of the hook
        """Note the time, once the device has done all that it was told."""
        torch.cuda.synchronize()
        self.times.append(time.perf_counter())

    @property
    def fastest(self) -> float:
        """Seconds of the fastest epoch after the first."""
        return min(after - before for before, after in zip(self.times[1:], self.times[2:], strict=False))


class StepProfile(mtv.Callback):
    """Looks at one step for waits, and profiles some after it."""

    def __init__(self) -> None:
        self.steps = 0
        self.profile = profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], acc_events=True)
        self.seen = warnings.catch_warnings(record=True)
        self.waits: Any = []

    def on_step_end(self, trainer: mtv.Trainer, step: StepInfo) -> None:  # noqa: ARG002 - the signature of the hook
        """Switch the looking on and off."""
        self.steps += 1
        if self.steps == _WARM:
            self.waits = self.seen.__enter__()
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
        elif self.steps == _WARM + 1:
            torch.cuda.set_sync_debug_mode("default")
            self.waits = list(self.waits)
            self.seen.__exit__(None, None, None)
            self.profile.__enter__()
        elif self.steps == _WARM + 1 + _PROFILED:
            torch.cuda.synchronize()
            self.profile.__exit__(None, None, None)

    def row(self) -> dict[str, float]:
        """Return what a step did."""
        events = self.profile.key_averages()
        on_device = [event for event in events if str(event.device_type).endswith("CUDA")]
        kernels = [event for event in on_device if not event.key.startswith(("Optimizer", "ProfilerStep", "##"))]
        return {
            "device ms": sum(event.self_device_time_total for event in kernels) / 1000 / _PROFILED,
            "launches": sum(event.count for event in events if "LaunchKernel" in event.key) // _PROFILED,
            "copies": sum(event.count for event in events if event.key == "cudaMemcpyAsync") // _PROFILED,
            "waits for the device": sum("synchroniz" in str(each.message).lower() for each in self.waits),
        }


def fit_speed(config: mtv.Config, data: Any) -> float:
    """Return images a second of the epochs after the first."""
    clock = EpochClock()
    trainer = mtv.Trainer(mtv.build_model(config, classes=data.classes), config, progress=False, callbacks=[clock])
    trainer.fit(data)
    batch_size = int(config.training.batch_size)
    return len(data) // batch_size * batch_size / clock.fastest


def step_speed(config: mtv.Config, data: Any) -> tuple[float, dict[str, float]]:
    """Return images a second of the step alone, by `Trainer.fit` on one batch that is on the device already."""
    batch = next(iter(mtv.build_loader(config, data, training=True))).to(torch.device("cuda"))
    repeated: Any = [batch] * _REPEATS
    clock, looking = EpochClock(), StepProfile()
    trainer = mtv.Trainer(mtv.build_model(config, classes=data.classes), config, progress=False, callbacks=[clock])
    trainer.fit(DataLoader(repeated, batch_size=None))
    once = config.replace({"system.epochs": 1})
    trainer = mtv.Trainer(mtv.build_model(config, classes=data.classes), once, progress=False, callbacks=[looking])
    trainer.fit(DataLoader(repeated, batch_size=None))
    return len(batch.images) * _REPEATS / clock.fastest, looking.row()


def main(options: argparse.Namespace) -> list[Row]:
    whole = mtv.data.VOC(options.root, "train")
    data: Any = mtv.data.Subset(whole, list(range(len(whole))) * options.repeat)
    speeds: list[Row] = []
    steps: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        base = mtv.Config(
            system={"epochs": _EPOCHS, "device": "cuda", "trackers": []},
            model={"backbone": options.backbone},
            training={"batch_size": options.batch},
            data={"image_size": options.size, "num_workers": options.workers, "augmentation_level": options.level},
        )
        work = operations_of_an_image(options)
        for name in options.modes:
            config = base.replace(MODES[name])
            step, profiled = step_speed(config, data)
            fit, cached = (fit_speed(config.replace({"data.cache": cache}), data) for cache in (False, folder))
            speeds.append(
                {
                    "precision": name,
                    "step, images/s": step,
                    "TFLOP/s": step * work / 1000,
                    "fit from files": fit,
                    "fit cached": cached,
                    "waits, files": max(1 - fit / step, 0.0),
                    "waits, cached": max(1 - cached / step, 0.0),
                }
            )
            steps.append({"precision": name, "step ms": options.batch / step * 1000, **profiled})
            torch._dynamo.reset()
            write(options, speeds, steps)
    return speeds


def write(options: argparse.Namespace, speeds: list[Row], steps: list[Row]) -> None:
    """Print and write what is known so far: a mode that takes too long does not take the others along."""
    what = f"{options.backbone}, {options.size} px, batch {options.batch}, level '{options.level}'"
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16}
    best = {kind: ceilings(torch.device("cuda"), dtype) for kind, dtype in kinds.items()}
    note = "; ".join(f"{kind}: {name} {speed / 1000:,.0f}" for kind, of in best.items() for name, speed in of.items())
    tables = [
        Table(f"Training: {what}, {options.workers} loader processes", speeds, [f"At best, TFLOP/s: {note}."]),
        Table(f"One step: {what}", steps),
    ]
    report("gpu", tables, options.output)


def operations_of_an_image(options: argparse.Namespace) -> float:
    """Return the operations of a training step for one image, in 10⁹."""
    model = mtv.build_model({"backbone": options.backbone}).train()
    images = torch.zeros(2, 3, options.size, options.size)
    loss = total_loss(model, images, make_targets(2, options.size))
    return operations(lambda: loss().backward()) / 2


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
    main(parser.parse_args())
