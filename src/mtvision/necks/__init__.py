"""Necks: modules that turn the features of a backbone into other features; the import fills the registry."""

from mtvision.necks.fpn import FPN

__all__ = ["FPN"]
