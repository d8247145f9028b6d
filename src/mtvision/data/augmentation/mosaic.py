"""Four samples side by side in one."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtvision.data.augmentation.mixing import (
    Mix,
    Probability,
    joined_instances,
    joined_maps,
    joined_objects,
    mask_or_void,
    unknown_values,
)
from mtvision.data.augmentation.placing import place
from mtvision.data.geometry import resize
from mtvision.registries import MIXES
from mtvision.types import Sample

_CENTRE = (0.25, 0.75)  # where the four meet, as shares of the sides


class Mosaic(Mix):
    """Four samples, each filling a quarter that meets the others at a random point, cut out of its scaled image.

    Boxes, mask, instances and maps are those of what is seen. Annotations of whole images are unknown afterwards.
    """

    when = "before"
    num_partners = 3

    def combine(self, sample: Sample, partners: Sequence[Sample], rng: "np.random.Generator") -> Sample:
        """Return the mixed sample."""
        height, width = sample.image.shape[:2]
        row, column = (round(side * rng.uniform(*_CENTRE)) for side in (height, width))
        places = [
            (slice(top, bottom), slice(left, right))
            for top, bottom in ((0, row), (row, height))
            for left, right in ((0, column), (column, width))
        ]
        tiles = [_tile(each, place, rng) for each, place in zip((sample, *partners), places, strict=True)]
        return _assembled(sample, tiles, places)


@MIXES.register("mosaic")
def mosaic(*, probability: Probability = 0.5) -> Mosaic:
    """Four images in one, at a quarter to full size, cut where they meet (Bochkovskiy et al. 2020, arXiv 2004.10934).

    Args:
        probability: of each sample to be mixed.
    """
    return Mosaic(probability)


def _tile(sample: Sample, place_of: tuple[slice, slice], rng: "np.random.Generator") -> Sample:
    """Return the part of a scaled sample that fills a quarter, its boxes in pixels of the quarter."""
    own = sample.image.shape[:2]
    sides = tuple(part.stop - part.start for part in place_of)
    least = max(side / whole for side, whole in zip(sides, own, strict=True))
    scale = rng.uniform(least, 1.0)
    scaled = tuple(max(round(whole * scale), side) for whole, side in zip(own, sides, strict=True))
    cuts = [int(rng.integers(length - side + 1)) for length, side in zip(scaled, sides, strict=True)]
    return place(resize(sample, (scaled[0], scaled[1])), (sides[0], sides[1]), (-cuts[0], -cuts[1]))


def _assembled(first: Sample, tiles: Sequence[Sample], places: Sequence[tuple[slice, slice]]) -> Sample:
    size = first.image.shape[:2]
    moved = [_shifted(tile, where) for tile, where in zip(tiles, places, strict=True)]
    masks: list[Any] = [mask_or_void(tile, tiles) for tile in tiles]
    instances = joined_instances(tiles)
    maps = {
        name: None if values is None else _joined(values, places, size) for name, values in joined_maps(tiles).items()
    }
    return replace(
        joined_objects(*moved),
        image=_joined([tile.image for tile in tiles], places, size),
        mask=None if masks[0] is None else _joined(masks, places, size),
        instances=None if instances is None else _joined(instances, places, size),
        maps=maps,
        values=unknown_values(tiles),
    )


def _shifted(tile: Sample, place_of: tuple[slice, slice]) -> Sample:
    if tile.boxes is None:
        return tile
    row, column = (part.start for part in place_of)
    return replace(tile, boxes=tile.boxes + np.array([column, row, column, row], dtype=np.float32))


def _joined(
    arrays: Sequence[NDArray[Any]], places: Sequence[tuple[slice, slice]], size: tuple[int, ...]
) -> NDArray[Any]:
    whole = np.empty((*size[:2], *arrays[0].shape[2:]), dtype=np.result_type(*arrays))
    for values, place_of in zip(arrays, places, strict=True):
        whole[place_of] = values
    return whole
