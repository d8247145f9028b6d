"""From pydantic's errors to sentences for a person: dotted path, what is wrong, the nearest valid spelling."""

from collections.abc import Collection, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from mtvision.errors import did_you_mean

_LIMITS = {
    "greater_than": ("greater than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
_KINDS = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "int_parsing": "an integer",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "a text",
    "path_type": "a path",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dict_type": "a mapping",
    "list_type": "a list",
    "tuple_type": "a list",
}


def problem_sentences(error: ValidationError, root: type[BaseModel]) -> list[str]:
    """Return one sentence for each problem, each with its dotted path, in the order of the config."""
    sentences = []
    for item in error.errors():
        path = [str(part) for part in item["loc"] if str(part).isidentifier() or isinstance(part, int)]
        unknown = item["type"] == "extra_forbidden"
        text = "unknown key." + _suggestion(path, root) if unknown else error_sentence(item)
        sentences.append(f"{'.'.join(path)}: {text}" if path else text)
    return list(dict.fromkeys(sentences))


def error_sentence(item: Mapping[str, Any]) -> str:
    """Return what is wrong with one value, without its path."""
    kind, context, given = item["type"], item.get("ctx", {}), item["input"]
    if kind in _LIMITS:
        words, key = _LIMITS[kind]
        return f"must be {words} {_number(context[key])}, got {given!r}"
    if kind in _KINDS:
        return f"must be {_KINDS[kind]}, got {given!r}"
    if kind == "literal_error":
        return f"must be one of {context['expected']}, got {given!r}"
    if kind == "string_pattern_mismatch":
        return f"must match {context['pattern']}, got {given!r}"
    if kind == "missing":
        return "is needed"
    if kind == "value_error":
        return str(context["error"])
    return str(item["msg"]) if kind == "component" else f"{item['msg']}, got {given!r}"


def _number(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _suggestion(path: list[str], root: type[BaseModel]) -> str:
    """Suggest a key of the same section, else the section where that very key lives."""
    section = root
    for part in path[:-1]:
        inner = _section(section.model_fields.get(part))
        if inner is None:
            return ""
        section = inner
    near = did_you_mean(path[-1], section.model_fields)
    if near:
        return near
    for name, info in root.model_fields.items():
        inner = _section(info)
        if inner is not None and path[-1] in inner.model_fields:
            return f" Did you mean '{name}.{path[-1]}'?"
    return f" Known keys: {', '.join(section.model_fields)}"


def _section(info: FieldInfo | None) -> type[BaseModel] | None:
    if info is None:
        return None
    candidates = (info.annotation, *get_args(info.annotation))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def flat_differences(
    old: Mapping[str, Any], new: Mapping[str, Any], ignore: Collection[str] = (), prefix: str = ""
) -> dict[str, tuple[Any, Any]]:
    """Return the dotted keys whose values differ, with both values.

    Example:
        >>> flat_differences({"a": {"b": 1}}, {"a": {"b": 2}})
        {'a.b': (1, 2)}
    """
    found: dict[str, tuple[Any, Any]] = {}
    for key in dict.fromkeys([*old, *new]):
        path, before, after = prefix + key, old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found |= flat_differences(before, after, ignore, path + ".")
        elif before != after and path not in ignore:
            found[path] = (before, after)
    return found
