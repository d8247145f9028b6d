"""Suppression: which of several detections of one object stay."""

from typing import Annotated, Literal, Protocol

from pydantic import Field
from torch import Tensor

from mtvision.ops.nms import class_agnostic_nms, class_wise_nms, soft_nms
from mtvision.registries import SUPPRESSIONS


class Suppression(Protocol):
    """Chooses among the detections of one image."""

    def __call__(
        self, boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float, max_detections: int
    ) -> tuple[Tensor, Tensor]:
        """Return the indices of those that stay, best first, at most ``max_detections``, and their scores.

        Args:
            boxes: ``(M, 4)`` float32 xyxy.
            scores: ``(M,)``.
            labels: ``(M,)`` int64.
            threshold: IoU above which a detection suppresses a worse one.
            max_detections: how many stay at most.
        """


def suppress_class_wise(
    boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float, max_detections: int
) -> tuple[Tensor, Tensor]:
    """Suppress as `class_wise` says; a `Suppression`."""
    kept = class_wise_nms(boxes, scores, labels, threshold)[:max_detections]
    return kept, scores[kept]


def suppress_class_agnostic(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,  # noqa: ARG001 - part of the contract
    threshold: float,
    max_detections: int,
) -> tuple[Tensor, Tensor]:
    """Suppress as `class_agnostic` says; a `Suppression`."""
    kept = class_agnostic_nms(boxes, scores, threshold)[:max_detections]
    return kept, scores[kept]


def suppress_nothing(
    boxes: Tensor,  # noqa: ARG001
    scores: Tensor,
    labels: Tensor,  # noqa: ARG001
    threshold: float,  # noqa: ARG001
    max_detections: int,
) -> tuple[Tensor, Tensor]:
    """Keep the best, whatever overlaps, as `none` says; a `Suppression`."""
    kept = scores.argsort(descending=True, stable=True)[:max_detections]
    return kept, scores[kept]


@SUPPRESSIONS.register("class_wise")
def class_wise() -> Suppression:
    """Greedy suppression within each class; detections of two classes leave each other alone (Girshick et al. 2014)."""
    return suppress_class_wise


@SUPPRESSIONS.register("class_agnostic")
def class_agnostic() -> Suppression:
    """Greedy suppression across classes: one object, one detection (Girshick et al. 2014, without their classes)."""
    return suppress_class_agnostic


@SUPPRESSIONS.register("soft")
def soft(
    *,
    method: Literal["gaussian", "linear"] = "gaussian",
    sigma: Annotated[float, Field(gt=0)] = 0.5,
    score_threshold: Annotated[float, Field(ge=0, le=1)] = 0.001,
) -> Suppression:
    """Soft-NMS: overlapping detections of a class lose score instead of going (Bodla et al. 2017, arXiv 1704.04503).

    Args:
        method: "gaussian" lowers by ``exp(-IoU² / sigma)``, whatever the threshold; "linear" by ``1 - IoU`` above it.
        sigma: of the Gaussian.
        score_threshold: a detection whose score has fallen below it goes.
    """

    def suppress(
        boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float, max_detections: int
    ) -> tuple[Tensor, Tensor]:
        return soft_nms(
            boxes,
            scores,
            labels,
            method=method,
            sigma=sigma,
            threshold=threshold,
            score_threshold=score_threshold,
            max_detections=max_detections,
        )

    return suppress


@SUPPRESSIONS.register("none")
def none() -> Suppression:
    """Nothing is suppressed, for a head that says each object once (as DETR does, Carion et al. 2020)."""
    return suppress_nothing
