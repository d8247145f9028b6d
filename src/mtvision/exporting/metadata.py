"""What an exported file says of itself: classes, sizes, thresholds, and what it was made of."""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import TypeAdapter, ValidationError

from mtvision.errors import MtvisionError, did_you_mean
from mtvision.exporting.requirements import require

Format: TypeAlias = Literal["onnx", "torch.export"]
Postprocess: TypeAlias = Literal["inside", "outside", "raw"]
InputType: TypeAlias = Literal["uint8", "float32"]

KEY = "mtvision"
"""Of the metadata in an ONNX file."""
_ARCHIVE = b"PK\x03\x04"
"""With which a file of torch.export begins."""
_NEITHER = "{} is no exported file: neither ONNX nor a program of torch.export"
EXTRA_FILE = "mtvision.json"
"""The metadata in a file of torch.export."""
SUFFIXES: dict[str, Format] = {".onnx": "onnx", ".pt2": "torch.export"}


@dataclass(frozen=True)
class TaskMetadata:
    """What a file says of one task.

    Attributes:
        kind: class of the task.
        classes: names by label or mask value; empty where they are not known.
        outputs: names of its tensors.
        settings: of its postprocessing, such as thresholds: inside the file, or as they are meant to be outside.
    """

    kind: str
    classes: tuple[str, ...]
    outputs: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Metadata:
    """What a file says of itself.

    Attributes:
        format: "onnx" or "torch.export".
        postprocess: "inside", "outside" or "raw", see `export`.
        input_name: of the images, RGB ``(N, 3, H, W)``.
        input_type: "uint8", 0 to 255, or "float32" in [0, 1]; mean and standard deviation are inside the file.
        image_size: ``(H, W)`` to which images are to be stretched, bilinearly and without aliasing, as in training.
        dynamic: which of "batch", "height" and "width" may be any number.
        smallest_side: the least height and width in pixels that the file was traced for; it may take smaller ones.
        tasks: by name.
        config: what of the config says how the network is built, which losses trained it and how images are prepared,
            as plain values by section; without numbers of classes and what only sets the first weights. None where
            there was no config.
        versions: of mtvision and torch.
        quantization: "dynamic" or "static"; None: the weights are floats.
    """

    format: Format
    postprocess: Postprocess
    input_name: str
    input_type: InputType
    image_size: tuple[int, int]
    dynamic: tuple[str, ...]
    smallest_side: int
    tasks: dict[str, TaskMetadata]
    config: dict[str, Any] | None
    versions: dict[str, str]
    quantization: Literal["dynamic", "static"] | None = None

    def to_json(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self), indent=2)


def read_metadata(path: str | Path) -> Metadata:
    """Return what an exported file says of itself.

    Args:
        path: of a file that `export` or `quantize` wrote; what is no archive is read as ONNX.

    Raises:
        MtvisionError: if there is no such file, it cannot be read or was not written by mtvision, or a package is
            missing.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        near = [each.name for each in path.parent.glob("*") if each.suffix in SUFFIXES] if path.parent.is_dir() else []
        raise MtvisionError(f"there is no exported file {path}.{did_you_mean(path.name, near)}")
    text = _of_program(path) if _is_archive(path) else _of_onnx(path)
    if not text:
        raise MtvisionError(f"{path} has no metadata of mtvision: it was not written by mtvision.export")
    try:
        return TypeAdapter(Metadata).validate_json(text)
    except ValidationError as error:
        raise MtvisionError(f"{path}: the metadata cannot be read ({error.errors()[0]['msg']})") from None


def onnx_properties(model: Any) -> Mapping[str, str]:
    """Return the metadata of an ONNX model by key."""
    return {each.key: each.value for each in model.metadata_props}


def _is_archive(path: Path) -> bool:
    with path.open("rb") as file:
        return path.suffix == ".pt2" or file.read(len(_ARCHIVE)) == _ARCHIVE


def _of_onnx(path: Path) -> str:
    require("onnx", "to read an ONNX file")
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx_properties(onnx.load(path, load_external_data=False)).get(KEY, "")
    except DecodeError:
        raise MtvisionError(_NEITHER.format(path)) from None


def _of_program(path: Path) -> str:
    """Return the metadata without loading the program: they are a file of their own in its archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next((name for name in archive.namelist() if Path(name).name == EXTRA_FILE), None)
            return "" if name is None else archive.read(name).decode()
    except zipfile.BadZipFile:
        raise MtvisionError(_NEITHER.format(path)) from None
