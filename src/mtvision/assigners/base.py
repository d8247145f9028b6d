"""The contract of an assigner, the padding of targets to one tensor a batch, and what assigners share.

Memory is bounded: an assigner compares objects with points block by block (`object_blocks`), a block holding at most
`MAX_PAIRS` pairs, or the pairs of one object an image where those are more already. Usual batches are one block. From
block to block it keeps nothing larger than ``(N, A)`` or, with a fixed number of candidates k an object, ``(N, M, k)``.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from mtvision.errors import ConfigError
from mtvision.types import DetectionTarget

MAX_PAIRS = 2**24
"""Elements of the largest tensor that compares objects with points: 64 MiB in float32."""


class PaddedTargets(NamedTuple):
    """The objects of a batch, padded to M an image, M at least 1.

    Attributes:
        boxes: ``(N, M, 4)`` float32 xyxy pixels of the network's input.
        labels: ``(N, M)`` int64, 0-based; 0 where padded.
        valid: ``(N, M)`` bool: a real object, not padding.
        difficult: ``(N, M)`` bool: a real object that is neither a positive nor a negative.
        annotated: ``(N,)`` bool: somebody looked for objects in the image.
    """

    boxes: Tensor
    labels: Tensor
    valid: Tensor
    difficult: Tensor
    annotated: Tensor

    @property
    def learnable(self) -> Tensor:
        """The objects that points can learn, ``(N, M)`` bool: real and not difficult."""
        return self.valid & ~self.difficult


class Assignment(NamedTuple):
    """What each point learns.

    Attributes:
        foreground: ``(N, A)`` bool: the point learns an object.
        object_index: ``(N, A)`` int64 in [0, M), which one; 0 where it learns none.
        scores: ``(N, A)`` float32 in [0, 1]: the class target of the object's class and the weight of the box loss;
            above 0 exactly where foreground.
        ignored: ``(N, A)`` bool: the point counts nowhere, since a difficult object is there or since its overlap says
            neither object nor background; never foreground.
    """

    foreground: Tensor
    object_index: Tensor
    scores: Tensor
    ignored: Tensor


def checked_assignment(assignment: Assignment, boxes: Tensor) -> Assignment:
    """Return what an assigner returned for boxes ``(N, A, 4)``; see `Assignment`.

    Raises:
        ConfigError: if it is no `Assignment`, or its entries are not ``(N, A)``.
    """
    if not isinstance(assignment, Assignment):
        raise ConfigError(
            [
                "an assigner must return an Assignment (foreground, object_index, scores, ignored), got "
                f"{type(assignment).__name__}"
            ]
        )
    for name, value in assignment._asdict().items():
        if value.shape != boxes.shape[:2]:
            shapes = f"{tuple(boxes.shape[:2])}, got {tuple(value.shape)}"
            raise ConfigError([f"an assigner must return one value an image and point in '{name}', {shapes}"])
    return assignment


class Assigner(Protocol):
    """Decides which point learns which object, without gradient.

    An assigner may have an attribute ``soft`` (bool): whether its scores carry the quality of the boxes already. One
    without it counts as not soft.
    """

    def __call__(self, class_logits: Tensor, boxes: Tensor, points: Tensor, targets: PaddedTargets) -> Assignment:
        """Assign the points of a batch.

        An image that is not annotated has neither foreground nor ignored points.

        Args:
            class_logits: ``(N, A, C)``.
            boxes: ``(N, A, 4)`` decoded, xyxy pixels of the network's input.
            points: ``(A, 3)`` x, y, stride; ``(A, 5)`` with width and height too where an anchor is centred there.
                Levels are runs of equal stride, finest first.
            targets: of the batch.
        """


class BestObject(NamedTuple):
    """The best object of each point so far, over blocks of objects.

    Attributes:
        quality: ``(N, A)`` float32; minus infinity before the first block.
        object_index: ``(N, A)`` int64: its row among all M, the smallest of equal ones.

    Example:
        >>> best = BestObject.none(1, torch.zeros(2, 3))
        >>> best = best.update(torch.tensor([[[0.2, 0.6]]]), first=0)
        >>> best.update(torch.tensor([[[0.5, 0.6], [0.4, 0.1]]]), first=1).object_index
        tensor([[1, 0]])
    """

    quality: Tensor
    object_index: Tensor

    @classmethod
    def none(cls, num_images: int, points: Tensor) -> "BestObject":
        """Return what is known before the first block."""
        quality = torch.full((num_images, len(points)), -torch.inf, dtype=torch.float32, device=points.device)
        return cls(quality, torch.zeros_like(quality, dtype=torch.int64))

    def update(self, quality: Tensor, first: int) -> "BestObject":
        """Take in a block of objects.

        Args:
            quality: ``(N, m, A)`` of each object of the block with each point.
            first: row of the block's first object among all M.
        """
        value, index = quality.max(dim=1)  # (N, A); the first of equal ones
        better = value > self.quality
        return BestObject(
            torch.where(better, value, self.quality), torch.where(better, index + first, self.object_index)
        )


def object_blocks(targets: PaddedTargets, num_points: int) -> Iterator[tuple[int, PaddedTargets]]:
    """Yield the objects in blocks of at most `MAX_PAIRS` pairs with points, at least one object an image.

    Returns:
        The row of a block's first object among all M, and the block.
    """
    num_images, num_objects = targets.valid.shape
    length = max(1, MAX_PAIRS // (num_images * num_points))
    for first in range(0, num_objects, length):
        rows = slice(first, first + length)
        yield (
            first,
            PaddedTargets(
                boxes=targets.boxes[:, rows],
                labels=targets.labels[:, rows],
                valid=targets.valid[:, rows],
                difficult=targets.difficult[:, rows],
                annotated=targets.annotated,
            ),
        )


def hard_assignment(foreground: Tensor, object_index: Tensor, ignored: Tensor) -> Assignment:
    """Return the assignment whose scores are 1 at each foreground point; arguments ``(N, A)``, see `Assignment`."""
    return Assignment(foreground, torch.where(foreground, object_index, 0), foreground.float(), ignored & ~foreground)


def anchor_boxes(points: Tensor, scale: float) -> Tensor:
    """Return the anchors ``(A, 4)`` float32 xyxy of points ``(A, 5)``, or squares about points ``(A, 3)``.

    Args:
        points: x, y, stride, and the anchor's width and height if there is one.
        scale: side of a square in strides.

    Example:
        >>> anchor_boxes(torch.tensor([[20.0, 20.0, 8.0]]), scale=4)
        tensor([[ 4.,  4., 36., 36.]])
        >>> anchor_boxes(torch.tensor([[20.0, 20.0, 8.0, 10.0, 20.0]]), scale=4)
        tensor([[15., 10., 25., 30.]])
    """
    points = points.float()
    sides = points[:, 3:5] if points.shape[1] > 3 else scale * points[:, 2:3]
    return torch.cat([points[:, :2] - sides / 2, points[:, :2] + sides / 2], dim=1)


def edge_distances(boxes: Tensor, points: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the distances left, top, right, bottom of points to the edges of boxes, each ``(N, M, A)``.

    Args:
        boxes: ``(N, M, 4)`` xyxy pixels.
        points: ``(A, 2)`` x, y or more columns; a distance is negative where the point lies beyond the edge.
    """
    x, y = points[:, 0], points[:, 1]
    x1, y1, x2, y2 = boxes[..., None].unbind(dim=2)  # each (N, M, 1)
    return x - x1, y - y1, x2 - x, y2 - y


def box_centres(boxes: Tensor) -> Tensor:
    """Return the centres ``(..., 2)`` x, y of boxes ``(..., 4)`` xyxy."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def pad_targets(targets: Sequence[DetectionTarget | None], device: torch.device) -> PaddedTargets:
    """Pad the targets of a batch, one an image; None is an image in which nobody looked.

    Example:
        >>> box = {"boxes": torch.ones(1, 4), "labels": torch.tensor([3]), "difficult": torch.tensor([False])}
        >>> pad_targets([box, None], torch.device("cpu")).valid
        tensor([[ True],
                [False]])
    """
    numbers = [-1 if target is None else len(target["boxes"]) for target in targets]
    num_rows = max([1, *numbers])  # at least 1: no reduction is over nothing
    # the only thing that has to travel: without waiting
    counts = torch.tensor(numbers, dtype=torch.int64).to(device, non_blocking=True)
    valid = torch.arange(num_rows, device=device) < counts[:, None]  # (N, M)
    present = [target for target in targets if target is not None]

    def fill(blank: Tensor, values: list[Tensor]) -> Tensor:
        """Put the values of all images, one after the other, into the rows of real objects."""
        flat = torch.cat([blank[:0, 0], *(value.to(blank) for value in values)])
        return blank.masked_scatter(valid.view(*valid.shape, *[1] * (blank.dim() - 2)), flat)

    return PaddedTargets(
        boxes=fill(torch.zeros(*valid.shape, 4, device=device), [target["boxes"] for target in present]),
        labels=fill(torch.zeros_like(valid, dtype=torch.int64), [target["labels"] for target in present]),
        valid=valid,
        difficult=fill(torch.zeros_like(valid), [target["difficult"] for target in present]),
        annotated=counts >= 0,
    )
