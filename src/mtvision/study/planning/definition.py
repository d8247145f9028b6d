"""What a study is: its base config, factors, design, seeds, objective and budget; from Python or from YAML."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator

from mtvision.config import Config, as_config
from mtvision.config_errors import problem_sentences
from mtvision.config_fields import In
from mtvision.config_sections import Count, Positive, Section
from mtvision.config_yaml import parse_yaml, write_yaml
from mtvision.errors import ConfigError, did_you_mean
from mtvision.registries import DESIGNS
from mtvision.registry import Component
from mtvision.study.planning.factors import Factor, read_factors
from mtvision.training.single_task import task_names

KEYS = ("base", "factors", "design", "seeds", "objective", "budget", "imports")
_OF_THE_LOSS = (
    "training.seg_loss",
    "training.det_loss",
    "training.det_class_loss",
    "training.loss_weights",
    "training.auxiliary_weight",
)
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Budget(Section):
    """What a study may cost; null: as much as it takes."""

    runs: Count | None = Field(default=None, description="a design with more runs is refused")
    hours: Positive | None = Field(
        default=None, description="no run begins once the finished ones took so long together"
    )


class _Settings(Section):
    """All of a definition but base and factors."""

    design: Annotated[Component, In(DESIGNS)] = Component("one_at_a_time")
    seeds: list[Seed] | None = None
    objective: str = "score"
    budget: Budget = Budget()
    imports: list[str] = Field(default=[])

    @field_validator("seeds", mode="before")
    @classmethod
    def _plain(cls, seeds: Any) -> Any:
        """Take any sequence, and NumPy's numbers; what is no number is told with the other problems."""
        if not isinstance(seeds, Iterable) or isinstance(seeds, str):
            return seeds
        return [seed.item() if hasattr(seed, "item") else seed for seed in seeds]

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: list[int] | None) -> list[int] | None:
        if seeds is not None and not seeds:
            raise ValueError("an empty list; give at least one seed")
        twice = sorted({seed for seed in seeds or () if (seeds or []).count(seed) > 1})
        if twice:
            raise ValueError(f"{twice[0]} is given twice; a run counts once")
        return seeds


@dataclass(frozen=True)
class Definition:
    """A study, checked.

    Attributes:
        base: config that the factors change.
        factors: what is changed.
        design: which combinations are run, a component of the registry `DESIGNS`.
        seeds: each combination is run once with each.
        objective: metric of a run's best epoch, ``score``, ``loss`` or e.g. ``det/map50``.
        budget: of the whole study.
        imports: Python files or modules with parts of one's own, which a worker imports first.
        given_factors: the factors as they were written.
    """

    base: Config
    factors: tuple[Factor, ...]
    design: Component
    seeds: tuple[int, ...]
    objective: str
    budget: Budget
    imports: tuple[str, ...]
    given_factors: Mapping[str, Any]

    def dump(self) -> dict[str, Any]:
        """Return plain values from which `read_definition` makes an equal definition."""
        settings = _Settings(
            design=self.design,
            seeds=list(self.seeds),
            objective=self.objective,
            budget=self.budget,
            imports=list(self.imports),
        )
        return {"base": self.base.dump(), "factors": _plain(self.given_factors), **settings.model_dump(mode="json")}

    def save(self, path: Path) -> None:
        """Write `dump` as YAML."""
        write_yaml(self.dump(), path)


def read_definition(content: Mapping[str, Any]) -> Definition:
    """Check a study's description.

    Args:
        content: the keys of `KEYS`, of which only ``factors`` is needed. ``base`` is what `as_config` accepts, a
            ``budget`` that is a number counts runs.

    Raises:
        ConfigError: with one sentence for each problem.
    """
    problems = [f"{key}: unknown key.{_suggestion(key)}" for key in content if key not in KEYS]
    given = {key: value for key, value in content.items() if key in KEYS}
    base = _base(given.pop("base", {}), problems)
    written = given.pop("factors", {})
    factors: tuple[Factor, ...] = ()
    if base is not None:
        try:
            factors = read_factors(base, written)
        except ConfigError as error:
            problems += error.problems
    if isinstance(given.get("budget"), int) and not isinstance(given["budget"], bool):
        given["budget"] = {"runs": given["budget"]}
    settings = _settings(given, problems)
    if base is not None and settings is not None:
        problems += _incomparable(base, factors, settings.objective)
    if problems or base is None or settings is None:
        raise ConfigError(problems)
    seeds = settings.seeds if settings.seeds is not None else [base.system.seed]
    return Definition(
        base,
        factors,
        settings.design,
        tuple(seeds),
        settings.objective,
        settings.budget,
        tuple(settings.imports),
        dict(written),
    )


def load_definition(path: Path) -> Definition:
    """Read a study from a YAML file; its ``base`` may be the path of a config beside it.

    Raises:
        ConfigError: if the file is missing, or for each problem of its contents.
    """
    content = parse_yaml(path)
    if isinstance(content.get("imports"), list):  # the folder of the study is another one
        content["imports"] = [_resolved(name, path.parent) for name in content["imports"]]
    if isinstance(content.get("base"), str):
        content["base"] = str(path.parent / content["base"])
    try:
        return read_definition(content)
    except ConfigError as error:
        raise ConfigError(error.problems, source=str(path)) from None


def _resolved(name: Any, folder: Path) -> Any:
    return str((folder / name).resolve()) if isinstance(name, str) and name.endswith(".py") else name


def _base(given: Any, problems: list[str]) -> Config | None:
    try:
        base = as_config(given)
    except ConfigError as error:
        problems += [
            f"base.{problem}" if problem.startswith(Config.SECTIONS) else f"base: {problem}"
            for problem in error.problems
        ]
        return None
    if base.training.batch_size == "auto":
        problems.append("base.training.batch_size: 'auto' may choose another size for each run; give a number")
    return base


def _settings(given: Mapping[str, Any], problems: list[str]) -> _Settings | None:
    try:
        return _Settings(**given)
    except ValidationError as error:
        problems += problem_sentences(error, _Settings)
        return None


def _incomparable(base: Config, factors: tuple[Factor, ...], objective: str) -> list[str]:
    """Return why an objective means something else at different levels of a factor."""
    problems = []
    for factor in factors:
        keys = {key for level in factor.levels for key in level.changes}
        if objective == "loss" and any(key.startswith(_OF_THE_LOSS) for key in keys):
            problems.append(
                f"objective: 'loss' is another quantity at each level of {factor.name}; choose a metric, e.g. score"
            )
        tasks = {tuple(task_names(base.replace(level.changes))) for level in factor.levels}
        if objective in ("score", "loss") and len(tasks) > 1:
            problems.append(
                f"objective: '{objective}' is of other tasks at each level of {factor.name}; choose a metric that all "
                "levels have, e.g. seg/miou"
            )
    return problems


def _suggestion(key: str) -> str:
    return did_you_mean(key, KEYS) or f" Known keys: {', '.join(KEYS)}"


def _plain(value: Any) -> Any:
    if isinstance(value, Component):
        return {"name": value.name, **_plain(value.options)} if value.options else value.name
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
