"""What parts there are, by role and name, for people who look for one."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import BaseModel

from mtvision import registries
from mtvision.config import Config
from mtvision.config_fields import component_registry
from mtvision.describe import Description
from mtvision.errors import ConfigError, choices_hint
from mtvision.registry import Registry


class Role(NamedTuple):
    """What a part can be used for.

    Attributes:
        name: as the registry is called, in small letters.
        registry: of the role.
        keys: of the config, dotted, in which a part of the role is chosen; empty where the config has none.
    """

    name: str
    registry: Registry[Any]
    keys: tuple[str, ...]


def component_roles() -> tuple[Role, ...]:
    """Return all roles.

    Example:
        >>> [role.keys for role in component_roles() if role.name == "optimizers"]
        [('training.optimizer',)]
    """
    chosen = list(_choices(Config, ""))
    return tuple(
        Role(role.lower(), registry, tuple(key for key, of_key in chosen if of_key is registry))
        for role, registry in vars(registries).items()
        if isinstance(registry, Registry)
    )


def list_components(role: str, pattern: str = "*") -> list[str]:
    """Return the names of a role's parts that match a shell-style pattern, mtvision's own first.

    Args:
        role: ``"segmentation_heads"``, or a key of the config in which such a part is chosen: ``"segmentation_head"``.
        pattern: with ``*``, ``?`` and ``[...]``.

    Raises:
        ConfigError: if there is no such role.

    Example:
        >>> list_components("detection_heads", "f*")
        ['fcos', 'fpn']
    """
    return find_role(role).registry.names(pattern)


def describe_component(role: str, name: str) -> Description:
    """Return what a part is, where it comes from and what its options take; ``print`` shows it.

    Args:
        role: as in `list_components`.
        name: of the part.

    Raises:
        ConfigError: if there is no such role.
        RegistryError: if it has no part of this name.

    Example:
        >>> print(describe_component("detection_heads", "fpn").summary)
        Light towers on a feature pyramid, anchor-free.
    """
    return find_role(role).registry.describe(name)


def find_role(name: str) -> Role:
    """Return the role that is called so, or that a key of the config chooses.

    Raises:
        ConfigError: if there is none; the nearest and all roles are told.
    """
    wanted, roles = name.lower().replace("-", "_"), component_roles()
    for role in roles:
        if wanted in (role.name, *role.keys, *(key.rpartition(".")[2] for key in role.keys)):
            return role
    raise ConfigError(f"role: there is no '{name}'{choices_hint(wanted, [role.name for role in roles])}")


def _choices(section: type[BaseModel], prefix: str) -> Iterator[tuple[str, Registry[Any]]]:
    """Yield the dotted keys of the config that choose a part, and the registry that the part is of."""
    for key, info in section.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from _choices(info.annotation, f"{prefix}{key}.")
        elif (registry := component_registry(info)) is not None:
            yield f"{prefix}{key}", registry
