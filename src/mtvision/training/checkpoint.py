"""Checkpoints: a folder with weights as safetensors, what they belong to as JSON and, to go on from, the loop's state.

``model.safetensors`` and ``checkpoint.json`` suffice to load a model. ``state.pt`` is there only in ``last``, and so is
``training.safetensors`` where the model's weights are an average of those that are trained. A folder that
`MultiTaskModel.save_pretrained` wrote has ``config.json`` in place of ``checkpoint.json``.
"""

import io
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import TypeAdapter
from torch import Tensor

from mtvision.config import Config
from mtvision.config_fields import replace_text
from mtvision.description import all_from
from mtvision.errors import CheckpointError, ConfigError
from mtvision.factory import build_model
from mtvision.model import MultiTaskModel
from mtvision.training import sharding
from mtvision.training.history import with_nan, without_nan
from mtvision.training.whole_folders import MANIFEST, whole_folders, write_folder
from mtvision.types import STANDARD_TASKS, Classes

FORMAT = 2
_OF_LOOP = {"optimizer", "balancer", "scaler", "weights", "lr", "steps_done", "skipped", "skipped_in_row"}
STATE_KEYS = {"epoch", "step", "monitor", "metrics", "reason", "seconds", "history", "of_processes", *_OF_LOOP}
WEIGHTS, DESCRIPTION, STATE = "model.safetensors", "checkpoint.json", "state.pt"
PRETRAINED = "config.json"
TRAINING_WEIGHTS = "training.safetensors"
_PACKAGES = ("mtvision", "torch", "torchvision", "timm", "albumentations", "torchmetrics", "accelerate")

logger = logging.getLogger(__name__)

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


def save_checkpoint(
    folder: Path,
    description: Description,
    weights: Mapping[str, Tensor],
    state: Mapping[str, Any] | None = None,
    training_weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Put a checkpoint in its place: until it is whole and on the disk, the one before it stays.

    Args:
        folder: e.g. ``runs/a/checkpoints/last``; of one with a state the one before it is kept too.
        description: what it belongs to.
        weights: what `load_model` gives, e.g. ``model.state_dict()``.
        state: what the loop needs to go on: tensors, numbers, texts, lists and dicts.
        training_weights: those that go on being trained, where ``weights`` are an average of them.

    Raises:
        CheckpointError: if it cannot be written.
    """
    files = {DESCRIPTION: json_text(asdict(description)).encode(), WEIGHTS: weights_file(weights)}
    if training_weights is not None:
        files[TRAINING_WEIGHTS] = weights_file(training_weights)
    if state is not None:
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        files[STATE] = buffer.getvalue()
    write_folder(folder, files, keep_previous=state is not None)


def weights_file(weights: Mapping[str, Tensor]) -> bytes:
    """Return the content of a safetensors file."""
    from safetensors.torch import save

    content: bytes = save({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()})
    return content


def describe_run(model: MultiTaskModel, config: Config, **values: Any) -> Description:
    """Return the description of a checkpoint of a model; ``values`` are its further attributes."""
    return Description(config.dump(), class_names(model.classes), versions=versions(), **values)


def class_names(classes: Classes | None) -> dict[str, list[str]] | None:
    """Return the names by task as plain values, None where there are none."""
    if classes is None:
        return None
    return {task: list(classes.names(task)) for task in (*STANDARD_TASKS, *classes.others)}


def whole_checkpoint(folder: Path) -> Path | None:
    """Return the newest whole checkpoint among ``folder`` and what stands in for it; None if there is none.

    That is the one that it replaced, where it is torn or its replacement was cut off; the log then says so. A folder
    without a manifest, put together by hand, counts as it is.
    """
    if (folder / DESCRIPTION).is_file() and not (folder / MANIFEST).exists():
        return folder
    found = next(whole_folders(folder), None)
    if found is not None and found != folder:
        logger.warning("%s: is missing or damaged; %s beside it is whole and taken instead", folder, found.name)
    if found is None and (folder / DESCRIPTION).is_file():
        return folder  # whatever is wrong with it will be said by who reads it
    return found


def find_checkpoint(path: str | Path, which: str = "best") -> Path:
    """Return the folder of a checkpoint, given it or its run folder.

    Raises:
        CheckpointError: if there is none; the message says where it was looked for and what is there.
    """
    folder = Path(path)
    found = whole_checkpoint(folder) or whole_checkpoint(folder / "checkpoints" / which)
    if found is not None:
        return found
    if not folder.exists():
        raise CheckpointError(f"{folder}: there is no such run folder or checkpoint")
    there = sorted(item.name for item in (folder / "checkpoints").glob("*") if not item.suffix) or ["none"]
    raise CheckpointError(f"{folder}: no checkpoint '{which}' in it; checkpoints there: {', '.join(there)}")


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


def load_model(path: str | Path, which: str = "best") -> MultiTaskModel:
    """Load a trained model by itself, in evaluation mode on the CPU.

    Args:
        path: a run folder, a checkpoint folder or one that `MultiTaskModel.save_pretrained` wrote.
        which: of a run folder, ``best`` or ``last``.

    Raises:
        CheckpointError: if there is no checkpoint, it is damaged, or its weights do not fit its config.
    """
    if (Path(path) / PRETRAINED).is_file():
        if which != "best":
            raise CheckpointError(f"{path}: has one set of weights, of save_pretrained; there is no '{which}' in it")
        return _build(read_pretrained(Path(path)), Path(path), PRETRAINED)
    folder = find_checkpoint(path, which)
    return _build(read_description(folder), folder, DESCRIPTION)


def _build(description: Description | Pretrained, folder: Path, source: str) -> MultiTaskModel:
    """Return the model that a description tells of, with the weights beside it."""
    try:
        config = Config(**description.config).replace({"model.pretrained": False})
    except ConfigError as error:
        hint = "(a part of one's own must be registered first: import its script)"
        raise CheckpointError(f"{folder / source}: its config cannot be used here {hint}: {error}") from None
    names = {task: tuple(listed) for task, listed in (description.classes or {}).items()}
    others = {task: listed for task, listed in names.items() if task not in STANDARD_TASKS}
    classes = Classes(names["seg"], names["det"], others) if names else None
    model = build_model(config, classes=classes)
    load_weights(model, folder)
    model.origins = all_from(model, "checkpoint")
    model.config = description.config
    return model.eval()


def load_weights(model: MultiTaskModel, folder: Path, name: str = WEIGHTS) -> None:
    """Load a checkpoint's weights into a model; ``name`` is that of the file.

    Raises:
        CheckpointError: if the file is damaged or the weights are of another model; what differs is named.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / name
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read as weights ({error})") from None
    own = model.state_dict()
    missing, extra = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    reshaped = [name for name in own.keys() & weights.keys() if own[name].shape != weights[name].shape]
    if missing or extra or reshaped:
        kinds = {"missing": missing, "unknown": extra, "of another shape": sorted(reshaped)}
        found = "; ".join(f"{len(names)} {kind}, e.g. {names[0]}" for kind, names in kinds.items() if names)
        raise CheckpointError(f"{path}: weights of another config: {found} (or the model was not built from a config)")
    model.load_state_dict(sharding.shared_like(own, weights))


def load_state(folder: Path) -> dict[str, Any]:
    """Load the loop's state; nothing in the file is executed.

    Raises:
        CheckpointError: if there is none or it is damaged.
    """
    path = folder / STATE
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the unpickler raise almost anything
        raise CheckpointError(f"{path}: cannot be read as the state of a run ({type(error).__name__})") from error
    if not isinstance(state, dict) or not state.keys() >= STATE_KEYS:
        raise CheckpointError(
            f"{path}: not the state of a run: expected a mapping with {', '.join(sorted(STATE_KEYS))}"
        )
    return state
