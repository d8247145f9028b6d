"""Generated images of coloured shapes: exact masks and boxes, no download."""

import hashlib
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mtvision.data.base import SampleDataset
from mtvision.data.readers.drawing import NAMES, draw_outline, paint_background, paint_object
from mtvision.errors import DataError, did_you_mean
from mtvision.registries import DATASETS
from mtvision.types import Classes, Sample

_SPLITS = ("train", "val", "test")
_VERSION = 1  # of the pictures: raised whenever the same seed draws another one
_EMPTY_FRACTION = 0.05
_DIAMETERS = (1 / 8, 1 / 2.5)  # of the shorter side
_MIN_DIAMETER = 6.0  # pixels; below, the kinds look the same
_MIN_VISIBLE = 0.6
_ATTEMPTS = 10

Side = Annotated[int, Field(ge=16)]


class _Scene(NamedTuple):
    """Objects in the order drawn: the number of each pixel's owner (0 none, k the k-th), kinds, areas when drawn."""

    owners: NDArray[np.uint8]
    kinds: list[int]
    areas: list[int]


class Shapes(SampleDataset):
    """Discs, squares, triangles, stars, rings on textured backgrounds, each image a function of (seed, split, index).

    Each kind has a hue of its own with strong jitter. Sizes go from 1/8 to 1/2.5 of the shorter side. Later objects may
    cover earlier ones, of which at least 60 % stay visible; masks and boxes are those of the visible pixels. About 5 %
    of the images have no object.

    Args:
        split: ``train``, ``val`` or ``test``, each from a stream of its own.
        num_images: in ``train``; ``val`` and ``test`` have a quarter of it, at least one.
        image_size: side of a square, or ``(H, W)``, in pixels.
        seed: of all splits.
        max_objects: an image has 1 to this many objects.

    Raises:
        DataError: for another split.

    Example:
        >>> sample = Shapes("train", num_images=8, image_size=64)[0]
        >>> sample.image.shape
        (64, 64, 3)
    """

    classes = Classes(("background", *NAMES), NAMES)

    def __init__(
        self,
        split: str = "train",
        *,
        num_images: int = 500,
        image_size: int | tuple[int, int] = 128,
        seed: int = 0,
        max_objects: int = 4,
    ) -> None:
        if split not in _SPLITS:
            suggestion = did_you_mean(split, _SPLITS)
            raise DataError(f"shapes: no split '{split}'.{suggestion} Available: {', '.join(_SPLITS)}")
        self.split = split
        self.image_size = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.seed = seed
        self.max_objects = max_objects
        self._num_images = num_images if split == "train" else max(1, num_images // 4)

    @property
    def image_ids(self) -> list[str]:
        """``train-00000`` and so on."""
        return [self._image_id(index) for index in range(len(self))]

    def __len__(self) -> int:
        return self._num_images

    def sample(self, index: int) -> Sample:
        """Draw one image with its mask and boxes."""
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, _SPLITS.index(self.split), index]))
        scene = _place_objects(self.image_size, self.max_objects, rng)
        image = paint_background(self.image_size, rng)
        for number, kind in enumerate(scene.kinds, start=1):
            pixels = scene.owners == number
            image[pixels] = paint_object(kind, pixels, rng)
        return Sample(
            image=np.clip(image, 0, 255).astype(np.uint8),
            mask=np.array([0, *(kind + 1 for kind in scene.kinds)], dtype=np.uint8)[scene.owners],
            boxes=_visible_boxes(scene),
            labels=np.array(scene.kinds, dtype=np.int64),
            difficult=np.zeros(len(scene.kinds), dtype=np.bool_),
            image_id=self._image_id(index),
            original_size=self.image_size,
            instances=scene.owners,
        )

    def examine(self, index: int) -> tuple[Sample, list[str]]:
        """Return one image and no problems: what is generated is right, and the loader need not look again."""
        return self.sample(index), []

    def fingerprint(self) -> str:
        """Return a digest of all that the images depend on."""
        parameters = (_VERSION, self.split, len(self), self.image_size, self.seed, self.max_objects)
        return hashlib.sha256(f"{type(self).__name__} {parameters}".encode()).hexdigest()

    def _image_id(self, index: int) -> str:
        return f"{self.split}-{index:05d}"


@DATASETS.register("shapes")
def shapes(
    root: str | Path,  # noqa: ARG001 - every data set is called with a root
    split: str,
    *,
    num_images: Annotated[int, Field(ge=1)] = 500,
    image_size: Side | tuple[Side, Side] = 128,
    seed: Annotated[int, Field(ge=0)] = 0,
    max_objects: Annotated[int, Field(ge=1, le=32)] = 4,
) -> Shapes:
    """Generated images of coloured shapes with exact masks and boxes; nothing is read from the root (mtvision).

    See `Shapes`.

    Args:
        root: not used.
        split: ``train``, ``val`` or ``test``.
        num_images: of the training split; the others have a quarter of it.
        image_size: in pixels, one number or (H, W).
        seed: of the whole set.
        max_objects: an image.
    """
    return Shapes(split, num_images=num_images, image_size=image_size, seed=seed, max_objects=max_objects)


def _place_objects(size: tuple[int, int], max_objects: int, rng: "np.random.Generator") -> _Scene:
    scene = _Scene(np.zeros(size, dtype=np.uint8), [], [])
    count = 0 if rng.random() < _EMPTY_FRACTION else int(rng.integers(1, max_objects + 1))
    for _ in range(count):
        kind = int(rng.integers(len(NAMES)))
        for _ in range(_ATTEMPTS):
            if _try_to_place(scene, kind, _draw_anywhere(kind, size, rng)):
                break
    return scene


def _draw_anywhere(kind: int, size: tuple[int, int], rng: "np.random.Generator") -> NDArray[np.bool_]:
    side = min(size)
    diameter = max(side * rng.uniform(*_DIAMETERS), _MIN_DIAMETER)
    margin = diameter / 2 + 1
    centre = np.array([rng.uniform(margin, size[1] - margin), rng.uniform(margin, size[0] - margin)])
    return draw_outline(kind, size, centre, diameter / 2, rng.uniform(0, 2 * np.pi))


def _try_to_place(scene: _Scene, kind: int, pixels: NDArray[np.bool_]) -> bool:
    """Add an object on top, unless too little of one below would stay visible."""
    visible = np.bincount(scene.owners[~pixels], minlength=len(scene.kinds) + 1)[1:]
    if np.any(visible < _MIN_VISIBLE * np.array(scene.areas)):
        return False
    scene.kinds.append(kind)
    scene.areas.append(int(pixels.sum()))
    scene.owners[pixels] = len(scene.kinds)
    return True


def _visible_boxes(scene: _Scene) -> NDArray[np.float32]:
    import cv2

    corners = []
    for number in range(1, len(scene.kinds) + 1):
        left, top, width, height = cv2.boundingRect((scene.owners == number).astype(np.uint8))
        corners.append((left, top, left + width, top + height))
    return np.array(corners, dtype=np.float32).reshape(-1, 4)  # (M, 4)
