"""A model as a function of images to named tensors, and its trace."""

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from mtvision.errors import MtvisionError
from mtvision.exporting.metadata import InputType, Postprocess
from mtvision.model import MultiTaskModel
from mtvision.tasks.batched_selection import BatchedSuppression
from mtvision.tasks.exported_parts import ExportedParts, exported_parts

INPUT = "images"
DECODED = "decoded/"
"""Begins the names of what lies between a network and its predictions; it is no output of the file."""

_CELLS = 8
"""Sides of a traced image, in the coarsest stride that is published: a head may go two or three levels further."""
_FAILURES = (RuntimeError, ValueError, AssertionError, TypeError, LookupError, NotImplementedError)
"""What torch raises where it cannot trace or translate."""


class NamedNetwork(nn.Module):
    """Images to a flat dictionary of tensors, named by task and part: ``seg_logits``, ``det_boxes``.

    Args:
        model: in evaluation mode, on the CPU.
        postprocess: what is in the graph; see `export`.
        suppress: suppression of boxes in the graph.
        images: an example.

    Raises:
        ConfigError: if what a task says cannot be exported so.
    """

    def __init__(
        self, model: MultiTaskModel, postprocess: Postprocess, suppress: BatchedSuppression, images: Tensor
    ) -> None:
        super().__init__()
        self.model = model
        self.postprocess = postprocess
        self.parts: dict[str, ExportedParts] = {}
        with torch.no_grad():
            outputs = model(images)
            if postprocess != "raw":
                self.parts = {name: exported_parts(model.task(name), outputs[name], suppress) for name in model.tasks}
            self.tensors_of = {name: tuple(self._of_task(name, output)) for name, output in outputs.items()}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return all tensors by name; those of `DECODED` names first, for each task."""
        outputs = self.model(images)
        return {key: value for name in outputs for key, value in self._of_task(name, outputs[name]).items()}

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the tensors that the file gives."""
        return tuple(name for names in self.tensors_of.values() for name in names if not name.startswith(DECODED))

    def outputs_of(self, task: str) -> tuple[str, ...]:
        """Return the names of the tensors of a task that the file gives."""
        return tuple(name for name in self.tensors_of[task] if not name.startswith(DECODED))

    def _of_task(self, name: str, output: Any) -> dict[str, Tensor]:
        if name not in self.parts:
            return raw_tensors(name, output)
        decoded = self.parts[name].decoded(output)
        if self.postprocess == "outside":
            return {f"{name}_{part}": value for part, value in decoded.items()}
        predicted = self.parts[name].predicted(decoded)
        between = {f"{DECODED}{name}_{part}": value for part, value in decoded.items()}
        return between | {f"{name}_{part}": value for part, value in predicted.items()}


class VisibleNetwork(nn.Module):
    """The same without what lies between network and predictions."""

    def __init__(self, network: NamedNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the tensors that the file gives, by name."""
        return {name: value for name, value in self.network(images).items() if not name.startswith(DECODED)}


def raw_tensors(name: str, value: Any) -> dict[str, Tensor]:
    """Return all tensors of an output, named by the fields in which they stand.

    Example:
        >>> from mtvision.tasks.segmentation import SegmentationOutput
        >>> output = SegmentationOutput(torch.zeros(1), (torch.zeros(2), torch.zeros(3)))
        >>> list(raw_tensors("seg", output))
        ['seg_logits', 'seg_auxiliary_0', 'seg_auxiliary_1']
    """
    if isinstance(value, Tensor):
        return {name: value}
    if not isinstance(value, tuple | list | dict):
        return {}
    keys = value if isinstance(value, dict) else getattr(value, "_fields", range(len(value)))
    inner = value.values() if isinstance(value, dict) else value
    return {
        key: each
        for part, item in zip(keys, inner, strict=True)
        for key, each in raw_tensors(f"{name}_{part}", item).items()
    }


def example_images(batch: int, size: tuple[int, int], input_type: InputType, seed: int = 0) -> Tensor:
    """Return random images ``(N, 3, H, W)``, always the same ones.

    Example:
        >>> example_images(2, (4, 6), "uint8").shape
        torch.Size([2, 3, 4, 6])
    """
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (batch, 3, *size), dtype=torch.uint8, generator=generator)
    return pixels if input_type == "uint8" else pixels.float() / 255


def tracing_size(model: MultiTaskModel, image_size: tuple[int, int]) -> tuple[int, int]:
    """Return a multiple of a size at which no feature has a single row or column.

    A trace takes a size of 1 for a constant, and so would not hold at other sizes.
    """
    published = [part for part in (model.backbone, model.neck) if part is not None]
    coarsest = max((info.stride for part in published for info in getattr(part, "feature_info", ())), default=32)
    factor = max(-(-_CELLS * coarsest // side) for side in image_size)
    return image_size[0] * max(factor, 1), image_size[1] * max(factor, 1)


def trace(network: nn.Module, images: Tensor, dynamic: tuple[str, ...]) -> Any:
    """Return the network as a program of torch.export.

    Args:
        network: images to tensors by name.
        images: an example ``(N, 3, H, W)``.
        dynamic: which of "batch", "height" and "width" may be any number.

    Raises:
        MtvisionError: if torch cannot trace it so.
    """
    axes = {"batch": 0, "height": 2, "width": 3}
    shapes = {INPUT: {axes[name]: torch.export.Dim.DYNAMIC for name in dynamic}}
    try:
        with warnings.catch_warnings():
            # torchvision's own operators use what torch has given another name
            warnings.filterwarnings("ignore", category=FutureWarning, module="torchvision")
            return torch.export.export(network, (images,), dynamic_shapes=shapes)
    except _FAILURES as error:
        raise MtvisionError(_cannot(error, dynamic)) from error


def smallest_side(program: Any, dynamic: tuple[str, ...], image_size: tuple[int, int]) -> int:
    """Return the least height and width of images for which a trace holds."""
    if "height" not in dynamic:
        return min(image_size)
    return max((int(bounds.lower) for bounds in program.range_constraints.values()), default=1)


def _cannot(error: Exception, dynamic: tuple[str, ...]) -> str:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    free = f"for any {', '.join(dynamic)}" if dynamic else "at a fixed size"
    advice = {3: "; try dynamic='batch'", 1: "; try dynamic=False"}.get(len(dynamic), "")
    return f"torch cannot trace this model {free}{advice} ({reason})"
