"""One network that segments and detects: parts by name, a typed config, a lean trainer.

Example:
    >>> import mtvision as mtv
    >>> model = mtv.build_model({"backbone": "test_resnet"})
    >>> sorted(model.tasks)
    ['det', 'seg']
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtvision import (
        activations,
        assigners,
        backbones,
        data,
        heads,
        initializers,
        losses,
        necks,
        norms,
        suppression,
        visualize,
    )
    from mtvision.analysis.analysis import Analysis
    from mtvision.analysis.analyze import analyze
    from mtvision.analysis.compare import compare
    from mtvision.analysis.comparison import RunComparison
    from mtvision.assigners.base import Assignment
    from mtvision.components import component_roles, describe_component, list_components
    from mtvision.config import Config
    from mtvision.config_template import init_config
    from mtvision.data import build_dataset, build_loader
    from mtvision.diagnosis import Diagnosis, doctor
    from mtvision.errors import CheckpointError, ConfigError, DataError, MtvisionError, RegistryError, TrainingError
    from mtvision.exporting.exporter import Exported, export
    from mtvision.exporting.quantization import quantize
    from mtvision.factory import build_model
    from mtvision.heads.detection.base import DetectionHead, DetectionMaps
    from mtvision.inference.folder import predict_folder
    from mtvision.inference.predictor import Predictor
    from mtvision.inference.thresholds import Thresholds, tune_thresholds
    from mtvision.inference.video import predict_video
    from mtvision.model import MultiTaskModel
    from mtvision.registries import (
        ACTIVATIONS,
        ASSIGNERS,
        AUGMENTATIONS,
        BACKBONES,
        BALANCERS,
        BOX_LOSSES,
        CLASSIFICATION_LOSSES,
        DATASETS,
        DESIGNS,
        DETECTION_HEADS,
        INITIALIZERS,
        MIXES,
        NECKS,
        NORMS,
        OPTIMIZERS,
        PREPROCESSING,
        SAMPLERS,
        SCHEDULES,
        SEGMENTATION_HEADS,
        SEGMENTATION_LOSSES,
        SUPPRESSIONS,
        TASKS,
    )
    from mtvision.study.study import Study
    from mtvision.tasks.base import Task
    from mtvision.training.callbacks import Callback
    from mtvision.training.checkpoint import load_model
    from mtvision.training.comparison import SingleTaskComparison
    from mtvision.training.evaluate import evaluate
    from mtvision.training.evaluation_result import EvaluationResult
    from mtvision.training.run import train
    from mtvision.training.run_folder import RunResult
    from mtvision.training.single_task import compare_single_task
    from mtvision.training.trainer import Trainer
    from mtvision.types import Batch, Classes, FeatureInfo, Prediction, Sample

__version__ = "0.1.0"

_PUBLIC = {
    "mtvision.analysis.analysis": "Analysis",
    "mtvision.analysis.analyze": "analyze",
    "mtvision.analysis.compare": "compare",
    "mtvision.analysis.comparison": "RunComparison",
    "mtvision.assigners.base": "Assignment",
    "mtvision.components": "component_roles describe_component list_components",
    "mtvision.config": "Config",
    "mtvision.config_template": "init_config",
    "mtvision.data": "build_dataset build_loader",
    "mtvision.diagnosis": "Diagnosis doctor",
    "mtvision.errors": "CheckpointError ConfigError DataError MtvisionError RegistryError TrainingError",
    "mtvision.exporting.exporter": "Exported export",
    "mtvision.exporting.quantization": "quantize",
    "mtvision.factory": "build_model",
    "mtvision.heads.detection.base": "DetectionHead DetectionMaps",
    "mtvision.inference.folder": "predict_folder",
    "mtvision.inference.predictor": "Predictor",
    "mtvision.inference.thresholds": "Thresholds tune_thresholds",
    "mtvision.inference.video": "predict_video",
    "mtvision.model": "MultiTaskModel",
    "mtvision.registries": (
        "ACTIVATIONS ASSIGNERS AUGMENTATIONS BACKBONES BALANCERS BOX_LOSSES CLASSIFICATION_LOSSES DATASETS "
        "DESIGNS DETECTION_HEADS INITIALIZERS MIXES NECKS NORMS OPTIMIZERS PREPROCESSING SAMPLERS SCHEDULES "
        "SEGMENTATION_HEADS SEGMENTATION_LOSSES SUPPRESSIONS TASKS"
    ),
    "mtvision.study.study": "Study",
    "mtvision.tasks.base": "Task",
    "mtvision.training.callbacks": "Callback",
    "mtvision.training.checkpoint": "load_model",
    "mtvision.training.comparison": "SingleTaskComparison",
    "mtvision.training.evaluate": "evaluate",
    "mtvision.training.evaluation_result": "EvaluationResult",
    "mtvision.training.run": "train",
    "mtvision.training.run_folder": "RunResult",
    "mtvision.training.single_task": "compare_single_task",
    "mtvision.training.trainer": "Trainer",
    "mtvision.types": "Batch Classes FeatureInfo Prediction Sample",
}
"""The names of each module that are names of the package too, imported when they are first asked for."""

_HOMES = {name: module for module, names in _PUBLIC.items() for name in names.split()}

_EXTRAS = {"mtvision.study": ("study", ("optuna", "pandas")), "mtvision.analysis": ("report", ("pandas",))}
"""The extra that must be installed for the names of a package, and what it brings."""

__all__ = [
    "ACTIVATIONS",
    "ASSIGNERS",
    "AUGMENTATIONS",
    "BACKBONES",
    "BALANCERS",
    "BOX_LOSSES",
    "CLASSIFICATION_LOSSES",
    "DATASETS",
    "DESIGNS",
    "DETECTION_HEADS",
    "INITIALIZERS",
    "MIXES",
    "NECKS",
    "NORMS",
    "OPTIMIZERS",
    "PREPROCESSING",
    "SAMPLERS",
    "SCHEDULES",
    "SEGMENTATION_HEADS",
    "SEGMENTATION_LOSSES",
    "SUPPRESSIONS",
    "TASKS",
    "Analysis",
    "Assignment",
    "Batch",
    "Callback",
    "CheckpointError",
    "Classes",
    "Config",
    "ConfigError",
    "DataError",
    "DetectionHead",
    "DetectionMaps",
    "Diagnosis",
    "EvaluationResult",
    "Exported",
    "FeatureInfo",
    "MtvisionError",
    "MultiTaskModel",
    "Prediction",
    "Predictor",
    "RegistryError",
    "RunComparison",
    "RunResult",
    "Sample",
    "SingleTaskComparison",
    "Study",
    "Task",
    "Thresholds",
    "Trainer",
    "TrainingError",
    "activations",
    "analyze",
    "assigners",
    "backbones",
    "build_dataset",
    "build_loader",
    "build_model",
    "compare",
    "compare_single_task",
    "component_roles",
    "data",
    "describe_component",
    "doctor",
    "evaluate",
    "export",
    "heads",
    "init_config",
    "initializers",
    "list_components",
    "load_model",
    "losses",
    "necks",
    "norms",
    "predict_folder",
    "predict_video",
    "quantize",
    "suppression",
    "train",
    "tune_thresholds",
    "visualize",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(_imported(name, _HOMES[name]), name)
    if find_spec(f"{__name__}.{name}") is not None:
        return _imported(name, f"{__name__}.{name}")
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'", name=name, obj=sys.modules[__name__])


def __dir__() -> list[str]:
    """Return the names that can be got, without those whose extra is not installed."""
    late = {name for name, module in _HOMES.items() if all(map(find_spec, _extra_of(module)[1]))}
    return sorted({*globals(), *late, *(name for name in __all__ if name not in _HOMES)})


def _extra_of(module: str) -> tuple[str, tuple[str, ...]]:
    return next((extra for package, extra in _EXTRAS.items() if module.startswith(package)), ("", ()))


def _imported(name: str, module: str) -> Any:
    """Return the module of a name; where a package is missing, the error tells the extra that brings it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        extra, _ = _extra_of(module)
        if not extra:
            raise
        hint = f"mtvision.{name} needs {error.name}: pip install 'mtvision[{extra}]'"
        raise ModuleNotFoundError(hint, name=error.name) from error
    except AttributeError as error:  # of a package that does not fit; Python would say that there is no such name
        raise ImportError(f"mtvision.{name}: {module} cannot be imported ({error})", name=module) from error
