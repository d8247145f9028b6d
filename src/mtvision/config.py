"""The typed config: four sections, every choice a component, every problem reported at once with its dotted path."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, ValidationError

from mtvision.config_errors import problem_sentences
from mtvision.config_sections import DataConfig, ModelConfig, Section, SystemConfig, TrainingConfig
from mtvision.errors import ConfigError


class Config(Section):
    """Everything that makes a run; ``Config(**mapping)``, `Config.load` and `as_config` read it.

    Raises:
        ConfigError: with one sentence for each problem: unknown keys, unknown names, wrong options, wrong values.

    Example:
        >>> Config(training={"lr": 0.01}).training.lr
        0.01
    """

    SECTIONS: ClassVar[tuple[str, ...]] = ("system", "model", "training", "data")

    system: SystemConfig = Field(default_factory=SystemConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    data: DataConfig = Field(default_factory=DataConfig)

    def __init__(self, /, **sections: Any) -> None:
        try:
            super().__init__(**sections)
        except ValidationError as error:
            raise ConfigError(problem_sentences(error, type(self))) from None

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> "Config":
        """Read a YAML file and apply ``dotted.key=value`` overrides (the value is read as YAML).

        Raises:
            ConfigError: if the file is missing or no mapping, or for any problem of its contents.
        """
        from mtvision.config_yaml import parse_yaml

        content = parse_yaml(Path(path).expanduser())
        for override in overrides:
            _apply_override(content, override)
        try:
            return as_config(content)
        except ConfigError as error:
            raise ConfigError(error.problems, source=str(path)) from None

    def dump(self) -> dict[str, Any]:
        """Return plain values, as YAML and JSON have them, from which ``Config(**...)`` makes an equal config."""
        return self.model_dump(mode="json")

    def save(self, path: str | Path) -> None:
        """Write `dump` as YAML."""
        from mtvision.config_yaml import write_yaml

        write_yaml(self.dump(), Path(path).expanduser())

    def replace(self, values: Mapping[str, Any]) -> "Config":
        """Return a config with some values changed, by dotted key.

        Example:
            >>> Config().replace({"training.lr": 0.1}).training.lr
            0.1
        """
        content = self.dump()
        for key, value in values.items():
            _set_dotted(content, key, value)
        return Config(**content)

    def override(self, overrides: Sequence[str]) -> "Config":
        """Return a config with ``dotted.key=value`` applied, as `load` does; the value is read as YAML.

        Raises:
            ConfigError: for any problem of a key or value.

        Example:
            >>> Config().override(["training.seg_loss=focal", "training.seg_loss.gamma=1"]).training.seg_loss
            Component(name='focal', options={'gamma': 1.0})
        """
        content = self.dump()
        for override in overrides:
            _apply_override(content, override)
        return Config(**content)


def as_config(value: "Config | Mapping[str, Any] | str | Path") -> Config:
    """Return a `Config` from a config, a mapping of sections, the ``model`` section alone, or a YAML file.

    Raises:
        ConfigError: if ``value`` is none of these, or for any problem of the contents.
    """
    if isinstance(value, Config):
        return value
    if isinstance(value, str | Path):
        return Config.load(value)
    if not isinstance(value, Mapping):
        raise ConfigError([f"a config is a Config, a mapping or the path of a YAML file, got {type(value).__name__}"])
    sections = {str(key): item for key, item in value.items()}
    if not set(sections) & set(Config.SECTIONS) and set(sections) & set(ModelConfig.model_fields):
        return Config(model=sections)
    return Config(**sections)


def _apply_override(content: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator:
        raise ConfigError([f"override '{override}': expected dotted.key=value, e.g. training.lr=0.01"])
    from mtvision.config_yaml import parse_yaml

    _set_dotted(content, key.strip(), parse_yaml(text))


def _set_dotted(content: dict[str, Any], key: str, value: Any) -> None:
    first, *rest = key.split(".")
    content[first] = _with_value(content.get(first), rest, value)


def _with_value(content: Any, path: Sequence[str], value: Any) -> Any:
    """Return a copy of ``content`` in which ``path`` leads to ``value``; a number in it counts entries of a list."""
    if not path:
        return value
    key, *rest = path
    if isinstance(content, list) and key.isdecimal() and int(key) < len(content):
        return [_with_value(item, rest, value) if place == int(key) else item for place, item in enumerate(content)]
    if isinstance(content, str):  # a bare component name that gets an option
        content = {"name": content}
    inner = dict(content) if isinstance(content, Mapping) else {}
    return {**inner, key: _with_value(inner.get(key), rest, value)}
