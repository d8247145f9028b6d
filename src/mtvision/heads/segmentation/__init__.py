"""Segmentation heads: features to logits ``(N, C, h, w)`` at the stride of the finest feature they use."""

from mtvision.heads.segmentation.deeplab import DeepLabV3Head, DeepLabV3PlusHead
from mtvision.heads.segmentation.fcn import FCNHead
from mtvision.heads.segmentation.fpn import SemanticFPNHead
from mtvision.heads.segmentation.pspnet import PSPHead
from mtvision.heads.segmentation.segformer import SegFormerHead
from mtvision.heads.segmentation.single_scale import SingleScaleHead
from mtvision.heads.segmentation.unet import UNetHead
from mtvision.heads.segmentation.upernet import UPerNetHead

__all__ = [
    "DeepLabV3Head",
    "DeepLabV3PlusHead",
    "FCNHead",
    "PSPHead",
    "SegFormerHead",
    "SemanticFPNHead",
    "SingleScaleHead",
    "UNetHead",
    "UPerNetHead",
]
