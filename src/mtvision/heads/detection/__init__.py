"""Detection heads: from features to class logits and box regression at points; the import fills the registry."""

from mtvision.heads.detection.fcos import FCOSHead
from mtvision.heads.detection.fpn import FPNDetectionHead
from mtvision.heads.detection.retinanet import RetinaNetHead
from mtvision.heads.detection.single_scale import SingleScaleDetectionHead

__all__ = ["FCOSHead", "FPNDetectionHead", "RetinaNetHead", "SingleScaleDetectionHead"]
