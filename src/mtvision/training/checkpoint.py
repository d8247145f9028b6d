"""Checkpoints: a folder with weights as safetensors, what they belong to as JSON and, to go on from, the loop's state.

``model.safetensors`` and ``checkpoint.json`` suffice to load a model. ``state.pt`` is there only in ``last``, and so is
``training.safetensors`` where the model's weights are an average of those that are trained. A folder that
`MultiTaskModel.save_pretrained` wrote has ``config.json`` in place of ``checkpoint.json``.
"""

import io
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mtvision.config import Config
from mtvision.description import all_from
from mtvision.errors import CheckpointError, ConfigError
from mtvision.factory import build_model
from mtvision.model import MultiTaskModel
from mtvision.training import sharding
from mtvision.training.checkpoint_description import (
    DESCRIPTION,
    PRETRAINED,
    Description,
    Pretrained,
    json_text,
    read_description,
    read_pretrained,
)
from mtvision.training.whole_folders import MANIFEST, whole_folders, write_folder
from mtvision.types import STANDARD_TASKS, Classes

_OF_LOOP = {"optimizer", "balancer", "scaler", "weights", "lr", "steps_done", "skipped", "skipped_in_row"}
STATE_KEYS = {"epoch", "step", "monitor", "metrics", "reason", "seconds", "history", "of_processes", *_OF_LOOP}
WEIGHTS, STATE = "model.safetensors", "state.pt"
TRAINING_WEIGHTS = "training.safetensors"

logger = logging.getLogger(__name__)


class Saved(NamedTuple):
    """Weights on a disk.

    Attributes:
        folder: that holds them.
        description: what they belong to.
    """

    folder: Path
    description: Description | Pretrained


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


def find_saved(path: str | Path, which: str = "best") -> Saved:
    """Return where weights are and what they belong to, for every folder that `load_model` takes.

    Args:
        path: a run folder, a checkpoint folder or one that `MultiTaskModel.save_pretrained` wrote.
        which: of a run folder, ``best`` or ``last``.

    Raises:
        CheckpointError: if there is no checkpoint, or what is said of it is damaged or from a newer format.
    """
    place = Path(path).expanduser()
    if not (place / PRETRAINED).is_file():
        folder = find_checkpoint(place, which)
        return Saved(folder, read_description(folder))
    if which != "best":
        raise CheckpointError(f"{place}: has one set of weights, of save_pretrained; there is no '{which}' in it")
    return Saved(place, read_pretrained(place))


def load_model(path: str | Path, which: str = "best") -> MultiTaskModel:
    """Load a trained model by itself, in evaluation mode on the CPU.

    Args:
        path: a run folder, a checkpoint folder or one that `MultiTaskModel.save_pretrained` wrote.
        which: of a run folder, ``best`` or ``last``.

    Raises:
        CheckpointError: if there is no checkpoint, it is damaged, or its weights do not fit its config.
    """
    folder, description = find_saved(path, which)
    try:
        config = Config(**description.config).replace({"model.pretrained": False})
    except ConfigError as error:
        source = folder / (PRETRAINED if isinstance(description, Pretrained) else DESCRIPTION)
        hint = "(a part of one's own must be registered first: import its script)"
        raise CheckpointError(f"{source}: its config cannot be used here {hint}: {error}") from None
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
