"""Loading a backbone's weights from a local file."""

import pickle
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mtvision.errors import CheckpointError

_WRAPPERS = re.compile(r"^(?:(?:module|backbone|net|model)\.)+")
_CONTAINERS = ("state_dict", "model")
_COMPUTED = ("num_batches_tracked", "relative_position_index", "attn_mask")
"""Entries that a network computes by itself: some releases of an architecture store them, some do not."""
_DAMAGES = (AttributeError, IndexError, KeyError, TypeError, ValueError)
"""What torch's restricted unpickler may run into in a file that is none."""
_KEYS_SHOWN = 3


def load_backbone_weights(backbone: nn.Module, path: str | Path) -> None:
    """Load the weights in a ``.safetensors``, ``.pth`` or ``.pt`` file into a backbone.

    The file holds a state dict, by itself or under ``state_dict`` or ``model``, whose keys may begin with ``module.``,
    ``backbone.`` or ``model.``. Modules that come after the last feature (a classifier, a final norm) may be left over.
    Nothing is executed: a file that needs pickle is refused.

    Raises:
        CheckpointError: if the file is missing or cannot be read, if weights are missing or of another shape, or if
            the file has further weights inside the backbone's modules, as that of a deeper network has.
    """
    path = Path(path)
    source = {_canonical(key): value for key, value in _read(path).items()}
    own = {_canonical(key): key for key in backbone.state_dict()}
    missing = [key for key in own if key not in source and not key.endswith(_COMPUTED)]
    if missing:
        raise CheckpointError(
            f"{path}: {len(missing)} of the backbone's {len(own)} weights are missing: {_some(missing)}"
        )
    inside = {key.partition(".")[0] for key in own}
    left = [key for key in source if key not in own and key.partition(".")[0] in inside and not key.endswith(_COMPUTED)]
    if left:
        raise CheckpointError(f"{path}: {len(left)} weights are of a larger backbone: {_some(left)}")
    target = backbone.state_dict()
    matched = {name: source[key] for key, name in own.items() if key in source}
    wrong = [
        f"{name} is {tuple(value.shape)}, expected {tuple(target[name].shape)}"
        for name, value in matched.items()
        if value.shape != target[name].shape and not name.endswith(_COMPUTED)
    ]
    if wrong:
        raise CheckpointError(f"{path}: {len(wrong)} weights have another shape than the backbone's: {_some(wrong)}")
    fitting = {name: value for name, value in matched.items() if value.shape == target[name].shape}
    backbone.load_state_dict(fitting, strict=False)  # all but computed entries are there, as checked above


def _canonical(key: str) -> str:
    """Drop wrappers' prefixes, and undo timm's flattening of ``stages.0`` into ``stages_0`` in feature extractors."""
    return re.sub(r"_(\d+)(?=\.)", r".\1", _WRAPPERS.sub("", key))


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file of backbone weights")
    content: Any = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    for container in _CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(container), Mapping):
            content = content[container]
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: expected a state dict (names to tensors), got {type(content).__name__}")
    state = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if not state:
        raise CheckpointError(f"{path}: holds no tensors; its first keys are {_some([str(key) for key in content])}")
    return state


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a safetensors file ({error})") from error


def _read_torch(path: Path) -> Any:
    if path.suffix not in (".pth", ".pt"):
        raise CheckpointError(f"{path}: weights must be a .safetensors, .pth or .pt file")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: needs pickle, which can run code, or is damaged; save its plain state dict instead"
        ) from error
    except (RuntimeError, EOFError, OSError, *_DAMAGES) as error:
        raise CheckpointError(f"{path}: cannot be read as a PyTorch file ({error})") from error


def _some(items: Collection[str]) -> str:
    shown = ", ".join(list(items)[:_KEYS_SHOWN])
    return shown + (", ..." if len(items) > _KEYS_SHOWN else "")
