"""Factors: what a study changes, and the levels that each can take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtvision.config import Config
from mtvision.errors import ConfigError

_COLUMNS = ("run", "config", "seed", "state", "score", "loss", "best_epoch", "epochs", "seconds", "error")


@dataclass(frozen=True)
class Level:
    """One value of a factor.

    Attributes:
        label: short and unique within its factor, e.g. ``gelu`` or ``focal(gamma=2.0)``.
        changes: dotted config keys and the values they take.
    """

    label: str
    changes: Mapping[str, Any]


@dataclass(frozen=True)
class Factor:
    """Something that a study changes.

    Attributes:
        name: the dotted key, or the name of several keys that move as one.
        levels: at least two.
        base: which of them is the base config's, or the first where that has another value.
    """

    name: str
    levels: tuple[Level, ...]
    base: int = 0

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the levels."""
        return tuple(level.label for level in self.levels)


def read_factors(base: Config, given: Mapping[str, Any]) -> tuple[Factor, ...]:
    """Read factors and check every level against the base config.

    Args:
        base: config that the levels change.
        given: by dotted key a list of values (components with options too); or by a free name a mapping of level labels
            to ``{dotted key: value}``, keys that move together.

    Raises:
        ConfigError: with one sentence for each problem: no factor, fewer than two levels, one twice, a key or a value
            that the config refuses, a key that two factors change.

    Example:
        >>> read_factors(Config(), {"model.activation": ["relu", "gelu"]})[0].labels
        ('relu', 'gelu')
    """
    if not isinstance(given, Mapping) or not given:
        raise ConfigError(["factors: expected a mapping of dotted config keys to lists of values, with at least one"])
    problems: list[str] = []
    factors: list[Factor] = []
    for name, levels in given.items():
        if name in _COLUMNS:
            problems.append(f"factors.{name}: the tables have a column of this name; choose another one")
        found = _levels(str(name), levels, problems)
        if found is not None:
            factors.append(Factor(str(name), found, _base_level(base, str(name), found, problems)))
    problems += _shared_keys(factors)
    if problems:
        raise ConfigError(problems)
    return tuple(factors)


def level_label(value: Any) -> str:
    """Return a value in one short line.

    Example:
        >>> level_label({"name": "focal", "gamma": 2.0}), level_label(None), level_label(True)
        ('focal(gamma=2.0)', 'null', 'true')
    """
    if isinstance(value, Mapping) and "name" in value:
        options = ", ".join(f"{key}={level_label(item)}" for key, item in value.items() if key != "name")
        return f"{value['name']}({options})" if options else str(value["name"])
    if isinstance(value, list | tuple):
        return "+".join(map(level_label, value))
    return {None: "null", True: "true", False: "false"}.get(value, str(value)) if _is_plain(value) else str(value)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _levels(name: str, given: Any, problems: list[str]) -> tuple[Level, ...] | None:
    if isinstance(given, Mapping) and given and all(isinstance(changes, Mapping) for changes in given.values()):
        levels = tuple(Level(str(label), dict(changes)) for label, changes in given.items())
    elif isinstance(given, Sequence) and not isinstance(given, str):
        levels = tuple(Level(level_label(value), {name: value}) for value in given)
    else:
        problems.append(
            f"factors.{name}: expected a list of values, or a mapping of level names to {{dotted key: value}}"
        )
        return None
    labels = [level.label for level in levels]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        problems.append(f"factors.{name}: level '{twice[0]}' is given twice")
    if len(set(labels)) < 2:
        problems.append(f"factors.{name}: a factor needs at least two levels, got {len(set(labels))}")
    return levels if not twice and len(levels) > 1 else None


def _base_level(base: Config, name: str, levels: Sequence[Level], problems: list[str]) -> int:
    """Return which level the base config has, 0 if none; note the levels that it refuses."""
    found = 0
    for number, level in reversed(list(enumerate(levels))):
        try:
            changed = base.replace(level.changes)
        except ConfigError as error:
            problems += [f"factors.{name}, level '{level.label}': {problem}" for problem in error.problems]
            continue
        if changed == base:
            found = number
    return found


def _shared_keys(factors: Sequence[Factor]) -> list[str]:
    owner: dict[str, str] = {}
    problems = []
    for factor in factors:
        for key in sorted({key for level in factor.levels for key in level.changes}):
            if key in owner:
                problems.append(f"factors.{factor.name}: '{key}' is changed by factor '{owner[key]}' too")
            owner.setdefault(key, factor.name)
            if key == "system.seed":
                problems.append(f"factors.{factor.name}: 'system.seed' is no factor; give the seeds as seeds=[...]")
    return problems
