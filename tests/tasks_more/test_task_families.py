"""The heads of depth and classification on every backbone family; the other heads' are beside their contracts."""

import pytest
import torch

from families import FAMILIES, REFUSALS, SIZE, features_of_family
from mtvision.errors import ConfigError
from mtvision.registries import SEGMENTATION_HEADS, TASKS
from mtvision.registry import Component


@pytest.mark.parametrize("backbone", FAMILIES)
def test_classification(backbone):
    info, features = features_of_family(backbone)
    task = TASKS.build(Component("classification", {"num_classes": 3}), info).eval()
    with torch.no_grad():
        logits = task(features, SIZE).logits
    assert logits.shape == (2, 3)
    assert logits.isfinite().all()


@pytest.mark.parametrize("head", SEGMENTATION_HEADS.names())
@pytest.mark.parametrize("backbone", FAMILIES)
def test_depth_with_every_head(backbone, head):
    info, features = features_of_family(backbone)
    choice = Component("depth", {"head": Component(head)})
    refusal = REFUSALS.get(("SEGMENTATION_HEADS", head, backbone))
    if refusal is not None:
        with pytest.raises(ConfigError) as caught:
            TASKS.build(choice, info)
        assert str(caught.value) == refusal
        return
    task = TASKS.build(choice, info).eval()
    with torch.no_grad():
        depth = task(features, SIZE).depth
    assert depth.shape == (2, *SIZE)
    assert depth.isfinite().all()
