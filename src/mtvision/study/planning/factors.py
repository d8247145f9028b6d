"""Factors: what a study changes, and the levels that each can take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtvision.config import Config
from mtvision.errors import ConfigError

# Names of columns in the tables of runs and of findings: a factor of such a name would be written over.
_COLUMNS = (
    *("run", "config", "seed", "state", "score", "loss", "best_epoch", "epochs", "seconds", "seconds_per_epoch"),
    *("error", "parameters", "multiply_adds", "n", "mean", "low", "high", "runs", "sentence", "best", "configuration"),
    *("selected", "fresh", "held_out", "spread", "level", "factor", "base", "effect"),
)
_ELSEWHERE = "says where a run goes, not what it computes"
_NO_FACTORS = {
    "system.seed": "is no factor; give the seeds as seeds=[...]",
    "system.run_dir": _ELSEWHERE,
    "system.progress": _ELSEWHERE,
    "system.trackers": _ELSEWHERE,
    "system.checkpoint_steps": _ELSEWHERE,
}


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

    @property
    def base_first(self) -> tuple[str, ...]:
        """Labels of the levels, that of the base level first."""
        base = self.labels[self.base]
        return (base, *(label for label in self.labels if label != base))


def read_factors(base: Config, given: Mapping[str, Any]) -> tuple[Factor, ...]:
    """Read factors and check every level against the base config.

    Args:
        base: config that the levels change.
        given: by dotted key a list of values (components with options too); or by a free name a mapping of level labels
            to ``{dotted key: value}``, keys that move together; such levels may mean the same config, values of a list
            may not.

    Raises:
        ConfigError: with one sentence for each problem: no factor, fewer than two levels, one twice (in other words
            too: ``[1, 1.0]``), a key or a value that the config refuses, a key that two factors change (or one of them
            the whole and the other a part), a key that is no factor (seeds, where a run goes), a name that the tables
            need for a column (a free name with ``/`` too: so are results called).

    Example:
        >>> read_factors(Config(), {"model.activation": ["relu", "gelu"]})[0].labels
        ('relu', 'gelu')
    """
    if not isinstance(given, Mapping) or not given:
        raise ConfigError(["factors: expected a mapping of dotted config keys to lists of values, with at least one"])
    problems: list[str] = []
    factors: list[Factor] = []
    for name, levels in given.items():
        if name in _COLUMNS or (isinstance(levels, Mapping) and "/" in str(name)):
            problems.append(f"factors.{name}: the tables have a column of this name; choose another one")
        found = _levels(str(name), levels, problems)
        if found is not None:
            factors.append(Factor(str(name), found, _base_level(base, str(name), found, problems)))
            if not isinstance(levels, Mapping):
                problems += _same_configs(base, factors[-1])
    problems += [*_shared_keys(factors), *_refused_keys(factors)]
    if problems:
        raise ConfigError(problems)
    return tuple(factors)


def level_label(value: Any) -> str:
    """Return a value in one short line.

    Example:
        >>> level_label({"name": "focal", "gamma": 2.0}), level_label(None), level_label(True)
        ('focal(gamma=2.0)', 'null', 'true')
        >>> level_label([32, 64]), level_label(["cross_entropy", "dice"]), level_label({"lr": 0.1, "epochs": 5})
        ('32x64', 'cross_entropy+dice', 'lr=0.1, epochs=5')
    """
    if isinstance(value, Mapping) and value:
        options = ", ".join(f"{key}={_option(item)}" for key, item in value.items() if key != "name")
        if "name" not in value:
            return options
        return f"{value['name']}({options})" if options else str(value["name"])
    if isinstance(value, list | tuple):
        return ("x" if all(map(_is_number, value)) else "+").join(map(level_label, value))
    return {None: "null", True: "true", False: "false"}.get(value, str(value)) if _is_plain(value) else str(value)


def _option(value: Any) -> str:
    """Return the label of a value inside a mapping: brackets show where an inner mapping ends."""
    inner = isinstance(value, Mapping) and value and "name" not in value
    return f"({level_label(value)})" if inner else level_label(value)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


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


def _same_configs(base: Config, factor: Factor) -> list[str]:
    """Return a sentence for each level that means the config of one before it; levels that are refused mean none."""
    before: list[tuple[str, Config]] = []
    problems = []
    for level in factor.levels:
        try:
            changed = base.replace(level.changes)
        except ConfigError:
            continue
        same = next((label for label, config in before if config == changed), None)
        if same is None:
            before.append((level.label, changed))
        else:
            problems.append(f"factors.{factor.name}: levels '{same}' and '{level.label}' are the same config")
    return problems


def _shared_keys(factors: Sequence[Factor]) -> list[str]:
    owner: dict[str, str] = {}
    problems = []
    for factor in factors:
        keys = sorted({key for level in factor.levels for key in level.changes})
        for key in keys:
            shared = next((other for other in owner if _overlap(key, other)), None)
            if shared is not None:
                problems.append(f"factors.{factor.name}: '{key}' is changed by factor '{owner[shared]}' too")
        owner.update({key: factor.name for key in keys if key not in owner})
    return problems


def _overlap(key: str, other: str) -> bool:
    """Return whether two dotted keys are equal, or one is a part of the other."""
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")


def _refused_keys(factors: Sequence[Factor]) -> list[str]:
    problems = []
    for factor in factors:
        keys = {key for level in factor.levels for key in level.changes}
        whole = [level.changes["system"] for level in factor.levels if isinstance(level.changes.get("system"), Mapping)]
        keys |= {f"system.{key}" for section in whole for key in section}
        problems += [f"factors.{factor.name}: '{key}' {text}" for key, text in _NO_FACTORS.items() if key in keys]
    return problems
