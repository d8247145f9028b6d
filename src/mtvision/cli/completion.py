"""What the shell offers: keys and values of the config, names of parts, runs; loads only what it is asked for."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

import typer

from mtvision.errors import MtvisionError

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

_MOST_NAMES = 200  # of timm's a thousand and more


def settings(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return settings that begin so: keys as ``key=``, and behind ``=`` the values that a key can have.

    Where one key is left, the word without and those with a value are returned: since there are several, the shell adds
    no space behind the ``=``. Bash takes a ``=`` for the end of a word: there the key is the word before, and values
    stand for themselves.
    """
    fields, before = _keys(), _key_before(ctx)
    if before in fields:
        return _values(before, fields[before], incomplete)
    key, separator, start = incomplete.partition("=")
    if separator:
        return [f"{key}={value}" for value in _values(key, fields[key], start)] if key in fields else []
    found = [each for each in fields if each.startswith(incomplete)]
    values = ["", *_values(found[0], fields[found[0]], "")] if len(found) == 1 else [""]
    return [f"{each}={value}" for each in found for value in values]


def configs_and_settings(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return YAML files and folders, and settings, that begin so."""
    files = [] if _key_before(ctx) in _keys() else _paths(incomplete, _is_yaml)
    return [*files, *settings(ctx, incomplete)]


def run_folders(incomplete: str) -> list[str]:
    """Return folders with weights that begin so, and folders (with ``/``) in which there may be some."""
    return _paths(incomplete, _is_run)


def roles(incomplete: str) -> list[str]:
    """Return roles of parts that begin so."""
    from mtvision.components import component_roles

    return [role.name for role in component_roles() if role.name.startswith(incomplete)]


def roles_and_runs(incomplete: str) -> list[str]:
    """Return roles, runs and YAML files that begin so."""
    return [*roles(incomplete), *_paths(incomplete, lambda path: _is_run(path) or _is_yaml(path))]


def part_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return names of the role that was given before; where a config was, settings."""
    from mtvision.components import list_components

    try:
        names = list_components(ctx.params.get("role") or ctx.params.get("what") or "", f"{incomplete}*")
    except MtvisionError:
        return settings(ctx, incomplete)
    return names[:_MOST_NAMES]


def _key_before(ctx: typer.Context) -> str:
    """Return the last word before the one that is completed, without a ``=``; empty where there is none."""
    words = [word for value in ctx.params.values() if isinstance(value, list | tuple) for word in map(str, value)]
    return next((word for word in reversed(words) if word != "="), "")


def _keys() -> "dict[str, FieldInfo]":
    """Return the fields of the config by their dotted keys."""
    from mtvision.config import Config

    return dict(_fields(Config, ""))


def _fields(section: "type[BaseModel]", prefix: str) -> "Iterator[tuple[str, FieldInfo]]":
    from pydantic import BaseModel

    for key, info in section.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from _fields(info.annotation, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", info


def _values(key: str, info: "FieldInfo", start: str) -> list[str]:
    """Return what a key can be, as far as it begins so: names of parts, words, or its default."""
    from mtvision.config_fields import component_registry
    from mtvision.config_template import default_text

    registry = component_registry(info)
    choices = list(_words(info.annotation)) if registry is None else registry.names(f"{start}*")[:_MOST_NAMES]
    return [value for value in choices or [default_text(key)] if value.startswith(start)]


def _words(annotation: Any) -> Iterator[str]:
    """Yield the words that a type allows."""
    if annotation is bool:
        yield from ("true", "false")
    elif get_origin(annotation) is Literal:
        yield from map(str, get_args(annotation))
    elif get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            yield from _words(member)


def _paths(incomplete: str, wanted: Callable[[Path], bool]) -> list[str]:
    """Return paths that begin so: those that are wanted, and folders with a ``/`` to go on with."""
    folder, _, start = incomplete.rpartition("/")
    place = Path(folder or ("/" if incomplete.startswith("/") else "."))
    inside: Iterable[Path] = sorted(place.expanduser().iterdir()) if place.expanduser().is_dir() else ()
    prefix = incomplete.removesuffix(start)
    named = [path for path in inside if path.name.startswith(start) and (start or not path.name.startswith("."))]
    return [f"{prefix}{path.name}{'' if wanted(path) else '/'}" for path in named if wanted(path) or path.is_dir()]


def _is_run(path: Path) -> bool:
    """Tell whether a folder is a run, a checkpoint or what `save_pretrained` wrote."""
    is_run = (path / "checkpoints").is_dir() and (path / "config.yaml").is_file()
    return is_run or (path / "model.safetensors").is_file()


def _is_yaml(path: Path) -> bool:
    return path.suffix in (".yaml", ".yml")
