"""Tasks: head + loss + postprocess + metrics; the import fills the registry."""

from mtvision.tasks.base import Task
from mtvision.tasks.classification import ClassificationTask
from mtvision.tasks.depth import DepthTask
from mtvision.tasks.detection import DetectionTask
from mtvision.tasks.segmentation import SegmentationTask

__all__ = ["ClassificationTask", "DepthTask", "DetectionTask", "SegmentationTask", "Task"]
