"""Small results of long passes over a data set, kept outside of its folder."""

import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")


def cache_file(kind: str, key: str) -> Path:
    """Return where a result is kept, in the `cache_root`.

    Args:
        kind: what the result is, for the name of the file.
        key: the data set's `fingerprint`.
    """
    return cache_root() / f"{kind}-{key}.json"


def cache_root() -> Path:
    """Return the folder ``$MTVISION_CACHE``, else ``$XDG_CACHE_HOME/mtvision``, else ``~/.cache/mtvision``."""
    own = os.environ.get("MTVISION_CACHE")
    if own:
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared).expanduser() if shared else Path.home() / ".cache") / "mtvision"


def read_cached(path: Path, parse: Callable[[Any], T]) -> T | None:
    """Return a result that was kept, None if there is none; one that cannot be used is logged.

    Args:
        path: of `cache_file`.
        parse: from the file's JSON to the result; raises a ValueError, TypeError or LookupError if it is damaged.
    """
    try:
        return parse(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, LookupError) as error:
        logger.warning("%s: cannot be used and is computed anew (%s)", path, error)
        return None


def write_cached(path: Path, content: Mapping[str, Any]) -> None:
    """Write beside and rename, so that no reader ever sees half a file; a folder that cannot be written is no error."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
            file.write(json.dumps(content))
        Path(file.name).replace(path)
    except OSError as error:
        logger.warning("%s: the statistics could not be cached (%s)", path, error)
