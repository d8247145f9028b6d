"""A user's own augmentation by albumentations: all parts of a sample go through it together, seeded per sample.

This is the only module that uses albumentations (2.0.8, the last release under the MIT licence).
"""

import os
import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Annotated, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator

from mtvision.data.base import Transform
from mtvision.data.geometry import keep_objects, pixel_positions, resize, select_boxes, take_pixels
from mtvision.data.instances import are_whole, instance_bounds, tightened
from mtvision.errors import ConfigError, did_you_mean
from mtvision.registries import AUGMENTATIONS
from mtvision.types import VOID, Sample

Size: TypeAlias = tuple[int, int]

_POSITIONS = "positions"


class Augmentation:
    """A `Compose` of albumentations as a transform of samples, then a resize to ``image_size``.

    * Boxes of a rotated object are those of its rotated corners: they contain the object, but are tight only where the
      sample has ``instances``.
    * What comes in from beyond the border is void (255) in the mask, and in maps (NaN, or 255 in those of integers).
    * Maps are moved by nearest pixels with their values as they are; values of the whole image are left alone.
    * Boxes are clipped to the image; those that left it or have a side below one pixel are dropped, the others keep
      their label and difficult flag. A mask, map or boxes of None stay None.

    Args:
        image_size: ``(H, W)`` of the result.
        compose: the transforms, which see the image as stored; a function, called at the first use in each process.
    """

    def __init__(self, image_size: Size, compose: Callable[[], Any]) -> None:
        self.image_size = image_size
        self._make = compose
        self._compose: Any = None

    def __call__(self, sample: Sample, seed: int) -> Sample:
        """Return the augmented sample, a function of the sample and the seed."""
        if self._compose is None:
            self._compose = self._make()
        # One stream for all: `set_random_seed` would give every transform the same numbers, so that an image is
        # flipped exactly when it is brightened.
        self._compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        return resize(_apply(self._compose, _proper(sample)), self.image_size)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the built transforms: each process makes its own."""
        return {**self.__dict__, "_compose": None}


def _check_description(description: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = _plain(description)
    _from_description(plain)
    return plain


def _plain(value: Any) -> Any:
    """Return lists for tuples, so that a description is the same after a file."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


@AUGMENTATIONS.register("albumentations")
def albumentations(
    image_size: Size, *, transform: Annotated[dict[str, Any], AfterValidator(_check_description)]
) -> Transform:
    """A user's own transform, as ``to_dict()`` tells it, then a resize (Buslaev et al. 2020, arXiv 1809.06839).

    It gets the image as it is stored.

    Args:
        image_size: ``(H, W)`` of the result.
        transform: what its ``to_dict()`` returns; in Python a ``Compose`` itself may stand for the whole choice.

    Its own ``bbox_params`` are replaced by the library's. Where it leaves the mask's border at 0, which is a class
    here, it becomes 255 (void). The image must stay uint8 RGB: normalization is the model's.
    """
    return Augmentation(image_size, _Described(transform))


class _Described:
    """Makes the user's transform anew; an object and not a closure, so that it can be sent to worker processes."""

    def __init__(self, description: Mapping[str, Any]) -> None:
        self._description = description

    def __call__(self) -> Any:
        built = _from_description(self._description)
        library = _load_library()
        transforms = built.transforms if type(built) is library.Compose else [built]
        for transform in _leaves(transforms):
            if getattr(transform, "fill_mask", None) == 0:
                transform.fill_mask = VOID
        return _compose(transforms, p=built.p if type(built) is library.Compose else 1.0)


def _load_library() -> ModuleType:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else its import asks the network for a newer version
    import albumentations

    return albumentations  # type: ignore[no-any-return]


def _compose(transforms: Sequence[Any], p: float = 1.0) -> Any:
    library = _load_library()
    # Only the row numbers travel with the boxes; labels and flags are looked up by them afterwards.
    boxes = library.BboxParams(format="pascal_voc", label_fields=["rows"], clip=True, filter_invalid_bboxes=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Got processor for bboxes, but no transform to process it")  # colours only
        return library.Compose(list(transforms), bbox_params=boxes, p=p, additional_targets={_POSITIONS: "mask"})


def _checked(factory: Callable[..., Any], **options: Any) -> Any:
    """Call a factory of albumentations; a wrong keyword, about which it only warns, is a ``ValueError``."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        try:
            return factory(**options)
        except UserWarning as warning:
            raise ValueError(" ".join(str(warning).split())) from None


def _from_description(description: Mapping[str, Any]) -> Any:
    """Build what ``to_dict()`` described.

    Raises:
        ValueError: if it is no such description, names an unknown transform, or gives one a wrong option.
    """
    library = _load_library()
    inner = description.get("transform")
    if not isinstance(inner, Mapping) or "__class_fullname__" not in inner:
        raise ValueError("expected what albumentations' to_dict() returns: {'transform': {'__class_fullname__': ...}}")
    for name in _class_names(inner):
        if not isinstance(getattr(library, name.rpartition(".")[2], None), type):
            raise ValueError(f"albumentations has no transform '{name}'.{did_you_mean(name, dir(library))}")
    try:
        return _checked(library.from_dict, transform_dict=_without_box_params(description))
    except (TypeError, ValueError, LookupError) as error:
        raise ValueError(f"albumentations cannot build the transform ({' '.join(str(error).split())})") from None


def _without_box_params(description: Mapping[str, Any]) -> dict[str, Any]:
    inner = {
        key: value for key, value in description["transform"].items() if key not in ("bbox_params", "keypoint_params")
    }
    return {**description, "transform": inner}


def _class_names(description: Any) -> Iterator[str]:
    if not isinstance(description, Mapping):
        raise ValueError(f"expected the mapping of a transform with '__class_fullname__', got {description!r}")
    yield str(description.get("__class_fullname__", ""))
    for inner in description.get("transforms", ()):
        yield from _class_names(inner)


def _leaves(transforms: Sequence[Any]) -> Iterator[Any]:
    for transform in transforms:
        inner = getattr(transform, "transforms", None)
        yield from _leaves(inner) if inner is not None else (transform,)


def _proper(sample: Sample) -> Sample:
    height, width = sample.image.shape[:2]
    return select_boxes(sample, (height, width))


def _apply(compose: Any, sample: Sample) -> Sample:
    given, bounds = _boxes_given(sample)
    masks: dict[str, Any] = {} if sample.mask is None else {"mask": sample.mask}
    if sample.instances is not None or any(values is not None for values in sample.maps.values()):
        masks[_POSITIONS] = pixel_positions(sample.image.shape[:2])
    result = compose(image=sample.image, bboxes=given, rows=np.arange(len(given)), **masks)
    image = result["image"]
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        kind = f"{getattr(image, 'dtype', type(image).__name__)} {tuple(image.shape)}"
        raise ConfigError(
            [
                f"data.augmentation_level: the image must stay uint8 (H, W, 3), got {kind}; "
                "leave out Normalize and ToTensorV2"
            ]
        )
    moved = replace(sample, image=np.ascontiguousarray(image), mask=result.get("mask"))
    if _POSITIONS in masks:
        instances = take_pixels({"": sample.instances}, result[_POSITIONS], fill=0)[""]
        moved = replace(moved, maps=take_pixels(sample.maps, result[_POSITIONS]), instances=instances)
    if sample.boxes is None:
        return moved
    rows = np.asarray(result["rows"], dtype=np.int64).reshape(-1)
    boxes = np.full((len(given), 4), np.nan, dtype=np.float32)  # those it dropped stay so
    boxes[rows] = np.asarray(result["bboxes"], dtype=np.float32).reshape(-1, 4)  # (0,) when none is left
    return _with_boxes(sample, moved, boxes, bounds)


def _boxes_given(sample: Sample) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Return the boxes to move, and the bounds of the objects' pixels ``(M, 4)`` that are behind them, if any."""
    if sample.boxes is None:
        return np.zeros((0, 4), np.float32), None  # it insists on boxes
    if sample.instances is None or not len(sample.boxes):
        return sample.boxes, None
    bounds = instance_bounds(sample.instances, len(sample.boxes))
    known = np.where(np.isnan(bounds), sample.boxes, bounds)
    return np.concatenate([sample.boxes, known]), bounds


def _with_boxes(
    before: Sample, after: Sample, moved: NDArray[np.float32], bounds: NDArray[np.float32] | None
) -> Sample:
    """Return a sample with its moved boxes, those that were dropped left out, the others tight where that is known."""
    assert before.boxes is not None
    boxes = moved[: len(before.boxes)]
    keep = ~np.isnan(boxes[:, 0])
    if bounds is not None and after.instances is not None:
        moved_bounds = np.where(np.isnan(bounds), np.float32(np.nan), moved[len(boxes) :])
        seen = instance_bounds(after.instances, len(boxes))
        boxes, visible = tightened(boxes, moved_bounds, seen, are_whole(before.boxes, bounds))
        keep &= visible
    after = replace(after, boxes=np.where(keep[:, None], boxes, np.float32(0)))
    return _proper(keep_objects(after, keep))
