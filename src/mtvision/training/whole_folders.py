"""Folders that are there whole or not at all: written beside their place, flushed to the disk, renamed.

A manifest holds a digest of each file. Whatever is cut off, and whenever, one whole folder stays: the new one, or the
one before it.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from mtvision.errors import CheckpointError

MANIFEST = "manifest.json"
_NEW, _PREVIOUS, _OLD = ".new", ".previous", ".old"


def write_folder(folder: Path, files: Mapping[str, bytes], *, keep_previous: bool = False) -> None:
    """Put a folder with these files in its place.

    Args:
        folder: its path; the one that is there is replaced.
        files: contents by name.
        keep_previous: whether the replaced folder stays, as ``<folder>.previous``.

    Raises:
        CheckpointError: if it cannot be written, e.g. because the disk is full; what was there stays whole.
    """
    new, previous, old = (_beside(folder, suffix) for suffix in (_NEW, _PREVIOUS, _OLD))
    keep_previous = _mended(folder, new) and keep_previous
    try:
        _remove(new)
        new.mkdir(parents=True)
        for name, content in files.items():
            write_synced(new / name, content)
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        write_synced(new / MANIFEST, json.dumps(digests).encode())
        sync_folder(new)
    except OSError as error:
        _remove(new)
        raise CheckpointError(
            f"{folder}: cannot be written ({error.strerror or error}); what was there before is whole. Mend that and "
            "start the same command again to go on from there"
        ) from error
    _remove(old)
    if folder.exists():
        if keep_previous and previous.exists():
            previous.rename(old)
        folder.rename(previous if keep_previous else old)
    new.rename(folder)
    sync_folder(folder.parent)
    _remove(old)


def _mended(folder: Path, new: Path) -> bool:
    """Put a new folder in its place where that was cut off; return whether the folder is worth keeping."""
    if is_whole(folder):
        return True
    if is_whole(new):
        _remove(folder)
        new.rename(folder)
        return True
    return False


def whole_folders(folder: Path) -> Iterator[Path]:
    """Yield the whole ones among a folder and what a cut-off writing leaves beside it, the newest first."""
    for suffix in ("", _NEW, _PREVIOUS, _OLD):
        candidate = _beside(folder, suffix)
        if is_whole(candidate):
            yield candidate


def is_whole(folder: Path) -> bool:
    """Tell whether a folder has all of its files, each with the content that it was written with."""
    try:
        digests = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return all(_digest(folder / name) == digest for name, digest in digests.items())
    except (OSError, ValueError, AttributeError):
        return False


def write_synced(path: Path, content: bytes) -> None:
    """Write a file and wait until the disk has it."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the disk has the names in a folder, where the system can say so."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows cannot open a folder
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _beside(folder: Path, suffix: str) -> Path:
    return folder.absolute().with_name(folder.absolute().name + suffix) if suffix else folder


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
