"""The network: one backbone, one task object for each thing it does."""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import torch
from torch import Tensor, nn

from mtvision.data.augmentation.presets import resize_only
from mtvision.data.images import ImageSource, as_sample
from mtvision.data.loading.collating import collate
from mtvision.description import ModelDescription, describe_model
from mtvision.errors import ConfigError, did_you_mean
from mtvision.layers.features import check_features
from mtvision.layers.mode import evaluation_mode
from mtvision.layers.normalization import IMAGENET_MEAN, IMAGENET_STD, InputNormalization
from mtvision.tasks.base import Task
from mtvision.types import Classes, Prediction, Sample

if TYPE_CHECKING:
    from mtvision.hub.options import LoadOptions, PushOptions, Results

logger = logging.getLogger(__name__)

_FASTER_IN_NHWC = ("cpu", "cuda")
"""Where convolutions, and the choice of the best class of a pixel, are faster on images in the memory format NHWC."""


class MultiTaskModel(nn.Module):
    """A shared backbone and named tasks.

    Args:
        backbone: maps normalised images to a list of features, finest first; publishes ``feature_info``.
        tasks: by name; the order is that of the outputs.
        neck: maps the backbone's features to others; None: there is none.
        neck_tasks: names of the tasks that get the neck's features in place of the backbone's; None: all.
        normalization: the input layer; ImageNet's mean and standard deviation by default.
        classes: names for `predict`'s users and for tables.
        image_size: ``(H, W)`` to which `predict` resizes, as in training; None keeps each image's own size.

    Raises:
        ConfigError: if there is no task, a task's name cannot be used, or ``neck_tasks`` names no task.

    Attributes:
        origins: what gave each parameter its first value, by its name, where that is known; see `describe`.
        settings: what the config said of the network, where there was one; `Trainer` compares its own with it.
        config: all that the config said, as `Config.dump` gives it; None for a model put together from parts.
    """

    def __init__(
        self,
        backbone: nn.Module,
        tasks: Mapping[str, Task],
        *,
        neck: nn.Module | None = None,
        neck_tasks: Collection[str] | None = None,
        normalization: InputNormalization | None = None,
        classes: Classes | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        _check_task_names(tasks, neck_tasks or ())
        self.normalization = normalization or InputNormalization(IMAGENET_MEAN, IMAGENET_STD)
        self.backbone = backbone
        self.neck = neck
        self.neck_tasks = frozenset(tasks if neck_tasks is None else neck_tasks)
        self.tasks = nn.ModuleDict(dict(tasks))
        self.classes = classes
        self.image_size = image_size
        self.origins: dict[str, str] = {}
        self.settings: dict[str, Any] | None = None
        self.config: dict[str, Any] | None = None

    def forward(self, images: Tensor) -> dict[str, Any]:
        """Return each task's output, by task name.

        Args:
            images: RGB ``(N, 3, H, W)``, uint8 or float in [0, 1].

        Raises:
            ConfigError: if backbone or neck return other features than they publish.
        """
        image_size = (images.shape[-2], images.shape[-1])
        if not self.training and images.device.type in _FASTER_IN_NHWC:
            images = images.contiguous(memory_format=torch.channels_last)  # every layer hands the format on
        features = _published(self.backbone, self.backbone(self.normalization(images)), "backbone")
        shared = features if self.neck is None else _published(self.neck, self.neck(features), "neck")
        return {
            name: task(shared if name in self.neck_tasks else features, image_size) for name, task in self.tasks.items()
        }

    def loss(self, outputs: Mapping[str, Any], targets: Mapping[str, Any]) -> dict[str, dict[str, Tensor]]:
        """Return each task's losses by part, scalars, without the weights between tasks.

        Args:
            outputs: of `forward`.
            targets: by task name, as in `types.Batch`.

        Raises:
            DataError: if a task has no targets; for an image that is not annotated they are void or None, not missing.
        """
        return {name: self.task(name).loss(outputs[name], self.task(name).select(targets, name)) for name in self.tasks}

    def postprocess(
        self, outputs: Mapping[str, Any], image_sizes: Sequence[tuple[int, int]] | None = None
    ) -> list[Prediction]:
        """Return one prediction an image: by task name, in pixels of ``image_sizes`` (H, W; None: of the input)."""
        by_task = {name: self.task(name).postprocess(outputs[name], image_sizes) for name in self.tasks}
        return [dict(zip(by_task, parts, strict=True)) for parts in zip(*by_task.values(), strict=True)]

    def describe(self) -> ModelDescription:
        """Return how many parameters each part has and what gave them their first values; ``print`` shows a table.

        Example:
            >>> import mtvision as mtv
            >>> model = mtv.build_model({"backbone": "test_resnet", "init_scheme": "kaiming"})
            >>> [(row.part, row.parameters) for row in model.describe().rows[1:3]]
            [('backbone', 372688), ('neck', 132480)]
        """
        return describe_model(self, self.origins)

    def task(self, name: str) -> Task:
        """Return a task by its name."""
        task = self.tasks[name]
        if not isinstance(task, Task):
            raise TypeError(f"task '{name}' is a {type(task).__name__}, not an mtvision Task")
        return task

    def predict(
        self,
        images: ImageSource | Iterable[ImageSource],
        *,
        batch_size: int = 8,
        score_threshold: float | None = None,
    ) -> list[Prediction]:
        """Segment and detect in images of any size, in evaluation mode; each module's mode is left as it was found.

        Images are read a batch at a time, so there may be any number of them.

        Args:
            images: one image or an iterable of them: a path, a PIL image, an array ``(H, W, 3)`` or a tensor
                ``(3, H, W)``, uint8 or float in [0, 1]; a 4-dimensional array or tensor is a batch of them.
            batch_size: images that go through the network together.
            score_threshold: in [0, 1]; what scores below it is dropped from every part of the predictions that is a
                dict with ``scores`` (its other entries have a row for each). None keeps what the task keeps, by its
                own threshold: a lower one brings nothing back.

        Returns:
            Always a list, one entry an image: ``{"seg": int64 (H, W), "det": {"boxes", "scores", "labels"}}`` at the
            image's own size.

        Raises:
            DataError: if a file is missing or no image, or a value has no image's shape.
            ValueError: if ``batch_size`` is below 1 or ``score_threshold`` outside [0, 1].
        """
        if batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
        if score_threshold is not None and not 0 <= score_threshold <= 1:
            raise ValueError(f"score_threshold: expected a number in [0, 1], got {score_threshold}")
        self.warn_if_pending()
        predictions: list[Prediction] = []
        with evaluation_mode(self):
            for sources in chunks(each_source(images), batch_size if self.image_size else 1):
                predictions += self._predict_samples([as_sample(source) for source in sources])
        if score_threshold is None:
            return predictions
        return [above_score(prediction, score_threshold) for prediction in predictions]

    def warn_if_pending(self) -> None:
        """Log a warning while the data set's mean and standard deviation are to be used but are not known yet."""
        if self.normalization.pending:
            logger.warning(
                "the data set's mean and standard deviation (preprocessing 'normalize') are not known yet, ImageNet's "
                "stand in: call model.normalization.set_statistics(mean, std), or train the model with Trainer"
            )

    def save_pretrained(
        self, folder: str | Path, *, results: "Results | None" = None, card: Mapping[str, Any] | None = None
    ) -> Path:
        """Write a folder that is complete in itself, and return it.

        It has ``config.json``, ``model.safetensors`` and the model card ``README.md``; one that is there is kept.
        `from_pretrained` and `mtvision.load_model` read it.

        Args:
            folder: made if it is not there.
            results: what these weights reached, for the card: of `mtvision.train` or `mtvision.evaluate`.
            card: more of the card's metadata, such as ``{"license": "mit"}``.

        Raises:
            ConfigError: if the model was put together from parts: no config tells how to build it again.
            ValueError: if ``card`` has a key that a model card cannot have.
        """
        from mtvision.hub.folder import save_pretrained

        return save_pretrained(self, Path(folder), results, card)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        results: "Results | None" = None,
        card: Mapping[str, Any] | None = None,
        **options: "Unpack[PushOptions]",
    ) -> str:
        """Upload what `save_pretrained` writes to the Hugging Face Hub, and return the address of the commit.

        Args:
            repo_id: ``user/name``; made if it is not there.
            results: see `save_pretrained`.
            card: see `save_pretrained`.
            options: ``private``, ``token``, ``branch``, ``create_pr``, ``commit_message`` and ``ignore_patterns``
                (``"README.md"`` keeps a card that was edited there), all as huggingface_hub has them.

        Raises:
            ConfigError: see `save_pretrained`.
        """
        from mtvision.hub.folder import push_to_hub

        return push_to_hub(self, repo_id, results, card, **options)

    @staticmethod
    def from_pretrained(name_or_folder: str | Path, **options: "Unpack[LoadOptions]") -> "MultiTaskModel":
        """Load a model of the Hugging Face Hub or of a folder, in evaluation mode on the CPU; none of it is executed.

        Args:
            name_or_folder: ``user/name`` on the hub, or a folder that `save_pretrained` or a run wrote.
            options: ``revision``, ``token``, ``cache_dir``, ``force_download`` and ``local_files_only``, all as
                huggingface_hub has them.

        Raises:
            CheckpointError: if there is no such folder or model, it is damaged, or its weights do not fit its config.
            ValueError: if there are options for a folder, where nothing is downloaded.
        """
        from mtvision.hub.folder import from_pretrained

        return from_pretrained(name_or_folder, **options)

    def _predict_samples(self, samples: list[Sample]) -> list[Prediction]:
        if self.image_size:
            resize = resize_only(self.image_size)
            resized = [resize(sample, 0) for sample in samples]
        else:
            resized = samples
        images = collate(resized).images.to(self.normalization.mean.device)
        return self.postprocess(self(images), [sample.original_size for sample in samples])


def _published(part: nn.Module, features: Sequence[Tensor], role: str) -> Sequence[Tensor]:
    """Return the features of a part, which must be those that it publishes."""
    feature_info: Any = getattr(part, "feature_info", None)
    if feature_info is not None:
        check_features(features, feature_info, f"the {role} ({type(part).__name__})")
    return features


def _check_task_names(tasks: Mapping[str, Task], neck_tasks: Collection[str]) -> None:
    if not tasks:
        raise ConfigError(["tasks: at least one is needed"])
    reserved = set(dir(nn.ModuleDict))
    problems = [
        f"tasks.{name}: not a usable task name; choose a Python identifier that is no attribute of nn.ModuleDict"
        for name in tasks
        if not name.isidentifier() or name in reserved
    ]
    problems += [
        f"neck_tasks: there is no task '{name}'.{did_you_mean(name, tasks)}" for name in neck_tasks if name not in tasks
    ]
    if problems:
        raise ConfigError(problems)


def each_source(images: Any) -> Iterable[ImageSource]:
    """Return the images of an argument that is one or several."""
    if isinstance(images, Tensor | np.ndarray):
        return images if images.ndim == 4 else (images,)
    is_several = isinstance(images, Iterable) and not isinstance(images, str | Path)
    return images if is_several else (images,)


def chunks(sources: Iterable[ImageSource], size: int) -> Iterator[list[ImageSource]]:
    """Yield the images in lists of ``size``, the last one of what is left."""
    iterator = iter(sources)
    while chunk := list(islice(iterator, size)):
        yield chunk


def above_score(prediction: Prediction, threshold: float) -> Prediction:
    """Drop what scores below a threshold from every part that is a dict with ``scores``."""
    kept = dict(prediction)
    for name, part in prediction.items():
        if isinstance(part, Mapping) and "scores" in part:
            rows = part["scores"] >= threshold
            kept[name] = {key: value[rows] for key, value in part.items()}
    return kept
