"""What each head costs on one backbone: parameters, multiply-adds, and time in multiples of the bare backbone's.

    python benchmarks/heads.py [--size 256] [--batch 8] [--repeats 7] [--heads fcn retinanet] [--json heads.json]

Each head comes with the neck that it names and is otherwise built by the config's defaults. Parameters and
multiply-adds (of convolutions and matrix products, forward, one image) are what head and neck add to the backbone's. A
training step is forward, loss, backward and an SGD update; inference is forward and postprocess. The variants take
turns, so that whatever else the machine does hits all of them; CPU seconds of the process are counted, and the median
of each variant is divided by the backbone's.

The detectors are untrained, so what scores above their threshold means nothing. It is 0 here: suppression has as much
to do as it can have, for all of them alike, and more than in use.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from common import backbone_step, bare_backbone, median_seconds, model_step
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import mtvision as mtv

ALONE = "backbone alone"
HEADS = {"segmentation_head": mtv.SEGMENTATION_HEADS, "detection_head": mtv.DETECTION_HEADS}


@dataclass(frozen=True)
class Row:
    """One variant: what it adds to the backbone (whose own row has its own size), and CPU seconds a batch."""

    name: str
    parameters: int
    multiply_adds: int
    train_seconds: float
    inference_seconds: float
    train_ratio: float
    inference_ratio: float


def main(
    size: int = 256,
    batch: int = 8,
    repeats: int = 7,
    heads: Sequence[str] | None = None,
    backbone: str = "resnet18",
    json_file: Path | None = None,
) -> list[Row]:
    images = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8)
    models, refusals = build_models(backbone, heads)
    if not models:
        raise mtv.ConfigError(list(refusals.values()))
    rows = measure(models, images, repeats)
    title = f"{backbone}, {size} x {size}, batch {batch}, median of {repeats}, {torch.get_num_threads()} threads"
    print_table(title, rows, refusals)
    if json_file is not None:
        values = [asdict(row) for row in rows]
        content = {"title": title, "torch": torch.__version__, "rows": values, "left_out": refusals}
        json_file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return rows


def build_models(backbone: str, heads: Sequence[str] | None) -> tuple[dict[str, mtv.MultiTaskModel], dict[str, str]]:
    """Return a model of one task for each head, and why some cannot stand on the backbone."""
    models, refusals = {}, {}
    for key, registry in HEADS.items():
        for head in registry.names():
            if heads is None or head in heads:
                name = f"{key.partition('_')[0]} {head}"
                others: dict[str, object] = dict.fromkeys(HEADS)
                config = {"backbone": backbone, **others, key: head, "detections": {"score_threshold": 0.0}}
                try:
                    models[name] = mtv.build_model(config)
                except mtv.ConfigError as error:
                    refusals[name] = str(error)
    return models, refusals


def measure(models: Mapping[str, mtv.MultiTaskModel], images: Tensor, repeats: int) -> list[Row]:
    """Return a row for the bare backbone and one for each model."""
    bare = bare_backbone(next(iter(models.values())))
    training = {name: model_step(model, images) for name, model in models.items()}
    train_seconds = median_seconds({ALONE: backbone_step(bare, images), **training}, repeats)
    inference = {name: inference_step(model, images) for name, model in models.items()}
    inference_seconds = median_seconds({ALONE: lambda: forward(bare, images), **inference}, repeats)
    sizes = {name: count_size(model, images[:1]) - count_size(bare, images[:1]) for name, model in models.items()}
    return [
        Row(
            name,
            int(size[0]),
            int(size[1]),
            train_seconds[name],
            inference_seconds[name],
            train_seconds[name] / train_seconds[ALONE],
            inference_seconds[name] / inference_seconds[ALONE],
        )
        for name, size in {ALONE: count_size(bare, images[:1]), **sizes}.items()
    ]


def inference_step(model: mtv.MultiTaskModel, images: Tensor) -> Callable[[], object]:
    return lambda: model.postprocess(forward(model, images))


def forward(network: nn.Module, images: Tensor) -> dict[str, object]:
    """Return the output in evaluation mode."""
    with torch.inference_mode():
        output: dict[str, object] = network.eval()(images)
    return output


def count_size(network: nn.Module, image: Tensor) -> Tensor:
    """Return the numbers of parameters and of multiply-adds in a forward pass."""
    with FlopCounterMode(display=False) as counter:
        forward(network, image)
    return torch.tensor([sum(p.numel() for p in network.parameters()), counter.get_total_flops() // 2])


def print_table(title: str, rows: Sequence[Row], refusals: dict[str, str]) -> None:
    print(title)
    print(f"{'':<28}{'parameters':>12}{'multiply-adds':>15}{'train step':>13}{'inference':>12}")
    for row in rows:
        sizes = f"{row.parameters / 1e6:10.2f} M{row.multiply_adds / 1e9:13.2f} G"
        print(f"{row.name:<28}{sizes}{row.train_ratio:11.2f} x{row.inference_ratio:10.2f} x")
    print(f"1 x: {rows[0].train_seconds:.3f} and {rows[0].inference_seconds:.3f} CPU s a batch")
    for name, sentence in refusals.items():
        print(f"left out: {name}: {sentence}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument(
        "--heads", nargs="+", choices=sorted({name for registry in HEADS.values() for name in registry})
    )
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here too")
    options = parser.parse_args()
    main(options.size, options.batch, options.repeats, options.heads, options.backbone, options.json)
