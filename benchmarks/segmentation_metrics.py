"""What it costs to score masks: ours against a bare bincount and against torchmetrics, in one run.

    python benchmarks/segmentation_metrics.py [--images 1449] [--distinct 32] [--height 375] [--width 500]
                                              [--classes 21]

The masks are blocks of random classes with 5 % void pixels, and predictions of which 30 % of the blocks are wrong;
``--distinct`` of them are made and scored again and again. The three that count the same take turns, image by image, so
that whatever else the machine does hits all of them; what they counted is compared, else the work was not the same.
Boundary IoU is timed beside them: nothing else here counts it.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torchmetrics.classification import MulticlassJaccardIndex

from mtvision.tasks.segmentation_protocols import BoundaryProtocol, StandardProtocol
from mtvision.types import VOID

_BLOCK = 25  # pixels


def main(images: int, distinct: int, size: tuple[int, int], num_classes: int) -> float:
    """Print the CPU seconds of each, and return the ratio of ours to the bare bincount."""
    torch.set_num_threads(1)  # the CPU time of waiting threads is no work
    masks = [make_masks(seed, size, num_classes) for seed in range(min(distinct, images))]
    bare = torch.zeros(num_classes, num_classes, dtype=torch.int64)
    ours, boundary = StandardProtocol(num_classes), BoundaryProtocol(num_classes)
    theirs = MulticlassJaccardIndex(num_classes, average=None, ignore_index=VOID)
    unchecked = MulticlassJaccardIndex(num_classes, average=None, ignore_index=VOID, validate_args=False)

    def count_bare(prediction: Tensor, truth: Tensor) -> None:
        bare.add_(bincount(prediction, truth, num_classes))

    steps: dict[str, Callable[[Tensor, Tensor], object]] = {
        "bare bincount": count_bare,
        "standard": lambda prediction, truth: ours.update([prediction], [truth]),
        "torchmetrics": lambda prediction, truth: theirs.update(prediction[None], truth[None]),
        "torchmetrics, unchecked": lambda prediction, truth: unchecked.update(prediction[None], truth[None]),
        "boundary": lambda prediction, truth: boundary.update([prediction], [truth]),
    }
    seconds = dict.fromkeys(steps, 0.0)
    for index in range(images):
        prediction, truth = masks[index % len(masks)]
        names = list(steps)
        first = index % len(names)  # whoever is first finds the masks in no cache
        for name in names[first:] + names[:first]:
            began = time.process_time()
            steps[name](prediction, truth)
            seconds[name] += time.process_time() - began
    check(ours, bare, theirs)
    for name, value in seconds.items():
        print(
            f"{name:<24} {value:8.2f} CPU s  {value / images * 1000:6.2f} ms an image  "
            f"{value / seconds['bare bincount']:6.2f} x the bare bincount"
        )
    print(f"{images} masks of {size[1]} x {size[0]}, {num_classes} classes, one thread")
    return seconds["standard"] / seconds["bare bincount"]


def bincount(prediction: Tensor, truth: Tensor, num_classes: int) -> Tensor:
    """Return the confusion matrix without any check; the pairs with void are counted in rows of their own."""
    pairs = truth * num_classes + prediction
    return torch.bincount(pairs.flatten(), minlength=(VOID + 1) * num_classes).view(-1, num_classes)[:num_classes]


def make_masks(seed: int, size: tuple[int, int], num_classes: int) -> tuple[Tensor, Tensor]:
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
    chosen = parser.parse_args()
    main(chosen.images, chosen.distinct, (chosen.height, chosen.width), chosen.classes)
