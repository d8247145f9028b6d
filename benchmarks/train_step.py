"""What a joint training step costs, in multiples of the bare backbone's step on the same machine in the same run.

    python benchmarks/train_step.py [--size 256] [--batch 8] [--repeats 7] [--heads fcn unet]

A step is forward, loss, backward and an SGD update. The variants take turns, so that whatever else the machine does
hits all of them; CPU seconds of the process are counted and the median of each variant is divided by the backbone's.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

import mtvision as mtv


def main(size: int, batch: int, repeats: int, heads: list[str], backbone: str) -> dict[str, float]:
    images = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8)
    steps = {"backbone alone": _backbone_step(backbone, images)}
    for head in heads:
        steps[f"{head} + fpn"] = _joint_step({"segmentation_head": head, "backbone": backbone}, images)
        steps[f"{head}"] = _joint_step(
            {"segmentation_head": head, "detection_head": None, "backbone": backbone}, images
        )
    steps["fpn"] = _joint_step({"segmentation_head": None, "backbone": backbone}, images)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    for _ in range(repeats):
        for name, step in steps.items():
            began = time.process_time()
            step()
            seconds[name].append(time.process_time() - began)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"{backbone}, {size} x {size}, batch {batch}, median of {repeats}, {torch.get_num_threads()} threads")
    for name, value in medians.items():
        print(f"{name:<16} {value:7.2f} CPU s  {value / medians['backbone alone']:5.2f} x")
    return medians


def _backbone_step(name: str, images: torch.Tensor) -> Callable[[], None]:
    model = mtv.build_model({"backbone": name})
    network = torch.nn.Sequential(model.normalization, model.backbone)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        torch.stack([feature.mean() for feature in network(images)]).sum().backward()
        optimizer.step()

    return step


def _joint_step(config: dict[str, str | None], images: torch.Tensor) -> Callable[[], None]:
    model = mtv.build_model(config)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    targets = _targets(len(images), images.shape[-1])

    def step() -> None:
        optimizer.zero_grad()
        losses = model.loss(model(images), targets)
        torch.stack([part for parts in losses.values() for part in parts.values()]).sum().backward()
        optimizer.step()

    return step


def _targets(num_images: int, size: int, objects: int = 5) -> dict[str, object]:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(num_images, objects, 2, generator=generator) * size * 0.6
    extents = torch.rand(num_images, objects, 2, generator=generator) * size * 0.3 + 8
    boxes = torch.cat([corners, corners + extents], dim=-1)
    det = [
        {"boxes": b, "labels": torch.arange(objects), "difficult": torch.zeros(objects, dtype=torch.bool)}
        for b in boxes
    ]
    return {"seg": torch.randint(0, 21, (num_images, size, size), generator=generator), "det": det}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--heads", nargs="+", default=["fcn", "unet"])
    parser.add_argument("--backbone", default="resnet18")
    options = parser.parse_args()
    main(options.size, options.batch, options.repeats, options.heads, options.backbone)
