"""What a joint training step costs, in multiples of the bare backbone's step on the same machine in the same run.

    python benchmarks/train_step.py [--size 256] [--batch 8] [--repeats 7] [--heads fcn unet]

A step is forward, loss, backward and an SGD update. The variants take turns, so that whatever else the machine does
hits all of them; CPU seconds of the process are counted and the median of each variant is divided by the backbone's.
"""

import argparse

import torch
from common import backbone_step, bare_backbone, median_seconds, model_step

import mtvision as mtv


def main(size: int, batch: int, repeats: int, heads: list[str], backbone: str) -> dict[str, float]:
    images = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8)
    configs: dict[str, dict[str, str | None]] = {}
    for head in heads:
        configs[f"{head} + fpn"] = {"segmentation_head": head}
        configs[head] = {"segmentation_head": head, "detection_head": None}
    configs["fpn"] = {"segmentation_head": None}
    models = {name: mtv.build_model({"backbone": backbone, **config}) for name, config in configs.items()}
    alone = backbone_step(bare_backbone(models["fpn"]), images)
    joint = {name: model_step(model, images) for name, model in models.items()}
    medians = median_seconds({"backbone alone": alone, **joint}, repeats)
    print(f"{backbone}, {size} x {size}, batch {batch}, median of {repeats}, {torch.get_num_threads()} threads")
    for name, value in medians.items():
        print(f"{name:<16} {value:7.2f} CPU s  {value / medians['backbone alone']:5.2f} x")
    return medians


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--heads", nargs="+", default=["fcn", "unet"])
    parser.add_argument("--backbone", default="resnet18")
    options = parser.parse_args()
    main(options.size, options.batch, options.repeats, options.heads, options.backbone)
