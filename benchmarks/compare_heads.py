"""Heads trained on the same images with the same budget of CPU seconds, scored on the same validation images.

    python benchmarks/compare_heads.py --data-root DATA --task det [--heads fpn fcos ...] [--budget 600] [--json FILE]

A short probe measures what an epoch with each head costs; the head then trains for as many epochs as fit the budget,
each with a whole learning-rate schedule. Other tasks are left out, the backbone starts from scratch. Detection heads
train with the losses of their papers. Run it with OMP_NUM_THREADS=1: CPU seconds then hardly depend on what else the
machine does. One run a head and seed has no interval: repeat with several seeds before you trust a small difference.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from common import sum_of_parts

import mtvision as mtv

LIGHT_NECK = {"name": "fpn", "channels": 64, "extra_levels": 2}
FOCAL = {"name": "focal", "alpha": 0.25}
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "fcos": {"training": {"det_loss": "giou", "det_class_loss": FOCAL}},
    "retinanet": {"training": {"det_loss": "l1", "det_class_loss": FOCAL}},
    "retinanet, group norm": {
        "model": {"detection_head": {"name": "retinanet", "norm": "group"}},
        "training": {"det_loss": "l1", "det_class_loss": FOCAL},
    },
    "fcos, light": {
        "model": {"detection_head": {"name": "fcos", "num_convs": 1}, "neck": LIGHT_NECK},
        "training": {"det_loss": "giou", "det_class_loss": FOCAL},
    },
    "retinanet, light": {
        "model": {"detection_head": {"name": "retinanet", "num_convs": 1}, "neck": LIGHT_NECK},
        "training": {"det_loss": "l1", "det_class_loss": FOCAL},
    },
    "fpn, 128 channels": {"model": {"detection_head": "fpn", "neck": {"name": "fpn", "channels": 128}}},
    "single_scale, 128 channels": {"model": {"detection_head": {"name": "single_scale", "channels": 128}}},
    "fpn, pan neck": {"model": {"detection_head": "fpn", "neck": {"name": "pan", "channels": 64}}},
    "fpn, bifpn neck": {"model": {"detection_head": "fpn", "neck": {"name": "bifpn", "channels": 64}}},
}
"""What a row changes besides the head of its name. Light: as wide and deep as the head `fpn`. `retinanet` is as in the
paper, without norms; with group norm it is torchvision's second version."""

KEYS = {"seg": "segmentation_head", "det": "detection_head"}
PROBE_STEPS = 4


def main(
    data_root: Path,
    task: str,
    heads: Sequence[str],
    budget: float,
    *,
    size: int = 128,
    batch: int = 16,
    seeds: Sequence[int] = (42,),
    backbone: str = "resnet18",
    weights: Path | None = None,
    lr: float = 0.002,
) -> list[dict[str, Any]]:
    rows = []
    for seed in seeds:
        for head in heads:
            config = _config(data_root, task, head, size, batch, seed)
            config = config.replace({"training.lr": lr, "model.backbone": backbone})
            if weights is not None:  # with the activation that they were learned with
                config = config.replace({"model.pretrained": str(weights), "model.activation": None})
            row = {"head": head, "seed": seed, **_train(config, budget)}
            rows.append(row)
            print(_line(row), flush=True)
    return rows


def _config(root: Path, task: str, head: str, size: int, batch: int, seed: int) -> mtv.Config:
    other = KEYS["det" if task == "seg" else "seg"]
    change = VARIANTS.get(head, {})
    return mtv.Config(
        system={"seed": seed, "device": "cpu"},
        model={
            other: None,
            **({} if "model" in change else {KEYS[task]: head}),
            **change.get("model", {}),
        },
        training={"batch_size": batch, **change.get("training", {})},
        data={"dataset_root": str(root), "image_size": size},
    )


def _train(config: mtv.Config, budget: float) -> dict[str, Any]:
    train, val = mtv.build_dataset(config, "train"), mtv.build_dataset(config, "val")
    seconds = _epoch_seconds(config, train)
    epochs = max(round(budget / seconds), 1)
    config = config.replace({"system.epochs": epochs, "training.warmup_epochs": min(1.0, epochs / 4)})
    model = mtv.build_model(config, classes=train.classes)
    trainer = mtv.Trainer(model, config, progress=False)
    began = time.process_time()
    trainer.fit(train)
    used = time.process_time() - began
    return {"epochs": epochs, "cpu_seconds": used, **trainer.evaluate(val)}


def _epoch_seconds(config: mtv.Config, train: Any) -> float:
    """Return the CPU seconds of an epoch, from a few batches after one to warm up."""
    model = mtv.build_model(config, classes=train.classes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    loader = mtv.build_loader(config, train, training=True)
    began, steps = 0.0, 0
    for batch in loader:
        losses = model.loss(model(batch.images), batch.targets)
        sum_of_parts(losses).backward()
        optimizer.step()
        optimizer.zero_grad()
        steps += 1
        if steps == 1:
            began = time.process_time()
        if steps > PROBE_STEPS:
            break
    if steps < 2:
        raise SystemExit("the probe needs at least two batches: take a smaller --batch or more images")
    return (time.process_time() - began) / (steps - 1) * len(loader)


def _line(row: dict[str, Any]) -> str:
    scores = "  ".join(f"{key} {value:.3f}" for key, value in row.items() if "/" in key)
    return (
        f"{row['head']:<22} seed {row['seed']:<3} {row['epochs']:4d} epochs {row['cpu_seconds']:7.0f} CPU s  {scores}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--task", choices=sorted(KEYS), required=True)
    parser.add_argument("--heads", nargs="+")
    parser.add_argument("--budget", type=float, default=600.0, help="CPU seconds of training a head")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42])
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--weights", type=Path, help="of the backbone; from scratch without")
    parser.add_argument("--lr", type=float, default=0.002)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    registry = mtv.SEGMENTATION_HEADS if options.task == "seg" else mtv.DETECTION_HEADS
    names = options.heads or registry.names()
    settings = {key: getattr(options, key) for key in ("size", "batch", "seeds", "backbone", "weights", "lr")}
    found = main(options.data_root, options.task, names, options.budget, **settings)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))
