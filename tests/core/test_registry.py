"""Registries: names, signatures, options, fallbacks."""

import itertools
import sys
import textwrap
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, ValidationError

import mtvision as mtv
from mtvision import registries
from mtvision.config_fields import In
from mtvision.describe import summary_and_source, type_text
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


def test_own_names_leave_the_catalogue_out(heads):
    heads.set_fallback(Catalogue(lambda name: None, lambda: ["outside"]))
    assert heads.own_names() == ["plain"]


@pytest.fixture
def at_home(tmp_path, monkeypatch):
    """Return a function that makes a registry whose home is a new module of this text."""
    names = (f"home_{tmp_path.name}_{number}".replace("-", "_") for number in itertools.count())
    monkeypatch.syspath_prepend(tmp_path)

    def make(text):
        home = next(names)
        (tmp_path / f"{home}.py").write_text(textwrap.dedent(text), encoding="utf-8")
        monkeypatch.setitem(sys.modules, f"{home}_registry", registry := types.ModuleType(home))
        registry.HEADS = Registry("head", ("channels",), home=home)
        return registry.HEADS

    return make


IN_ITS_HOME = """
    import sys
    HEADS = sys.modules[f"{__name__}_registry"].HEADS

    @HEADS.register("own")
    def own(channels, *, depth: int = 2):
        return channels * depth

    assert HEADS.names() == ["own"]  # asked within the import of its home
"""


@pytest.mark.parametrize(
    "ask",
    [
        lambda heads: heads.names() == ["own"],
        lambda heads: heads.own_names() == ["own"],
        lambda heads: "own" in heads and "other" not in heads,
        lambda heads: heads.build(Component("own", {"depth": 3}), 2) == 6,
        lambda heads: heads.option_names("own") == ("depth",),
        lambda heads: list(heads) == ["own"],
        lambda heads: not heads.is_open,
    ],
)
def test_the_home_is_imported_when_the_registry_is_asked(at_home, ask):
    heads = at_home(IN_ITS_HOME)
    assert heads.home not in sys.modules
    assert ask(heads)
    assert heads.home in sys.modules


def test_a_name_of_the_home_is_taken_before_anybody_asked(at_home):
    heads = at_home(IN_ITS_HOME)
    with pytest.raises(RegistryError, match=rf"head 'own' is already registered by {heads.home}\.own"):
        heads.register("own")(lambda channels: channels)


def test_a_home_that_cannot_be_imported_is_told_each_time(at_home):
    heads = at_home("import no_such_package")
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="no_such_package"):
            heads.names()


BROKEN_OFF_ONCE = """
    import sys
    REGISTRY = sys.modules[f"{__name__}_registry"]

    @REGISTRY.HEADS.register("own")
    def own(channels, *, depth: int = 2):
        return channels * depth

    if not hasattr(REGISTRY, "was_here"):
        REGISTRY.was_here = True
        raise KeyboardInterrupt
"""


def test_a_home_whose_import_was_broken_off_is_imported_again(at_home):
    heads = at_home(BROKEN_OFF_ONCE)
    with pytest.raises(KeyboardInterrupt):
        heads.names()
    assert heads.home not in sys.modules
    with pytest.raises(RegistryError, match="already registered"):  # the second import is whole
        heads.register("own")(lambda channels: channels)
    assert heads.build("own", 3) == 6
    assert heads.get("own") is sys.modules[heads.home].own


def test_a_catalogue_of_ones_own_takes_the_place_of_that_of_the_home(at_home):
    heads = at_home("""
        import sys
        from mtvision.registry import Catalogue
        sys.modules[f"{__name__}_registry"].HEADS.set_fallback(Catalogue(lambda name: None, lambda: ["theirs"]))
    """)
    heads.set_fallback(Catalogue(lambda name: None, lambda: ["mine"]))
    assert heads.names() == ["mine"]
    assert heads.is_open


def test_a_thread_waits_for_the_home_that_another_one_imports(at_home):
    heads = at_home(IN_ITS_HOME.replace("assert HEADS", "import time; time.sleep(0.3)\n\n    assert HEADS"))
    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(lambda _: heads.names(), range(4)))
    assert told == [["own"]] * 4


def test_describe(heads):
    description = heads.describe("plain")
    assert (description.name, description.summary, description.source) == ("plain", "Make a plain head.", "")
    assert description.options == {"depth": 2, "names": None}
    assert description.types == {"depth": "int >= 1", "names": "list[str] | None"}
    assert description.help == {"depth": "", "names": ""}
    with pytest.raises(RegistryError, match="Did you mean 'plain'"):
        heads.describe("plane")


class Tower:
    """A tower
    of blocks (Somebody & Other 2020, arXiv 2001.00001).

    Args:
        channels: of the blocks.
        depth: how many.
            Or so:

            * at 2, it is low;
            * at 3, it is high
              enough.
        rate, momentum (float): of the
            training.

    Raises:
        depth: this is no option.
    """

    def __init__(
        self, channels, *, depth: int = 2, rate: float = 0.1, momentum: float, inner: "Component | None" = None
    ):
        """Build.

        Args:
            inner: the core.
        """


class HighTower(Tower):
    """A tower of many blocks.

    Args:
        depth: very many.
    """


class NamelessTower(Tower):
    def __init__(self, channels, *, rate: float = 0.2):
        pass


@pytest.fixture
def towers():
    registry = Registry("tower", ("channels",))
    registry.register("tower")(Tower)
    registry.register("high")(HighTower)
    registry.register("nameless")(NamelessTower)
    return registry


def test_help_is_read_from_the_args_of_class_and_constructor(towers):
    description = towers.describe("tower")
    assert description.summary == "A tower of blocks."
    assert description.source == "Somebody & Other 2020, arXiv 2001.00001"
    assert description.help == {
        "depth": "how many. Or so:\n* at 2, it is low;\n* at 3, it is high enough.",
        "rate": "of the training.",
        "momentum": "of the training.",
        "inner": "the core.",
    }
    assert description.options == {"depth": 2, "rate": 0.1, "momentum": ..., "inner": None}


def test_a_class_inherits_help_but_neither_summary_nor_source(towers):
    high = towers.describe("high")
    assert (high.summary, high.source) == ("A tower of many blocks.", "")
    assert high.help["depth"] == "very many."
    assert high.help["inner"] == "the core."
    nameless = towers.describe("nameless")
    assert (nameless.summary, nameless.source) == ("", "")
    assert nameless.help == {"rate": "of the training."}


def test_a_description_reads_as_a_block(towers):
    assert (
        str(towers.describe("tower"))
        == """\
tower: A tower of blocks.
Source: Somebody & Other 2020, arXiv 2001.00001
Options:
  depth = 2  (int)
      how many. Or so:
      * at 2, it is low;
      * at 3, it is high enough.
  rate = 0.1  (float)
      of the training.
  momentum required  (float)
      of the training.
  inner = None  (Component | None)
      the core."""
    )
    assert str(mtv.ACTIVATIONS.describe("relu")).endswith("Source: Nair & Hinton 2010\nOptions: none")
    assert "  nms = class_wise  (suppression)" in str(mtv.TASKS.describe("detection"))


@pytest.mark.parametrize(
    ("registry", "name"), [(mtv.BACKBONES, "resnet18"), (mtv.OPTIMIZERS, "lamb")], ids=["backbone", "optimizer"]
)
def test_parts_of_timm_have_a_text_a_source_and_a_help_for_each_option(registry, name):
    description = registry.describe(name)
    assert description.summary.startswith("Any of timm's")
    assert description.source == "Wightman 2019, PyTorch Image Models"
    assert all(description.help.values())


@pytest.mark.parametrize("name", mtv.DETECTION_HEADS.own_names())
def test_a_detection_heads_description_has_its_recipe(name):
    description = mtv.DETECTION_HEADS.describe(name)
    recipe = mtv.DETECTION_HEADS.get(name).recipe
    assert description.recipe == vars(recipe)
    text = " ".join(str(description).split())
    assert f"assigner {recipe.assigner.name}, box_weight {recipe.box_weight}" in text
    assert f"neck {recipe.neck}, " in text
    assert f"score_threshold {recipe.score_threshold}, nms_threshold {recipe.nms_threshold}" in text
    assert "Recipe" not in str(mtv.SEGMENTATION_HEADS.describe("fcn"))


@pytest.mark.parametrize(
    ("docstring", "summary", "source"),
    [
        ("Sum (Long et al. 2015).", "Sum.", "Long et al. 2015"),
        ("max(x, 0) (Nair & Hinton 2010)", "max(x, 0)", "Nair & Hinton 2010"),
        ("Sum (arXiv 1411.4038).", "Sum.", "arXiv 1411.4038"),
        ("A, of Q (A 2015; B (and C) 2016a).", "A, of Q.", "A 2015; B (and C) 2016a"),
        ("One (A 2015) and other (B 2016).", "One (A 2015) and other.", "A 2015; B 2016"),
        ("Two (A 2015) (B 2016).", "Two.", "A 2015; B 2016"),
        ("Of (N, 2015) shape.", "Of (N, 2015) shape.", "N, 2015"),
        ("At 0.2015 (stride 16) of VOC2012 (H, W).", "At 0.2015 (stride 16) of VOC2012 (H, W).", ""),
        ("Of (Version 1911.08287).", "Of (Version 1911.08287).", ""),
        ("Sum.\n\nAs in (Long et al. 2015).", "Sum.", ""),
        ("Keep it (mtvision).", "Keep it.", "mtvision"),
        ("Keep it (as mtvision does).", "Keep it (as mtvision does).", ""),
        ("", "", ""),
    ],
)
def test_source_is_the_reference_in_the_first_paragraph(docstring, summary, source):
    assert summary_and_source(docstring) == (summary, source)


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (int, "int"),
        (Annotated[float, Field(ge=0)], "float >= 0"),
        (Annotated[float, Field(gt=0)], "float > 0"),
        (Annotated[float, Field(le=0.5)], "float <= 0.5"),
        (Annotated[float, Field(lt=0.5)], "float < 0.5"),
        (Annotated[float, Field(ge=0, lt=1)], "float in [0, 1)"),
        (Annotated[float, Field(gt=0, le=1)] | None, "float in (0, 1] | None"),
        (Annotated[int, Field(multiple_of=8, ge=8)], "int >= 8, a multiple of 8"),
        (Literal["32s", "16s", 8], "'32s' | '16s' | 8"),
        (Literal["a"] | Annotated[float, Field(ge=0)] | None, "'a' | float >= 0 | None"),
        (list[Annotated[float, Field(ge=0)]] | None, "list[float >= 0] | None"),
        (tuple[int, ...], "tuple[int, ...]"),
        (Annotated[tuple[int, ...], Field(min_length=1)], "tuple[int, ...] of length >= 1"),
        (Annotated[list[str], Field(max_length=3)], "list[str] of length <= 3"),
        (dict[str, Any], "dict[str, Any]"),
        (Callable[[int], float], "Callable"),
        (Annotated[Component, In(mtv.BOX_LOSSES)] | None, "loss | None"),
        (list[Annotated[Component, In(mtv.NECKS)]], "list[neck]"),
        (Path | None, "Path | None"),
    ],
)
def test_types_are_said_in_words(annotation, text):
    assert type_text(annotation) == text
    registry = Registry("part")

    @registry.register("one")
    def one(*, option: annotation = None):
        """One."""

    assert registry.describe("one").types == {"option": text}


REGISTRIES = {key: value for key, value in vars(registries).items() if isinstance(value, Registry)}


@pytest.mark.parametrize("role", REGISTRIES)
def test_every_registry_has_parts(role):
    assert REGISTRIES[role].own_names() or REGISTRIES[role].names("resnet18")


@pytest.mark.parametrize("role", REGISTRIES)
def test_every_part_says_what_it_is(role):
    registry = REGISTRIES[role]
    silent = [name for name in registry.own_names() if len(registry.describe(name).summary) < 10]
    assert not silent, f"without a summary: {', '.join(silent)}"


@pytest.mark.parametrize("role", REGISTRIES)
def test_every_option_is_explained(role):
    described = [REGISTRIES[role].describe(name) for name in REGISTRIES[role].own_names()]
    silent = [f"{part.name}.{key}" for part in described for key, text in part.help.items() if not text]
    assert not silent, f"not in the docstring's Args: {', '.join(silent)}"


@pytest.mark.parametrize("role", REGISTRIES)
def test_every_part_has_a_source(role):
    """A reference, or "(mtvision)" where there is none."""
    registry = REGISTRIES[role]
    sourceless = [name for name in registry.own_names() if not registry.describe(name).source]
    assert not sourceless, f"without a source in the first paragraph: {', '.join(sourceless)}"


@pytest.mark.parametrize("role", REGISTRIES)
def test_every_default_is_one_that_the_option_takes(role):
    registry = REGISTRIES[role]
    for name in registry.own_names():
        options = registry.describe(name).options
        given = {key: default for key, default in options.items() if default is not ...}
        assert refused(registry.options_model(name), given) == options.keys() - given.keys(), name


def refused(model, values):
    try:
        model.model_validate(values)
    except ValidationError as error:
        return {problem["loc"][0] for problem in error.errors()}
    return set()


def test_the_library_offers_what_the_report_compares():
    assert {"fcn", "unet"} <= set(mtv.SEGMENTATION_HEADS.names())
    assert {"fpn"} <= set(mtv.DETECTION_HEADS.names())
    assert {"relu", "leaky_relu", "gelu"} <= set(mtv.ACTIVATIONS.names())
    assert {"kaiming", "xavier", "normal"} <= set(mtv.INITIALIZERS.names())
    assert {"standardize", "normalize", "none"} <= set(mtv.PREPROCESSING.names())
    assert {"none", "basic", "heavy", "robust"} <= set(mtv.AUGMENTATIONS.names())
    assert "resnet18" in mtv.BACKBONES.names("resnet*")
