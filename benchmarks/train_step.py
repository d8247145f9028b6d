"""What a joint training step costs, in multiples of the bare backbone's step on the same machine in the same run.

    python benchmarks/train_step.py [--sizes 256x8 512x4] [--repeats 7] [--heads fcn unet] [--backbone resnet18]
    python benchmarks/train_step.py --device cuda --precision bf16 --compile --sizes 256x64

A step is forward, losses, backward and an SGD update. Beside ours stand single-task models of other libraries on the
same backbone (see ``peers.py``), and two of them after each other: what one trains without a joint model. The variants
take turns, so that whatever else the machine does hits all of them, and medians are compared. ``GFLOP`` are operations
of convolutions and matrix products in the whole step, an image (a multiply-add is two); ``GFLOP/s`` holds them against
the wall time, to compare with what the machine can do at best, which is measured too.

On a GPU, ``--precision bf16`` is autocast and ``--compile`` compiles networks and losses as ``system.compile`` does;
torchvision's detectors, which loop over lists, stay as they are.
"""

import argparse
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peers
import torch
from ceilings import ceilings, operations
from common import bare_backbone, feature_loss, make_targets, measured, sizes_of, total_loss, training_step
from reporting import Row, Table, report
from torch import Tensor, nn

import mtvision as mtv
from mtvision.training.compiling import compiled_losses

NUM_CLASSES = {"seg": 21, "det": 20}
BACKBONE, TWO = "backbone alone", "two single-task models: smp U-Net + torchvision FCOS"


@dataclass(frozen=True)
class Setting:
    """Where and how the steps run."""

    backbone: str = "resnet18"
    device: str = "cpu"
    precision: str = "fp32"
    compile: bool = False

    def __str__(self) -> str:
        compiled = ", compiled" if self.compile else ""
        return f"{self.backbone}, {self.device}, {self.precision}{compiled}, {torch.get_num_threads()} threads"

    def placed(self, network: nn.Module) -> nn.Module:
        """Return a network in training mode, as `Trainer` places it."""
        placed: Any = network.to(self.device)
        return placed.to(memory_format=torch.channels_last if self.device == "cuda" else torch.preserve_format).train()  # type: ignore[no-any-return]

    def called(self, network: nn.Module) -> Any:
        """Return what is called in the network's place."""
        return torch.compile(network) if self.compile else network

    def step(self, network: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
        """Return a training step, whose end is the end of the device's work."""

        def in_precision() -> Tensor:
            with torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bf16"):
                return loss()

        step = training_step(network, in_precision)

        def whole() -> None:
            step()
            if self.device == "cuda":
                torch.cuda.synchronize()

        return whole


def main(
    sizes: Mapping[int, int] | None = None,
    repeats: int = 7,
    heads: tuple[str, ...] = ("fcn", "unet"),
    setting: Setting | None = None,
    output: Path | None = None,
) -> list[Row]:
    """Measure, print and return a row for each variant at each size.

    Args:
        sizes: batch by size of the square images.
        repeats: turns.
        heads: segmentation heads to measure with the default detection head.
        setting: device, precision, backbone.
        output: JSON file.
    """
    setting = setting or Setting()
    limits = ceilings(torch.device(setting.device), torch.bfloat16 if setting.precision == "bf16" else torch.float32)
    best = ", ".join(f"{name} {speed:,.0f}" for name, speed in limits.items())
    tables = []
    for size, batch in (sizes or {256: 8, 512: 4}).items():
        with ExitStack() as compiled:
            rows = rows_of(setting, size, batch, repeats, heads, compiled)
        notes = [f"At best here, GFLOP/s: {best}.", *([] if peers.has_smp() else [peers.MISSING])]
        tables.append(Table(f"Training step: {setting}, {size} x {size}, batch {batch}", rows, notes))
    report("train_step", tables, output, "segmentation-models-pytorch")
    return [row for table in tables for row in table.rows]


def rows_of(
    setting: Setting, size: int, batch: int, repeats: int, heads: tuple[str, ...], stack: ExitStack
) -> list[Row]:
    images = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8, device=setting.device)
    targets = _on_device(make_targets(batch, size), setting.device)
    steps = {**own_steps(setting, images, targets, heads, stack), **peer_steps(setting, images, targets)}
    if {"smp U-Net", "torchvision FCOS"} <= steps.keys():
        steps[TWO] = _after_each_other(steps["smp U-Net"], steps["torchvision FCOS"])
    with torch.compiler.set_stance("force_eager"):  # what is compiled under a counter is never compiled again
        work = {name: operations(step) / batch for name, step in steps.items()}
    found = measured(steps, repeats, warm_up=3 if setting.device == "cuda" else 1)
    return [
        {
            "model": name,
            "CPU s": seconds.cpu,
            "wall s": seconds.wall,
            "x backbone": _time(seconds, setting) / _time(found[BACKBONE], setting),
            "GFLOP an image": work[name] or None,
            "GFLOP/s": work[name] * batch / seconds.wall or None,
            "images/s": batch / seconds.wall,
        }
        for name, seconds in found.items()
    ]


def own_steps(
    setting: Setting, images: Tensor, targets: dict[str, Any], heads: tuple[str, ...], stack: ExitStack
) -> dict[str, Callable[[], None]]:
    """Return the steps of the bare backbone and of our models."""
    configs: dict[str, dict[str, str | None]] = {}
    for head in heads:
        configs[f"{head} + fpn"] = {"segmentation_head": head}
        configs[head] = {"segmentation_head": head, "detection_head": None}
    configs["fpn"] = {"segmentation_head": None}
    steps: dict[str, Callable[[], None]] = {}
    for name, config in configs.items():
        built = mtv.build_model({"backbone": setting.backbone, "num_classes": NUM_CLASSES, **config})
        model: Any = setting.placed(built)
        if not steps:
            bare = setting.placed(bare_backbone(model))
            steps[BACKBONE] = setting.step(bare, _feature_loss(setting.called(bare), images))
        stack.enter_context(compiled_losses(model, setting.compile))
        steps[name] = setting.step(model, total_loss(model, images, targets, setting.called(model)))
    return steps


def peer_steps(setting: Setting, images: Tensor, targets: dict[str, Any]) -> dict[str, Callable[[], None]]:
    """Return the steps of the single-task models."""
    steps = {}
    pictures = images.float() / 255
    for name in peers.SEGMENTERS if peers.has_smp() else ():
        model = setting.placed(peers.segmenter(name, setting.backbone, NUM_CLASSES["seg"]))
        loss = peers.segmentation_loss(setting.called(model), pictures, targets["seg"])
        steps[name] = setting.step(model, loss)
    for name in peers.DETECTORS if setting.backbone.startswith("resnet") else ():
        model = setting.placed(peers.detector(name, setting.backbone, NUM_CLASSES["det"], images.shape[-1]))
        steps[name] = setting.step(model, peers.detection_loss(model, pictures, targets["det"]))
    return steps


def _after_each_other(*steps: Callable[[], None]) -> Callable[[], None]:
    def both() -> None:
        for step in steps:
            step()

    return both


def _feature_loss(network: Callable[[Tensor], list[Tensor]], images: Tensor) -> Callable[[], Tensor]:
    return lambda: feature_loss(network(images))


def _time(seconds: Any, setting: Setting) -> float:
    """Return the time that is compared: of the processor, or of the clock where a GPU does the work."""
    value: float = seconds.wall if setting.device == "cuda" else seconds.cpu
    return value


def _on_device(targets: dict[str, Any], device: str) -> dict[str, Any]:
    masks = torch.zeros(0)
    batch = mtv.Batch(masks, targets, [], [], {})
    return batch.to(torch.device(device)).targets


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["256x8", "512x4"], metavar="SIZExBATCH")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--heads", nargs="+", default=["fcn", "unet"])
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args()
    asked = Setting(chosen.backbone, chosen.device, chosen.precision, chosen.compile)
    main(sizes_of(chosen.sizes), chosen.repeats, tuple(chosen.heads), asked, chosen.output)
