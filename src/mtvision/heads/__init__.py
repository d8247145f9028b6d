"""Heads: features to what a task needs; the import fills the registries."""

from mtvision.heads import detection, segmentation

__all__ = ["detection", "segmentation"]
