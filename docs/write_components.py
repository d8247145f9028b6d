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

Parts of your own stand beside these and are checked alike; see the [readme](../README.md#a-part-of-your-own).

Of a head, "compiles" means one graph without breaks by `torch.compile`, and "exports" means `torch.export` with any
batch, height and width (of a detection head: more than one cell on the coarsest level); `tests/heads_seg` and
`tests/heads_det` try both on every registered head.
"""

FROM_TIMM: Final = {
    "BACKBONES": ("resnet18", "Any of timm's models with feature maps.", "Wightman 2019"),
    "OPTIMIZERS": ("lamb", "Any of timm's optimizers, with its own defaults.", "Wightman 2019"),
}
"""Registries with timm's names behind them: one of those, what they are, their source."""

HEADS: Final = ("SEGMENTATION_HEADS", "DETECTION_HEADS")
EXCEPTIONS: Final[Mapping[tuple[str, str], Mapping[str, str]]] = {}
"""What does not hold: ``{("DETECTION_HEADS", "name"): {"exports": "no: why"}}``; keys as in `ABILITIES`."""
ABILITIES: Final = ("compiles", "exports")


def page() -> str:
    """Return the whole page."""
    roles = {role: value for role, value in vars(registries).items() if isinstance(value, Registry)}
    keys = config_keys()
    return "\n".join([INTRODUCTION, *(_section(role, registry, keys) for role, registry in roles.items())])


def _section(role: str, registry: Registry[Any], keys: Mapping[Registry[Any], list[str]]) -> str:
    owner = "mtv" if role in mtv.__all__ else "mtvision.registries"
    chosen = " and ".join(f"`{key}`" for key in keys.get(registry, []))
    place = f"`{owner}.{role}`" + (f", in the config {chosen}." if chosen else ".")
    columns = ["name", "what it is", "source", "options", *(ABILITIES if role in HEADS else ())]
    rows = [columns, *_rows(role, registry)]
    lines = [_joined(row) for row in rows]
    lines.insert(1, "|" + "---|" * len(columns))
    return "\n".join([f"## {role.replace('_', ' ').capitalize()}", "", place, "", *lines, ""])


def _rows(role: str, registry: Registry[Any]) -> Iterator[list[str]]:
    for name in registry.own_names():
        if registry.get(name).__module__.partition(".")[0] != "mtvision":  # a plugin: the page is the library's
            continue
        row = [f"`{name}`", *_cells(registry.describe(name))]
        exceptions = EXCEPTIONS.get((role, name), {})
        yield row + [exceptions.get(ability, "yes") for ability in ABILITIES] if role in HEADS else row
    if role in FROM_TIMM:
        example, what, source = FROM_TIMM[role]
        yield [f"`{example}`, ...", what, source, _cells(registry.describe(example))[-1]]


def _cells(part: Description) -> list[str]:
    options = [_option(key, part) for key in part.options]
    return [part.summary, _linked(part.source), "<br>".join(options)]


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
