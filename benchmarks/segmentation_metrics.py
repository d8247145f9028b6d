"""What it costs to score masks: ours against a bare bincount and against torchmetrics, in one run.

    python benchmarks/segmentation_metrics.py [--images 1449] [--distinct 32] [--height 375] [--width 500]
                                              [--classes 21] [--repeats 3] [--output FILE]

The masks are blocks of random classes with 5 % void pixels, and predictions of which 30 % of the blocks are wrong;
``--distinct`` of them are made and scored again and again. The programs take turns, image by image, so that whatever
else the machine does hits all of them; medians of whole passes are told. What those counted that count the same is
compared, else the work was not the same. Boundary IoU is timed beside them: nothing else here counts it.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import torch
from common import Seconds, medians
from reporting import Row, Table, report
from torch import Tensor
from torchmetrics.classification import MulticlassJaccardIndex

from mtvision.tasks.segmentation_protocols import BoundaryProtocol, StandardProtocol
from mtvision.types import VOID

BARE, OURS = "bare bincount", "standard"
WANTED = 2

Masks: TypeAlias = tuple[Tensor, Tensor]
Step: TypeAlias = Callable[[Tensor, Tensor], object]

_BLOCK = 25  # pixels


def main(
    images: int = 1449,
    distinct: int = 32,
    height: int = 375,
    width: int = 500,
    classes: int = 21,
    repeats: int = 3,
    output: Path | None = None,
) -> list[Row]:
    """Print and return a row for each program."""
    torch.set_num_threads(1)  # the CPU time of waiting threads is no work
    masks = [make_masks(seed, (height, width), classes) for seed in range(min(distinct, images))]
    bare = torch.zeros(classes, classes, dtype=torch.int64)
    ours, boundary = StandardProtocol(classes), BoundaryProtocol(classes)
    theirs = MulticlassJaccardIndex(classes, average=None, ignore_index=VOID)
    unchecked = MulticlassJaccardIndex(classes, average=None, ignore_index=VOID, validate_args=False)
    steps: dict[str, Step] = {
        BARE: lambda prediction, truth: bare.add_(bincount(prediction, truth, classes)),
        OURS: lambda prediction, truth: ours.update([prediction], [truth]),
        "torchmetrics": lambda prediction, truth: theirs.update(prediction[None], truth[None]),
        "torchmetrics, unchecked": lambda prediction, truth: unchecked.update(prediction[None], truth[None]),
        "boundary": lambda prediction, truth: boundary.update([prediction], [truth]),
    }
    passes = [one_pass(steps, masks, images) for _ in range(repeats)]
    check(ours, bare, theirs)
    rows = rows_of(passes, images)
    title = f"{images} masks of {width} x {height}, {classes} classes, one thread, median of {repeats}"
    found = f"{rows[1]['x bare bincount (CPU)']:.2f}"
    wanted = f"Wanted: '{OURS}' at most {WANTED} x the bare bincount's CPU seconds; found {found}."
    report("segmentation_metrics", [Table(title, rows, [wanted])], output)
    return rows


def one_pass(steps: Mapping[str, Step], masks: Sequence[Masks], images: int) -> dict[str, Seconds]:
    """Return the seconds that each step took for all images."""
    names = list(steps)
    total = dict.fromkeys(names, Seconds(0.0, 0.0))
    for index in range(images):
        prediction, truth = masks[index % len(masks)]
        first = index % len(names)  # whoever is first finds the masks in no cache
        for name in names[first:] + names[:first]:
            began, used = time.perf_counter(), time.process_time()
            steps[name](prediction, truth)
            spent = time.process_time() - used, time.perf_counter() - began
            total[name] = Seconds(total[name].cpu + spent[0], total[name].wall + spent[1])
    return total


def rows_of(passes: Sequence[Mapping[str, Seconds]], images: int) -> list[Row]:
    seconds_of = {name: medians(each[name] for each in passes) for name in passes[0]}
    return [
        {
            "program": name,
            "CPU s": seconds.cpu,
            "wall s": seconds.wall,
            "CPU ms an image": seconds.cpu / images * 1000,
            "x bare bincount (CPU)": seconds.cpu / seconds_of[BARE].cpu,
            "x bare bincount (wall)": seconds.wall / seconds_of[BARE].wall,
        }
        for name, seconds in seconds_of.items()
    ]


def bincount(prediction: Tensor, truth: Tensor, num_classes: int) -> Tensor:
    """Return the confusion matrix without any check; the pairs with void are counted in rows of their own."""
    pairs = truth * num_classes + prediction
    return torch.bincount(pairs.flatten(), minlength=(VOID + 1) * num_classes).view(-1, num_classes)[:num_classes]


def make_masks(seed: int, size: tuple[int, int], num_classes: int) -> Masks:
    """Return a prediction and a truth, int64 ``(H, W)``."""
    generator = torch.Generator().manual_seed(seed)
    grid = (-(-size[0] // _BLOCK), -(-size[1] // _BLOCK))
    truth = torch.randint(0, num_classes, grid, generator=generator)
    wrong = torch.rand(grid, generator=generator) < 0.3
    prediction = torch.where(wrong, torch.randint(0, num_classes, grid, generator=generator), truth)
    large, said = (
        blocks.repeat_interleave(_BLOCK, 0).repeat_interleave(_BLOCK, 1)[: size[0], : size[1]].contiguous()
        for blocks in (truth, prediction)
    )
    return said, large.masked_fill(torch.rand(size, generator=generator) < 0.05, VOID)


def check(ours: StandardProtocol, bare: Tensor, theirs: MulticlassJaccardIndex) -> None:
    """Leave if the three did not count the same."""
    iou = torch.tensor(ours.compute().per_class["iou"])
    if not torch.equal(ours.state(), bare):
        raise SystemExit("the bare bincount and ours did not count the same")
    if not torch.allclose(iou.nan_to_num(0.0), theirs.compute(), atol=1e-5):
        raise SystemExit("torchmetrics and ours do not agree")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1449)
    parser.add_argument("--distinct", type=int, default=32)
    parser.add_argument("--height", type=int, default=375)
    parser.add_argument("--width", type=int, default=500)
    parser.add_argument("--classes", type=int, default=21)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the rows here too, as JSON")
    main(**vars(parser.parse_args()))
