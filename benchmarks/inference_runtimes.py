"""Our model in other forms: compiled, in ONNX Runtime, in OpenVINO; each says the same as eager, or the run ends."""

import copy
import dataclasses
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import mtvision as mtv

_TOLERANCE = 1e-3
NEEDS = {"onnxruntime": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("onnx", "onnxscript", "openvino")}


def with_threshold(selection: Any, threshold: float) -> Any:
    """Return what a detection task selects by, with another score threshold."""
    return dataclasses.replace(selection, score_threshold=threshold)


def unlimited(selection: Any, threshold: float) -> Any:
    """Return a selection of all that is above a threshold, overlapping or not."""
    return dataclasses.replace(
        with_threshold(selection, threshold),
        suppress=mtv.SUPPRESSIONS.build("none"),
        max_detections=10**6,
        candidates=10**6,
    )


def other_forms(model: mtv.MultiTaskModel, size: int, folder: Path) -> tuple[dict[str, mtv.MultiTaskModel], list[str]]:
    """Return the model in each form that this machine has, and a sentence for each other one."""
    makers: dict[str, Callable[[], mtv.MultiTaskModel]] = {
        "weights channels-last": lambda: copy.deepcopy(model).to(memory_format=torch.channels_last),
        "compiled": lambda: compiled(model),
        "onnxruntime": lambda: in_onnxruntime(model, exported(model, size, folder)),
        "openvino": lambda: in_openvino(model, exported(model, size, folder)),
    }
    forms, problems = {}, []
    for name, make in makers.items():
        missing = [package for package in NEEDS.get(name, ()) if importlib.util.find_spec(package) is None]
        if missing:
            problems.append(f"left out: {name}, which needs {', '.join(missing)}")
            continue
        forms[name] = make()
        check(name, model, forms[name], size)
    return forms, problems


def check(name: str, model: mtv.MultiTaskModel, form: mtv.MultiTaskModel, size: int) -> None:
    """Leave if a form says something else than the model, at two sizes of the batch."""
    for batch in (1, 3):
        pixels = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8)
        with torch.no_grad():
            expected, found = flat(model(pixels)), flat(form(pixels))
        for mine, theirs in zip(found, expected, strict=True):
            difference = float((mine - theirs).abs().max())
            if mine.shape != theirs.shape or not difference <= _TOLERANCE * max(1.0, float(theirs.abs().max())):
                raise SystemExit(f"{name}: the outputs differ from eager's by {difference}")


def compiled(model: mtv.MultiTaskModel) -> mtv.MultiTaskModel:
    form = copy.deepcopy(model)
    form.compile()
    return form


def exported(model: mtv.MultiTaskModel, size: int, folder: Path) -> Path:
    """Write the forward pass as ONNX, for any number of images of one size."""
    path = folder / "model.onnx"
    if not path.exists():
        example = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
        shapes = {"images": {0: torch.export.Dim("batch", min=1, max=256)}}
        program: Any = torch.onnx.export(
            copy.deepcopy(model), (example,), dynamo=True, dynamic_shapes=shapes, verbose=False
        )
        program.save(path)
    return path


def in_onnxruntime(model: mtv.MultiTaskModel, path: Path) -> mtv.MultiTaskModel:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return replaced(
        model, lambda pixels: [torch.from_numpy(each) for each in session.run(None, {name: pixels.numpy()})]
    )


def in_openvino(model: mtv.MultiTaskModel, path: Path) -> mtv.MultiTaskModel:
    import openvino

    options = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "PERFORMANCE_HINT": "LATENCY"}
    network = openvino.Core().compile_model(openvino.convert_model(path), "CPU", options)
    return replaced(model, lambda pixels: [torch.from_numpy(each.copy()) for each in network(pixels.numpy()).values()])


def replaced(model: mtv.MultiTaskModel, run: Callable[[Tensor], list[Tensor]]) -> mtv.MultiTaskModel:
    """Return a model whose forward pass is another's: tensors in the order of the outputs."""
    form: Any = copy.deepcopy(model)
    with torch.no_grad():
        outputs = model(torch.zeros(1, 3, *(model.image_size or (64, 64)), dtype=torch.uint8))

    def forward(pixels: Tensor) -> dict[str, Any]:
        tensors = iter(run(pixels.contiguous()))
        return {name: type(each)(*(_next(part, tensors) for part in each)) for name, each in outputs.items()}

    form.forward = forward
    checked: mtv.MultiTaskModel = form
    return checked


def flat(outputs: dict[str, Any]) -> list[Tensor]:
    """Return all tensors of some outputs."""
    return [part for each in outputs.values() for part in each if isinstance(part, Tensor)]


def _next(part: Any, tensors: Any) -> Any:
    return next(tensors) if isinstance(part, Tensor) else part
