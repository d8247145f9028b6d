"""A model as a folder that is complete in itself, on a disk or on the Hugging Face Hub.

``config.json`` has the config, the class names and the numbers, ``model.safetensors`` the weights, ``README.md`` the
model card. Uploads and downloads are huggingface_hub's.
"""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Unpack

from huggingface_hub import ModelCard, ModelHubMixin, snapshot_download

from mtvision.errors import CheckpointError, ConfigError, MtvisionError
from mtvision.hub.card import model_card
from mtvision.hub.options import LoadOptions, PushOptions, Results
from mtvision.model import MultiTaskModel
from mtvision.training.checkpoint import WEIGHTS, load_model, weights_file
from mtvision.training.checkpoint_description import (
    PRETRAINED,
    Pretrained,
    class_names,
    read_pretrained,
    versions,
    write_json,
)

logger = logging.getLogger(__name__)

CARD = "README.md"


class HubModel(ModelHubMixin):
    """A model in the form that huggingface_hub saves, uploads and downloads.

    It holds the model instead of being one, so that ``import mtvision`` needs no huggingface_hub.

    Args:
        model: the network.
        content: what is said of it beside the weights.
        card: of the model.
    """

    _hub_mixin_config: dict[str, Any] = {}  # noqa: RUF012 - keeps the mixin from making a config of the arguments

    def __init__(self, model: MultiTaskModel, content: Pretrained, card: ModelCard) -> None:
        self.model, self.content, self.card = model, content, card

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """Return the card that the model was saved with."""
        del args, kwargs
        return self.card

    def _save_pretrained(self, save_directory: Path) -> None:
        write_json(save_directory / PRETRAINED, {"library_name": "mtvision", **asdict(self.content)})
        (save_directory / WEIGHTS).write_bytes(weights_file(self.model.state_dict()))

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **options: Any) -> "HubModel":
        folder = Path(snapshot_download(model_id, allow_patterns=[PRETRAINED, WEIGHTS], **options))
        return cls(load_model(folder), read_pretrained(folder), ModelCard(""))  # no card is needed to load


def save_pretrained(
    model: MultiTaskModel, folder: Path, results: Results | None, card: Mapping[str, Any] | None
) -> Path:
    """See `MultiTaskModel.save_pretrained`."""
    folder = folder.expanduser()
    prepared = _prepared(model, folder.resolve().name, results, card)
    if (folder / CARD).exists():
        logger.warning("%s: is kept as it is; delete it to have it written anew", folder / CARD)
    prepared.save_pretrained(folder)
    return folder


def push_to_hub(
    model: MultiTaskModel,
    repo_id: str,
    results: Results | None,
    card: Mapping[str, Any] | None,
    **options: Unpack[PushOptions],
) -> str:
    """See `MultiTaskModel.push_to_hub`."""
    return str(_prepared(model, repo_id, results, card).push_to_hub(repo_id, **options))


def from_pretrained(name_or_folder: str | Path, **options: Unpack[LoadOptions]) -> MultiTaskModel:
    """See `MultiTaskModel.from_pretrained`."""
    if Path(name_or_folder).expanduser().is_dir():
        if options:
            raise ValueError(f"{next(iter(options))}: is for models of the hub, but {name_or_folder} is a folder here")
        return load_model(name_or_folder)
    try:
        return HubModel.from_pretrained(name_or_folder, **options).model
    except MtvisionError:  # some of which are ValueErrors: what they say is about the model, which was found
        raise
    except (OSError, ValueError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise CheckpointError(
            f"{name_or_folder}: no folder here, and no model of the hub that can be had ({reason})"
        ) from error


def _prepared(model: MultiTaskModel, name: str, results: Results | None, card: Mapping[str, Any] | None) -> HubModel:
    """Return a model with what is written beside its weights, before anything is written."""
    if model.config is None:
        raise ConfigError(
            ["model: was put together from parts, so no config tells how to build it again; build it with build_model"]
        )
    content = Pretrained(
        without_places(model.config),
        class_names(model.classes),
        metrics=dict(results.metrics) if results is not None else {},
        per_class={key: dict(values) for key, values in results.per_class.items()} if results is not None else {},
        versions=versions(),
    )
    return HubModel(model, content, model_card(model, content, name, card or {}))


def without_places(value: Any) -> Any:
    """Return a dumped config in which an absolute path has only its last part: where files lie is nobody's business.

    Example:
        >>> without_places({"dataset_root": "/home/me/data/VOC2012", "sizes": ["a/b", 3]})
        {'dataset_root': 'VOC2012', 'sizes': ['a/b', 3]}
    """
    if isinstance(value, Mapping):
        return {key: without_places(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(item) for item in value]
    if not isinstance(value, str):
        return value
    kinds = (kind(value) for kind in (PurePosixPath, PureWindowsPath))
    return next((path.name for path in kinds if path.is_absolute() or value.startswith("~")), value)
