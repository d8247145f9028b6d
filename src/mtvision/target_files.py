"""Writing a file that takes its place only when it is whole."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mtvision.errors import ConfigError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to, which takes the place of another one if all goes well, and else leaves nothing.

    Several processes may write the same file at once: it is that of the last, whole.

    Args:
        path: of the file; its folder is made where there is none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """Write a text beside a file and put it in its place: there is never half of it. Its folder is made if need be."""
    with replacing(path) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())  # else, after a loss of power, the new name may stand for an empty file


def checked_target(path: str | Path, argument: str) -> Path:
    """Return the path of a file that is to be written, before any work is done for it.

    Raises:
        ConfigError: if it is a folder, or its own folder cannot be made.
    """
    target = Path(path).expanduser()
    if target.is_dir():
        raise ConfigError(f"{argument}: {target} is a folder; expected the path of a file")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{argument}: {target} cannot be written ({error.strerror})") from None
    return target
