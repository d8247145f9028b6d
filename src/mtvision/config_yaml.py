"""YAML files of configs and studies; by itself, since the YAML library is imported for them alone."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mtvision.errors import ConfigError
from mtvision.target_files import replace_text


class _Loader(yaml.SafeLoader):
    """The safe loader, with 1e-3 read as a number as in YAML 1.2 and refusing a key that is written twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping of a node; refuse a key that is written twice."""
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
    except (yaml.YAMLError, ValueError, AttributeError, RecursionError) as error:
        # The last three: of the loader, for a date or number that is none, and for brackets without end.
        raise ConfigError([f"{source}: not valid YAML: {' '.join(str(error).split())[:300]}"]) from None
    if isinstance(source, Path) and not isinstance(content, dict):
        raise ConfigError([f"{source}: expected a mapping with the sections system, model, training and data"])
    return content


def write_yaml(content: Mapping[str, Any], path: Path) -> None:
    """Write plain values as YAML in the order given."""
    replace_text(path, yaml.safe_dump(dict(content), sort_keys=False))
