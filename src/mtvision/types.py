"""The values that travel between the layers.

Shape letters used in the whole package: N images, C classes, H W pixels, A anchors or points, M objects, K channels.
Boxes are ``xyxy`` in pixels with continuous edges: a box that covers exactly the first pixel is ``(0, 0, 1, 1)``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple, Protocol, TypeAlias, TypedDict, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

VOID = 255
"""Mask value of pixels that count neither in a loss nor in a metric."""

_SMALL = 16384  # bytes of a tensor that travels faster in the message than in shared memory

STANDARD_TASKS = ("seg", "det")
"""The names of the two tasks whose annotations have fields of their own in `Sample`."""


class FeatureInfo(NamedTuple):
    """What one feature map is: its channels K and its stride in pixels of the input image."""

    channels: int
    stride: int


@dataclass(frozen=True, slots=True)
class Classes:
    """Class names, by task.

    ``segmentation[i]`` names mask value ``i`` (0 is the background); ``detection[j]`` names box label ``j`` (0-based,
    without background); ``others`` names the classes of further tasks, by the task's name.

    Example:
        >>> Classes(("background", "cat"), ("cat",), {"scene": ("indoor", "outdoor")}).names("scene")
        ('indoor', 'outdoor')
    """

    segmentation: tuple[str, ...]
    detection: tuple[str, ...]
    others: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)

    @property
    def num_classes(self) -> dict[str, int]:
        """Number of classes of the two standard tasks, as ``model.num_classes`` of the config wants it."""
        return {"seg": len(self.segmentation), "det": len(self.detection)}

    def names(self, task: str) -> tuple[str, ...]:
        """Return the class names of a task by its name, empty for a task that has none here."""
        return {**self.others, "seg": self.segmentation, "det": self.detection}.get(task, ())


class DetectionTarget(TypedDict):
    """Objects of one image: boxes ``(M, 4)`` float xyxy pixels, labels ``(M,)`` 0-based, difficult ``(M,)`` bool."""

    boxes: Tensor
    labels: Tensor
    difficult: Tensor


class DetectionPrediction(TypedDict):
    """Detections in one image, best first: boxes ``(M, 4)`` xyxy pixels, scores ``(M,)`` in [0, 1], labels ``(M,)``."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor


Prediction: TypeAlias = dict[str, Any]
"""What the model says of one image, by task name: ``seg`` an int64 mask ``(H, W)``, ``det`` a `DetectionPrediction`.

What a further task says is told by the ``postprocess`` of its class.
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """One annotated image.

    ``None`` means that nobody looked; an empty ``boxes`` means that somebody looked and there is nothing. What further
    tasks learn from stands in ``maps`` and ``values``, by the task's name (``seg`` and ``det`` are taken). A data set
    gives the same names in all of its samples, with None where nobody looked.

    Attributes:
        image: uint8 ``(H, W, 3)`` RGB.
        mask: uint8 ``(H, W)`` of class ids with 255 = void, or None if the image has no mask.
        boxes: float32 ``(M, 4)`` xyxy pixels, or None if the image was not annotated for detection.
        labels: int64 ``(M,)``, 0-based; None exactly where ``boxes`` is None.
        difficult: bool ``(M,)``: neither a positive nor a negative; None exactly where ``boxes`` is None.
        image_id: unique within the data set; the file stem for a folder of files.
        original_size: ``(H, W)`` of the image as stored, before any resizing.
        maps: annotations of each pixel, ``(H, W)`` or ``(H, W, K)`` of the image's size: float32 with NaN = void, or
            integer with 255 = void. Transforms move the pixels (by nearest neighbours: values never mix) and leave the
            values as they are, so a vector does not turn with its image.
        values: annotations of the image as a whole, of any shape; no transform touches them.
        instances: uint8 or uint16 ``(H, W)``, which object is seen at a pixel: ``k + 1`` for the object of row ``k`` of
            ``boxes``, 0 for none; None where that is not known. An object may have no pixel. Transforms use it to keep
            boxes tight and to cut objects out; it is no target.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8] | None
    boxes: NDArray[np.float32] | None
    labels: NDArray[np.int64] | None
    difficult: NDArray[np.bool_] | None
    image_id: str
    original_size: tuple[int, int]
    maps: Mapping[str, NDArray[Any] | None] = field(default_factory=dict)
    values: Mapping[str, NDArray[Any] | None] = field(default_factory=dict)
    instances: NDArray[np.uint8 | np.uint16] | None = None


@dataclass(slots=True)
class Batch:
    """What a loader yields.

    Attributes:
        images: uint8 ``(N, 3, H, W)`` RGB; the model normalises.
        targets: by task name, in pixels of ``images``: ``seg`` int64 ``(N, H, W)``, all 255 for an image without mask
            (uint8 on its way to a CUDA device, an eighth of the bytes: what `to` returns is int64);
            ``det`` a list with a `DetectionTarget` for each image, None where nobody looked for objects; each name in
            ``maps`` or ``values`` of a sample likewise a list with a tensor or None for each image: a map ``(H, W)`` or
            ``(K, H, W)``, a value in its own shape, both float32, int64 or bool.
        image_ids: of each image.
        image_sizes: ``(H, W)`` of each image as stored.
        truths: by task name, at the original size, one entry an image: ``seg`` int64 ``(H, W)`` or None, ``det`` a
            `DetectionTarget` or None, further names as in ``targets``. Empty in training, where nothing is scored.
        skipped: a sentence for each image that could not be read, where ``data.on_error`` is ``skip``.
    """

    images: Tensor
    targets: dict[str, Any]
    image_ids: list[str]
    image_sizes: list[tuple[int, int]]
    truths: dict[str, list[Any]]
    skipped: list[str] = field(default_factory=list)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """Return the batch with images and targets on ``device``, masks as int64 whatever they came as.

        ``truths`` stay where they are until scored.
        """
        moved = self
        if not all(_is_on(tensor, torch.device(device)) for tensor in self._tensors()):
            moved = self._copied(lambda tensor: tensor.to(device, non_blocking=non_blocking))
        masks = moved.targets.get("seg")
        if not isinstance(masks, Tensor) or masks.dtype != torch.uint8:
            return moved
        return replace(moved, targets={**moved.targets, "seg": masks.long()})

    def pin_memory(self) -> "Batch":
        """Return the batch with images and targets in page-locked memory (called by ``DataLoader``)."""
        return self._copied(lambda tensor: tensor.pin_memory())

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields, small tensors as arrays.

        From a worker each tensor comes in a block of shared memory of its own, and the boxes of 64 images are 192
        tensors: that alone would take longer than to load the images.
        """
        return {each.name: _map_tensors(getattr(self, each.name), _as_array_if_small) for each in fields(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the fields, arrays as tensors again."""
        for name, value in state.items():
            setattr(self, name, _map_arrays(value))

    def _tensors(self) -> list[Tensor]:
        """Return the images and then all tensors of the targets."""
        tensors = [self.images]
        _map_tensors(self.targets, tensors.append)
        return tensors

    def _copied(self, copy: Callable[[Tensor], Tensor]) -> "Batch":
        images, *others = copied_together(self._tensors(), copy)
        remaining = iter(others)
        return replace(self, images=images, targets=_map_tensors(self.targets, lambda _: next(remaining)))


def copied_together(tensors: Sequence[Tensor], copy: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Copy tensors, the small ones of a type in one piece: to launch a copy costs more than the copy of some boxes.

    Args:
        tensors: of any shape; none is changed.
        copy: gives a copy of one tensor, of the same shape and type.

    Returns:
        The copies; those of small tensors are views of one tensor a type.

    Example:
        >>> copied_together([torch.zeros(2, 4), torch.ones(1, 4)], lambda flat: flat + 1)[1]
        tensor([[2., 2., 2., 2.]])
    """
    small: dict[Any, list[int]] = {}
    for index, tensor in enumerate(tensors):
        if tensor.nbytes <= _SMALL:
            small.setdefault((tensor.dtype, tensor.device), []).append(index)
    copies: dict[int, Tensor] = {}
    for indices in small.values():
        flat = copy(_joined([tensors[index].reshape(-1) for index in indices]))
        pieces = flat.split([tensors[index].numel() for index in indices])
        copies |= {index: piece.view(tensors[index].shape) for index, piece in zip(indices, pieces, strict=True)}
    return [copies[index] if index in copies else copy(tensor) for index, tensor in enumerate(tensors)]


def _is_on(tensor: Tensor, device: torch.device) -> bool:
    return tensor.device.type == device.type and device.index in (None, tensor.device.index)


def _joined(pieces: Sequence[Tensor]) -> Tensor:
    """Return the pieces one after the other, in page-locked memory where they lie in such."""
    if not pieces[0].is_pinned():
        return torch.cat(list(pieces))
    joined = torch.empty(sum(map(len, pieces)), dtype=pieces[0].dtype, pin_memory=True)
    return torch.cat(list(pieces), out=joined)


def _map_tensors(value: Any, function: Callable[[Tensor], Any]) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: _map_tensors(item, function) for key, item in value.items()}
    if isinstance(value, list):
        return [_map_tensors(item, function) for item in value]
    return value


class _SmallTensor(NamedTuple):
    values: NDArray[Any]


def _as_array_if_small(tensor: Tensor) -> Any:
    is_small = tensor.device.type == "cpu" and not tensor.requires_grad and tensor.nbytes <= _SMALL
    return _SmallTensor(tensor.numpy()) if is_small and tensor.dtype != torch.bfloat16 else tensor


def _map_arrays(value: Any) -> Any:
    if isinstance(value, _SmallTensor):
        return torch.from_numpy(value.values if value.values.flags.writeable else value.values.copy())
    if isinstance(value, Mapping):
        return {key: _map_arrays(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_map_arrays(item) for item in value]
    return value


@runtime_checkable
class SupportsPrior(Protocol):
    """A module that sets the bias of its last layer to a prior, after the init scheme has run."""

    def reset_prior(self) -> None:
        """Set the prior bias."""
