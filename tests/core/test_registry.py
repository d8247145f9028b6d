"""Registries: names, signatures, options, fallbacks."""

from typing import Annotated

import pytest
from pydantic import Field, ValidationError

import mtvision as mtv
from mtvision.errors import RegistryError
from mtvision.registry import Catalogue, Component, Registry


@pytest.fixture
def heads():
    registry = Registry("head", ("channels",))

    @registry.register("plain")
    def plain(channels, *, depth: Annotated[int, Field(ge=1)] = 2, names: list[str] | None = None):
        """Make a plain head."""
        return channels, depth, names

    return registry


def test_build_checks_and_passes_options(heads):
    assert heads.build("plain", 8) == (8, 2, None)
    assert heads.build(Component("plain", {"depth": 3, "names": ["a"]}), 8) == (8, 3, ["a"])
    with pytest.raises(ValidationError):
        heads.build(Component("plain", {"depth": 0}), 8)
    with pytest.raises(ValidationError):
        heads.build(Component("plain", {"dept": 1}), 8)


def test_unknown_name_suggests(heads):
    with pytest.raises(RegistryError, match=r"unknown head 'plane'. Did you mean 'plain'\? Available: plain"):
        heads.get("plane")


def test_a_duplicate_is_refused_naming_the_first_owner(heads):
    with pytest.raises(RegistryError, match=r"head 'plain' is already registered by .*plain"):
        heads.register("plain")(lambda channels: channels)


@pytest.mark.parametrize(
    ("factory", "sentence"),
    [
        (lambda: 1, r"must take \(channels\)"),
        (lambda channels, depth: 1, r"but it takes \(channels, depth\)"),
        (lambda channels, **options: 1, r"\*\*options cannot be checked"),
    ],
)
def test_a_factory_of_another_signature_is_refused(heads, factory, sentence):
    with pytest.raises(RegistryError, match=sentence):
        heads.register("new")(factory)
    assert "new" not in heads.names()


def test_names_match_wildcards_and_fall_back(heads):
    heads.set_fallback(
        Catalogue(lambda name: (lambda channels: name) if name == "outside" else None, lambda: ["outside"])
    )
    assert heads.names() == ["plain", "outside"]
    assert heads.names("out*") == ["outside"]
    assert "outside" in heads
    assert "nowhere" not in heads
    assert heads.build("outside", 1) == "outside"


def test_describe(heads):
    description = heads.describe("plain")
    assert description.summary == "Make a plain head."
    assert description.options == {"depth": 2, "names": None}


@pytest.mark.parametrize("name", sorted(name for name in mtv.__all__ if isinstance(getattr(mtv, name), Registry)))
def test_every_entry_of_the_library_describes_itself(name):
    registry = getattr(mtv, name)
    own = list(registry._factories)
    assert own or registry.names("resnet18")
    for entry in own:
        description = registry.describe(entry)
        assert len(description.summary) > 10, f"{registry.noun} {entry} has no summary"


def test_the_library_offers_what_the_report_compares():
    assert {"fcn", "unet"} <= set(mtv.SEGMENTATION_HEADS.names())
    assert {"fpn"} <= set(mtv.DETECTION_HEADS.names())
    assert {"relu", "leaky_relu", "gelu"} <= set(mtv.ACTIVATIONS.names())
    assert {"kaiming", "xavier", "normal"} <= set(mtv.INITIALIZERS.names())
    assert {"standardize", "normalize", "none"} <= set(mtv.PREPROCESSING.names())
    assert {"none", "basic", "heavy", "robust"} <= set(mtv.AUGMENTATIONS.names())
    assert "resnet18" in mtv.BACKBONES.names("resnet*")
