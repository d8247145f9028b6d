"""Parts of one's own, which a worker process must register before it can read the study."""

import importlib
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path

from mtvision.errors import ConfigError


def import_parts(names: Iterable[str], folder: Path) -> None:
    """Import Python files (``*.py``, relative to a folder) and modules, each once.

    Raises:
        ConfigError: if there is no such file or module, or it cannot be imported.
    """
    for name in names:
        try:
            if name.endswith(".py"):
                _import_file((folder / name).resolve())
            else:
                importlib.import_module(name)
        except Exception as error:
            raise ConfigError([f"imports: '{name}' cannot be imported ({type(error).__name__}: {error})"]) from error


def _import_file(path: Path) -> None:
    if any(getattr(module, "__file__", None) == str(path) for module in list(sys.modules.values())):
        return  # registering its parts once more would be refused
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
