"""What a part's docstring and signature say of it, for people: summary, source, options."""

import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from dataclasses import fields as fields_of
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

_WIDTH = 100
_YEAR = r"(?<!\.)\b(?:19|20)\d\d[a-z]?\b(?!\.\d)"  # not the first half of an arXiv number
_PARENTHESES = re.compile(r"\s*\(([^()]*(?:\([^()]*\)[^()]*)*)\)")
_SECTION = re.compile(r"^(?:Args|Arguments|Keyword Args|Attributes):[ ]*\n((?:[ \t]+.*(?:\n|$)|\n)*)", re.MULTILINE)
_ENTRY = re.compile(r"(\w+(?:, \w+)*)(?: \([^()]*\))?:[ ]*(.*)")
_BULLET = re.compile(r"[*-]\s")
_BOUNDS = ("ge", "gt", "le", "lt", "multiple_of", "min_length", "max_length")


@dataclass(frozen=True)
class Description:
    """What a registry knows of one entry; printed, a block to read.

    Attributes:
        name: under which it is registered.
        summary: the first paragraph of its docstring, without the source at its end.
        source: the references in that paragraph's parentheses, or "mtvision"; empty where there are none.
        options: the default of each option; ``...`` where there is none, so that it must be given.
        types: what each option takes, in words: ``"float >= 0 | None"``.
        help: what the docstring's ``Args`` say of each option, empty where they say nothing; bullets on lines of
            their own.
        recipe: what goes with a detection head where the config does not choose otherwise; empty for other parts.

    Example:
        >>> from mtvision.registry import Registry
        >>> heads: Registry[int] = Registry("head")
        >>> @heads.register("mine")
        ... def mine(*, depth: int = 2) -> int:
        ...     '''A head (Somebody et al. 2020).
        ...
        ...     Args:
        ...         depth: of the tower.
        ...     '''
        ...     return depth
        >>> print(heads.describe("mine"))
        mine: A head.
        Source: Somebody et al. 2020
        Options:
          depth = 2  (int)
              of the tower.
    """

    name: str
    summary: str
    source: str
    options: Mapping[str, Any]
    types: Mapping[str, str]
    help: Mapping[str, str]
    recipe: Mapping[str, Any]

    def __str__(self) -> str:
        """Return name, summary, source and options, wrapped for a terminal."""
        lines = [textwrap.fill(f"{self.name}: {self.summary}", _WIDTH)]
        if self.source:
            lines.append(textwrap.fill(f"Source: {self.source}", _WIDTH))
        if self.recipe:
            parts = ", ".join(f"{key} {default_text(value)}" for key, value in self.recipe.items())
            lines.append(textwrap.fill(f"Recipe: {parts}", _WIDTH))
        lines.append("Options:" if self.options else "Options: none")
        for key, default in self.options.items():
            value = "required" if default is ... else f"= {default_text(default)}"
            lines.append(f"  {key} {value}  ({self.types[key]})")
            lines += [
                textwrap.fill(line, _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 8)
                for line in self.help[key].splitlines()
            ]
        return "\n".join(lines)


def default_text(value: Any) -> str:
    """Return a default as it is typed in Python; a component by its name."""
    return repr(value) if type(value).__module__ == "builtins" else str(value)


def describe_factory(name: str, factory: Callable[..., Any], options: type[BaseModel]) -> Description:
    """Describe a factory by its docstring and the model of its options; a class inherits what its bases say of them."""
    summary, source = summary_and_source(next(_docstrings(factory)))
    help_of = option_help(factory)
    fields = options.model_fields
    return Description(
        name,
        summary,
        source,
        options={key: ... if field.is_required() else field.default for key, field in fields.items()},
        types={key: type_text(field.annotation, field.metadata) for key, field in fields.items()},
        help={key: help_of.get(key, "") for key in fields},
        recipe=_recipe(factory),
    )


def _recipe(factory: Callable[..., Any]) -> dict[str, Any]:
    recipe = getattr(factory, "recipe", None)
    return {each.name: getattr(recipe, each.name) for each in fields_of(recipe)} if is_dataclass(recipe) else {}


def summary_and_source(docstring: str) -> tuple[str, str]:
    """Return a docstring's first paragraph without the references at its end, and all its references.

    A reference is a pair of parentheses with a year or an arXiv number in it; one that holds only "mtvision" says that
    there is none.

    Example:
        >>> summary_and_source("Sum of scores (Long et al. 2015, arXiv 1411.4038).")
        ('Sum of scores.', 'Long et al. 2015, arXiv 1411.4038')
    """
    paragraph = " ".join(re.split(r"\n\s*\n", docstring.strip())[0].split())
    references = [match for match in _PARENTHESES.finditer(paragraph) if _is_reference(match[1])]
    source = "; ".join(match[1] for match in references)
    for match in reversed(references):
        if paragraph[match.end() :].strip(" .") == "":
            paragraph = paragraph[: match.start()] + paragraph[match.end() :]
    return paragraph, source


def _is_reference(text: str) -> bool:
    return text == "mtvision" or re.search(rf"arXiv[ :]\d{{4}}\.\d|[A-Z].*{_YEAR}", text) is not None


def option_help(factory: Callable[..., Any]) -> dict[str, str]:
    """Return what the ``Args`` of a function, or of a class, its constructor and its bases, say of each parameter."""
    texts: dict[str, str] = {}
    for docstring in _docstrings(factory):
        for names, text in _entries(inspect.cleandoc(docstring)):
            for name in names:
                texts.setdefault(name, text)
    return texts


def _docstrings(factory: Callable[..., Any]) -> Iterator[str]:
    """Yield the docstrings in which a factory's parameters may be explained, the nearest first."""
    owners = inspect.getmro(factory) if inspect.isclass(factory) else [factory]
    for owner in owners:
        yield vars(owner).get("__doc__") or "" if inspect.isclass(owner) else owner.__doc__ or ""
        if inspect.isclass(owner) and "__init__" in vars(owner):
            yield vars(owner)["__init__"].__doc__ or ""


def _entries(docstring: str) -> Iterator[tuple[list[str], str]]:
    """Yield names and text of each entry of the sections that explain parameters."""
    for section in _SECTION.finditer(docstring):
        for chunk in re.split(r"^(?=\S)", textwrap.dedent(section[1]), flags=re.MULTILINE):
            entry = _ENTRY.match(chunk)
            if entry is not None:
                yield entry[1].split(", "), _flowing([entry[2] or "", *chunk[entry.end() :].splitlines()])


def _flowing(lines: Iterable[str]) -> str:
    """Join wrapped lines; only a bullet begins a new one."""
    joined: list[str] = []
    for line in map(str.strip, lines):
        if not joined or _BULLET.match(line):
            joined.append(line)
        elif line:
            joined[-1] = f"{joined[-1]} {line}".strip()
    return "\n".join(line for line in joined if line)


def type_text(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """Return in words what a type takes, with pydantic's bounds.

    Args:
        annotation: a type, also with `typing.Annotated` in it.
        metadata: what stands beside the type in an `Annotated` around it.

    Example:
        >>> from pydantic import Field
        >>> type_text(Annotated[float, Field(ge=0, lt=1)] | Literal["auto"] | None)
        "float in [0, 1) | 'auto' | None"
    """
    extras = list(_flat(metadata))
    component = next((item.registry.noun for item in extras if hasattr(item, "registry")), None)
    if component is not None:  # `config_fields.In`, which lies above this module
        return str(component)
    return _plain_type_text(annotation) + _bounds_text(extras)


def _plain_type_text(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_text(arguments[0], arguments[1:])
    if origin is Literal:
        return " | ".join(map(repr, arguments))
    if origin in (Union, UnionType):
        return " | ".join(map(type_text, arguments))
    if annotation is NoneType:
        return "None"
    if annotation is Ellipsis:
        return "..."
    if origin is not None and not isinstance(arguments[0], list):  # all but Callable[[...], ...]
        return f"{_class_name(origin)}[{', '.join(map(type_text, arguments))}]"
    return _class_name(origin or annotation)


def _class_name(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "{" + ", ".join(f"{key}: ..." for key in kind.model_fields) + "}"
    return str(getattr(kind, "__name__", kind))


def _flat(metadata: Iterable[Any]) -> Iterator[Any]:
    for item in metadata:
        if isinstance(item, FieldInfo):
            yield from _flat(item.metadata)
        else:
            yield item


def _bounds_text(extras: Iterable[Any]) -> str:
    """Return the bounds of a number or a length, with a leading space."""
    bounds = {key: value for item in extras for key in _BOUNDS if (value := getattr(item, key, None)) is not None}
    low, high = bounds.get("ge", bounds.get("gt")), bounds.get("le", bounds.get("lt"))
    text = ""
    if low is not None and high is not None:
        text = f" in {'[' if 'ge' in bounds else '('}{low}, {high}{']' if 'le' in bounds else ')'}"
    elif low is not None:
        text = f" {'>=' if 'ge' in bounds else '>'} {low}"
    elif high is not None:
        text = f" {'<=' if 'le' in bounds else '<'} {high}"
    text += f", a multiple of {bounds['multiple_of']}" if "multiple_of" in bounds else ""
    text += f" of length >= {bounds['min_length']}" if bounds.get("min_length") else ""
    return text + (f" of length <= {bounds['max_length']}" if "max_length" in bounds else "")
