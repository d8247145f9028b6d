"""The backbone families that every neck and every head meets in the tests, and which of them it refuses."""

from functools import cache

import torch
from torch import Tensor

import mtvision.backbones
import mtvision.necks  # noqa: F401 - the two fill their registries
from mtvision.registries import BACKBONES, NECKS
from mtvision.registry import Component
from mtvision.types import FeatureInfo

FAMILIES = [
    "test_resnet",
    "test_efficientnet",
    "mobilenetv3_small_050",
    "test_convnext",
    "swin_tiny_patch4_window7_224",
    "test_vit",
]
SIZE = (65, 97)
"""Odd, so that features of two strides do not fit each other exactly."""

CHANNELS = 16
"""Of the necks: those of the recipes would take most of the time."""

ONE_STRIDE = "test_vit"
"""The family of plain vision transformers: all features have stride 16."""

_PYRAMID_HEADS = ("fpn", "segformer", "unet", "upernet")
REFUSALS = {
    ("SEGMENTATION_HEADS", "fcn", ONE_STRIDE): "segmentation head 'fcn' (8s) needs features of stride 32, 16, 8, but "
    "there is none of stride 32, 8: the features have 16",
    ("SEGMENTATION_HEADS", "deeplabv3plus", ONE_STRIDE): "segmentation head 'deeplabv3plus' needs features of stride "
    "4, 16, but there is none of stride 4: the features have 16",
    ("NECKS", "bifpn", ONE_STRIDE): "neck 'bifpn' needs at least 2 levels, but has only that of stride 16: the "
    "backbone has 16; ask for more strides or extra_levels",
} | {
    ("SEGMENTATION_HEADS", name, ONE_STRIDE): f"segmentation head '{name}' needs features of two strides, got only "
    "stride 16: the features have 16"
    for name in _PYRAMID_HEADS
}
"""The whole sentence, by registry, part and family."""


@cache
def features_of_family(backbone: str) -> tuple[tuple[FeatureInfo, ...], list[Tensor]]:
    """Return what a family publishes, and its features of two images of `SIZE`, computed once a test process."""
    torch.manual_seed(0)
    net = BACKBONES.build(backbone, False).eval()
    with torch.no_grad():
        return net.feature_info, net(torch.randn(2, 3, *SIZE))


@cache
def features_behind_neck(backbone: str, neck: str) -> tuple[tuple[FeatureInfo, ...], list[Tensor]]:
    """Return the same behind a neck of `CHANNELS` channels."""
    info, maps = features_of_family(backbone)
    built = NECKS.build(Component(neck, {"channels": CHANNELS}), info).eval()
    with torch.no_grad():
        return built.feature_info, built(maps)
