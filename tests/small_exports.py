"""A small model that finds something in noise, and the packages that its files need."""

import atexit
import shutil
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

import mtvision as mtv
from mtvision.types import Classes

CLASSES = Classes(("background", "cat", "dog"), ("cat", "dog"))
SIZE = (64, 96)


def require_packages():
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)


def small_model(**options):
    """Two tasks, or what the options of the model section say, with a threshold that lets boxes of noise through."""
    section = {"backbone": "test_resnet", "neck": {"name": "fpn", "channels": 16}, "num_classes": {"seg": 3, "det": 2}}
    config = {"model": {**section, **options}, "data": {"image_size": list(SIZE)}}
    model = mtv.build_model(config, classes=CLASSES)
    if "det" in model.tasks:
        model.task("det").selection = replace(model.task("det").selection, score_threshold=0.01)
    return model


def noise(batch, height, width, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8, generator=generator)


@cache
def exported_model():
    """The small model and its ONNX file of the default form, made once for all tests of a process."""
    require_packages()
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    model = small_model()
    return model, mtv.export(model, folder / "new" / "model.onnx")
