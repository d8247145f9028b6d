"""What every registered head must satisfy, and which backbones each works on."""

from functools import cache

import pytest
import torch

from contract import NUM_CLASSES, ODD_SIZE, SegmentationModel, check_compiles, check_segmentation_head
from mtvision.errors import ConfigError
from mtvision.registries import BACKBONES, SEGMENTATION_HEADS, SEGMENTATION_LOSSES
from mtvision.registry import Component
from mtvision.tasks.segmentation import SegmentationTask

FAMILIES = [
    "test_resnet",
    "test_efficientnet",
    "mobilenetv3_small_050",
    "test_convnext",
    "swin_tiny_patch4_window7_224",
    "test_vit",
]
REFUSALS = {
    ("fcn", "test_vit"): "segmentation head 'fcn' (8s) needs features of stride 32, 16, 8, but there is none of stride "
    "32, 8: the backbone has 16",
    ("deeplabv3plus", "test_vit"): "segmentation head 'deeplabv3plus' needs features of stride 4, 16, but there is "
    "none of stride 4: the backbone has 16",
} | {
    (name, "test_vit"): f"segmentation head '{name}' needs features of two strides, got only stride 16: "
    "the backbone has 16"
    for name in ("fpn", "segformer", "unet", "upernet")
}


@pytest.mark.parametrize("name", SEGMENTATION_HEADS.names())
def test_contract(name):
    check_segmentation_head(name)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fcn", {"variant": "16s", "dropout_rate": 0.5, "channels": 8}),
        ("unet", {"strides": [2, 32], "decoder_channels": [7]}),
    ],
)
def test_contract_of_variants(name, options):
    check_segmentation_head(name, **options)


@pytest.mark.parametrize("name", SEGMENTATION_HEADS.names())
def test_compiles(name):
    check_compiles(SegmentationModel(Component(name)).eval())


@cache
def features_of_family(backbone):
    torch.manual_seed(0)
    net = BACKBONES.build(backbone, False).eval()
    with torch.no_grad():
        return net.feature_info, net(torch.randn(1, 3, *ODD_SIZE))


@pytest.mark.parametrize("backbone", FAMILIES)
@pytest.mark.parametrize("name", SEGMENTATION_HEADS.names())
def test_every_backbone_family_works_or_is_refused_in_a_sentence(name, backbone):
    info, maps = features_of_family(backbone)
    if (name, backbone) in REFUSALS:
        with pytest.raises(ConfigError) as caught:
            SEGMENTATION_HEADS.build(name, info, NUM_CLASSES)
        assert str(caught.value) == REFUSALS[name, backbone]
        return
    head = SEGMENTATION_HEADS.build(name, info, NUM_CLASSES)
    task = SegmentationTask(head, NUM_CLASSES, SEGMENTATION_LOSSES.build("cross_entropy")).eval()
    with torch.no_grad():
        logits = task(maps, ODD_SIZE).logits
    assert logits.shape == (1, NUM_CLASSES, *ODD_SIZE)
    assert logits.isfinite().all()
