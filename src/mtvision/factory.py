"""From a config to a model: the one place that reads the ``model`` section and puts the parts together."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from mtvision import norms, registries
from mtvision.activations import is_nonlinearity, replace_activations
from mtvision.backbones.weights import load_backbone_weights
from mtvision.config import Config, as_config
from mtvision.config_sections import ModelConfig
from mtvision.data.classes import voc_classes
from mtvision.description import all_from, prefixed
from mtvision.errors import ConfigError
from mtvision.heads.detection.base import DetectionRecipe
from mtvision.initializers import initialize, reset_norms, reset_priors, scheme_text
from mtvision.layers.normalization import InputNormalization
from mtvision.model import MultiTaskModel
from mtvision.registry import Component
from mtvision.tasks.base import Task, with_dropout
from mtvision.types import Classes, FeatureInfo

logger = logging.getLogger(__name__)

_LOSS_KEYS = ("seg_loss", "det_loss", "det_class_loss", "det_assigner", "auxiliary_weight")
_NOT_THE_NETWORK = ("num_classes", "pretrained", "init_scheme", "init_backbone", "zero_init_residual")


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
    neck = _build_neck(cfg.model, backbone.feature_info)
    components = task_components(cfg, classes)
    behind_neck = set(components if cfg.model.share_neck else ["det"]) & set(components) if neck is not None else set()
    info = {name: neck.feature_info if name in behind_neck else backbone.feature_info for name in components}
    tasks = {name: cast(Task, registries.TASKS.build(choice, info[name])) for name, choice in components.items()}
    statistics = registries.PREPROCESSING.build(cfg.data.preprocessing)
    model = MultiTaskModel(
        backbone,
        tasks,
        neck=neck,
        neck_tasks=behind_neck,
        normalization=InputNormalization(statistics.mean, statistics.std),
        classes=classes,
        image_size=cfg.data.image_size,
    )
    _replace_activations(model, cfg.model)
    _replace_norms(model, cfg.model)
    _initialize(model, cfg)
    model.settings, model.config = network_settings(cfg), cfg.dump()
    return model


def task_components(cfg: Config, classes: Classes | None) -> dict[str, Component]:
    """Return every task of a config as a component of `TASKS`: seg and det of the config's own keys, then the others.

    Raises:
        ConfigError: see `resolve_classes`.
    """
    numbers = {**voc_classes().num_classes, **_given(_class_numbers(cfg.model, classes))}
    components = {}
    if cfg.model.segmentation_head is not None:
        options = _segmentation_options(cfg, cfg.model.segmentation_head)
        components["seg"] = Component("segmentation", {**options, "num_classes": numbers["seg"]})
    if cfg.model.detection_head is not None:
        options = _detection_options(cfg, cfg.model.detection_head)
        components["det"] = Component("detection", {**options, "num_classes": numbers["det"]})
    for name, choice in cfg.model.tasks.items():
        components[name] = _with_num_classes(name, choice, classes)
    rate = cfg.model.dropout_rate
    return {name: with_dropout(registries.TASKS, choice, rate) for name, choice in components.items()}


def _segmentation_options(cfg: Config, head: Component) -> dict[str, Any]:
    auxiliary = {"auxiliary_heads": tuple(cfg.model.auxiliary_heads), "auxiliary_weight": cfg.training.auxiliary_weight}
    return {"head": head, "loss": cfg.training.seg_loss, **auxiliary}


def _detection_options(cfg: Config, head: Component) -> dict[str, Any]:
    losses = {"box_loss": cfg.training.det_loss, "class_loss": cfg.training.det_class_loss}
    selection = {key: getattr(cfg.model.detections, key) for key in type(cfg.model.detections).model_fields}
    return {"head": head, **losses, "assigner": cfg.training.det_assigner, **selection}


def network_settings(cfg: Config) -> dict[str, Any]:
    """Return what a config says of the network, its losses and its input, as plain values by section.

    Left out are the numbers of classes, which may come from the data set, and what only sets the first weights.
    """
    sections = cfg.dump()
    model = {key: value for key, value in sections["model"].items() if key not in _NOT_THE_NETWORK}
    training = {key: sections["training"][key] for key in _LOSS_KEYS}
    return {"model": model, "training": training, "data": {"preprocessing": sections["data"]["preprocessing"]}}


def _with_num_classes(name: str, choice: Component, classes: Classes | None) -> Component:
    """Hand a further task its number of classes in the data set, where it has the option and was not given it."""
    number = len(classes.names(name)) if classes is not None else 0
    wanted = "num_classes" in registries.TASKS.option_names(choice.name) and "num_classes" not in choice.options
    return Component(choice.name, {**choice.options, "num_classes": number}) if number and wanted else choice


def _given(numbers: Mapping[str, int | None]) -> dict[str, int]:
    return {name: number for name, number in numbers.items() if number is not None}


def resolve_classes(cfg: Config, classes: Classes | None) -> Config:
    """Return the config with ``model.num_classes`` filled in from a data set, for the tasks that have a head.

    Raises:
        ConfigError: if the config says other numbers, or a task with a head has no classes in the data set.
    """
    if classes is None:
        return cfg
    tasks = {name: _with_num_classes(name, choice, classes) for name, choice in cfg.model.tasks.items()}
    return cfg.replace({"model.num_classes": _class_numbers(cfg.model, classes), "model.tasks": tasks})


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


def _build_backbone(cfg: ModelConfig) -> Any:
    from_timm = cfg.pretrained is True
    backbone = registries.BACKBONES.build(cfg.backbone, from_timm)
    if isinstance(cfg.pretrained, Path):
        load_backbone_weights(backbone, cfg.pretrained)
    _check_feature_info(backbone, f"backbone '{cfg.backbone.name}'")
    return backbone


def _build_neck(cfg: ModelConfig, feature_info: Sequence[FeatureInfo]) -> Any:
    """Return the neck that the config or else the detection head names, None if neither does."""
    choice = cfg.neck
    if choice is None and cfg.detection_head is not None:
        recipe = getattr(registries.DETECTION_HEADS.get(cfg.detection_head.name), "recipe", DetectionRecipe())
        choice = recipe.neck
    if choice is None and cfg.share_neck:
        head = cfg.detection_head.name if cfg.detection_head is not None else None
        raise ConfigError([f"model.share_neck: true, but detection head '{head}' names no neck: choose model.neck"])
    if choice is None:
        return None
    neck = registries.NECKS.build(choice, feature_info)
    _check_feature_info(neck, f"neck '{choice.name}'")
    return neck


def _check_feature_info(part: nn.Module, who: str) -> None:
    """Refuse a part that does not publish what it returns: nothing could be built behind it."""
    published: Any = getattr(part, "feature_info", None)
    if not isinstance(published, Sequence) or not published or not all(isinstance(i, FeatureInfo) for i in published):
        raise ConfigError(
            [f"{who} must have feature_info, one FeatureInfo(channels, stride) for each feature that it returns"]
        )


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


def _replace_norms(model: MultiTaskModel, cfg: ModelConfig) -> None:
    """Replace every batch norm; frozen ones only in the backbone, since untrained statistics are worth nothing."""
    if cfg.norm is None:
        return
    frozen = registries.NORMS.get(cfg.norm.name) is norms.frozen
    if frozen and cfg.zero_init_residual:
        raise ConfigError(["model.zero_init_residual: true would switch residual blocks off for good: norm is frozen"])
    replaced = norms.replace_norms(model.backbone if frozen else model, cfg.norm)
    if replaced == 0:
        logger.warning("model.norm '%s' replaces nothing: there is no batch norm", cfg.norm.name)
    if frozen and not cfg.pretrained:
        logger.warning("model.norm 'frozen' in a backbone that is not pretrained keeps mean 0 and variance 1 for good")
    elif cfg.pretrained and not any(name.endswith("running_mean") for name, _ in model.backbone.named_buffers()):
        logger.warning(
            "model.norm '%s' drops the statistics that the pretrained backbone was learned with", cfg.norm.name
        )


def _initialize(model: MultiTaskModel, config: Config) -> None:
    """Scheme first (backbone too where asked), then the norms of a backbone left alone, then the prior biases.

    Each part draws from (seed, its name): it begins alike whatever else is in the network, so that runs which differ in
    another part can be compared.
    """
    cfg, seed = config.model, config.system.seed
    initializer, scheme = registries.INITIALIZERS.build(cfg.init_scheme), scheme_text(cfg.init_scheme)
    zero = cfg.zero_init_residual
    parts: dict[str, nn.Module] = {f"tasks.{name}": model.tasks[name] for name in model.tasks}
    if model.neck is not None:
        parts["neck"] = model.neck
    for name, part in parts.items():
        torch.manual_seed(_part_seed(seed, name))
        model.origins |= prefixed(name, initialize(part, initializer, scheme=scheme))
    torch.manual_seed(_part_seed(seed, "backbone"))
    if cfg.initializes_backbone:
        done = initialize(model.backbone, initializer, zero_init_residual=zero, scheme=scheme)
    elif cfg.pretrained:
        source = "timm's weights" if cfg.pretrained is True else str(cfg.pretrained)
        done = all_from(model.backbone, f"pretrained: {source}")
    else:
        done = reset_norms(model.backbone, zero_init_residual=zero)
    model.origins |= prefixed("backbone", done)
    torch.manual_seed(_part_seed(seed, "priors"))
    model.origins |= reset_priors(model)


def _part_seed(seed: int, name: str) -> int:
    """Return the 63-bit seed of a part of a network; different names and seeds give unrelated streams."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8]) >> 1
