"""Writing a model into one file that runs without mtvision."""

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from mtvision.errors import ConfigError, MtvisionError, choices_hint
from mtvision.exporting.checking import check_against_eager
from mtvision.exporting.metadata import (
    EXTRA_FILE,
    SUFFIXES,
    Format,
    InputType,
    Metadata,
    Postprocess,
    TaskMetadata,
)
from mtvision.exporting.network import (
    DECODED,
    INPUT,
    NamedNetwork,
    VisibleNetwork,
    example_images,
    smallest_side,
    trace,
    tracing_size,
)
from mtvision.exporting.onnx_file import (
    Run,
    named_axes,
    onnx_model,
    onnx_runner,
    require_onnx,
    with_outputs,
    write_onnx,
)
from mtvision.exporting.onnx_suppression import suppress_in_onnx
from mtvision.model import MultiTaskModel
from mtvision.target_files import checked_target, replacing
from mtvision.tasks.batched_selection import suppress_flat
from mtvision.training.checkpoint import load_model
from mtvision.training.checkpoint_description import versions

Dynamic: TypeAlias = bool | Literal["batch"]
ImageSize: TypeAlias = int | tuple[int, int]

_CHOICES = {"postprocess": ("inside", "outside", "raw"), "input_type": ("uint8", "float32")}
_DEFAULT_SIZE = (256, 256)
_LEAST_OPSET = 18
"""In which torch writes; what it cannot bring to another one it would leave so."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exported:
    """An exported file.

    Attributes:
        path: of the file.
        metadata: that is in it.
        outputs: names of its tensors, in their order.
        largest_difference: from the model on random images, relative as in `checking.largest_difference`; NaN where it
            was not checked.
        num_bytes: of the file.
    """

    path: Path
    metadata: Metadata
    outputs: tuple[str, ...]
    largest_difference: float
    num_bytes: int


def export(
    model_or_run: MultiTaskModel | str | Path,
    path: str | Path,
    *,
    format: Format | None = None,  # noqa: A002 - the word that users of other exporters look for
    postprocess: Postprocess = "inside",
    dynamic: Dynamic = True,
    image_size: ImageSize | None = None,
    batch_size: int = 1,
    input_type: InputType = "uint8",
    opset: int | None = None,
    check: bool = True,
    tolerance: float = 1e-4,
) -> Exported:
    """Write a model into one file, ONNX or a program of torch.export, and check it against the model.

    The file takes RGB images ``(N, 3, H, W)`` as the model does: mean and standard deviation are inside. Its outputs
    are named by task and part. A file of that name is replaced once the new one is whole and checked.

    Args:
        model_or_run: a model, or the folder of a run, whose best checkpoint is taken. The model is left as it is.
        path: of the file; ``.onnx`` or ``.pt2`` tells the format.
        format: "onnx" or "torch.export", for a path with another suffix.
        postprocess: "inside": the file gives masks of class indices and detections after suppression, at the size of
            the network's input. "outside": what no choice was made of yet: logits of pixels, boxes in pixels and scores
            of all points. "raw": every tensor that ``model(images)`` returns, boxes not decoded.
        dynamic: whether number, height and width of the images are free; "batch": their number only.
        image_size: H and W, or one number for both; None: that of the model, or 256. With free sizes it is what the
            file recommends.
        batch_size: number of images where it is not free.
        input_type: "uint8", 0 to 255, or "float32" in [0, 1].
        opset: version of ONNX's operators; None: the one that torch writes by default.
        check: whether to compare with the model, on random images of two sizes and numbers where these are free.
        tolerance: of that comparison.

    Raises:
        ConfigError: if an argument cannot be used, or what a task says cannot be exported so.
        CheckpointError: if ``model_or_run`` is a folder without a checkpoint that can be loaded.
        MtvisionError: if a package is missing, torch cannot export the model, or the file differs from the model.
    """
    path = checked_target(path, "path")
    free = _free_axes(dynamic)
    wanted = _Wanted(_checked_format(path, format), postprocess, input_type, free, batch_size, opset, tolerance)
    _check(wanted)
    if image_size is not None:
        _checked_size(image_size)
    model = load_model(model_or_run) if isinstance(model_or_run, str | Path) else model_or_run
    if wanted.format == "onnx":
        require_onnx(check, 4 * sum(each.numel() for each in model.state_dict().values()))
    model.warn_if_pending()
    size = _checked_size(image_size if image_size is not None else model.image_size or _DEFAULT_SIZE)
    network, program = _traced(model, wanted, size)
    metadata = _metadata(network, wanted, size, _smallest_side(program, wanted, size))
    write = _write_onnx if wanted.format == "onnx" else _write_program
    difference = float("nan")
    with replacing(path) as unfinished:
        run = write(network, program, unfinished, metadata, opset)
        if check:
            difference = check_against_eager(network, run(), _check_images(metadata, batch_size), tolerance)
    exported = Exported(path, metadata, network.output_names, difference, path.stat().st_size)
    logger.info("exported %s (%d bytes), largest difference %.2g", path, exported.num_bytes, difference)
    return exported


@dataclass(frozen=True)
class _Wanted:
    """What a file is to be, as `export` was told; ``free`` names the axes that may be any number."""

    format: Format
    postprocess: Postprocess
    input_type: InputType
    free: tuple[str, ...]
    batch_size: int
    opset: int | None
    tolerance: float


def _checked_format(path: Path, given: str | None) -> Format:
    known = list(SUFFIXES.values())
    if given is not None and given not in known:
        raise ConfigError(f"format: unknown '{given}'{choices_hint(given, known)}")
    found = given or SUFFIXES.get(path.suffix)
    if found is None:
        raise ConfigError(
            f"path: '{path}' does not tell the format; end it with {' or '.join(SUFFIXES)}, or give "
            f"format={' or format='.join(map(repr, known))}"
        )
    return next(each for each in SUFFIXES.values() if each == found)


def _free_axes(dynamic: Dynamic) -> tuple[str, ...]:
    if dynamic not in (True, False, "batch"):
        raise ConfigError(f"dynamic: expected True, False or 'batch', got {dynamic!r}")
    return {True: ("batch", "height", "width"), False: (), "batch": ("batch",)}[dynamic]


def _check(wanted: _Wanted) -> None:
    problems = [
        f"{name}: unknown '{value}'{choices_hint(str(value), choices)}"
        for name, choices in _CHOICES.items()
        if (value := getattr(wanted, name)) not in choices
    ]
    if wanted.batch_size < 1:
        problems.append(f"batch_size: expected at least 1, got {wanted.batch_size}")
    if wanted.batch_size != 1 and wanted.free:
        problems.append("batch_size: with a dynamic batch the file takes any number of images; give dynamic=False too")
    if not wanted.tolerance >= 0:
        problems.append(f"tolerance: expected 0 or more, got {wanted.tolerance:g}")
    if wanted.opset is not None and wanted.format != "onnx":
        problems.append(f"opset: belongs to format 'onnx', not to '{wanted.format}'")
    if wanted.opset is not None and wanted.opset < _LEAST_OPSET:
        problems.append(f"opset: expected at least {_LEAST_OPSET}, got {wanted.opset}")
    if problems:
        raise ConfigError(problems)


def _checked_size(size: ImageSize) -> tuple[int, int]:
    if not isinstance(size, int) and len(size) != 2:
        raise ConfigError(f"image_size: expected one number or (height, width), got {size!r}")
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise ConfigError(f"image_size: expected height and width of at least 1 pixel, got {height} x {width}")
    return height, width


def _traced(model: MultiTaskModel, wanted: _Wanted, size: tuple[int, int]) -> tuple[NamedNetwork, Any]:
    """Return a copy of the model in evaluation mode as named tensors, and its trace."""
    own = copy.deepcopy(model).cpu().float().eval().requires_grad_(False)
    traced_size = tracing_size(own, size) if "height" in wanted.free else size
    # an example of one image would make the number of images a constant
    example = example_images(2 if wanted.free else wanted.batch_size, traced_size, wanted.input_type)
    suppress = suppress_in_onnx if wanted.format == "onnx" else suppress_flat
    network = NamedNetwork(own, wanted.postprocess, suppress, example)
    traced = network if wanted.format == "onnx" else VisibleNetwork(network)
    return network, trace(traced, example, wanted.free)


def _smallest_side(program: Any, wanted: _Wanted, size: tuple[int, int]) -> int:
    """Return the pixels that a side of an image has at least; refuse a size below it where the program would."""
    smallest = smallest_side(program, wanted.free, size)
    if wanted.format == "torch.export" and min(size) < smallest:  # ONNX takes them
        raise MtvisionError(
            f"a program with free sizes takes images of {smallest} pixels at least, and image_size is {size[0]} x "
            f"{size[1]}; give dynamic='batch', or a larger image_size"
        )
    return smallest


def _metadata(network: NamedNetwork, wanted: _Wanted, size: tuple[int, int], smallest: int) -> Metadata:
    model = network.model
    tasks = {
        name: TaskMetadata(
            kind=type(model.task(name)).__name__,
            classes=model.classes.names(name) if model.classes is not None else (),
            outputs=network.outputs_of(name),
            settings=network.parts[name].settings() if name in network.parts else {},
        )
        for name in model.tasks
    }
    used = {name: version for name, version in versions().items() if name in ("mtvision", "torch")}
    return Metadata(
        format=wanted.format,
        postprocess=wanted.postprocess,
        input_name=INPUT,
        input_type=wanted.input_type,
        image_size=size,
        dynamic=wanted.free,
        smallest_side=smallest,
        tasks=tasks,
        config=model.settings,
        versions=used,
    )


def _check_images(metadata: Metadata, batch_size: int) -> list[Tensor]:
    """Return random images of two sizes and numbers, as far as these are free."""
    height, width = metadata.image_size
    batches = {(batch_size, height, width)}
    if "batch" in metadata.dynamic:
        batches.add((3, height, width))
    if "height" in metadata.dynamic:
        batches.add((2, 2 * height, 3 * width))
    return [example_images(number, (high, wide), metadata.input_type) for number, high, wide in sorted(batches)]


def _write_onnx(
    network: NamedNetwork, program: Any, path: Path, metadata: Metadata, opset: int | None
) -> Callable[[], Run]:
    """Write a file; return what makes its runner, which also gives what lies between network and predictions."""
    names = [name for names in network.tensors_of.values() for name in names]
    whole = named_axes(onnx_model(program, [INPUT], names, opset))
    write_onnx(with_outputs(whole, network.output_names), path, metadata)
    return lambda: onnx_runner(path, [value for value in whole.graph.output if value.name.startswith(DECODED)])


def _write_program(
    network: NamedNetwork, program: Any, path: Path, metadata: Metadata, opset: int | None
) -> Callable[[], Run]:
    del network, opset
    with path.open("wb") as file:
        torch.export.save(program, file, extra_files={EXTRA_FILE: metadata.to_json()})
    return lambda: _program_runner(path)


def _program_runner(path: Path) -> Run:
    with path.open("rb") as file:
        run: Run = torch.export.load(file).module()
    return run
