"""What every neck must satisfy, behind every kind of backbone."""

import pytest
import torch
from torch import nn

from contract import ODD_SIZE, Pyramid, check_compiles, check_export, check_state_dict
from families import FAMILIES, ONE_STRIDE, REFUSALS, SIZE, features_of_family
from mtvision.errors import ConfigError
from mtvision.registries import NECKS
from mtvision.registry import Component
from mtvision.types import FeatureInfo

KINDS = [
    *NECKS.names(),
    Component("fpn", {"extra_levels": 2}),
    Component("pan", {"extra_levels": 2}),
    Component("bifpn", {"extra_levels": 1, "num_layers": 1}),
    Component("simple_fpn", {"strides": (4, 16, 64)}),
    Component("none", {"strides": (16,)}),
]
SMALL = {name: {"channels": 16} for name in ("fpn", "pan", "simple_fpn")} | {"bifpn": {"channels": 16, "num_layers": 2}}
PADS_TO = 16
"""Pixels: simple_fpn makes all levels from one feature of this stride, which covers the padding of a ViT."""

pytestmark = pytest.mark.filterwarnings("ignore:.*Initializing zero-element tensors")


class FlooredPyramid(Pyramid):
    """As convnext's, its features have fewer rows and columns than ``size / stride``, not more."""

    def __init__(self):
        super().__init__()
        self.levels = nn.ModuleList(nn.Conv2d(level.in_channels, level.out_channels, 2, 2) for level in self.levels)


class Patches(Pyramid):
    """As a plain ViT's, its features all have stride 16."""

    def __init__(self):
        super().__init__()
        self.levels = nn.ModuleList([nn.Conv2d(3, 12, 16, 16, padding=8), nn.Conv2d(12, 12, 1), nn.Conv2d(12, 12, 1)])
        self.feature_info = (FeatureInfo(12, 16),) * 3


SMALLEST = {"pyramid": 33, "floored": 64, "patches": 33}
"""Pixels from which on there are two rows or columns of stride 32."""


class WithNeck(nn.Module):
    def __init__(self, kind, backbone="pyramid"):
        super().__init__()
        self.backbone = {"pyramid": Pyramid, "floored": FlooredPyramid, "patches": Patches}[backbone]()
        self.neck = build(kind, self.backbone.feature_info)

    def forward(self, images):
        return tuple(self.neck(self.backbone(images)))


def build(kind, feature_info):
    torch.manual_seed(0)
    component = Component(kind) if isinstance(kind, str) else kind
    component = Component(component.name, SMALL.get(component.name, {}) | dict(component.options))
    return NECKS.build(component, feature_info)


def name_of(kind):
    return kind if isinstance(kind, str) else kind.name


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("backbone", FAMILIES)
def test_publishes_what_it_returns_and_learns_everywhere(kind, backbone):
    info_of_backbone, features = features_of_family(backbone)
    refusal = REFUSALS.get(("NECKS", kind, backbone)) if isinstance(kind, str) else None
    if refusal is not None:
        with pytest.raises(ConfigError) as caught:
            build(kind, info_of_backbone)
        assert str(caught.value) == refusal
        return
    neck = build(kind, info_of_backbone)
    levels = neck(features)
    strides = [info.stride for info in neck.feature_info]
    assert strides == sorted(strides)
    multiple = PADS_TO if name_of(kind) == "simple_fpn" else 1
    for info, level in zip(neck.feature_info, levels, strict=True):
        assert level.shape[:2] == (2, info.channels)
        for side, pixels in zip(level.shape[2:], SIZE, strict=True):
            padded = -(-pixels // multiple) * multiple
            assert pixels // info.stride <= side <= -(-padded // info.stride)
    learning = [(level * torch.randn_like(level)).sum() for level in levels if level.requires_grad]
    sum(learning, start=torch.zeros((), requires_grad=True)).backward()
    unreached = [key for key, p in neck.named_parameters() if p.grad is None or not p.grad.any()]
    assert not unreached


@pytest.mark.parametrize(
    ("neck", "backbone"),
    [
        *((neck, backbone) for neck in NECKS.names() for backbone in ("pyramid", "floored")),
        ("simple_fpn", "patches"),
    ],
)
def test_exports(neck, backbone):
    check_export(WithNeck(neck, backbone).eval(), SMALLEST[backbone])


@pytest.mark.parametrize("neck", NECKS.names())
def test_compiles(neck):
    check_compiles(WithNeck(neck).eval())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not isinstance(kind, str)], ids=str)
def test_exports_with_options(kind):
    finer = {"strides": (2, 4, 8)} if "extra_levels" in kind.options else {}  # more than one cell at every level
    finer |= {"stride": 8, "strides": (2, 8, 32)} if kind.name == "simple_fpn" else {}
    check_export(WithNeck(Component(kind.name, dict(kind.options) | finer)).eval())


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_state_dict_is_all_of_it(kind):
    images = torch.randn(2, 3, *ODD_SIZE)
    model, twin = WithNeck(kind), WithNeck(kind)
    with torch.no_grad():
        model(images)  # changes running statistics
    check_state_dict(model.eval(), twin.eval(), images)


def test_levels_that_a_vit_gives():
    strides = {
        name: [i.stride for i in build(name, features_of_family(ONE_STRIDE)[0]).feature_info]
        for name in {*NECKS.names()} - {"bifpn"}
    }
    assert strides == {"fpn": [16], "pan": [16], "none": [16, 16, 16], "simple_fpn": [8, 16, 32]}


@pytest.mark.parametrize("neck", NECKS.names())
def test_missing_and_repeated_strides_are_sentences(neck):
    info = Pyramid().feature_info
    build = NECKS.get(neck)
    with pytest.raises(ConfigError, match=f"neck '{neck}': a stride is asked for twice in 16, 8, 16"):
        build(info, strides=(16, 8, 16))
    with pytest.raises(ConfigError, match=f"neck '{neck}' .*\\b(none of stride|not) 128"):
        build(info, strides=(8, 128))


def test_none_passes_the_very_features_on():
    backbone = Pyramid()
    features = backbone(torch.randn(1, 3, 64, 64))
    neck = NECKS.build("none", backbone.feature_info)
    assert neck.feature_info == backbone.feature_info
    assert all(ours is theirs for ours, theirs in zip(neck(features), features, strict=True))
    neck = NECKS.build(Component("none", {"strides": (32, 8)}), backbone.feature_info)
    assert neck.feature_info == (backbone.feature_info[2], backbone.feature_info[4])
    assert [level is feature for level, feature in zip(neck(features), features[2::2], strict=True)] == [True, True]
