"""Field types of the config, and its YAML dialect."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic_core import CoreSchema, core_schema

from mtvision.config_errors import error_sentence, problem, sentence_error
from mtvision.errors import ConfigError, RegistryError, did_you_mean
from mtvision.registry import Component, Registry


class In:
    """Annotation of a config field: a component of one registry, written ``name`` or ``{name: ..., option: ...}``."""

    def __init__(self, registry: Registry[Any]) -> None:
        self.registry = registry

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate by the registry, dump to what was written."""
        return core_schema.no_info_plain_validator_function(
            self.validate, serialization=core_schema.plain_serializer_function_ser_schema(_plain)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Describe both spellings, for editors."""
        named = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
        return {"anyOf": [{"type": "string"}, named], "description": f"a {self.registry.noun}"}

    def validate(self, value: Any) -> Component:
        """Return the component with its options checked and converted.

        Raises:
            PydanticCustomError: if the name is unknown or the value has no component's form.
            ValidationError: for each wrong option.
        """
        component = _read(value, self.registry.noun)
        try:
            options = self.registry.check_options(component)
        except RegistryError as error:
            raise sentence_error(str(error)) from None
        except ValidationError as error:
            raise self._option_errors(component, error) from None
        return Component(component.name, options)

    def _option_errors(self, component: Component, error: ValidationError) -> ValidationError:
        names = self.registry.option_names(component.name)
        who = f"{self.registry.noun} '{component.name}'"
        details = []
        for item in error.errors():
            message = error_sentence(item)
            if item["type"] == "extra_forbidden":
                option = str(item["loc"][-1])
                listing = f" Its options: {', '.join(names)}" if names else " It has no options"
                message = f"{who} has no option '{option}'." + (did_you_mean(option, names) or listing)
            details.append(problem(item["loc"], message, item["input"]))
        return ValidationError.from_exception_data(who, details)


def _read(value: Any, noun: str) -> Component:
    if isinstance(value, Component):
        return value
    if isinstance(value, str):
        return Component(value)
    if isinstance(value, Mapping) and isinstance(value.get("name"), str):
        return Component(value["name"], {str(key): item for key, item in value.items() if key != "name"})
    raise sentence_error(f"must be the name of a {noun} or a mapping with 'name' and its options, got {value!r}")


def _plain(component: Component | None) -> Any:
    if component is None or not component.options:
        return component and component.name
    return {"name": component.name, **{key: _plain_value(item) for key, item in component.options.items()}}


def _plain_value(value: Any) -> Any:
    if isinstance(value, Component):
        return _plain(value)
    if isinstance(value, Mapping):
        return {key: _plain_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_value(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _read_image_size(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return (value, value)
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise sentence_error(f"must be one number or [height, width], got {value!r}")
    return tuple(value)


LenientPath = Annotated[Path, Field(strict=False)]
ImageSize = Annotated[
    tuple[Annotated[int, Field(ge=16)], Annotated[int, Field(ge=16)]],
    BeforeValidator(_read_image_size),
    Field(description="one number for a square, or [height, width], in pixels"),
]


class _Loader(yaml.SafeLoader):
    """The safe loader, with 1e-3 read as a number as in YAML 1.2 and refusing a key that is written twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((key for i, key in enumerate(keys) if key in keys[:i]), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"the key '{twice}' is written twice", node.start_mark)
        return super().construct_mapping(node, deep=deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def parse_yaml(source: Path | str) -> Any:
    """Return the mapping in a YAML file (a `Path`) or any value in a text, by the safe loader.

    Raises:
        ConfigError: if the file is missing, is not YAML or holds no mapping.
    """
    try:
        text = source.read_text(encoding="utf-8") if isinstance(source, Path) else source
        content = yaml.load(text, Loader=_Loader)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError([f"{source}: cannot be read ({reason})"]) from None
    except yaml.YAMLError as error:
        raise ConfigError([f"{source}: not valid YAML: {' '.join(str(error).split())}"]) from None
    if isinstance(source, Path) and not isinstance(content, dict):
        raise ConfigError([f"{source}: expected a mapping with the sections system, model, training and data"])
    return content


def write_yaml(content: Mapping[str, Any], path: Path) -> None:
    """Write plain values as YAML in the order given."""
    replace_text(path, yaml.safe_dump(dict(content), sort_keys=False))


def replace_text(path: Path, text: str) -> None:
    """Write a text beside a file and put it in its place: there is never half of it."""
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)
