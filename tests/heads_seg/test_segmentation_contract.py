"""What every registered head must satisfy, and which backbones each works on."""

import pytest
import torch

from contract import NUM_CLASSES, SegmentationModel, check_compiles, check_segmentation_head
from families import FAMILIES, REFUSALS, SIZE, features_of_family
from mtvision.errors import ConfigError
from mtvision.registries import SEGMENTATION_HEADS, SEGMENTATION_LOSSES
from mtvision.registry import Component
from mtvision.tasks.segmentation import SegmentationTask


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


@pytest.mark.parametrize("backbone", FAMILIES)
@pytest.mark.parametrize("name", SEGMENTATION_HEADS.names())
def test_every_backbone_family_works_or_is_refused_in_a_sentence(name, backbone):
    info, maps = features_of_family(backbone)
    refusal = REFUSALS.get(("SEGMENTATION_HEADS", name, backbone))
    if refusal is not None:
        with pytest.raises(ConfigError) as caught:
            SEGMENTATION_HEADS.build(name, info, NUM_CLASSES)
        assert str(caught.value) == refusal
        return
    head = SEGMENTATION_HEADS.build(name, info, NUM_CLASSES)
    task = SegmentationTask(head, NUM_CLASSES, SEGMENTATION_LOSSES.build("cross_entropy")).eval()
    with torch.no_grad():
        logits = task(maps, SIZE).logits
    assert logits.shape == (2, NUM_CLASSES, *SIZE)
    assert logits.isfinite().all()
