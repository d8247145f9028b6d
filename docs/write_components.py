"""Write components.md from the registries: ``make docs-tables``."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

import mtvision as mtv
from mtvision import registries
from mtvision.describe import Description, default_text
from mtvision.registry import Registry

PAGE = Path(__file__).with_name("components.md")

INTRODUCTION = """\
# Parts

Written by `make docs-tables` from the registries; do not edit. Every part is chosen by its name, or with options as
`{name: focal, gamma: 1.5}`. An option stands here with its default and, in parentheses, what it takes (`None` is `null`
in YAML, a tuple a list). What it means:

```python
print(mtv.SEGMENTATION_HEADS.describe("fcn"))  # the same part with a text for each option
```

Parts of your own stand beside these and are checked alike; see [how to add one](how_to/own_head.md).

Of backbones, necks, heads, norms, activations and tasks, all that an exported model runs:

* "compiles" means one graph without breaks by `torch.compile`;
* "exports" means `torch.export` with any batch, height and width of which the coarsest feature has more than one row
  and one column: from 33 pixels at stride 32 (64 where a backbone rounds down, as convnext does), from 129 at stride
  128, to which the necks of `fcos` and `retinanet` go. A program refuses what is smaller, or is right there too;
* "not with" names what a part refuses when the model is built or trained.

The tests try all of it: each part by its contract, backbones by the families of `tests/families.py`, each of which
meets every neck and every head. Losses, assigners, suppressions and initializers are no part of the forward pass that
is exported.
"""

FROM_TIMM: Final = {"BACKBONES": "resnet18", "OPTIMIZERS": "lamb"}
"""Registries with timm's names behind them: one of those."""

IN_THE_FORWARD_PASS: Final = (
    "BACKBONES",
    "NECKS",
    "SEGMENTATION_HEADS",
    "DETECTION_HEADS",
    "NORMS",
    "ACTIVATIONS",
    "TASKS",
)
ABILITIES: Final = {"compiles": "yes", "exports": "yes", "not with": ""}
"""Columns of those roles, and what they say where there is no exception."""

ONE_STRIDE: Final = "backbones of one stride (plain ViT)"
ONE_IMAGE: Final = "one image a batch in training"
SEVERAL_WIDTHS: Final = "features of several widths: no neck, or `none`"
OF_ITS_HEAD: Final = "what its head is not with"
EXCEPTIONS: Final[Mapping[tuple[str, str], Mapping[str, str]]] = {
    ("BACKBONES", "resnet18"): {
        "exports": "yes; swin at one fixed size only: `torch.export` for any does not finish in five minutes"
    },
    ("NECKS", "bifpn"): {"not with": f"{ONE_STRIDE}, without `extra_levels`"},
    ("NECKS", "none"): {"not with": "detection heads `fcos`, `fpn`, `retinanet` on features of several widths"},
    ("SEGMENTATION_HEADS", "deeplabv3"): {"not with": ONE_IMAGE},
    ("SEGMENTATION_HEADS", "deeplabv3plus"): {"not with": f"{ONE_STRIDE}; {ONE_IMAGE}"},
    ("SEGMENTATION_HEADS", "fcn"): {"not with": ONE_STRIDE},
    ("SEGMENTATION_HEADS", "fpn"): {"not with": ONE_STRIDE},
    ("SEGMENTATION_HEADS", "pspnet"): {"not with": ONE_IMAGE},
    ("SEGMENTATION_HEADS", "segformer"): {"not with": ONE_STRIDE},
    ("SEGMENTATION_HEADS", "unet"): {"not with": ONE_STRIDE},
    ("SEGMENTATION_HEADS", "upernet"): {"not with": f"{ONE_STRIDE}; {ONE_IMAGE}"},
    ("DETECTION_HEADS", "fcos"): {"not with": SEVERAL_WIDTHS},
    ("DETECTION_HEADS", "fpn"): {"not with": SEVERAL_WIDTHS},
    ("DETECTION_HEADS", "retinanet"): {"not with": SEVERAL_WIDTHS},
    ("NORMS", "frozen"): {"not with": "`zero_init_residual: true`"},
    ("NORMS", "sync"): {"not with": "several processes on CPUs"},
    ("TASKS", "depth"): {"not with": OF_ITS_HEAD},
    ("TASKS", "detection"): {"not with": OF_ITS_HEAD},
    ("TASKS", "segmentation"): {"not with": OF_ITS_HEAD},
}
"""What does not hold; keys as in `ABILITIES`."""


def page() -> str:
    """Return the whole page."""
    roles = {role: value for role, value in vars(registries).items() if isinstance(value, Registry)}
    keys = config_keys()
    return "\n".join([INTRODUCTION, *(_section(role, registry, keys) for role, registry in roles.items())])


def _section(role: str, registry: Registry[Any], keys: Mapping[Registry[Any], list[str]]) -> str:
    owner = "mtv" if role in mtv.__all__ else "mtvision.registries"
    chosen = " and ".join(f"`{key}`" for key in keys.get(registry, []))
    place = f"`{owner}.{role}`" + (f", in the config {chosen}." if chosen else ".")
    columns = ["name", "what it is", "source", "options"]
    columns += [*(["recipe"] if role == "DETECTION_HEADS" else []), *(ABILITIES if role in IN_THE_FORWARD_PASS else [])]
    rows = [columns, *_rows(role, registry)]
    lines = [_joined(row) for row in rows]
    lines.insert(1, "|" + "---|" * len(columns))
    return "\n".join([f"## {role.replace('_', ' ').capitalize()}", "", place, "", *lines, ""])


def _rows(role: str, registry: Registry[Any]) -> Iterator[list[str]]:
    for name in registry.own_names():
        if registry.get(name).__module__.partition(".")[0] != "mtvision":  # a plugin: the page is the library's
            continue
        yield [f"`{name}`", *_cells(role, registry.describe(name))]
    if role in FROM_TIMM:
        example = FROM_TIMM[role]
        yield [f"`{example}`, ...", *_cells(role, registry.describe(example))]


def _cells(role: str, part: Description) -> list[str]:
    cells = [part.summary, _linked(part.source), "<br>".join(_option(key, part) for key in part.options)]
    if role == "DETECTION_HEADS":
        cells.append("<br>".join(f"`{key}`: `{default_text(value)}`" for key, value in part.recipe.items()))
    if role in IN_THE_FORWARD_PASS:
        exceptions = EXCEPTIONS.get((role, part.name), {})
        cells += [exceptions.get(ability, usual) for ability, usual in ABILITIES.items()]
    return cells


def _option(key: str, part: Description) -> str:
    default = part.options[key]
    given = "required" if default is ... else f"`{default_text(default)}`"
    return f"`{key}`: {given} ({part.types[key]})"


def _joined(cells: list[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", r"\|") for cell in cells) + " |"


def _linked(source: str) -> str:
    return re.sub(r"arXiv (\d{4}\.\d{4,5})", r"[arXiv \1](https://arxiv.org/abs/\1)", source)


def config_keys() -> dict[Registry[Any], list[str]]:
    """Return the dotted keys of the config in which a part of a registry is chosen."""
    keys: dict[Registry[Any], list[str]] = {}
    for key, registry in _choices(mtv.Config, ""):
        keys.setdefault(registry, []).append(key)
    return keys


def _choices(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, Registry[Any]]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _choices(field.annotation, f"{prefix}{name}.")
        for registry in _registries((field.annotation, *field.metadata)):
            yield f"{prefix}{name}", registry


def _registries(annotations: tuple[Any, ...]) -> Iterator[Registry[Any]]:
    """Yield the registries of all `In` inside types: of an option, of a list, of a mapping's values."""
    for annotation in annotations:
        if isinstance(getattr(annotation, "registry", None), Registry):
            yield annotation.registry
        yield from _registries((*getattr(annotation, "__args__", ()), *getattr(annotation, "__metadata__", ())))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
