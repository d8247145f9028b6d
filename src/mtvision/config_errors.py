"""From pydantic's errors to sentences for a person: dotted path, what is wrong, the nearest valid spelling."""

import difflib
import re
from collections.abc import Collection, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError

from mtvision.errors import did_you_mean

# How pydantic writes the steps of a path that are no keys: the members of a union, its own functions.
_UNION_MEMBER = re.compile(r"\[|^(bool|int|float|str|constrained-\w+)$")

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
    sentences: list[str] = []
    for item in error.errors():
        unknown = item["type"] == "extra_forbidden"
        path = [str(part) for part in item["loc"] if unknown or not _UNION_MEMBER.search(str(part))]
        text = "unknown key." + _suggestion(path, root) if unknown else error_sentence(item)
        sentence = f"{'.'.join(path)}: {text}" if path else text
        joined = _either(sentences[-1], sentence) if sentences else None
        sentences[len(sentences) - (joined is not None) :] = [joined or sentence]
    return list(dict.fromkeys(sentences))


def _either(before: str, sentence: str) -> str | None:
    """Join what two members of a union say of one value; None: the sentences are not of that kind."""
    start, end = f"{sentence.partition(': must be ')[0]}: must be ", sentence[sentence.rfind(", got ") :]
    if not (before.startswith(start) and before.endswith(end) and sentence.startswith(start)):
        return None
    if before == sentence:
        return sentence
    other = sentence.removeprefix(start).removeprefix("one of ").removesuffix(end)
    return f"{before.removesuffix(end)} or {other}{end}"


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


def problem(path: tuple[str | int, ...], sentence: str, given: Any = None) -> InitErrorDetails:
    """Return a problem in pydantic's form, to be raised with others."""
    return InitErrorDetails(type=sentence_error(sentence), loc=path, input=given)


def sentence_error(sentence: str) -> PydanticCustomError:
    """Return what a validator raises to say a sentence of its own."""
    return PydanticCustomError("component", "{message}", {"message": sentence})


def error_details(error: ValidationError) -> list[InitErrorDetails]:
    """Return the problems of an error in the form in which they can be raised again, together with others."""
    return [
        InitErrorDetails(type=item["type"], loc=item["loc"], input=item["input"])
        if item["type"] == "extra_forbidden"  # its sentence needs the whole path
        else problem(item["loc"], error_sentence(item), item["input"])
        for item in error.errors()
    ]


def _number(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _suggestion(path: list[str], root: type[BaseModel]) -> str:
    """Suggest a key of the same section, else of another one."""
    section = root
    for part in path[:-1]:
        inner = _section(section.model_fields.get(part))
        if inner is None:
            return ""
        section = inner
    known = f" Known keys: {', '.join(section.model_fields)}"
    return did_you_mean(path[-1], section.model_fields) or _elsewhere(path[-1], root, exact=len(path) > 1) or known


def _elsewhere(key: str, root: type[BaseModel], exact: bool) -> str:
    """Suggest a key of any section: the very same, or (for a key outside all sections) one that is spelled alike."""
    paths = {
        inner_key: f"{name}.{inner_key}"
        for name, info in root.model_fields.items()
        for inner_key in getattr(_section(info), "model_fields", {})
    }
    nearest = [key] if key in paths else difflib.get_close_matches(key, [] if exact else list(paths), n=1)
    return f" Did you mean '{paths[nearest[0]]}'?" if nearest else ""


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
