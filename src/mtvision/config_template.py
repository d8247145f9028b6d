"""A config to begin with: YAML in which every key is explained, and the schema that editors check it by."""

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mtvision.config import Config
from mtvision.config_fields import component_registry
from mtvision.describe import type_text
from mtvision.errors import ConfigError
from mtvision.target_files import replace_text

MAIN_KEYS = (
    "system.epochs",
    "system.device",
    "system.seed",
    "model.backbone",
    "model.segmentation_head",
    "model.detection_head",
    "model.pretrained",
    "training.lr",
    "training.batch_size",
    "training.weight_decay",
    "training.loss_weights",
    "training.seg_loss",
    "training.det_loss",
    "data.dataset",
    "data.dataset_root",
    "data.image_size",
    "data.preprocessing",
    "data.augmentation_level",
)
"""What most runs choose: the keys of a minimal template."""

_WIDTH = 110
_HEAD = """\
# yaml-language-server: $schema={schema}
# A key that is left out has its default, which is what stands here. A choice is a name, or a name with its options:
#   seg_loss: {{name: focal, gamma: 1.5}}
# What there is: mtvision list. Its options: mtvision describe segmentation_losses focal
"""
_WORDS = {"None": "null", "str": "text", "dict": "mapping", "tuple": "list", "Path": "path"}
"""What Python's words are in YAML."""


def init_config(path: str | Path = "config.yaml", *, full: bool = True, overwrite: bool = False) -> Path:
    """Write a config in which each key stands with its default, and what it means, takes and may be.

    Beside ``name.yaml`` stands ``name.schema.json``, by which editors complete and check it.

    Args:
        path: of the YAML file; its folder is made if it is missing.
        full: whether all keys are written, or only those that most runs choose.
        overwrite: whether files that are there are replaced.

    Returns:
        The path of the YAML file.

    Raises:
        ConfigError: if a file is there already, or cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Config.load(init_config(f"{folder}/run.yaml")) == Config()
        True
    """
    target = Path(path).expanduser()
    schema = target.with_suffix(".schema.json")
    for file in (target, schema):
        if file.exists() and not overwrite:
            raise ConfigError([f"{file}: is there already; choose another name, or overwrite it"])
    try:
        replace_text(schema, json.dumps(config_schema(), indent=1) + "\n")
        replace_text(target, config_template(full=full, schema=schema.name))
    except OSError as error:
        raise ConfigError([f"{target}: cannot be written ({error.strerror})"]) from None
    return target


def config_template(*, full: bool = True, schema: str = "config.schema.json") -> str:
    """Return the defaults as YAML with comments.

    Args:
        full: whether all keys are there, or only `MAIN_KEYS`.
        schema: where the JSON Schema stands, relative to the file.
    """
    lines = [_HEAD.format(schema=schema)]
    content = Config().dump()
    for name in Config.SECTIONS:
        section = _section_of(Config.model_fields[name])
        lines += _section_lines(name, section, content[name], None if full else MAIN_KEYS)
    return "\n".join(lines)


def config_schema() -> dict[str, Any]:
    """Return the JSON Schema of the config's file, with the parts that are registered now.

    Example:
        >>> config_schema()["$defs"]["SystemConfig"]["properties"]["epochs"]["default"]
        60
    """
    schema = Config.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    content = Config().dump()
    for name, info in Config.model_fields.items():
        _write_defaults(schema["$defs"], _section_of(info), content[name])
    return schema


def _write_defaults(definitions: dict[str, Any], section: type[BaseModel], values: Mapping[str, Any]) -> None:
    """Write the defaults as a file has them; pydantic's own are Python's objects."""
    properties = definitions[section.__name__]["properties"]
    for key, info in section.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            _write_defaults(definitions, info.annotation, values[key])
        else:
            properties[key]["default"] = values[key]


def _section_of(info: FieldInfo) -> type[BaseModel]:
    assert isinstance(info.annotation, type)
    assert issubclass(info.annotation, BaseModel)
    return info.annotation


def _section_lines(
    path: str, section: type[BaseModel], values: Mapping[str, Any], only: tuple[str, ...] | None
) -> Iterator[str]:
    """Yield the lines of a section, those of the sections within it too; each level is indented by two."""
    *outer, name = path.split(".")
    indent = "  " * len(outer)
    yield from _comment((section.__doc__ or "").split("\n")[0], indent)
    yield f"{indent}{name}:"
    for key, info in section.model_fields.items():
        inner = f"{path}.{key}"
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            if only is None:
                yield from _section_lines(inner, info.annotation, values[key], only)
        elif only is None or inner in only:
            yield from _comment(_explained(key, info), f"{indent}  ")
            yield f"{indent}  {key}: {_flow(values[key])}"
    yield from [] if outer else [""]


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def _explained(key: str, info: FieldInfo) -> str:
    """Return what a key means, what it takes, and the parts that there are."""
    meaning = info.description or key.replace("_", " ")
    registry = component_registry(info)
    if registry is None:
        return f"{meaning} ({_in_yaml(type_text(info.annotation, info.metadata))})"
    names = [*registry.own_names(), *(["..."] if registry.is_open else [])]
    return f"{meaning} ({registry.noun}: {', '.join(names)})"


def _in_yaml(types: str) -> str:
    """Return the words of a type as a person who writes YAML has them."""
    unquoted = types.replace("'", "").replace("bool", "true | false")
    return re.sub(r"\b(?:" + "|".join(_WORDS) + r")\b", lambda word: _WORDS[word[0]], unquoted)


def _flow(value: Any) -> str:
    """Return a value as YAML in one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False)
    return text.removesuffix("...\n").strip()


def default_text(key: str) -> str:
    """Return the default of a dotted key as it is typed behind ``key=``.

    Example:
        >>> default_text("training.lr"), default_text("model.neck")
        ('0.002', 'null')
    """
    value: Any = Config().dump()
    for name in key.split("."):
        value = value[name]
    return _flow(value)
