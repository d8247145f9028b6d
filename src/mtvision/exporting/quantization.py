"""Eight-bit ONNX files of exported ones, by ONNX Runtime."""

import logging
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, TypeAlias

from torch import Tensor

from mtvision.data.augmentation.presets import resize_only
from mtvision.data.images import ImageSource, as_sample
from mtvision.data.loading.collating import collate
from mtvision.errors import ConfigError, MtvisionError, choices_hint
from mtvision.exporting.metadata import Metadata, read_metadata
from mtvision.exporting.network import example_images
from mtvision.exporting.onnx_file import onnx_runner, write_onnx
from mtvision.exporting.requirements import require
from mtvision.model import each_source
from mtvision.target_files import checked_target, replacing
from mtvision.types import Sample

Method: TypeAlias = Literal["dynamic", "static"]

_METHODS = ("dynamic", "static")
_LAYERS = frozenset({"Conv", "Gemm", "MatMul"})
"""What has weights, and takes nearly all of the time."""
_BETWEEN = frozenset({"Add", "MaxPool"})
"""What stands between such layers; in eight bits too, nothing is converted there and back."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Quantized:
    """An exported file in eight bits.

    Attributes:
        path: of the file.
        metadata: that is in it.
        num_layers: convolutions and matrix products in eight bits.
        num_float_layers: those that stayed in float.
        num_bytes: of the file.
    """

    path: Path
    metadata: Metadata
    num_layers: int
    num_float_layers: int
    num_bytes: int


def quantize(
    path: str | Path,
    out: str | Path,
    *,
    method: Method = "static",
    calibration: Iterable[Sample | ImageSource] | None = None,
    num_images: int = 100,
) -> Quantized:
    """Write an exported ONNX file with weights, and layers, in eight bits.

    The last layers of each output and all that follows them stay in float: they cost little, and their numbers are
    what predictions are made of. So do convolutions by channel, whose channels differ too much for one range. What is
    lost is to be measured on data: see ``docs/export.md``.

    Args:
        path: of an ONNX file that `export` wrote.
        out: of the new file.
        method: "static": one range for each tensor, found beforehand with images; weights by channel, of seven bits,
            since products of eight overflow on x86 processors without VNNI. "dynamic": ranges are found while the file
            runs, which needs no images, but is slow with convolutions.
        calibration: for "static": images as `MultiTaskModel.predict` takes them, or samples of a data set; such as the
            network will see, but not those on which it is scored.
        num_images: of them that are looked at, the first ones.

    Raises:
        ConfigError: if an argument cannot be used, or one belongs to the other method.
        DataError: if an image cannot be read.
        MtvisionError: if a package is missing, the file is no ONNX file of `export` or is in eight bits already.

    Example:
        ``mtv.quantize("model.onnx", "model.int8.onnx", calibration=mtv.build_dataset("run.yaml", "train"))``
    """
    source, path = Path(path).expanduser(), checked_target(out, "out")
    if source.resolve() == path.resolve():
        raise ConfigError(f"out: {path} is the file that is read; choose another name")
    _check(method, calibration, num_images)
    metadata = _metadata_in_float(source)
    for package in ("onnx", "onnxruntime"):
        require(package, "to quantise an ONNX file")
    number = _fixed_number(source)
    images = iter(()) if calibration is None else _batches(calibration, metadata, num_images, number)
    with tempfile.TemporaryDirectory() as folder, replacing(path) as unfinished:
        model, layers, kept = _in_eight_bits(source, Path(folder), method, metadata, images)
        write_onnx(model, unfinished, replace(metadata, quantization=method))
        _check_runs(unfinished, metadata, number)
    logger.info("quantised %s to %s: %d of %d layers", source, path, layers - kept, layers)
    return Quantized(path, read_metadata(path), layers - kept, kept, path.stat().st_size)


def last_layers(model: Any) -> list[str]:
    """Return the names of the nodes of an ONNX model after which no layer with weights comes, those layers included."""
    consumers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    before_layer: set[str] = set()
    for node in reversed(model.graph.node):  # an ONNX graph is sorted: consumers come later
        following = [each for name in node.output for each in consumers.get(name, ())]
        if any(each.op_type in _LAYERS or each.name in before_layer for each in following):
            before_layer.add(node.name)
    return [node.name for node in model.graph.node if node.name not in before_layer]


def depthwise_layers(model: Any) -> list[str]:
    """Return the names of the convolutions of an ONNX model that have several groups of channels."""
    return [
        node.name
        for node in model.graph.node
        if node.op_type == "Conv" and any(each.name == "group" and each.i > 1 for each in node.attribute)
    ]


def _check(method: str, calibration: object, num_images: int) -> None:
    if method not in _METHODS:
        raise ConfigError(f"method: unknown '{method}'{choices_hint(method, _METHODS)}")
    if method == "static" and calibration is None:
        raise ConfigError(
            "calibration: method 'static' needs images to find ranges with; give some, or method='dynamic'"
        )
    if method == "dynamic" and calibration is not None:
        raise ConfigError("calibration: method 'dynamic' looks at no images; leave it out, or take method='static'")
    if num_images < 1:
        raise ConfigError(f"num_images: expected at least 1, got {num_images}")


def _metadata_in_float(source: Path) -> Metadata:
    """Return the metadata of a file of `export`, which must be ONNX and not in eight bits yet."""
    metadata = read_metadata(source)
    if metadata.format != "onnx":
        raise MtvisionError(f"{source} is a program of torch.export; only ONNX files can be quantised here")
    if metadata.quantization is not None:
        raise MtvisionError(f"{source} is in eight bits already ({metadata.quantization}); give the file that it is of")
    return metadata


def _batches(images: Iterable[Sample | ImageSource], metadata: Metadata, limit: int, number: int) -> Iterator[Tensor]:
    """Return images one by one, each as often as the file takes images at once; there must be one at least."""
    resize = resize_only(metadata.image_size)
    samples = (image if isinstance(image, Sample) else as_sample(image) for image in each_source(images))
    pixels = (collate([resize(sample, 0)]).images.repeat(number, 1, 1, 1) for sample in islice(samples, limit))
    as_taken = (each if metadata.input_type == "uint8" else each.float() / 255 for each in pixels)
    first = next(as_taken, None)
    if first is None:
        raise ConfigError("calibration: there is no image in it")
    return chain([first], as_taken)


class _Reader:
    """Images in the form in which ONNX Runtime asks for them."""

    def __init__(self, images: Iterator[Tensor], input_name: str) -> None:
        self._images = images
        self._input_name = input_name

    def get_next(self) -> dict[str, Any] | None:
        """Return the next image by the name of the input, None after the last one."""
        image = next(self._images, None)
        return None if image is None else {self._input_name: image.numpy()}


def _fixed_number(path: Path) -> int:
    """Return how many images an ONNX file takes at once; 1 where any number may come."""
    import onnx

    batch: int = onnx.load(path).graph.input[0].type.tensor_type.shape.dim[0].dim_value
    return batch or 1


def _in_eight_bits(
    source: Path, folder: Path, method: Method, metadata: Metadata, images: Iterator[Tensor]
) -> tuple[Any, int, int]:
    """Return the model in eight bits, how many layers there were, and how many of them stayed in float."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared, written = folder / "prepared.onnx", folder / "quantized.onnx"
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    model = onnx.load(prepared)
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    excluded = [*last_layers(model), *depthwise_layers(model)]
    names = [node.name for node in model.graph.node if node.op_type in _LAYERS]
    layers, kept = len(names), len({*names} & {*excluded})
    if method == "dynamic":
        # ONNX Runtime has convolutions of whole numbers for unsigned weights only, with one range a tensor
        quantize_dynamic(model, written, nodes_to_exclude=excluded, weight_type=QuantType.QUInt8)
        return onnx.load(written), layers, kept
    quantize_static(
        model,
        written,
        _Reader(images, metadata.input_name),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=sorted(_LAYERS | _BETWEEN),
        nodes_to_exclude=excluded,
        reduce_range=True,  # else products of eight bits overflow on x86 processors without VNNI
        extra_options={
            "CalibMovingAverage": True
        },  # the mean of the images' ranges: less moved by outliers than theirs
    )
    return onnx.load(written), layers, kept


def _check_runs(path: Path, metadata: Metadata, number: int) -> None:
    found = onnx_runner(path)(example_images(number, metadata.image_size, metadata.input_type))
    broken = [name for name, each in found.items() if not each.isfinite().all()]
    if broken:
        raise MtvisionError(f"in eight bits the model says NaN or infinity in {', '.join(broken)}; nothing was written")
