"""What an editor must know of the parts of a registry: names and options, as JSON Schema."""

from collections.abc import Mapping
from typing import Any

from mtvision.registry import Registry


def component_schemas(registry: Registry[Any], further: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """Return the schemas of which a component of a registry fits one: its name, or a mapping with its options.

    What an option takes is told in words only: what is checked is checked when the config is read.

    Args:
        registry: of the component.
        further: schemas of keys that stand beside the options.

    Example:
        >>> from mtvision.registry import Registry
        >>> colours: Registry[str] = Registry("colour")
        >>> @colours.register("red")
        ... def red(*, shade: int = 2) -> str:
        ...     return "red" * shade
        >>> name, options = component_schemas(colours)
        >>> name
        {'enum': ['red']}
        >>> sorted(options["properties"])
        ['name', 'shade']
    """
    names = registry.own_names()
    schemas: list[dict[str, Any]] = [{"enum": names}] if names else []
    schemas += [_with_options(registry, name, further or {}) for name in names]
    if registry.is_open:
        another = {"type": "string", "not": {"enum": names}} if names else {"type": "string"}
        schemas += [another, {"type": "object", "properties": {"name": another}, "required": ["name"]}]
    return schemas


def _with_options(registry: Registry[Any], name: str, further: Mapping[str, Any]) -> dict[str, Any]:
    part = registry.describe(name)
    options = {key: _option(part.types[key], part.help[key], default) for key, default in part.options.items()}
    return {
        "type": "object",
        "description": part.summary,
        "properties": {"name": {"const": name}, **further, **options},
        "required": ["name", *(key for key, default in part.options.items() if default is ...)],
        "additionalProperties": False,
    }


def _option(types: str, meaning: str, default: Any) -> dict[str, Any]:
    schema = {"description": f"{types}: {meaning}" if meaning else types}
    return {**schema, "default": default} if isinstance(default, bool | int | float | str) else schema
