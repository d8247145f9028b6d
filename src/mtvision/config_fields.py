"""Field types of the config."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    TypeAdapter,
    ValidationError,
)
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from mtvision.component_schema import component_schemas
from mtvision.config_errors import error_details, error_sentence, problem, sentence_error
from mtvision.errors import RegistryError, did_you_mean
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
        return {"anyOf": component_schemas(self.registry), "description": f"name of a {self.registry.noun}, or options"}

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


@dataclass(frozen=True)
class Term:
    """One term of a sum of components."""

    component: Component
    weight: float = 1.0

    def __str__(self) -> str:
        """Return the component, after its weight if that is not 1."""
        return str(self.component) if self.weight == 1 else f"{self.weight:g} * {self.component}"


_POSITIVE: TypeAdapter[float] = TypeAdapter(
    Annotated[float, Field(gt=0, allow_inf_nan=False)], config=ConfigDict(defer_build=True)
)


class TermOf(In):
    """Annotation of a `Term`: as a component of the registry, where ``weight`` (above 0, default 1) is the term's."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate by the registry, dump to what was written."""
        return core_schema.no_info_plain_validator_function(
            self.term, serialization=core_schema.plain_serializer_function_ser_schema(_plain_value)
        )

    def term(self, value: Any) -> Term:
        """Return the term with its options checked and converted.

        Raises:
            ValidationError: for each problem of the weight, the name and the options.
        """
        if isinstance(value, Term):
            return Term(self.validate(value.component), value.weight)
        given, weight = value, 1.0
        if isinstance(value, Mapping) and "name" in value:
            given = {key: item for key, item in value.items() if key != "weight"}
        details: list[InitErrorDetails] = []
        try:
            weight = _POSITIVE.validate_python(value.get("weight", 1.0) if isinstance(value, Mapping) else 1.0)
        except ValidationError as error:
            details += [problem(("weight",), error_sentence(item), item["input"]) for item in error.errors()]
        try:
            component = self.validate(given)
        except PydanticCustomError as error:
            details.append(problem((), error.message(), value))
        except ValidationError as error:
            details += error_details(error)
        if details:
            raise ValidationError.from_exception_data(self.registry.noun, details)
        return Term(component, weight)


class InSum(In):
    """Annotation of a field like `In` that takes a list too: the terms of the registry's ``sum``, each a `TermOf` it.

    A list ``[a, {name: b, weight: 0.5}]`` is the component ``sum`` with the option ``terms``, and is dumped as a list.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate by the registry, dump to what was written."""
        return core_schema.no_info_plain_validator_function(
            self.validate, serialization=core_schema.plain_serializer_function_ser_schema(_plain_sum)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Describe all three spellings, for editors."""
        one = super().__get_pydantic_json_schema__(schema, handler)
        weighted = component_schemas(self.registry, {"weight": {"type": "number", "exclusiveMinimum": 0, "default": 1}})
        terms = {"type": "array", "items": {"anyOf": weighted}, "minItems": 1}
        return {"anyOf": [*one["anyOf"], terms], "description": f"{one['description']}, or the terms of a sum of them"}

    def validate(self, value: Any) -> Component:
        """Return the component, for a list ``sum``, with all options checked and converted.

        Raises:
            PydanticCustomError: if the name is unknown or the value has no component's form.
            ValidationError: for each wrong option and each problem of a term.
        """
        if not isinstance(value, list | tuple):
            return super().validate(value)
        try:
            return super().validate(Component("sum", {"terms": list(value)}))
        except ValidationError as error:  # the list stands where ``terms`` would
            details = [problem(item["loc"][1:], error_sentence(item), item["input"]) for item in error.errors()]
            raise ValidationError.from_exception_data(error.title, details) from None


def component_registry(info: FieldInfo) -> Registry[Any] | None:
    """Return the registry of the components that a field takes, also in a list, a mapping or beside null."""
    return next(_registries((info.annotation, *info.metadata)), None)


def _registries(annotations: Iterable[Any]) -> Iterator[Registry[Any]]:
    for annotation in annotations:
        if isinstance(annotation, In):
            yield annotation.registry
        yield from _registries((*getattr(annotation, "__args__", ()), *getattr(annotation, "__metadata__", ())))


def at_least_one_term(terms: list[Term]) -> list[Term]:
    """Refuse an empty sum.

    Raises:
        PydanticCustomError: if there is no term.
    """
    if not terms:
        raise sentence_error("an empty list; a sum needs at least one term")
    return terms


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


def _plain_sum(component: Component) -> Any:
    return _plain_value(component.options["terms"]) if component.name == "sum" else _plain(component)


def _plain_value(value: Any) -> Any:
    if isinstance(value, Component):
        return _plain(value)
    if isinstance(value, Term):
        return _plain_term(value)
    if isinstance(value, Mapping):
        return {key: _plain_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_value(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _plain_term(term: Term) -> Any:
    plain = _plain(term.component)
    if term.weight == 1:
        return plain
    named = {"name": plain} if isinstance(plain, str) else plain
    return {"name": named["name"], "weight": term.weight, **named}


def _read_image_size(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return (value, value)
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise sentence_error(f"must be one number or [height, width], got {value!r}")
    return tuple(value)


LenientPath = Annotated[Path, Field(strict=False)]
_Side = Annotated[int, Field(ge=16)]
ImageSize = Annotated[
    tuple[_Side, _Side],
    BeforeValidator(_read_image_size, json_schema_input_type=_Side | tuple[_Side, _Side]),
    Field(description="one number for a square, or [height, width], in pixels"),
]


def _read_scales(value: Any) -> Any:
    """Return the smallest and the largest factor of a list."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise sentence_error(f"must be [smallest, largest], such as [0.75, 1.25], got {value!r}")
    if all(isinstance(item, int | float) for item in value) and value[0] > value[1]:
        raise sentence_error(f"must be [smallest, largest], got {value!r}")
    return tuple(float(item) if type(item) is int else item for item in value)


Scales = Annotated[
    tuple[Annotated[float, Field(ge=0.1, le=4)], Annotated[float, Field(ge=0.1, le=4)]], BeforeValidator(_read_scales)
]
