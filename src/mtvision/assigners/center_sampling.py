"""Assignment by position: points near an object's centre, on the level that fits its size."""

from dataclasses import dataclass
from functools import reduce
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from mtvision.assigners.base import (
    Assignment,
    BestObject,
    PaddedTargets,
    box_centres,
    edge_distances,
    hard_assignment,
    object_blocks,
)
from mtvision.ops.boxes import box_area
from mtvision.registries import ASSIGNERS

_LEAST_DISTANCE = 4.0
"""In strides of a level; with strides of 8 to 128 the paper's m2 to m7: 0, 64, 128, 256, 512 and infinity."""


@ASSIGNERS.register("center_sampling")
@dataclass(frozen=True, kw_only=True)
class CenterSamplingAssigner:
    """Points near an object's centre, on the level of its size, learn it (Tian et al. 2019, FCOS, arXiv 1904.01355).

    A point learns an object if it lies within it and less than ``radius`` strides from its centre along both axes, and
    if its largest distance to an edge is between 4 strides of its level and 4 of the next one, exclusive (section 3.2);
    on the finest level from 0, on the coarsest without end. Of several objects it learns the one with the smallest
    area, of equal ones the first.

    As in torchvision's ``FCOS``, which compares areas in steps of 8 square pixels only. A point that lies within a
    difficult object is ignored unless it learns another.

    Args:
        radius: in strides.

    Example:
        >>> from mtvision.assigners.base import pad_targets
        >>> points = torch.tensor([[12.0, 12.0, 8.0], [28.0, 12.0, 8.0]])
        >>> target = {"boxes": torch.tensor([[0.0, 0.0, 32.0, 30.0]]), "labels": torch.tensor([0])}
        >>> targets = pad_targets([{**target, "difficult": torch.tensor([False])}], torch.device("cpu"))
        >>> CenterSamplingAssigner()(torch.zeros(1, 2, 3), torch.zeros(1, 2, 4), points, targets).foreground
        tensor([[ True, False]])
    """

    radius: Annotated[float, Field(gt=0)] = 1.5

    soft: ClassVar[bool] = False

    @torch.no_grad()
    def __call__(
        self,
        class_logits: Tensor,  # noqa: ARG002 - part of the contract
        boxes: Tensor,
        points: Tensor,
        targets: PaddedTargets,
    ) -> Assignment:
        """Assign the points of a batch; see `Assigner`."""
        points = points.float()
        smallest = BestObject.none(len(boxes), points)
        covered = torch.zeros_like(smallest.object_index, dtype=torch.bool)  # (N, A)
        for first, block in object_blocks(targets, len(points)):
            distances = edge_distances(block.boxes, points)
            inside = reduce(torch.minimum, distances) > 0  # (N, M, A)
            covered = covered | (inside & block.difficult[..., None]).any(dim=1)
            inside &= _on_its_level(reduce(torch.maximum, distances), points[:, 2])
            inside &= self._central(block.boxes, points) & block.learnable[..., None]
            areas = box_area(block.boxes)[..., None]  # (N, M, 1)
            smallest = smallest.update(torch.where(inside, -areas, -torch.inf), first)
        return hard_assignment(smallest.quality > -torch.inf, smallest.object_index, covered)

    def _central(self, boxes: Tensor, points: Tensor) -> Tensor:
        """Tell which points are near the centre of which boxes, ``(N, M, A)`` bool."""
        centres = box_centres(boxes)[..., None]  # (N, M, 2, 1)
        reach = self.radius * points[:, 2]
        horizontally = (points[:, 0] - centres[:, :, 0]).abs() < reach
        return horizontally & ((points[:, 1] - centres[:, :, 1]).abs() < reach)


def _on_its_level(farthest: Tensor, strides: Tensor) -> Tensor:
    """Tell where the largest distance to an edge ``(N, M, A)`` is one for the point's level, strides ``(A,)``."""
    # levels are runs, finest first: the next level begins where a larger stride does
    strides = strides.contiguous()
    following = torch.searchsorted(strides, strides, right=True)
    coarser = torch.cat([strides, torch.full_like(strides[:1], torch.inf)])[following]
    above = torch.where(strides == strides[:1], 0.0, _LEAST_DISTANCE * strides)
    below = _LEAST_DISTANCE * coarser
    return (farthest > above) & (farthest < below)
