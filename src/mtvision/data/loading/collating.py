"""From samples to a batch."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

from mtvision.data.checking.check import annotation_name_problems
from mtvision.data.reading import Item
from mtvision.errors import DataError
from mtvision.types import VOID, Batch, DetectionTarget, Sample


def collate(samples: Sequence[Sample], originals: Sequence[Sample] = (), skipped: Sequence[str] = ()) -> Batch:
    """Join samples of one size to a `Batch`.

    Args:
        samples: as the network gets them; of none, ``images`` is ``(0, 3, 0, 0)``.
        originals: the same samples untransformed, for ``truths``; empty in training.
        skipped: a sentence for each item that could not be read.

    Raises:
        DataError: if the samples have several sizes, an image is not of uint8 or a mask not of integers, a map or value
            has the name of a standard task, or both have the same name.
    """
    return _batch(samples, originals, skipped, torch.int64)


def _batch(
    samples: Sequence[Sample], originals: Sequence[Sample], skipped: Sequence[str], mask_type: torch.dtype
) -> Batch:
    sizes = {sample.image.shape[:2] for sample in samples}
    if len(sizes) > 1:
        raise DataError(f"the images of a batch must have one size, got {sorted(sizes)} (height, width)")
    for sample in samples:
        for problem in (*_type_problems(sample), *annotation_name_problems(sample)):
            raise DataError(f"image '{sample.image_id}': {problem}")
    return Batch(
        images=_images(samples),
        targets={
            "seg": _masks(samples, mask_type),
            "det": [_detection_target(sample) for sample in samples],
            **_further_targets(samples),
        },
        image_ids=[sample.image_id for sample in samples],
        image_sizes=[sample.original_size for sample in samples],
        truths=truths_of(originals) if originals else {},
        skipped=list(skipped),
    )


def collate_items(items: Sequence[Item], *, small_masks: bool = False) -> Batch:
    """Join what the workers read to a `Batch`, without the items that could not be read.

    Args:
        items: of the data set of a loader.
        small_masks: leave masks that are bytes so until `Batch.to`: of a batch that a worker writes to shared memory,
            or that is copied to a device, int64 masks are three fourths of the bytes.
    """
    samples = [item.sample for item in items if item.sample is not None]
    originals = [item.original for item in items if item.original is not None]
    are_bytes = all(sample.mask is None or sample.mask.dtype == np.uint8 for sample in samples)
    mask_type = torch.uint8 if small_masks and are_bytes else torch.int64
    return _batch(samples, originals, list(dict.fromkeys(text for item in items for text in item.skipped)), mask_type)


def _type_problems(sample: Sample) -> Iterator[str]:
    """Yield what cannot be in a batch, as a transform of a user's own may give it."""
    if sample.image.dtype != np.uint8:
        yield f"expected an image of uint8, got {sample.image.dtype}"
    if sample.mask is not None and sample.mask.dtype.kind not in "ui":
        yield f"expected a mask of integers, got {sample.mask.dtype}"


def _images(samples: Sequence[Sample]) -> Tensor:
    """Return the images as ``(N, 3, H, W)``, each of its three planes copied once.

    NumPy copies them: torch takes five times as long to part channels that lie beside each other.
    """
    height, width = samples[0].image.shape[:2] if samples else (0, 0)
    images = _empty((len(samples), 3, height, width), torch.uint8)
    for planes, sample in zip(images.numpy(), samples, strict=True):
        np.copyto(planes, sample.image.transpose(2, 0, 1))
    return images


def _masks(samples: Sequence[Sample], dtype: torch.dtype) -> Tensor:
    """Return the masks as ``(N, H, W)``, all void for a sample without."""
    height, width = samples[0].image.shape[:2] if samples else (0, 0)
    masks = _empty((len(samples), height, width), dtype)
    for mask, sample in zip(masks.numpy(), samples, strict=True):
        np.copyto(mask, VOID if sample.mask is None else sample.mask)
    return masks


def _empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return memory to fill; in a worker shared memory, where a batch must go anyway, as torch's own collate does.

    To copy it there later would cost time, and leave the worker's heap in pieces that are never given back.
    """
    if get_worker_info() is None:
        return torch.empty(shape, dtype=dtype, device="cpu")  # whatever the default is
    empty = torch.empty(0, dtype=dtype, device="cpu")
    shared: Any = torch.UntypedStorage._new_shared(math.prod(shape) * dtype.itemsize)
    return empty.set_(shared).view(torch.Size(shape))


def truths_of(originals: Sequence[Sample]) -> dict[str, list[Any]]:
    """Return the annotations at the original size by task name, one entry an image, as in `Batch`."""
    masks = [None if sample.mask is None else torch.from_numpy(sample.mask.astype(np.int64)) for sample in originals]
    objects = [_detection_target(sample) for sample in originals]
    return {"seg": masks, "det": objects, **_further_targets(originals)}


def _further_targets(samples: Sequence[Sample]) -> dict[str, list[Tensor | None]]:
    """Return the maps and values by name, for each a list with an entry for each image."""
    targets: dict[str, list[Tensor | None]] = {}
    for index, sample in enumerate(samples):
        for name, values in sample.maps.items():
            # (K, H, W): as images, channels come first in tensors
            first = values.transpose(2, 0, 1) if values is not None and values.ndim == 3 else values
            targets.setdefault(name, [None] * len(samples))[index] = _tensor(first)
        for name, values in sample.values.items():
            targets.setdefault(name, [None] * len(samples))[index] = _tensor(values)
    return targets


def _tensor(values: NDArray[Any] | None) -> Tensor | None:
    if values is None:
        return None
    kinds: dict[str, Any] = {"f": np.float32, "b": np.bool_}
    return torch.from_numpy(np.array(values, dtype=kinds.get(values.dtype.kind, np.int64), order="C"))


def _detection_target(sample: Sample) -> DetectionTarget | None:
    if sample.boxes is None or sample.labels is None or sample.difficult is None:
        return None
    return DetectionTarget(
        boxes=torch.from_numpy(sample.boxes.astype(np.float32)),
        labels=torch.from_numpy(sample.labels.astype(np.int64)),
        difficult=torch.from_numpy(sample.difficult.astype(np.bool_)),
    )
