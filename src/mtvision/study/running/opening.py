"""Whether a folder or a database holds the study that is meant."""

from pathlib import Path
from typing import Any

from mtvision.config_errors import flat_differences
from mtvision.config_yaml import write_yaml
from mtvision.errors import ConfigError, did_you_mean
from mtvision.study.planning.designs import SearchDesign
from mtvision.study.running.claims import quiet
from mtvision.study.running.queue import Queue
from mtvision.study.running.storage import FILE, Storage
from mtvision.training.run_folder import FREE_TO_CHANGE

DEFINITION = "study.yaml"


def note_definition(queue: Queue, folder: Path) -> None:
    """Note the definition with the runs; refuse one that does not go with those that are there.

    Seeds, design and budget may grow, and so may the factors of a fixed design: runs that are there are recognised.

    Raises:
        ConfigError: with each difference.
    """
    new, old = queue.definition.dump(), queue.noted("definition")
    if old is not None:
        fixed = ("base", "objective", "factors") if isinstance(queue.design, SearchDesign) else ("base", "objective")
        free = [f"base.{key}" for key in FREE_TO_CHANGE]
        differences = flat_differences({key: old[key] for key in fixed}, {key: new[key] for key in fixed}, free)
        if differences:
            raise ConfigError(
                [
                    f"{folder}: holds a study with another {key}: {before!r} there, {now!r} now; choose another folder"
                    for key, (before, now) in differences.items()
                ]
            )
    if old != new:
        queue.note("definition", new)
    queue.definition.save(folder / DEFINITION)


def find_definition(folder: Path, storage: str | None, name: str | None) -> Path:
    """Return the file of a study's definition, fetched from the database where the folder has none.

    Raises:
        ConfigError: if there is no such study, or the folder's is on a database whose URL is not given.
    """
    path = folder / DEFINITION
    if storage is not None:
        write_yaml(_noted_definition(Storage(folder, storage), name or folder.resolve().name), path)
    if not path.is_file():
        raise ConfigError([f"{folder}: there is no study in it (no {DEFINITION})"])
    if storage is None and not (folder / FILE).is_file():
        raise ConfigError([f"{folder}: its results are in a database; give its URL as storage"])
    return path


def _noted_definition(storage: Storage, name: str) -> dict[str, Any]:
    """Return what a storage has of a study's definition.

    Raises:
        ConfigError: if it has no such study.
    """
    import optuna

    names = optuna.get_all_study_names(storage.optuna)
    if name not in names:
        known = f" There are: {', '.join(sorted(names))}" if names else " It has none"
        raise ConfigError([f"storage: no study '{name}' in it.{did_you_mean(name, names) or known}"])
    with quiet():
        noted: dict[str, Any] | None = optuna.load_study(study_name=name, storage=storage.optuna).user_attrs.get(
            "definition"
        )
    if noted is None:
        raise ConfigError([f"storage: '{name}' is a study of Optuna's, but none of mtvision's"])
    return noted
