"""Single-task models of other libraries, on the same backbone as ours: benchmark-only dependencies.

``segmentation_models_pytorch`` gives U-Net and FPN, torchvision FCOS and RetinaNet, all with random weights. The
detectors' own transform is set to the size of the images, so that it resizes nothing.
"""

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SEGMENTERS = {"smp U-Net": "Unet", "smp FPN": "FPN"}
DETECTORS = {"torchvision FCOS": "FCOS", "torchvision RetinaNet": "RetinaNet"}
MISSING = "left out: segmentation_models_pytorch is not installed (pip install -r benchmarks/requirements.txt)"
_PYRAMID_CHANNELS = 256
_FOCAL_PRIOR_LEVELS = [2, 3, 4]
"""ResNet's stages that torchvision's FCOS and RetinaNet build their pyramids on."""


def has_smp() -> bool:
    return importlib.util.find_spec("segmentation_models_pytorch") is not None


def segmenter(name: str, backbone: str, num_classes: int) -> nn.Module:
    """Return a model of `SEGMENTERS`: normalised images ``(N, 3, H, W)`` to logits ``(N, C, H, W)``."""
    import segmentation_models_pytorch as smp

    kind: Any = getattr(smp, SEGMENTERS[name])
    model: nn.Module = kind(encoder_name=backbone, encoder_weights=None, classes=num_classes)
    return model


def detector(name: str, backbone: str, num_classes: int, size: int, **options: Any) -> nn.Module:
    """Return a model of `DETECTORS` as torchvision's own builders make it, but on another ResNet.

    Args:
        name: of `DETECTORS`.
        backbone: one of torchvision's ResNets.
        num_classes: without background.
        size: of the square images.
        options: of the detector, such as ``score_thresh``.
    """
    import torchvision.models.detection as zoo
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7

    features = resnet_fpn_backbone(
        backbone_name=backbone,
        weights=None,
        norm_layer=nn.BatchNorm2d,
        trainable_layers=5,
        returned_layers=_FOCAL_PRIOR_LEVELS,
        extra_blocks=LastLevelP6P7(_PYRAMID_CHANNELS, _PYRAMID_CHANNELS),
    )
    if name == "torchvision RetinaNet":
        from torchvision.models.detection.retinanet import _default_anchorgen

        options["anchor_generator"] = _default_anchorgen()
    kind: Any = getattr(zoo, DETECTORS[name])
    model: nn.Module = kind(features, num_classes, min_size=size, max_size=size, **options)
    return model


def segmentation_loss(model: nn.Module, images: Tensor, masks: Tensor) -> Callable[[], Tensor]:
    """Return cross-entropy of normalised images, 255 being void."""
    return lambda: F.cross_entropy(model(images).float(), masks, ignore_index=255)


def detection_loss(model: nn.Module, images: Tensor, targets: list[dict[str, Tensor]]) -> Callable[[], Tensor]:
    """Return the sum of a torchvision detector's losses of images in [0, 1]."""
    pictures = list(images)
    wanted = [{"boxes": each["boxes"], "labels": each["labels"]} for each in targets]
    return lambda: torch.stack(list(model(pictures, wanted).values())).sum()
