"""Assigners: which point of a detection head learns which object; the import fills the registry."""

from mtvision.assigners import atss, center_sampling, max_iou, task_aligned

__all__ = ["atss", "center_sampling", "max_iou", "task_aligned"]
