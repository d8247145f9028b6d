"""What the Hugging Face Hub calls the kinds of tasks."""

from functools import singledispatch

from torch import nn

from mtvision.tasks.classification import ClassificationTask
from mtvision.tasks.depth import DepthTask
from mtvision.tasks.detection import DetectionTask
from mtvision.tasks.segmentation import SegmentationTask


@singledispatch
def pipeline_tag(task: nn.Module) -> str | None:
    """Return the hub's name of what a task does, None where there is none; `pipeline_tag.register` adds one's own.

    Example:
        >>> pipeline_tag(nn.Identity()) is None
        True
    """
    del task
    return None


@pipeline_tag.register
def _of_segmentation(task: SegmentationTask) -> str:
    del task
    return "image-segmentation"


@pipeline_tag.register
def _of_detection(task: DetectionTask) -> str:
    del task
    return "object-detection"


@pipeline_tag.register
def _of_classification(task: ClassificationTask) -> str:
    del task
    return "image-classification"


@pipeline_tag.register
def _of_depth(task: DepthTask) -> str:
    del task
    return "depth-estimation"
