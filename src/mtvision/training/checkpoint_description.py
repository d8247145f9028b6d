"""What weights on a disk belong to, as JSON: config, class names, numbers, versions."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from mtvision.config import Config
from mtvision.errors import CheckpointError
from mtvision.model import MultiTaskModel
from mtvision.target_files import replace_text
from mtvision.training.history import with_nan, without_nan
from mtvision.types import STANDARD_TASKS, Classes

FORMAT = 2
DESCRIPTION = "checkpoint.json"
PRETRAINED = "config.json"
_PACKAGES = ("mtvision", "torch", "torchvision", "timm", "albumentations", "torchmetrics", "accelerate")

_Read = TypeVar("_Read", "Description", "Pretrained")


@dataclass(frozen=True)
class Description:
    """What a checkpoint belongs to.

    Attributes:
        config: as `Config.dump` gives it.
        classes: names by task, None if the data set had none.
        epoch: number of epochs done.
        metrics: of the validation after that epoch; empty before the first.
        step: batches done in the epoch after those.
        data: fingerprint of the training images, None where the data set has none.
        versions: of the packages that wrote it.
    """

    config: dict[str, Any]
    classes: dict[str, list[str]] | None
    epoch: int
    metrics: dict[str, float]
    step: int = 0
    data: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT


@dataclass(frozen=True)
class Pretrained:
    """What a folder of `MultiTaskModel.save_pretrained` holds beside the weights.

    Attributes:
        config: as `Config.dump` gives it.
        classes: names by task, None if the model has none.
        metrics: that the weights reached; empty where nobody said so.
        per_class: tables by metric and class name.
        versions: of the packages that wrote it.
    """

    config: dict[str, Any]
    classes: dict[str, list[str]] | None
    metrics: dict[str, float] = field(default_factory=dict)
    per_class: dict[str, dict[str, float]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT


def versions() -> dict[str, str]:
    """Return the versions of the packages that a result depends on."""
    return {name: _version(name) for name in _PACKAGES}


@cache  # to look one up reads files, and each checkpoint wants all of them
def _version(package: str) -> str:
    """Return the version of an installed package, "unknown" for one that is run from its source tree."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def json_text(content: Mapping[str, Any]) -> str:
    """Return plain values as indented JSON, NaN as null."""
    return json.dumps(without_nan(content), indent=2) + "\n"


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `json_text`; there is never half of it."""
    replace_text(path, json_text(content))


def describe_run(model: MultiTaskModel, config: Config, **values: Any) -> Description:
    """Return the description of a checkpoint of a model; ``values`` are its further attributes."""
    return Description(config.dump(), class_names(model.classes), versions=versions(), **values)


def class_names(classes: Classes | None) -> dict[str, list[str]] | None:
    """Return the names by task as plain values, None where there are none."""
    if classes is None:
        return None
    return {task: list(classes.names(task)) for task in (*STANDARD_TASKS, *classes.others)}


def read_description(folder: Path) -> Description:
    """Read what a checkpoint belongs to.

    Raises:
        CheckpointError: if the file is damaged or from a newer format.
    """
    return _read(folder / DESCRIPTION, Description)


def read_pretrained(folder: Path) -> Pretrained:
    """Read what `MultiTaskModel.save_pretrained` wrote beside the weights.

    Raises:
        CheckpointError: if the file is missing, damaged, another program's or from a newer format.
    """
    return _read(folder / PRETRAINED, Pretrained)


def _read(path: Path, kind: type[_Read]) -> _Read:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        content |= {key: with_nan(content[key]) for key in ("metrics", "per_class") if key in content}
        found = TypeAdapter(kind).validate_python(content)
    except (OSError, ValueError, TypeError, LookupError) as error:
        reason = "; ".join(str(error).splitlines()[:2])
        raise CheckpointError(f"{path}: not a checkpoint's description ({reason})") from None
    if found.format > FORMAT:
        raise CheckpointError(f"{path}: written by a newer mtvision (format {found.format}, this one reads {FORMAT})")
    return found
