"""One network that segments and detects: parts by name, a typed config, a lean trainer.

Example:
    >>> import mtvision as mtv
    >>> model = mtv.build_model({"backbone": "test_resnet"})
    >>> sorted(model.tasks)
    ['det', 'seg']
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mtvision import activations, assigners, backbones, data, heads, initializers, losses, necks, norms, suppression
from mtvision.assigners.base import Assignment
from mtvision.config import Config
from mtvision.data import build_dataset, build_loader
from mtvision.errors import CheckpointError, ConfigError, DataError, MtvisionError, RegistryError, TrainingError
from mtvision.factory import build_model
from mtvision.heads.detection.base import DetectionHead, DetectionMaps
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
from mtvision.study.planning import designs  # noqa: F401 - the import fills its registry
from mtvision.tasks.base import Task
from mtvision.training import balancing, optimizers, schedule  # noqa: F401 - the import fills their registries
from mtvision.types import Batch, Classes, FeatureInfo, Prediction, Sample

if TYPE_CHECKING:
    from mtvision import visualize
    from mtvision.analysis.analysis import Analysis
    from mtvision.analysis.analyze import analyze
    from mtvision.analysis.compare import compare
    from mtvision.analysis.comparison import RunComparison
    from mtvision.components import component_roles, describe_component, list_components
    from mtvision.config_template import init_config
    from mtvision.diagnosis import Diagnosis, doctor
    from mtvision.exporting.exporter import Exported, export
    from mtvision.exporting.quantization import quantize
    from mtvision.inference.folder import predict_folder
    from mtvision.inference.predictor import Predictor
    from mtvision.inference.thresholds import Thresholds, tune_thresholds
    from mtvision.inference.video import predict_video
    from mtvision.study.study import Study
    from mtvision.training.callbacks import Callback
    from mtvision.training.checkpoint import load_model
    from mtvision.training.comparison import SingleTaskComparison
    from mtvision.training.evaluate import evaluate
    from mtvision.training.evaluation_result import EvaluationResult
    from mtvision.training.run import train
    from mtvision.training.run_folder import RunResult
    from mtvision.training.single_task import compare_single_task
    from mtvision.training.trainer import Trainer

__version__ = "0.1.0"

# What brings accelerate, torchmetrics or matplotlib with it is imported when it is first asked for.
_LATE = {
    "Callback": "mtvision.training.callbacks",
    "Trainer": "mtvision.training.trainer",
    "load_model": "mtvision.training.checkpoint",
    "train": "mtvision.training.run",
    "evaluate": "mtvision.training.evaluate",
    "EvaluationResult": "mtvision.training.evaluation_result",
    "Analysis": "mtvision.analysis.analysis",
    "analyze": "mtvision.analysis.analyze",
    "compare": "mtvision.analysis.compare",
    "RunComparison": "mtvision.analysis.comparison",
    "Exported": "mtvision.exporting.exporter",
    "export": "mtvision.exporting.exporter",
    "quantize": "mtvision.exporting.quantization",
    "Predictor": "mtvision.inference.predictor",
    "Thresholds": "mtvision.inference.thresholds",
    "tune_thresholds": "mtvision.inference.thresholds",
    "predict_folder": "mtvision.inference.folder",
    "predict_video": "mtvision.inference.video",
    "RunResult": "mtvision.training.run_folder",
    "Study": "mtvision.study.study",
    "SingleTaskComparison": "mtvision.training.comparison",
    "compare_single_task": "mtvision.training.single_task",
    "component_roles": "mtvision.components",
    "list_components": "mtvision.components",
    "describe_component": "mtvision.components",
    "init_config": "mtvision.config_template",
    "Diagnosis": "mtvision.diagnosis",
    "doctor": "mtvision.diagnosis",
}

_EXTRAS = {"mtvision.study": "study", "mtvision.analysis": "report"}
"""What must be installed for the names of a package."""

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
    if name == "visualize":
        return import_module("mtvision.visualize")
    if name in _LATE:
        return getattr(_imported(name), name)
    raise AttributeError(f"module 'mtvision' has no attribute '{name}'")


def _imported(name: str) -> Any:
    """Return the module of a name; where a package is missing, the error tells the extra that brings it."""
    module = _LATE[name]
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        extra = next((extra for package, extra in _EXTRAS.items() if module.startswith(package)), None)
        if extra is None:
            raise
        hint = f"mtvision.{name} needs {error.name}: pip install 'mtvision[{extra}]'"
        raise ModuleNotFoundError(hint, name=error.name) from error
