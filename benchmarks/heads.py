"""What each head costs on one backbone: parameters, multiply-adds, and time in multiples of the bare backbone's.

    python benchmarks/heads.py [--size 256] [--batch 8] [--repeats 7] [--heads fcn retinanet]
                               [--backbone resnet18] [--output FILE]

Each head comes with the neck that it names and is otherwise built by the config's defaults. Parameters and
multiply-adds (of convolutions and matrix products, forward, one image) are what head and neck add to the backbone's. A
training step is forward, loss, backward and an SGD update; inference is forward and postprocess. The variants take
turns, so that whatever else the machine does hits all of them; the median of each variant is divided by the backbone's,
in CPU seconds of the process and in those of the clock.

The detectors are untrained, so what scores above their threshold means nothing. It is 0 here: suppression has as much
to do as it can have, for all of them alike, and more than in use.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from common import Seconds, backbone_step, bare_backbone, measured, model_step
from reporting import Row, Table, report
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import mtvision as mtv

ALONE = "backbone alone"
HEADS = {"segmentation_head": mtv.SEGMENTATION_HEADS, "detection_head": mtv.DETECTION_HEADS}


def main(
    size: int = 256,
    batch: int = 8,
    repeats: int = 7,
    heads: Sequence[str] | None = None,
    backbone: str = "resnet18",
    output: Path | None = None,
) -> list[Row]:
    """Print and return a row for the bare backbone, whose sizes are its own, and one for each head."""
    images = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8)
    models, refusals = build_models(backbone, heads)
    if not models:
        raise mtv.ConfigError(list(refusals.values()))
    rows = head_rows(models, images, repeats)
    title = f"{backbone}, {size} x {size}, batch {batch}, median of {repeats}, {torch.get_num_threads()} threads"
    notes = [f"Left out: {name}: {sentence}" for name, sentence in refusals.items()]
    report("heads", [Table(title, rows, notes)], output)
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


def head_rows(models: Mapping[str, mtv.MultiTaskModel], images: Tensor, repeats: int) -> list[Row]:
    bare = bare_backbone(next(iter(models.values())))
    training = {name: model_step(model, images) for name, model in models.items()}
    train = measured({ALONE: backbone_step(bare, images), **training}, repeats)
    running = {name: inference_step(model, images) for name, model in models.items()}
    inference = measured({ALONE: lambda: forward(bare, images), **running}, repeats)
    of_backbone = count_size(bare, images[:1])
    sizes = {name: count_size(model, images[:1]) - of_backbone for name, model in models.items()}
    return [
        {
            "head": name,
            "parameters": int(size[0]),
            "multiply-adds": int(size[1]),
            **_times("train step", train[name], train[ALONE]),
            **_times("inference", inference[name], inference[ALONE]),
        }
        for name, size in {ALONE: of_backbone, **sizes}.items()
    ]


def _times(what: str, seconds: Seconds, alone: Seconds) -> dict[str, float]:
    return {
        f"{what}, CPU s": seconds.cpu,
        f"{what}, x backbone (CPU)": seconds.cpu / alone.cpu,
        f"{what}, x backbone (wall)": seconds.wall / alone.wall,
    }


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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument(
        "--heads", nargs="+", choices=sorted({name for registry in HEADS.values() for name in registry})
    )
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the rows here too, as JSON")
    main(**vars(parser.parse_args()))
