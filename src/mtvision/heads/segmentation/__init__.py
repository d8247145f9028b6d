"""Segmentation heads: features to logits ``(N, C, h, w)`` at the stride of the finest feature they use."""

from mtvision.heads.segmentation.fcn import FCNHead
from mtvision.heads.segmentation.unet import UNetHead

__all__ = ["FCNHead", "UNetHead"]
