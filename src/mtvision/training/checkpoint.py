"""Checkpoints: a folder with weights as safetensors, what they belong to as JSON and, to go on from, the loop's state.

``model.safetensors`` and ``checkpoint.json`` suffice to load a model; ``state.pt`` is there only in ``last``.
"""

import json
import random
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter

from mtvision.config import Config
from mtvision.config_fields import replace_text
from mtvision.description import all_from
from mtvision.errors import CheckpointError, ConfigError
from mtvision.factory import build_model
from mtvision.model import MultiTaskModel
from mtvision.training.history import with_nan, without_nan
from mtvision.types import STANDARD_TASKS, Classes

FORMAT = 1
STATE_KEYS = {"epoch", "monitor", "optimizer", "random"}
WEIGHTS, DESCRIPTION, STATE = "model.safetensors", "checkpoint.json", "state.pt"
_PACKAGES = ("mtvision", "torch", "torchvision", "timm", "albumentations", "torchmetrics", "accelerate")


@dataclass(frozen=True)
class Description:
    """What a checkpoint belongs to.

    Attributes:
        config: as `Config.dump` gives it.
        classes: names by task, None if the data set had none.
        epoch: number of epochs done.
        metrics: of the validation after that epoch.
        versions: of the packages that wrote it.
    """

    config: dict[str, Any]
    classes: dict[str, list[str]] | None
    epoch: int
    metrics: dict[str, float]
    versions: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT


def versions() -> dict[str, str]:
    """Return the versions of the packages that a result depends on."""
    return {name: version(name) for name in _PACKAGES}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write plain values as indented JSON, NaN as null."""
    replace_text(path, json.dumps(without_nan(content), indent=2) + "\n")


def save_checkpoint(
    folder: Path,
    model: MultiTaskModel,
    config: Config,
    epoch: int,
    metrics: Mapping[str, float],
    state: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint beside ``folder`` and then put it in its place: there is always a whole one.

    Args:
        folder: e.g. ``runs/a/checkpoints/last``.
        model: whose weights and class names are written.
        config: of the run.
        epoch: number of epochs done.
        metrics: of the validation after that epoch.
        state: what the loop needs to go on: tensors, numbers, texts, lists and dicts.
    """
    from safetensors.torch import save_file

    new, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    save_file(weights, new / WEIGHTS)
    classes = model.classes
    names = {task: list(classes.names(task)) for task in (*STANDARD_TASKS, *classes.others)} if classes else None
    write_json(new / DESCRIPTION, asdict(Description(config.dump(), names, epoch, dict(metrics), versions())))
    if state is not None:
        torch.save(dict(state), new / STATE)
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def whole_checkpoint(folder: Path) -> Path | None:
    """Return ``folder`` if a checkpoint is in it, the one that it was replacing if that was cut off, else None."""
    candidates = (folder, folder.with_name(folder.name + ".old"))
    return next((candidate for candidate in candidates if (candidate / DESCRIPTION).is_file()), None)


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
    there = sorted(item.name for item in (folder / "checkpoints").glob("*")) or ["none"]
    raise CheckpointError(f"{folder}: no checkpoint '{which}' in it; checkpoints there: {', '.join(there)}")


def read_description(folder: Path) -> Description:
    """Read what a checkpoint belongs to.

    Raises:
        CheckpointError: if the file is damaged or from a newer format.
    """
    path = folder / DESCRIPTION
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        content["metrics"] = with_nan(content["metrics"])
        description: Description = TypeAdapter(Description).validate_python(content)
    except (OSError, ValueError, TypeError, LookupError) as error:
        reason = "; ".join(str(error).splitlines()[:2])
        raise CheckpointError(f"{path}: not a checkpoint's description ({reason})") from None
    if description.format > FORMAT:
        raise CheckpointError(
            f"{path}: written by a newer mtvision (format {description.format}, this one reads {FORMAT})"
        )
    return description


def load_model(path: str | Path, which: str = "best") -> MultiTaskModel:
    """Load a trained model by itself, in evaluation mode on the CPU.

    Args:
        path: a run folder or a checkpoint folder.
        which: of a run folder, ``best`` or ``last``.

    Raises:
        CheckpointError: if there is no checkpoint, it is damaged, or its weights do not fit its config.
    """
    folder = find_checkpoint(path, which)
    description = read_description(folder)
    try:
        config = Config(**description.config).replace({"model.pretrained": False})
    except ConfigError as error:
        raise CheckpointError(
            f"{folder / DESCRIPTION}: its config cannot be used here (a part of one's own must be registered first: "
            f"import its script): {error}"
        ) from None
    names = {task: tuple(listed) for task, listed in (description.classes or {}).items()}
    others = {task: listed for task, listed in names.items() if task not in STANDARD_TASKS}
    classes = Classes(names["seg"], names["det"], others) if names else None
    model = build_model(config, classes=classes)
    load_weights(model, folder)
    model.origins = all_from(model, "checkpoint")
    return model.eval()


def load_weights(model: MultiTaskModel, folder: Path) -> None:
    """Load a checkpoint's weights into a model.

    Raises:
        CheckpointError: if the file is damaged or the weights are of another model; what differs is named.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / WEIGHTS
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
    model.load_state_dict(weights)


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


def random_state() -> dict[str, Any]:
    """Return the state of all global random generators, as plain values and tensors."""
    name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 - the global one is meant
    kind, internal, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [
            str(name),
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            int(position),
            int(has_gauss),
            float(cached),
        ],
        "python": [kind, list(internal), gauss],
    }


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Put all global random generators into a state of `random_state`."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.device_count() == len(state["cuda"]):
        torch.cuda.set_rng_state_all(state["cuda"])
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
    kind, internal, gauss = state["python"]
    random.setstate((kind, tuple(internal), gauss))
