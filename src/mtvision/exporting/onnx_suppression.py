"""Suppression of boxes by ONNX's own operator NonMaxSuppression.

torch has no operator for a batch of images, so one of our own stands for it in the trace and is translated.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

_NAME = "mtvision::suppressed"
_ABSENT = -0.5
"""Above the score of a place in which there is no box, below all others."""
_BOOL = 9
"""ONNX's number of the type."""


def suppress_in_onnx(
    boxes: Tensor, scores: Tensor, groups: Tensor, num_groups: int, threshold: float, limit: int
) -> Tensor:
    """Suppress as a `BatchedSuppression` does, in a graph that becomes ONNX.

    IoUs are in float32 there. Called without a graph it does the same in torch.
    """
    if num_groups == 1:
        of_group = scores[:, None]
    else:
        own = groups[:, None] == torch.arange(num_groups, device=groups.device)[:, None]  # (N, groups, S)
        of_group = torch.where(own, scores[:, None], -1.0)
    stays: Tensor = _operator()(boxes, of_group, threshold, limit)
    return stays


def sort_translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return how a stable sort is written, which torch's exporter lacks: TopK takes equal values in their order."""
    from onnxscript import FLOAT
    from onnxscript import opset18 as op

    def stable_sort(
        values: FLOAT,
        stable: bool = True,
        dim: int = -1,
        descending: bool = False,
    ) -> Any:
        del stable
        length = op.Gather(op.Shape(values), op.Constant(value_ints=[dim]))
        return op.TopK(values, length, axis=dim, largest=int(descending), sorted=1)

    return {torch.ops.aten.sort.stable: stable_sort}


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return how torch's exporter writes the operator, as its ``custom_translation_table`` wants it."""
    from onnx import helper
    from onnxscript import BOOL, FLOAT
    from onnxscript import opset18 as op

    def suppressed(boxes: FLOAT, scores: FLOAT, threshold: float, limit: int) -> BOOL:
        chosen = op.NonMaxSuppression(  # (K, 3): image, group and box
            boxes,
            scores,
            op.Constant(value_ints=[limit]),
            op.Constant(value_floats=[threshold]),
            op.Constant(value_floats=[_ABSENT]),
        )
        image_and_box = op.Gather(chosen, op.Constant(value_ints=[0, 2]), axis=1)
        none = op.ConstantOfShape(
            op.Shape(boxes, start=0, end=2), value=helper.make_tensor("nothing", _BOOL, [1], [False])
        )
        stays = op.Expand(
            op.Constant(value=helper.make_tensor("stays", _BOOL, [1], [True])), op.Shape(chosen, start=0, end=1)
        )
        return op.ScatterND(none, image_and_box, stays)

    return {_operator(): suppressed, **sort_translations()}


@cache
def _operator() -> Callable[..., Any]:
    """Return the operator, which torch knows from the first call on."""

    def suppressed(boxes: Tensor, scores: Tensor, threshold: float, limit: int) -> Tensor:
        from mtvision.tasks.batched_selection import suppress_flat

        best, groups = scores.max(dim=1)
        return suppress_flat(boxes, best, groups, scores.shape[1], threshold, limit)

    def shape(boxes: Tensor, scores: Tensor, threshold: float, limit: int) -> Tensor:
        del scores, threshold, limit
        return boxes.new_empty(boxes.shape[:2], dtype=torch.bool)

    torch.library.custom_op(_NAME, suppressed, mutates_args=()).register_fake(shape)
    operator: Callable[..., Any] = torch.ops.mtvision.suppressed.default
    return operator
