"""Registries: parts by name, with options that are checked against the part's own signature."""

import inspect
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Generic, NamedTuple, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, create_model
from torch import nn

from mtvision.describe import Description, describe_factory
from mtvision.errors import RegistryError, did_you_mean

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

PLUGIN_GROUP = "mtvision.plugins"
_NAMES_SHOWN = 12


@dataclass(frozen=True)
class Component:
    """A choice: the registered name of a part and its options."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return the name, followed by the options if there are any."""
        options = ", ".join(f"{key}={value!r}" for key, value in self.options.items())
        return f"{self.name}({options})" if options else self.name


class Catalogue(NamedTuple):
    """An outside source of names behind a registry; both functions are called only when a name is asked for."""

    find: Callable[[str], Callable[..., Any] | None]
    names: Callable[[], Iterable[str]]


class Registry(Generic[T]):
    """Factories of one role, by name.

    Args:
        noun: what an entry is, for messages: ``"segmentation head"``.
        parameters: the positional parameters that every factory of the role is called with.
        home: the module whose import registers the library's own entries: imported when the registry is first asked or
            somebody else registers, so that ``import mtvision`` need not load every part; "" for none.

    Example:
        >>> heads: Registry[str] = Registry("head", parameters=("channels",))
        >>> @heads.register("mine")
        ... def mine(channels, *, depth: int = 2):
        ...     return f"{channels} x {depth}"
        >>> heads.build(Component("mine", {"depth": 3}), 64)
        '64 x 3'
    """

    def __init__(self, noun: str, parameters: Sequence[str] = (), home: str = "") -> None:
        self.noun = noun
        self.parameters = tuple(parameters)
        self.home = home
        self._fallback: Catalogue | None = None
        self._factories: dict[str, Callable[..., T]] = {}
        self._modules: dict[str, types.ModuleType | None] = {}
        self._options_models: dict[str, type[BaseModel]] = {}

    def register(self, name: str) -> Callable[[F], F]:
        """Return a decorator that registers a class or function under ``name``.

        Raises:
            RegistryError: if the name is taken (the first owner is named), or if the factory's positional parameters
                are not those of the role, or if it takes ``**options``, which could not be checked.
        """

        def decorate(factory: F) -> F:
            """Register a factory, and return it as it is."""
            self._fill()
            module = sys.modules.get(factory.__module__)
            if name in self._factories and not self._is_left_behind(name, factory, module):
                owner = self._factories[name]
                raise RegistryError(
                    f"{self.noun} '{name}' is already registered by {owner.__module__}.{owner.__qualname__}"
                )
            self._check_signature(name, factory)
            self._factories[name], self._modules[name] = factory, module
            self._options_models.pop(name, None)
            return factory

        return decorate

    def set_fallback(self, catalogue: Catalogue) -> None:
        """Let an outside catalogue fill the role too, e.g. backbones by timm; registered names come first."""
        self._fill()
        self._fallback = catalogue

    def names(self, pattern: str = "*") -> list[str]:
        """Return the names that match a shell-style pattern, the library's own first, then the outside catalogue's."""
        found = [name for name in self.own_names() if fnmatchcase(name, pattern)]
        if self._fallback is not None:
            found += [name for name in self._fallback.names() if fnmatchcase(name, pattern) and name not in found]
        return found

    @property
    def is_open(self) -> bool:
        """Whether an outside catalogue has further names, as timm's for backbones."""
        self._fill()
        return self._fallback is not None

    def own_names(self) -> list[str]:
        """Return the names that were registered, without those of an outside catalogue."""
        self._fill()
        load_plugins()
        return sorted(self._factories)

    def __contains__(self, name: object) -> bool:
        """Tell whether ``name`` can be got."""
        return isinstance(name, str) and self._find(name) is not None

    def __iter__(self) -> Iterator[str]:
        """Iterate over ``names()``."""
        return iter(self.names())

    def get(self, name: str) -> Callable[..., T]:
        """Return the factory of ``name``.

        Raises:
            RegistryError: if there is none, with the nearest name and those available.
        """
        factory = self._find(name)
        if factory is None:
            raise RegistryError(self._unknown(name))
        return factory

    def build(self, choice: "str | Component", *args: Any) -> T:
        """Build an entry: its factory is called with ``args`` and the checked options.

        Raises:
            RegistryError: for an unknown name.
            pydantic.ValidationError: for an option that the factory does not have or a value that it does not take.
        """
        component = Component(choice) if isinstance(choice, str) else choice
        return self.get(component.name)(*args, **self.check_options(component))

    def check_options(self, component: Component) -> dict[str, Any]:
        """Return the options that were given, validated against the factory's keyword-only parameters."""
        options = self.options_model(component.name).model_validate(dict(component.options))
        return {key: getattr(options, key) for key in component.options}

    def options_model(self, name: str) -> type[BaseModel]:
        """Return the pydantic model of an entry's options: its keyword-only parameters, nothing else allowed."""
        if name not in self._options_models:
            self._options_models[name] = _options_model(name, self.get(name))
        return self._options_models[name]

    def option_names(self, name: str) -> tuple[str, ...]:
        """Return the names of an entry's options."""
        return tuple(self.options_model(name).model_fields)

    def describe(self, name: str) -> Description:
        """Return what an entry is, where it comes from and what its options take; print it to read it.

        Raises:
            RegistryError: for an unknown name.
        """
        return describe_factory(name, self.get(name), self.options_model(name))

    def _fill(self) -> None:
        """Import the home; within that import, whose parts register themselves, this does nothing."""
        if self.home:
            import_module(self.home)

    def _is_left_behind(self, name: str, factory: Callable[..., Any], module: types.ModuleType | None) -> bool:
        """Tell whether the owner of a name is of an import of the same module that was broken off, as by Ctrl-C."""
        is_of_same = self._factories[name].__module__ == factory.__module__
        return is_of_same and module is not None and self._modules.get(name) is not module

    def _find(self, name: str) -> Callable[..., T] | None:
        if name not in self._factories:
            self._fill()
        if name not in self._factories:
            load_plugins()
        if name in self._factories:
            return self._factories[name]
        return self._fallback.find(name) if self._fallback is not None else None

    def _unknown(self, name: str) -> str:
        names = self.names()
        shown = ", ".join(names[:_NAMES_SHOWN]) + (f", ... ({len(names)} in all)" if len(names) > _NAMES_SHOWN else "")
        return f"unknown {self.noun} '{name}'.{did_you_mean(name, names)} Available: {shown}"

    def _check_signature(self, name: str, factory: Callable[..., Any]) -> None:
        parameters = _parameters(factory)
        positional = [str(p) for p in parameters if p.kind not in (p.KEYWORD_ONLY, p.VAR_KEYWORD)]
        if len(positional) != len(self.parameters) or any(p.kind is p.VAR_POSITIONAL for p in parameters):
            raise RegistryError(
                f"{self.noun} '{name}' must take ({', '.join(self.parameters)}) and its options as keyword-only "
                f"parameters after '*', but it takes ({', '.join(positional)})"
            )
        if any(p.kind is p.VAR_KEYWORD for p in parameters):
            raise RegistryError(f"{self.noun} '{name}' must name its options: **options cannot be checked")


def _options_model(name: str, factory: Callable[..., Any]) -> type[BaseModel]:
    options = [p for p in _parameters(factory) if p.kind is p.KEYWORD_ONLY]
    hints = _resolved_annotations(name, factory, options)
    fields: dict[str, Any] = {p.name: (hints[p.name], ... if p.default is p.empty else p.default) for p in options}
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False, protected_namespaces=())
    return create_model(f"{name} options", __config__=config, **fields)


def _parameters(factory: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters of a factory; a module without a constructor of its own has none."""
    if inspect.isclass(factory) and factory.__init__ is nn.Module.__init__:
        return []
    return list(inspect.signature(factory).parameters.values())


def _resolved_annotations(
    name: str, factory: Callable[..., Any], options: Sequence[inspect.Parameter]
) -> dict[str, Any]:
    """Return the types of options, also where annotations are texts; other parameters' may stay unresolved."""
    holder = types.FunctionType((lambda: None).__code__, {})
    holder.__annotations__ = {p.name: Any if p.annotation is p.empty else p.annotation for p in options}
    target: Any = factory.__init__ if inspect.isclass(factory) else inspect.unwrap(factory)
    try:
        return get_type_hints(holder, globalns=getattr(target, "__globals__", {}), include_extras=True)
    except NameError as error:
        raise RegistryError(
            f"'{name}': the type of an option cannot be found ({error}); import it outside 'if TYPE_CHECKING'"
        ) from None


@cache
def load_plugins() -> None:
    """Import what installed packages declare under the entry-point group ``mtvision.plugins``, once."""
    for entry_point in entry_points(group=PLUGIN_GROUP):
        entry_point.load()
