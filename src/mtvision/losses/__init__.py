"""Losses, functions first; the import fills the registries."""

from mtvision.losses import boxes, classification, segmentation

__all__ = ["boxes", "classification", "segmentation"]
