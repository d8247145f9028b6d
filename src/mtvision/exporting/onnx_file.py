"""ONNX: writing a traced network, and running a file on the CPU."""

import logging
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from mtvision.errors import MtvisionError
from mtvision.exporting.metadata import KEY, Metadata
from mtvision.exporting.onnx_suppression import translations
from mtvision.exporting.requirements import require

Run: TypeAlias = Callable[[Tensor], dict[str, Tensor]]
"""Images to tensors by name."""

_LIMIT = 2**31 - 2**20
"""Bytes of weights in an ONNX file: 2 GB, less some for the graph."""
_AXES = {"batch": 0, "height": 2, "width": 3}


def require_onnx(check: bool, num_bytes: int) -> None:
    """Check that a model can be one ONNX file, and that the packages are there that writing it needs.

    Args:
        check: whether it is to be run too.
        num_bytes: of the weights.

    Raises:
        MtvisionError: if a package is missing, or the file would be larger than ONNX's limit of 2 GB.
    """
    if num_bytes >= _LIMIT:
        raise MtvisionError(f"the weights take {num_bytes / 1e9:.1f} GB, and an ONNX file at most 2; take a .pt2 file")
    for package in ("onnx", "onnxscript"):
        require(package, "to write an ONNX file")
    if check:
        require("onnxruntime", "to check an ONNX file (check=False spares it)")


def onnx_model(program: Any, input_names: Sequence[str], output_names: Sequence[str], opset: int | None) -> Any:
    """Return a traced network as an ONNX model.

    Args:
        program: of torch.export.
        input_names: one for each tensor that it takes, the images first.
        output_names: one for each tensor that the program returns.
        opset: version of ONNX's operators; None: the one that torch writes by default.

    Raises:
        MtvisionError: if torch has no ONNX for an operator of the network, or not in that version.
    """
    try:
        with quiet("onnx_ir", "onnxscript", "torch.onnx"):
            written: Any = torch.onnx.export(
                program,
                input_names=list(input_names),
                output_names=list(output_names),
                opset_version=opset,
                dynamo=True,
                verbose=False,
                custom_translation_table=translations(),
            )
    except (RuntimeError, ValueError, TypeError) as error:
        raise MtvisionError(f"torch has no ONNX for this model: {_reason(error)}") from error
    model = written.model_proto
    found = next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), None)
    if opset is not None and found != opset:  # the converter only logs that it could not
        raise MtvisionError(f"opset: torch cannot write this model in version {opset}, only in {found}")
    return model


def named_axes(model: Any) -> Any:
    """Name the axes of all values in words of the input's: ``batch``, ``height``, ``width``."""
    axes = model.graph.input[0].type.tensor_type.shape.dim
    words = {axes[axis].dim_param: word for word, axis in _AXES.items() if axes[axis].dim_param}
    if not words:
        return model
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, words))})\b")
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param:
                axis.dim_param = pattern.sub(lambda found: words[found[0]], axis.dim_param)
    return model


def with_outputs(model: Any, names: Collection[str]) -> Any:
    """Return a copy of an ONNX model of which only some values are outputs."""
    import onnx

    reduced = onnx.ModelProto()
    reduced.CopyFrom(model)
    kept = [value for value in reduced.graph.output if value.name in names]
    del reduced.graph.output[:]
    reduced.graph.output.extend(kept)
    return reduced


def write_onnx(model: Any, path: Path, metadata: Metadata) -> None:
    """Write an ONNX model with its metadata into one file."""
    import onnx

    onnx.helper.set_model_props(model, {KEY: metadata.to_json()})
    model.producer_name, model.producer_version = "mtvision", metadata.versions["mtvision"]
    path.write_bytes(model.SerializeToString())


def onnx_runner(path: Path, further: Sequence[Any] = ()) -> Run:
    """Return a function that runs an ONNX file with ONNX Runtime on the CPU.

    Args:
        path: of the file.
        further: values within the graph that are to be given too, as ONNX describes an output.
    """
    import onnx
    import onnxruntime

    model = onnx.load(path)
    model.graph.output.extend(further)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # its warnings are about its own optimisations
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (image_input,) = session.get_inputs()
    names = [each.name for each in session.get_outputs()]

    def run(images: Tensor) -> dict[str, Tensor]:
        found = session.run(names, {image_input.name: images.numpy()})
        return {name: torch.from_numpy(each) for name, each in zip(names, found, strict=True)}

    return run


@contextmanager
def quiet(*names: str) -> Iterator[None]:
    """Let packages log errors only, by the names of their loggers: their warnings are about what they do within."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error.__cause__ or error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
