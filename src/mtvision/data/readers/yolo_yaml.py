"""The YAML file of a data set in YOLO's layout; by itself, since the YAML library is imported for it alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mtvision.data.readers.file_set import read_lines
from mtvision.errors import DataError


class _Loader(yaml.SafeLoader):
    """The safe loader without merges: a few lines that merge each other's merges are a gigabyte when read."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Refuse merges."""
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise yaml.constructor.ConstructorError(None, None, "merging mappings by '<<' is refused", node.start_mark)


def read_yaml(file: Path) -> Mapping[Any, Any]:
    """Return the mapping in a data.yaml.

    Raises:
        DataError: if the file cannot be read, is not YAML or holds no mapping.
    """
    text = "\n".join(read_lines(file, "the YAML file"))
    try:
        content = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        raise DataError(f"{file}: malformed YAML ({' '.join(str(error).split())[:200]})") from None
    if not isinstance(content, Mapping):
        raise DataError(f"{file}: expected the keys train, val and names, got {type(content).__name__}")
    return content
