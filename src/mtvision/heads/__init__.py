"""Heads: features to what a task needs; the import fills the registries."""

from mtvision.heads import segmentation
from mtvision.heads.detection import base, fpn

__all__ = ["base", "fpn", "segmentation"]
