"""The contract of an assigner, and the padding of targets to one tensor a batch."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from mtvision.types import DetectionTarget


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


class Assignment(NamedTuple):
    """What each point learns.

    Attributes:
        foreground: ``(N, A)`` bool: the point learns an object.
        object_index: ``(N, A)`` int64 in [0, M), which one; 0 where it learns none.
        scores: ``(N, A)`` float32 in [0, 1]: the class target of the object's class and the weight of the box loss.
        ignored: ``(N, A)`` bool: the point counts nowhere, since a difficult object is there.
    """

    foreground: Tensor
    object_index: Tensor
    scores: Tensor
    ignored: Tensor


class Assigner(Protocol):
    """Decides which point learns which object, without gradient."""

    def __call__(self, class_logits: Tensor, boxes: Tensor, points: Tensor, targets: PaddedTargets) -> Assignment:
        """Assign the points of a batch.

        Args:
            class_logits: ``(N, A, C)``.
            boxes: ``(N, A, 4)`` decoded, xyxy pixels of the network's input.
            points: ``(A, 3)`` x, y, stride.
            targets: of the batch.
        """


def pad_targets(targets: Sequence[DetectionTarget | None], device: torch.device) -> PaddedTargets:
    """Pad the targets of a batch, one an image; None is an image in which nobody looked.

    Example:
        >>> box = {"boxes": torch.ones(1, 4), "labels": torch.tensor([3]), "difficult": torch.tensor([False])}
        >>> pad_targets([box, None], torch.device("cpu")).valid
        tensor([[ True],
                [False]])
    """
    counts = torch.tensor([0 if target is None else len(target["boxes"]) for target in targets], dtype=torch.int64)
    num_rows = max(1, *counts.tolist()) if len(targets) else 1  # at least 1: no reduction is over nothing
    valid = (torch.arange(num_rows) < counts[:, None]).to(device)  # (N, M)
    present = [target for target in targets if target is not None]

    def fill(blank: Tensor, values: list[Tensor]) -> Tensor:
        flat = torch.cat([blank[:0, 0], *(value.to(blank) for value in values)])
        return blank.masked_scatter(valid.view(*valid.shape, *[1] * (blank.dim() - 2)), flat)

    return PaddedTargets(
        boxes=fill(torch.zeros(*valid.shape, 4, device=device), [target["boxes"] for target in present]),
        labels=fill(torch.zeros_like(valid, dtype=torch.int64), [target["labels"] for target in present]),
        valid=valid,
        difficult=fill(torch.zeros_like(valid), [target["difficult"] for target in present]),
        annotated=torch.tensor([target is not None for target in targets], dtype=torch.bool, device=device),
    )
