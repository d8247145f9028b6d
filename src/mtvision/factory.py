"""From a config to a model: the one place that reads the ``model`` section and puts the parts together."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import torch

from mtvision import registries
from mtvision.activations import is_nonlinearity, replace_activations
from mtvision.assigners.task_aligned import TaskAlignedAssigner
from mtvision.backbones.weights import load_backbone_weights
from mtvision.config import Config, ModelConfig, as_config
from mtvision.config_fields import In
from mtvision.data.classes import voc_classes
from mtvision.errors import ConfigError
from mtvision.initializers import initialize, reset_norms, reset_priors
from mtvision.layers.normalization import InputNormalization
from mtvision.model import MultiTaskModel
from mtvision.registry import Component, Registry
from mtvision.tasks.base import Task
from mtvision.tasks.detection import DetectionTask
from mtvision.tasks.segmentation import SegmentationTask
from mtvision.types import Classes, FeatureInfo

logger = logging.getLogger(__name__)


def build_model(config: Config | Mapping[str, Any] | str | Path, *, classes: Classes | None = None) -> MultiTaskModel:
    """Build the network that a config describes; the same config and seed give the same weights.

    Args:
        config: a `Config`, a mapping (of all sections or of the ``model`` section alone) or the path of a YAML file.
        classes: of the data set; without them ``model.num_classes`` counts, and VOC's 21 / 20 where that is null.

    Raises:
        ConfigError: for any problem of the config, all at once.
        CheckpointError: if ``model.pretrained`` names a file that does not fit.

    Example:
        >>> model = build_model({"backbone": "test_resnet", "num_classes": {"seg": 3, "det": 2}})
        >>> sorted(model.tasks)
        ['det', 'seg']
    """
    cfg = as_config(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cfg.system.seed)
        return _build(cfg, classes)


def _build(cfg: Config, classes: Classes | None) -> MultiTaskModel:
    backbone = _build_backbone(cfg.model)
    tasks = {
        name: cast(Task, registries.TASKS.build(component, backbone.feature_info))
        for name, component in standard_tasks(cfg, classes).items()
    }
    statistics = registries.PREPROCESSING.build(cfg.data.preprocessing)
    model = MultiTaskModel(
        backbone,
        tasks,
        normalization=InputNormalization(statistics.mean, statistics.std),
        classes=classes,
        image_size=cfg.data.image_size,
    )
    _replace_activations(model, cfg.model)
    _initialize(model, cfg.model)
    return model


def standard_tasks(cfg: Config, classes: Classes | None) -> dict[str, Component]:
    """Return the two tasks that the config's own keys describe, as components of `TASKS`; a null head: none.

    Raises:
        ConfigError: see `resolve_classes`.
    """
    numbers = _class_numbers(cfg.model, classes)
    otherwise = voc_classes().num_classes
    tasks = {}
    if cfg.model.segmentation_head is not None:
        head = _with_dropout(registries.SEGMENTATION_HEADS, cfg.model.segmentation_head, cfg.model.dropout_rate)
        options = {"head": head, "loss": cfg.training.seg_loss, "num_classes": numbers.get("seg") or otherwise["seg"]}
        tasks["seg"] = Component("segmentation", options)
    if cfg.model.detection_head is not None:
        head = _with_dropout(registries.DETECTION_HEADS, cfg.model.detection_head, cfg.model.dropout_rate)
        losses = {"box_loss": cfg.training.det_loss, "class_loss": cfg.training.det_class_loss}
        tasks["det"] = Component(
            "detection", {"head": head, **losses, "num_classes": numbers.get("det") or otherwise["det"]}
        )
    return tasks


def resolve_classes(cfg: Config, classes: Classes | None) -> Config:
    """Return the config with ``model.num_classes`` filled in from a data set, for the tasks that have a head.

    Raises:
        ConfigError: if the config says other numbers, or a task with a head has no classes in the data set.
    """
    if classes is None:
        return cfg
    return cfg.replace({"model.num_classes": _class_numbers(cfg.model, classes)})


def _class_numbers(cfg: ModelConfig, classes: Classes | None) -> dict[str, int | None]:
    given = cfg.num_classes.model_dump() if cfg.num_classes is not None else {}
    if classes is None:
        return given
    heads = {"seg": cfg.segmentation_head, "det": cfg.detection_head}
    problems = []
    for task, key, least in (("seg", "segmentation_head", 2), ("det", "detection_head", 1)):
        names = classes.names(task)
        if heads[task] is None:
            given[task] = None
        elif len(names) < least:
            problems.append(f"model.{key}: the data set has no classes for it; set it to null")
        elif given.get(task) not in (None, len(names)):
            listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            problems.append(
                f"model.num_classes.{task}: {given[task]}, but the data set has {len(names)} ({listed}); "
                "leave it out to take those"
            )
        else:
            given[task] = len(names)
    if problems:
        raise ConfigError(problems)
    return given


@registries.TASKS.register("segmentation")
def segmentation(
    feature_info: Sequence[FeatureInfo],
    *,
    head: Annotated[Component, In(registries.SEGMENTATION_HEADS)],
    loss: Annotated[Component, In(registries.SEGMENTATION_LOSSES)],
    num_classes: int,
) -> SegmentationTask:
    """Semantic segmentation: one class a pixel."""
    built = registries.SEGMENTATION_HEADS.build(head, feature_info, num_classes)
    return SegmentationTask(built, num_classes, registries.SEGMENTATION_LOSSES.build(loss))


@registries.TASKS.register("detection")
def detection(
    feature_info: Sequence[FeatureInfo],
    *,
    head: Annotated[Component, In(registries.DETECTION_HEADS)],
    box_loss: Annotated[Component, In(registries.BOX_LOSSES)],
    class_loss: Annotated[Component, In(registries.CLASSIFICATION_LOSSES)],
    num_classes: int,
) -> DetectionTask:
    """Object detection: boxes with a class and a score."""
    return DetectionTask(
        registries.DETECTION_HEADS.build(head, feature_info, num_classes),
        num_classes,
        registries.BOX_LOSSES.build(box_loss),
        registries.CLASSIFICATION_LOSSES.build(class_loss),
        TaskAlignedAssigner(),
    )


def _build_backbone(cfg: ModelConfig) -> Any:
    from_timm = cfg.pretrained is True
    backbone = registries.BACKBONES.build(cfg.backbone, from_timm)
    if isinstance(cfg.pretrained, Path):
        load_backbone_weights(backbone, cfg.pretrained)
    return backbone


def _with_dropout(registry: Registry[Any], head: Component, rate: float) -> Component:
    """Hand ``model.dropout_rate`` to a head that has the option and was not given its own."""
    if "dropout_rate" in head.options:
        return head
    if "dropout_rate" in registry.option_names(head.name):
        return Component(head.name, {**head.options, "dropout_rate": rate})
    if rate > 0:
        logger.warning(
            "%s '%s' has no option 'dropout_rate': model.dropout_rate=%g does not act in it",
            registry.noun,
            head.name,
            rate,
        )
    return head


def _replace_activations(model: MultiTaskModel, cfg: ModelConfig) -> None:
    choice = cfg.activation
    if choice is None:
        return
    new = type(registries.ACTIVATIONS.build(choice)).__name__
    own = {type(module).__name__ for module in model.backbone.modules() if is_nonlinearity(module)} - {new}
    if cfg.pretrained and own:
        logger.warning(
            "model.activation '%s' replaces %s of the pretrained backbone '%s', whose weights were learned with it; "
            "null keeps it",
            choice.name,
            ", ".join(sorted(own)),
            cfg.backbone.name,
        )
    replace_activations(model, lambda: registries.ACTIVATIONS.build(choice))


def _initialize(model: MultiTaskModel, cfg: ModelConfig) -> None:
    """Scheme first (backbone too where asked), then the norms of a backbone left alone, then the prior biases."""
    initializer = registries.INITIALIZERS.build(cfg.init_scheme)
    initialize(model.tasks, initializer)
    if cfg.initializes_backbone:
        initialize(model.backbone, initializer, zero_init_residual=cfg.zero_init_residual)
    elif not cfg.pretrained:
        reset_norms(model.backbone, zero_init_residual=cfg.zero_init_residual)
    reset_priors(model)
