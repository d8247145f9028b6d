"""The runs of a comparison: read and checked before any of them is scored."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from mtvision.config import Config
from mtvision.config_errors import flat_differences
from mtvision.data.base import SampleDataset
from mtvision.data.loading.loader import build_dataset
from mtvision.errors import ConfigError
from mtvision.model import MultiTaskModel
from mtvision.training.checkpoint import find_saved, load_model
from mtvision.training.evaluate import SamplePredictor, Scored
from mtvision.training.run_folder import FREE_TO_CHANGE
from mtvision.types import Classes

_WHICH_DATA = ("dataset", "dataset_root", "exclude")


@dataclass(frozen=True)
class Entrant:
    """One run of a comparison; its network is only in memory while it is needed.

    Attributes:
        name: unlike all others.
        source: a model, a predictor, or the folder of a checkpoint.
        num_classes: of each task of the model; None for a task without classes.
        classes: names, None where they are not known.
        config: of a folder, as `Config.dump` gives it; None of a model.
    """

    name: str
    source: Scored
    num_classes: Mapping[str, int | None]
    classes: Classes | None
    config: Mapping[str, Any] | None

    def scored(self) -> MultiTaskModel | SamplePredictor:
        """Return the model or predictor; of a folder the best checkpoint, on the CPU."""
        return load_model(self.source) if isinstance(self.source, str | Path) else self.source


def read_entrants(
    runs: Mapping[str, Scored] | Sequence[Scored], names: Sequence[str] | None = None
) -> tuple[Entrant, ...]:
    """Return the runs under their names; each folder is tried.

    Args:
        runs: two or more; the names are those of the mapping, else ``names``, else those of the folders.
        names: one a run; only where ``runs`` is no mapping.

    Raises:
        ConfigError: if there are less than two runs, names are missing, given twice or equal, or two runs have not the
            same classes; the first difference is told.
        CheckpointError: if a folder holds no checkpoint that can be loaded.
    """
    several = isinstance(runs, Mapping | list | tuple)
    if not several or len(runs) < 2:
        number = str(len(runs)) if several else f"a {type(runs).__name__}"
        raise ConfigError([f"runs: expected two or more models or run folders in a list or a mapping, got {number}"])
    sources = list(runs.values()) if isinstance(runs, Mapping) else list(runs)
    for source in sources:
        if not isinstance(source, str | Path | MultiTaskModel | SamplePredictor):
            raise ConfigError([f"runs: expected models or run folders, got {type(source).__name__}"])
    if isinstance(runs, Mapping) and names is not None:
        raise ConfigError(["names: the mapping of runs has names already; give only one of the two"])
    chosen = list(runs) if isinstance(runs, Mapping) else _names(sources) if names is None else list(names)
    if len(chosen) != len(sources) or len(set(chosen)) != len(chosen):
        raise ConfigError([f"names: expected {len(sources)} different ones, one a run, got {', '.join(chosen)}"])
    entrants = tuple(_entrant(name, source) for name, source in zip(chosen, sources, strict=True))
    for other in entrants[1:]:
        _check_same_classes(entrants[0], other)
    return entrants


def _names(sources: Sequence[Scored]) -> list[str]:
    """Return the names of the folders, with as much of the path as tells them apart, and numbers for models."""
    ends = Counter(Path(source).name for source in sources if isinstance(source, str | Path))
    names: list[str] = []
    for place, source in enumerate(sources, start=1):
        name = f"model {place}"
        if isinstance(source, str | Path):
            name = Path(source).name if ends[Path(source).name] == 1 else str(source)
        names.append(name if name not in names else f"{name} ({place})")
    return names


def _entrant(name: str, source: Scored) -> Entrant:
    config = None
    if isinstance(source, str | Path):
        source, description = find_saved(source)
        config = description.config
    scored = load_model(source) if isinstance(source, str | Path) else source
    model = scored if isinstance(scored, MultiTaskModel) else scored.model
    sizes = {task: getattr(model.task(task), "num_classes", None) for task in model.tasks}
    return Entrant(name, source, sizes, model.classes, config)


def _check_same_classes(first: Entrant, other: Entrant) -> None:
    shared = [task for task in first.num_classes if task in other.num_classes]
    if not shared:
        tasks = [", ".join(entrant.num_classes) for entrant in (first, other)]
        raise ConfigError(
            [f"runs: '{first.name}' has the tasks {tasks[0]} and '{other.name}' {tasks[1]}: none in common"]
        )
    for task in shared:
        where = f"of task '{task}'"
        if first.classes is not None and other.classes is not None:
            pairs = zip_longest(first.classes.names(task), other.classes.names(task))
            for index, (one, two) in enumerate(pairs):
                if one != two:
                    raise ConfigError(
                        [f"runs: class {index} {where} is {one!r} in '{first.name}' but {two!r} in '{other.name}'"]
                    )
        sizes = first.num_classes[task], other.num_classes[task]
        if sizes[0] != sizes[1]:
            raise ConfigError([f"runs: '{first.name}' has {sizes[0]} classes {where}, '{other.name}' has {sizes[1]}"])


def shared_tasks(entrants: Sequence[Entrant]) -> tuple[str, ...]:
    """Return the tasks that all runs have, in the order of the first.

    Raises:
        ConfigError: if there is none.
    """
    shared = tuple(task for task in entrants[0].num_classes if all(task in other.num_classes for other in entrants))
    if not shared:
        raise ConfigError(["runs: there is no task that all of them have"])
    return shared


def shared_data(entrants: Sequence[Entrant], split: str) -> SampleDataset:
    """Return the data that the runs were trained to predict: a split of the first one's data set.

    Raises:
        ConfigError: if the first run is a model, whose data is not known, or another run has other data.
        DataError: as `build_dataset` does.
    """
    first = entrants[0]
    if first.config is None:
        raise ConfigError([f"data: '{first.name}' is a model, whose data is not known; give the data set"])
    own = first.config["data"]
    for other in entrants[1:]:
        for key in _WHICH_DATA:
            theirs = own if other.config is None else other.config["data"]
            if own.get(key) != theirs.get(key):
                raise ConfigError(
                    [
                        f"data.{key} is {own.get(key)!r} in '{first.name}' but {theirs.get(key)!r} in '{other.name}'; "
                        "give the data set on which they are to be compared"
                    ]
                )
    return build_dataset(Config(data=own), split)


def config_differences(entrants: Sequence[Entrant]) -> dict[str, dict[str, Any]]:
    """Return the dotted keys whose values differ between the runs, and the value in each run.

    Keys that do not change what a run computes (such as ``system.device``) are left out, and so are runs that are
    models: their configs are not known.
    """
    known = {entrant.name: entrant.config for entrant in entrants if entrant.config is not None}
    first = next(iter(known.values()), {})
    keys = [key for config in known.values() for key in flat_differences(first, config, ignore=FREE_TO_CHANGE)]
    return {key: {name: _at(config, key) for name, config in known.items()} for key in dict.fromkeys(keys)}


def _at(config: Any, key: str) -> Any:
    """Return the value of a dotted key, None where there is none."""
    for part in key.split("."):
        config = config.get(part) if isinstance(config, Mapping) else None
    return config
